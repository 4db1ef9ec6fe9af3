/* packer_files.c - the files of a packed directory, while they are written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/tiers/packing.h"

static const char part_suffix[] = ".part";

static char *part_path(const struct output *o)
{
    char *path;
    return asprintf(&path, "%s%s", o->path, part_suffix) < 0 ? NULL : path;
}

/* Opens one output at its full size, so that a drive that is too small says so at once. What is
 * there under its final name was finished by a run that died before the end. *fresh: nothing was. */
static int open_output(struct output *o, uint64_t bytes, bool *fresh, char *err)
{
    char *path = part_path(o);
    if (!path)
        return lade_packing_no_memory(err);
    *fresh = access(path, F_OK) && rename(o->path, path);
    o->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0644);
    if (o->fd < 0)
        o->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int rc = o->fd < 0 ? -1 : 0;
    if (!rc && bytes && fallocate(o->fd, 0, 0, (off_t)bytes) && errno != EOPNOTSUPP &&
        errno != ENOSYS)
        rc = -1;
    if (!rc)
        rc = ftruncate(o->fd, (off_t)bytes);
    if (rc && errno == ENOSPC) {
        struct statvfs v = {0};
        statvfs(path, &v);
        lade_fail(err,
                  "%s: needs %.2f GB, the drive has %.2f GB left; free some space or pack "
                  "elsewhere",
                  path, (double)bytes * 1e-9, (double)v.f_bavail * (double)v.f_frsize * 1e-9);
    } else if (rc) {
        lade_fail(err, "%s: cannot be written: %s; check the directory", path, strerror(errno));
    }
    free(path);
    return rc;
}

/* The journal knows pieces of a file that is gone. */
static void forget(struct packer *p, int file)
{
    for (int i = 0; i < p->cat->n_pieces; i++)
        if (p->noted[i] && p->index.pieces[i].file == file) {
            p->noted[i] = false;
            p->done -= p->cat->pieces[i].bytes;
        }
}

int lade_packing_open(struct packer *p, char *err)
{
    struct lade_packed *x = &p->index;
    int copies = x->mirrored ? x->n_drives : 1;
    p->outputs = calloc((size_t)x->n_files * (size_t)copies, sizeof *p->outputs);
    if (!p->outputs)
        return lade_packing_no_memory(err);
    for (int i = 0; i < x->n_files * copies; i++) {
        struct output *o = &p->outputs[p->n_outputs];
        *o = (struct output){.file = i / copies, .fd = -1};
        o->drive = x->mirrored ? i % copies : x->files[o->file].drive;
        o->path = lade_path_join(x->drives[o->drive], x->files[o->file].name);
        p->n_outputs++;
        if (!o->path)
            return lade_packing_no_memory(err);
        bool fresh;
        if (open_output(o, x->files[o->file].bytes, &fresh, err))
            return -1;
        if (fresh)
            forget(p, o->file);
    }
    return 0;
}

int lade_packing_sync(struct packer *p, char *err)
{
    for (int i = 0; i < p->n_outputs; i++)
        if (fdatasync(p->outputs[i].fd))
            return lade_fail(err, "%s%s: cannot be written: %s; check the drive",
                             p->outputs[i].path, part_suffix, strerror(errno));
    return 0;
}

static int write_at(const struct output *o, const unsigned char *data, size_t n, uint64_t at,
                    char *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pwrite(o->fd, data + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return lade_fail(err, "%s%s: cannot be written: %s; %s", o->path, part_suffix,
                             strerror(errno),
                             errno == ENOSPC ? "free some space and run lade pack again, it goes on"
                                             : "check the drive");
        done += (size_t)got;
    }
    return 0;
}

int lade_packing_write(const struct packer *p, int piece, const unsigned char *data, size_t padded,
                       char *err)
{
    const struct lade_packed_piece *where = &p->index.pieces[piece];
    for (int i = 0; i < p->n_outputs; i++)
        if (p->outputs[i].file == where->file &&
            write_at(&p->outputs[i], data, padded, where->offset, err))
            return -1;
    return 0;
}

int lade_packing_rename(struct packer *p, char *err)
{
    for (int i = 0; i < p->n_outputs; i++) {
        char *part = part_path(&p->outputs[i]);
        int rc = !part || rename(part, p->outputs[i].path)
                     ? lade_fail(err, "%s: cannot be renamed: %s; check the directory",
                                 p->outputs[i].path, strerror(errno))
                     : 0;
        free(part);
        if (rc)
            return -1;
    }
    return 0;
}

void lade_packing_close(struct packer *p)
{
    for (int i = 0; i < p->n_outputs; i++) {
        if (p->outputs[i].fd >= 0)
            close(p->outputs[i].fd);
        free(p->outputs[i].path);
    }
    free(p->outputs);
}
