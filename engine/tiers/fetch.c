#include "engine/tiers/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/pack.h"

/* A gap that is read over, because another read would cost more; one read at most. */
enum { MAX_GAP = 128 << 10, CHUNK = 4 << 20 };

void lade_fetch_close(struct lade_fetch *f)
{
    free(f->items);
    free(f->runs);
    free(f->chunks);
    *f = (struct lade_fetch){0};
}

void lade_fetch_clear(struct lade_fetch *f)
{
    f->n_items = f->n_runs = f->n_chunks = f->pending = 0;
    f->stage_bytes = 0;
    f->failed = false;
}

/* Room for one more in an array. */
static int grow(void **list, int n, int *cap, size_t size, char *err)
{
    if (n < *cap)
        return 0;
    int wider = *cap ? 2 * *cap : 16;
    void *grown = realloc(*list, (size_t)wider * size);
    if (!grown)
        return lade_fail(err, "reading: out of memory; close other programs");
    *list = grown;
    *cap = wider;
    return 0;
}

int lade_fetch_item(struct lade_fetch *f, const struct lade_item *item, char *err)
{
    if (grow((void **)&f->items, f->n_items, &f->cap_items, sizeof *f->items, err))
        return -1;
    f->items[f->n_items++] = *item;
    return 0;
}

