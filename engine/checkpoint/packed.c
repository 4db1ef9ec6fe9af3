/* packed.c - the index of a packed directory, and the directory as a catalog. */
#include "engine/checkpoint/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/checkpoint/build.h"
#include "engine/checkpoint/file.h"
#include "engine/text.h"

#define MAX_INDEX   ((size_t)256 << 20)
#define HASHED_HEAD ((size_t)1 << 20)

enum { MAX_TEXT = 4096, ONE = 0x01020304 };

/* In front of the body. */
struct head {
    char magic[8];
    uint32_t version, one; /* `one` tells the order of bytes */
    uint64_t bytes, check; /* of the body */
};

uint64_t lade_packed_check(const void *data, size_t n)
{
    return XXH3_64bits(data, n);
}

void lade_packed_free(struct lade_packed *p)
{
    for (int i = 0; i < p->n_sources; i++)
        free(p->sources[i].path);
    for (int i = 0; i < p->n_files; i++)
        free(p->files[i].name);
    for (int i = 0; i < p->n_drives; i++)
        free(p->drives[i]);
    free(p->name);
    free(p->format);
    free(p->sources);
    free(p->files);
    free(p->tensors);
    free(p->pieces);
    free(p->checks);
    *p = (struct lade_packed){0};
}

/* ---- the body: one description for both directions ------------------------------------------- */

struct tape {
    struct lade_text written; /* owned */
    const char *data; /* borrowed: to read instead, n bytes, of which `at` are read; NULL = write */
    size_t n, at;
    bool failed;
};

static void raw(struct tape *t, void *value, size_t size)
{
    if (t->failed)
        return;
    if (!t->data) {
        t->failed = !lade_text_add(&t->written, value, size);
        return;
    }
    t->failed = size > t->n - t->at;
    if (!t->failed)
        memcpy(value, t->data + t->at, size);
    t->at += t->failed ? 0 : size;
}

static void text(struct tape *t, char **value)
{
    uint32_t n = !t->data && *value ? (uint32_t)strlen(*value) : 0;
    raw(t, &n, sizeof n);
    if (t->failed || n > MAX_TEXT || (t->data && n > t->n - t->at)) {
        t->failed = true;
        return;
    }
    if (t->data && !(*value = calloc(1, (size_t)n + 1))) {
        t->failed = true;
        return;
    }
    raw(t, *value, n);
}

/* The length of a list; reading, the list itself, as long as what is left can be. */
static void list(struct tape *t, int *n, void **items, size_t size, size_t least)
{
    uint32_t count = (uint32_t)*n;
    raw(t, &count, sizeof count);
    if (t->failed || !t->data)
        return;
    t->failed = count > (t->n - t->at) / least || count > INT32_MAX;
    if (t->failed)
        return;
    *items = calloc(count ? count : 1, size);
    t->failed = !*items;
    *n = t->failed ? 0 : (int)count;
}

