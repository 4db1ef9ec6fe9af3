#include "engine/tiers/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/packed.h"

enum { MAX_CHECKS = 1 << 16 };

struct first {
    char magic[8];
    uint64_t signature;
};

/* A record, followed by its n checksums and one of all of it. */
struct record {
    int32_t piece, n;
};

static int cannot(const struct lade_journal *j, char *err)
{
    return lade_fail(err, "%s: cannot be written: %s; free some space and run lade pack again",
                     j->path, strerror(errno));
}

/* Bytes of a record in one run: header, checksums, checksum. NULL without memory. */
static unsigned char *make_record(int piece, const uint64_t *checks, int n, size_t *bytes)
{
    struct record r = {piece, n};
    size_t list = (size_t)n * sizeof *checks;
    *bytes = sizeof r + list + sizeof(uint64_t);
    unsigned char *data = malloc(*bytes);
    if (!data)
        return NULL;
    memcpy(data, &r, sizeof r);
    memcpy(data + sizeof r, checks, list);
    uint64_t check = lade_packed_check(data, sizeof r + list);
    memcpy(data + sizeof r + list, &check, sizeof check);
    return data;
}

/* Reads records up to the first that is not whole; returns where that begins. */
static off_t read_records(struct lade_journal *j, lade_journal_fn *each, void *user)
{
    off_t at = sizeof(struct first);
    uint64_t *checks = malloc(((size_t)MAX_CHECKS + 1) * sizeof *checks);
    struct record r;
    while (checks && pread(j->fd, &r, sizeof r, at) == sizeof r && r.n >= 0 && r.n <= MAX_CHECKS) {
        size_t list = ((size_t)r.n + 1) * sizeof *checks, bytes;
        if (pread(j->fd, checks, list, at + (off_t)sizeof r) != (ssize_t)list)
            break;
        unsigned char *same = make_record(r.piece, checks, r.n, &bytes);
        bool whole = same && !memcmp(same + sizeof r, checks, list);
        free(same);
        if (!whole)
            break;
        each(user, r.piece, checks, r.n);
        at += (off_t)(sizeof r + list);
    }
    free(checks);
    return at;
}

int lade_journal_open(struct lade_journal *j, const char *dir, uint64_t signature,
                      lade_journal_fn *each, void *user, char *err)
{
    struct first want = {"LADEJRNL", signature}, have;
    j->fd = -1;
    j->path = lade_path_join(dir, LADE_PACKED_JOURNAL);
    if (!j->path)
        return lade_fail(err, "packing: out of memory; close other programs");
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (j->fd < 0)
        return cannot(j, err);
    off_t end = sizeof want;
    if (pread(j->fd, &have, sizeof have, 0) == sizeof have && !memcmp(&have, &want, sizeof want))
        end = read_records(j, each, user);
    else if (pwrite(j->fd, &want, sizeof want, 0) != sizeof want)
        return cannot(j, err);
    if (ftruncate(j->fd, end) || lseek(j->fd, end, SEEK_SET) != end)
        return cannot(j, err);
    return 0;
}

void lade_journal_close(struct lade_journal *j)
{
    if (j->fd >= 0)
        close(j->fd);
    free(j->path);
    *j = (struct lade_journal){.fd = -1};
}

int lade_journal_note(struct lade_journal *j, int piece, const uint64_t *checks, int n, char *err)
{
    size_t bytes;
    unsigned char *data = make_record(piece, checks, n, &bytes);
    if (!data)
        return lade_fail(err, "packing: out of memory; close other programs");
    ssize_t got = write(j->fd, data, bytes);
    free(data);
    if (got >= 0 && (size_t)got != bytes)
        errno = ENOSPC;
    return got == (ssize_t)bytes ? 0 : cannot(j, err);
}

int lade_journal_sync(struct lade_journal *j, char *err)
{
    return fdatasync(j->fd) ? cannot(j, err) : 0;
}

void lade_journal_remove(struct lade_journal *j)
{
    unlink(j->path);
}
