#include "engine/tiers/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"

/* cachestat(2), Linux 6.5; the number is the same on every architecture. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct cache_range {
    uint64_t offset, bytes;
};
struct cache_stat {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

static int open_one(struct lade_copy *f, const char *path, uint64_t bytes, char *err)
{
    f->path = path;
    f->direct = -1;
    f->cached = lade_file_open(path);
    if (f->cached < 0)
        return lade_fail(err, "%s: cannot be opened: %s; check the file and its permissions", path,
                         strerror(errno));
    f->direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    struct cache_range range = {0, 1};
    struct cache_stat stat;
    if (!syscall(SYS_cachestat, f->cached, &range, &stat, 0) || !bytes || access(path, W_OK))
        return 0;
    /* An older kernel: mincore() tells, the truth only to those who may write the file. */
    f->map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, f->cached, 0);
    f->bytes = bytes;
    if (f->map == MAP_FAILED)
        f->map = NULL;
    return 0;
}

int lade_files_open(struct lade_files *f, const struct lade_catalog *cat, char *err)
{
    *f = (struct lade_files){.file = calloc((size_t)cat->n_shards, sizeof *f->file)};
    if (!f->file)
        return lade_fail(err, "%s: out of memory; close other programs", cat->path);
    for (; f->n < cat->n_shards; f->n++) {
        const struct lade_shard *shard = &cat->shards[f->n];
        struct lade_file *file = &f->file[f->n];
        if (open_one(&file->copy[0], shard->path, shard->bytes, err))
            return -1;
        file->n = 1;
        for (int i = 0; i < shard->n_copies; i++)
            if (!open_one(&file->copy[file->n], shard->copies[i], shard->bytes, NULL))
                file->n++; /* a drive that is gone by now is no harm */
    }
    return 0;
}

void lade_files_close(struct lade_files *f)
{
    for (int i = 0; i < f->n; i++)
        for (int j = 0; j < f->file[i].n; j++) {
            struct lade_copy *c = &f->file[i].copy[j];
            if (c->map)
                munmap(c->map, c->bytes);
            if (c->direct >= 0)
                close(c->direct);
            close(c->cached);
        }
    free(f->file);
    *f = (struct lade_files){0};
}

int lade_file_choose(const struct lade_file *f)
{
    int best = 0;
    for (int i = 1; i < f->n; i++)
        if (atomic_load_explicit(&f->copy[i].flying, memory_order_relaxed) <
            atomic_load_explicit(&f->copy[best].flying, memory_order_relaxed))
            best = i;
    return best;
}

bool lade_copy_is_cached(const struct lade_copy *f, uint64_t offset, size_t bytes)
{
    enum { SOME = 512 };
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t from = offset / page * page, pages = (offset + bytes - from + page - 1) / page;
    struct cache_range range = {from, pages * page};
    struct cache_stat stat;
    if (!syscall(SYS_cachestat, f->cached, &range, &stat, 0))
        return stat.cached >= pages;
    if (!f->map || offset + bytes > f->bytes)
        return false;
    unsigned char in[SOME];
    for (uint64_t done = 0; done < pages; done += SOME) {
        size_t n = pages - done < SOME ? (size_t)(pages - done) : SOME;
        if (mincore((char *)f->map + from + done * page, n * page, in))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!(in[i] & 1))
                return false;
    }
    return true;
}