static void body(struct tape *t, struct lade_packed *p)
{
    uint8_t mirrored = p->mirrored;
    uint32_t drives = (uint32_t)p->n_drives;
    text(t, &p->name);
    text(t, &p->format);
    uint8_t tied = p->shape.tied_embeddings, renormalize = p->shape.renormalize;
    p->shape.tied_embeddings = p->shape.renormalize = false; /* any byte is no bool */
    raw(t, &p->shape, sizeof p->shape);
    raw(t, &tied, sizeof tied);
    raw(t, &renormalize, sizeof renormalize);
    p->shape.tied_embeddings = tied;
    p->shape.renormalize = renormalize;
    uint8_t sampled = p->generation.sampled;
    p->generation.sampled = false;
    raw(t, &p->generation, sizeof p->generation);
    raw(t, &sampled, sizeof sampled);
    p->generation.sampled = sampled;
    t->failed |= p->generation.n_stop < 0 || p->generation.n_stop > LADE_MAX_STOP;
    raw(t, &mirrored, sizeof mirrored);
    raw(t, &drives, sizeof drives);
    p->mirrored = mirrored;
    t->failed |= drives < 1 || drives > LADE_PACKED_DRIVES;
    for (uint32_t i = 0; i < drives && !t->failed; i++) {
        text(t, &p->drives[i]);
        p->n_drives = (int)i + 1;
    }
    list(t, &p->n_sources, (void **)&p->sources, sizeof *p->sources, 4);
    for (int i = 0; i < p->n_sources && !t->failed; i++) {
        text(t, &p->sources[i].path);
        raw(t, &p->sources[i].bytes, sizeof p->sources[i].bytes);
        raw(t, &p->sources[i].time_ns, sizeof p->sources[i].time_ns);
        raw(t, &p->sources[i].hash, sizeof p->sources[i].hash);
    }
    list(t, &p->n_files, (void **)&p->files, sizeof *p->files, 4);
    for (int i = 0; i < p->n_files && !t->failed; i++) {
        text(t, &p->files[i].name);
        raw(t, &p->files[i].drive, sizeof p->files[i].drive);
        raw(t, &p->files[i].bytes, sizeof p->files[i].bytes);
    }
    list(t, &p->n_tensors, (void **)&p->tensors, sizeof *p->tensors, 4);
    for (int i = 0; i < p->n_tensors && !t->failed; i++) {
        struct lade_matrix *m = &p->tensors[i];
        uint8_t what[4] = {(uint8_t)m->type, m->has_zeros, m->has_order, m->block};
        raw(t, what, sizeof what);
        raw(t, &m->rows, sizeof m->rows);
        raw(t, &m->group, sizeof m->group);
        m->type = what[0] < LADE_N_TYPES ? (enum lade_type)what[0] : LADE_N_TYPES;
        m->has_zeros = what[1];
        m->has_order = what[2];
        m->block = what[3];
    }
    list(t, &p->n_pieces, (void **)&p->pieces, sizeof *p->pieces, 4);
    for (int i = 0; i < p->n_pieces && !t->failed; i++) {
        raw(t, &p->pieces[i].file, sizeof p->pieces[i].file);
        raw(t, &p->pieces[i].offset, sizeof p->pieces[i].offset);
    }
    list(t, &p->n_checks, (void **)&p->checks, sizeof *p->checks, sizeof *p->checks);
    raw(t, p->checks, (size_t)p->n_checks * sizeof *p->checks);
    t->failed |= t->data && t->at != t->n;
}

uint64_t lade_packed_signature(struct lade_packed *p)
{
    struct tape t = {0};
    int n_checks = p->n_checks;
    p->n_checks = 0; /* which are not known before the end */
    body(&t, p);
    p->n_checks = n_checks;
    uint64_t signature = t.failed ? 0 : lade_packed_check(t.written.at, t.written.n) | 1;
    free(t.written.at);
    return signature;
}

/* ---- the index on the drive ------------------------------------------------------------------ */