int lade_fetch_piece(struct lade_fetch *f, int piece, unsigned char *place, char *err)
{
    const struct lade_piece *p = &f->cat->pieces[piece];
    for (int i = p->first; i < p->first + p->n_tensors; i++) {
        const struct lade_tensor *t = &f->cat->tensors[i];
        for (int part = 0; part < t->n_parts; part++) {
            const struct lade_span *s = &t->parts[part];
            struct lade_item item = {.tensor = i,
                                     .part = part,
                                     .offset = s->offset,
                                     .bytes = s->bytes,
                                     .shard = s->shard,
                                     .dst = place + t->offset};
            if (lade_fetch_item(f, &item, err))
                return -1;
        }
    }
    return 0;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static int by_place(const void *a, const void *b)
{
    const struct lade_item *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Where a direct read of a run begins and how many bytes it takes. */
static uint64_t aligned(const struct lade_run *r, size_t *bytes)
{
    uint64_t from = r->offset / LADE_DIRECT * LADE_DIRECT;
    uint64_t end = r->offset + r->bytes + LADE_DIRECT - 1;
    *bytes = (size_t)(end / LADE_DIRECT * LADE_DIRECT - from);
    return from;
}

/* A run whose bytes are needed as they are, where drive and memory agree about alignment, is read
 * to its place. The catalog promises that what lies between and after is padding (packed.h). */
static bool goes_in_place(const struct lade_fetch *f, const struct lade_run *r)
{
    const struct lade_item *first = &f->items[r->first];
    if (!f->cat->aligned || (uintptr_t)first->dst % LADE_DIRECT || r->offset % LADE_DIRECT)
        return false;
    for (int i = r->first; i < r->first + r->n_items; i++) {
        const struct lade_item *it = &f->items[i];
        if (it->rows || it->dst - first->dst != (ptrdiff_t)(it->offset - first->offset))
            return false;
    }
    return true;
}

int lade_fetch_arrange(struct lade_fetch *f, char *err)
{
    qsort(f->items, (size_t)f->n_items, sizeof *f->items, by_place);
    for (int i = 0; i < f->n_items;) {
        if (grow((void **)&f->runs, f->n_runs, &f->cap_runs, sizeof *f->runs, err))
            return -1;
        struct lade_run *r = &f->runs[f->n_runs++];
        *r =
            (struct lade_run){.shard = f->items[i].shard, .first = i, .offset = f->items[i].offset};
        uint64_t end = r->offset;
        while (i < f->n_items && f->items[i].shard == r->shard &&
               f->items[i].offset <= end + MAX_GAP) {
            uint64_t to = f->items[i].offset + f->items[i].bytes;
            end = to > end ? to : end;
            r->n_items++;
            i++;
        }
        r->bytes = end - r->offset;
        size_t bytes;
        aligned(r, &bytes);
        r->in_place = goes_in_place(f, r);
        f->stage_bytes += r->in_place ? 0 : bytes;
    }
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int add_chunks(struct lade_fetch *f, struct lade_run *r, unsigned char *to, char *err)
{
    size_t bytes;
    uint64_t from = aligned(r, &bytes);
    const struct lade_file *file = &f->files->file[r->shard];
    bool cached = file->direct < 0 || lade_file_is_cached(file, r->offset, (size_t)r->bytes);
    uint64_t end = r->offset + r->bytes;
    r->data = to + (r->offset - from);
    for (size_t done = 0; done < bytes;) {
        if (grow((void **)&f->chunks, f->n_chunks, &f->cap_chunks, sizeof *f->chunks, err))
            return -1;
        size_t n = bytes - done < CHUNK ? bytes - done : CHUNK;
        uint64_t offset = from + done;
        f->chunks[f->n_chunks++] = (struct lade_chunk){
            .read = {.fd = cached ? file->cached : file->direct,
                     .dst = to + done,
                     .bytes = n,
                     .offset = offset},
            .fetch = f,
            .shard = r->shard,
            .need = end - offset < n ? (size_t)(end - offset) : n,
        };
        done += n;
    }
    return 0;
}

int lade_fetch_start(struct lade_fetch *f, unsigned char *stage, const struct lade_io_ops *ops,
                     struct lade_io *io, char *err)
{
    for (int i = 0; i < f->n_runs; i++) {
        struct lade_run *r = &f->runs[i];
        size_t bytes;
        aligned(r, &bytes);
        if (add_chunks(f, r, r->in_place ? f->items[r->first].dst : stage, err))
            return -1;
        stage += r->in_place ? 0 : bytes;
    }
    f->pending = f->n_chunks;
    for (int i = 0; i < f->n_chunks; i++)
        ops->submit(io, &f->chunks[i].read);
    return 0;
}

static void fail(struct lade_chunk *c, const char *what, const char *why, const char *advice)
{
    struct lade_fetch *f = c->fetch;
    c->fetch->pending--;
    if (!f->failed)
        lade_fail(f->err, "%s: %s byte %llu%s%s; %s", f->cat->shards[c->shard].path, what,
                  (unsigned long long)c->read.offset, *why ? ": " : "", why, advice);
    f->failed = true;
}

void lade_fetch_back(struct lade_chunk *c, const struct lade_io_ops *ops, struct lade_io *io)
{
    const struct lade_file *file = &c->fetch->files->file[c->shard];
    struct lade_read *r = &c->read;
    if (r->got >= 0 && (size_t)r->got >= c->need) {
        c->fetch->pending--;
        return;
    }
    if (r->got == -EINVAL && r->fd == file->direct) {
        r->fd = file->cached; /* a block size or a file system that wants otherwise */
    } else if (r->got == 0) {
        fail(c, "ended at", "", "the file has been cut short; put the whole file back");
        return;
    } else if (r->got < 0 && r->got != -EINTR && r->got != -EAGAIN) {
        fail(c, "read error at", strerror((int)-r->got), "check the drive");
        return;
    } else if (r->got > 0) {
        r->dst = (unsigned char *)r->dst + r->got;
        r->bytes -= (size_t)r->got;
        r->offset += (uint64_t)r->got;
        c->need -= (size_t)r->got;
        if (r->offset % LADE_DIRECT)
            r->fd = file->cached; /* a short read ends the alignment */
    }
    ops->submit(io, r);
}

/* ---- packing --------------------------------------------------------------------------------- */

int lade_fetch_finish(struct lade_fetch *f, char *err)
{
    if (f->failed)
        return lade_fail(err, "%s", f->err);
    for (int i = 0; i < f->n_runs; i++) {
        const struct lade_run *r = &f->runs[i];
        for (int j = r->first; !r->in_place && j < r->first + r->n_items; j++) {
            const struct lade_item *it = &f->items[j];
            const struct lade_tensor *t = &f->cat->tensors[it->tensor];
            const unsigned char *data = r->data + (it->offset - r->offset);
            int rc = it->rows ? lade_pack_rows(f->cat, t, it->part, it->first, it->rows, data,
                                               it->dst, err)
                              : lade_pack(f->cat, t, it->part, data, it->dst, err);
            if (rc)
                return -1;
        }
    }
    return 0;
}