static int write_all(int fd, const void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = write(fd, (const char *)data + done, n - done);
        if (got < 0 && errno != EINTR)
            return -1;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int save(const char *path, const struct head *head, const struct tape *t, char *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && !write_all(fd, head, sizeof *head) &&
              !write_all(fd, t->written.at, t->written.n) && !fsync(fd);
    int code = errno;
    if (fd >= 0)
        close(fd);
    return ok ? 0
              : lade_fail(err, "%s: cannot be written: %s; free some space and run lade pack again",
                          path, strerror(code));
}

int lade_packed_write(struct lade_packed *p, const char *dir, char *err)
{
    struct tape t = {0};
    char *path = lade_path_join(dir, LADE_PACKED_INDEX);
    char *part = lade_path_join(dir, LADE_PACKED_INDEX ".new");
    int rc = -1;
    body(&t, p);
    if (!path || !part || t.failed) {
        lade_fail(err, "%s: out of memory for the index; close other programs", dir);
    } else {
        struct head head = {.version = LADE_PACKED_VERSION,
                            .one = ONE,
                            .bytes = t.written.n,
                            .check = lade_packed_check(t.written.at, t.written.n)};
        memcpy(head.magic, "LADEPACK", sizeof head.magic);
        rc = save(part, &head, &t, err);
        if (!rc && rename(part, path))
            rc = lade_fail(err, "%s: cannot be renamed: %s; check the directory", part,
                           strerror(errno));
    }
    free(t.written.at);
    free(path);
    free(part);
    return rc;
}

static int check_head(const struct head *h, const char *body_data, size_t n, const char *path,
                      char *err)
{
    if (memcmp(h->magic, "LADEPACK", sizeof h->magic) != 0 || h->one != ONE)
        return lade_fail(err, "%s: is no index of lade pack; remove the directory and pack again",
                         path);
    if (h->version != LADE_PACKED_VERSION)
        return lade_fail(err, "%s: is of version %u, this lade reads %d; run lade pack again", path,
                         h->version, LADE_PACKED_VERSION);
    if (h->bytes != n || h->check != lade_packed_check(body_data, n))
        return lade_fail(err, "%s: is damaged; run lade pack again", path);
    return 0;
}

int lade_packed_look(struct lade_packed_source *s, const char *path, char *err)
{
    struct stat st;
    unsigned char *head = malloc(HASHED_HEAD);
    int fd = lade_file_open(path);
    ssize_t n = -1;
    *s = (struct lade_packed_source){0};
    if (head && fd >= 0 && !fstat(fd, &st))
        n = pread(fd, head, HASHED_HEAD, 0);
    int code = errno;
    if (n >= 0) {
        s->bytes = (uint64_t)st.st_size;
        s->time_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        s->hash = lade_packed_check(head, (size_t)n);
        s->path = realpath(path, NULL);
    }
    if (fd >= 0)
        close(fd);
    free(head);
    return s->path
               ? 0
               : lade_fail(err, "%s: %s; check the file and its permissions", path, strerror(code));
}

/* A source that is there must be what it was. One that is gone is no harm: all of it is here. */
static int check_sources(const struct lade_packed *p, const char *dir, char *err)
{
    for (int i = 0; i < p->n_sources; i++) {
        const struct lade_packed_source *was = &p->sources[i];
        struct lade_packed_source is;
        if (lade_packed_look(&is, was->path, NULL))
            continue;
        bool same = is.bytes == was->bytes && is.time_ns == was->time_ns && is.hash == was->hash;
        free(is.path);
        if (!same)
            return lade_fail(err, "%s: is stale: %s has changed since; run lade pack again", dir,
                             was->path);
    }
    return 0;
}

int lade_packed_read(struct lade_packed *p, const char *dir, char *err)
{
    char *path = lade_path_join(dir, LADE_PACKED_INDEX), *data = NULL;
    size_t n;
    struct head head;
    *p = (struct lade_packed){0};
    int rc = !path ? lade_fail(err, "%s: out of memory; close other programs", dir)
                   : lade_file_read(path, MAX_INDEX, &data, &n, err);
    if (!rc && n < sizeof head)
        rc = lade_fail(err, "%s: is damaged; run lade pack again", path);
    if (!rc) {
        struct tape t = {.data = data + sizeof head, .n = n - sizeof head};
        memcpy(&head, data, sizeof head);
        rc = check_head(&head, data + sizeof head, t.n, path, err);
        if (!rc)
            body(&t, p);
        if (!rc && t.failed)
            rc = lade_fail(err, "%s: is damaged; run lade pack again", path);
    }
    if (!rc)
        rc = check_sources(p, dir, err);
    if (rc)
        lade_packed_free(p);
    free(data);
    free(path);
    return rc;
}

/* ---- as a catalog ---------------------------------------------------------------------------- */

/* Where a file lies: in the directory of its drive, or, where that has moved, in the one opened. */
static char *find_file(const struct lade_packed *p, const char *dir, int drive, const char *name)
{
    char *path = lade_path_join(p->n_drives == 1 ? dir : p->drives[drive], name);
    if (path && access(path, F_OK) && p->n_drives > 1) {
        free(path);
        path = lade_path_join(dir, name);
    }
    return path;
}

static int check_file(const char *path, uint64_t bytes, char *err)
{
    struct stat st;
    if (stat(path, &st))
        return lade_fail(err, "%s: %s; put it back or run lade pack again", path, strerror(errno));
    if ((uint64_t)st.st_size != bytes)
        return lade_fail(err, "%s: has %lld bytes, should have %llu; run lade pack again", path,
                         (long long)st.st_size, (unsigned long long)bytes);
    return 0;
}

static int add_shards(struct lade_catalog *cat, const struct lade_packed *p, const char *dir,
                      char *err)
{
    cat->shards = calloc(p->n_files ? (size_t)p->n_files : 1, sizeof *cat->shards);
    for (int i = 0; cat->shards && i < p->n_files; i++) {
        const struct lade_packed_file *f = &p->files[i];
        struct lade_shard *shard = &cat->shards[i];
        if (f->drive < 0 || f->drive >= p->n_drives || strchr(f->name, '/'))
            return lade_fail(err, "%s/" LADE_PACKED_INDEX ": is damaged; run lade pack again", dir);
        shard->path = find_file(p, dir, f->drive, f->name);
        shard->bytes = f->bytes;
        cat->n_shards++;
        if (!shard->path)
            break;
        if (check_file(shard->path, f->bytes, err))
            return -1;
        for (int d = 1; p->mirrored && d < p->n_drives; d++) {
            char *copy = lade_path_join(p->drives[d], f->name);
            if (copy && !check_file(copy, f->bytes, NULL))
                shard->copies[shard->n_copies++] = copy; /* a drive that is missing is no harm */
            else
                free(copy);
        }
    }
    bool all = cat->shards && cat->n_shards == p->n_files;
    return all && (!p->n_files || cat->shards[p->n_files - 1].path)
               ? 0
               : lade_fail(err, "%s: out of memory; close other programs", dir);
}

static int packed_read(struct lade_build *b, const char *dir, char *err)
{
    struct lade_packed *p = calloc(1, sizeof *p);
    b->packed = p;
    if (!p)
        return lade_fail(err, "%s: out of memory; close other programs", dir);
    if (lade_packed_read(p, dir, err))
        return -1;
    struct lade_catalog *cat = b->cat;
    cat->shape = p->shape;
    cat->generation = p->generation;
    cat->aligned = true;
    free(cat->name);
    cat->name = p->name;
    p->name = NULL;
    cat->checks = p->checks;
    cat->n_checks = p->n_checks;
    p->checks = NULL;
    int64_t pieces = 2 + (int64_t)p->shape.layers * (1 + (int64_t)p->shape.experts);
    if (lade_shape_check(&p->shape, dir, err))
        return -1;
    if (pieces != p->n_pieces)
        return lade_fail(err, "%s/" LADE_PACKED_INDEX ": is damaged; run lade pack again", dir);
    return add_shards(cat, p, dir, err);
}

static int packed_bind(struct lade_build *b, struct lade_tensor *t, int layer, int expert,
                       char *err)
{
    (void)layer, (void)expert;
    const struct lade_packed *p = b->packed;
    struct lade_matrix_layout layout;
    if (b->packed_piece != t->piece) {
        b->packed_piece = t->piece;
        b->packed_offset = 0;
    }
    bool ok = b->cat->n_tensors < p->n_tensors;
    if (ok) {
        int cols = t->packed.cols, rows = t->packed.rows;
        t->packed = p->tensors[b->cat->n_tensors];
        t->packed.cols = cols;
        b->z_apart |=
            t->role == LADE_DELTA_QKVZ && t->packed.rows == lade_shape_channels(&p->shape);
        ok = (t->packed.rows == rows || b->z_apart) && !lade_matrix_layout(&t->packed, &layout);
    }
    const struct lade_packed_piece *where = &p->pieces[t->piece];
    uint64_t end;
    ok = ok && where->file >= 0 && where->file < p->n_files &&
         where->offset % LADE_PACKED_ALIGN == 0 &&
         !__builtin_add_overflow(where->offset + b->packed_offset, layout.bytes, &end) &&
         end <= p->files[where->file].bytes;
    if (!ok)
        return lade_fail(err, "%s/" LADE_PACKED_INDEX ": is damaged; run lade pack again",
                         b->cat->path);
    t->source = LADE_SRC_PACKED;
    t->n_parts = 1;
    t->parts[0] = (struct lade_span){where->file, where->offset + b->packed_offset, layout.bytes};
    b->packed_offset += (layout.bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
    return 0;
}

static void packed_name(const struct lade_tensor *t, int layer, int expert, int part, char *buf,
                        size_t size)
{
    (void)part;
    if (expert >= 0)
        snprintf(buf, size, "layer %d expert %d role %d", layer, expert, t->role);
    else
        snprintf(buf, size, "layer %d role %d", layer, t->role);
}

const struct lade_format lade_format_packed = {
    .name = "packed",
    .read = packed_read,
    .bind = packed_bind,
    .tensor_name = packed_name,
};
