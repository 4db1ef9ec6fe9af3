#include "engine/tiers/haul.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/pack.h"
#include "engine/checkpoint/packed.h"

/* A gap that is read over, because another read would cost more; one read at most. */
enum { MAX_GAP = 128 << 10, CHUNK = 4 << 20 };

/* Larger tensors are cut. In packed files what a checksum covers (packed.h). */
enum { SLICE = LADE_PACKED_BLOCK };

/* Of what is cached as much is read at once as leaves room for its packed form in a core's cache. */
enum { CACHED_SLICE = 256 << 10 };

/* Nothing more is read for the job. */
static void count_none(struct lade_haul *f)
{
    for (int i = 0; i < f->n_counted; i++)
        atomic_fetch_sub_explicit(&f->files->file[f->runs[i].shard].copy[f->runs[i].copy].flying,
                                  (long)f->runs[i].bytes, memory_order_relaxed);
    f->n_counted = 0;
}

void lade_haul_close(struct lade_haul *f)
{
    count_none(f);
    free(f->items);
    free(f->runs);
    free(f->chunks);
    free(f->lent);
    *f = (struct lade_haul){0};
}

void lade_haul_clear(struct lade_haul *f)
{
    count_none(f);
    f->n_items = f->n_runs = f->n_chunks = f->n_lent = f->pending = 0;
    f->stage_bytes = f->slice_bytes = f->read_bytes = 0;
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

int lade_haul_item(struct lade_haul *f, const struct lade_item *item, char *err)
{
    if (grow((void **)&f->items, f->n_items, &f->cap_items, sizeof *f->items, err))
        return -1;
    f->items[f->n_items++] = *item;
    return 0;
}

static int add_to_haul(void *user, const struct lade_item *item, char *err)
{
    return lade_haul_item(user, item, err);
}

int lade_haul_piece(struct lade_haul *f, int piece, unsigned char *place, bool padded, char *err)
{
    return lade_items_of_piece(f->cat, piece, place, padded, add_to_haul, f, err);
}

/* ---- items of a piece ------------------------------------------------------------------------ */

/* A part of a tensor, in slices of rows where it is large and can be cut. */
static int add_part(const struct lade_catalog *cat, int tensor, int part, unsigned char *place,
                    lade_item_fn *add, void *user, char *err)
{
    const struct lade_tensor *t = &cat->tensors[tensor];
    const struct lade_span *s = &t->parts[part];
    struct lade_item item = {.tensor = tensor,
                             .part = part,
                             .offset = s->offset,
                             .bytes = s->bytes,
                             .shard = s->shard,
                             .dst = place + t->offset};
    size_t row = lade_pack_row_bytes(t, part);
    if (s->bytes <= SLICE || !row)
        return add(user, &item, err);
    int rows = (int)(s->bytes / row), step = (int)(SLICE / row) / LADE_TILE * LADE_TILE;
    if (step < LADE_TILE)
        step = LADE_TILE;
    for (item.first = 0; item.first < rows; item.first += step) {
        item.rows = step < rows - item.first ? step : rows - item.first;
        item.offset = s->offset + (uint64_t)item.first * row;
        item.bytes = (uint64_t)item.rows * row;
        int rc = add(user, &item, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* A piece that lies in its file as it will in memory, block by block. */
static int add_aligned(const struct lade_catalog *cat, int piece, unsigned char *place, bool padded,
                       lade_item_fn *add, void *user, char *err)
{
    const struct lade_piece *p = &cat->pieces[piece];
    const struct lade_span *s = &cat->tensors[p->first].parts[0];
    for (size_t done = 0; done < p->bytes; done += SLICE) {
        struct lade_item item = {
            .tensor = p->first,
            .shard = s->shard,
            .offset = s->offset + done,
            .block = true,
            .padded = padded,
            .check = cat->checks ? p->first_check + (int)(done / SLICE) : -1,
            .bytes = p->bytes - done < SLICE ? p->bytes - done : SLICE,
            .dst = place + done,
        };
        int rc = add(user, &item, err);
        if (rc)
            return rc;
    }
    return 0;
}

int lade_items_of_piece(const struct lade_catalog *cat, int piece, unsigned char *place,
                        bool padded, lade_item_fn *add, void *user, char *err)
{
    const struct lade_piece *p = &cat->pieces[piece];
    if (cat->aligned)
        return add_aligned(cat, piece, place, padded, add, user, err);
    for (int i = p->first; i < p->first + p->n_tensors; i++)
        for (int part = 0; part < cat->tensors[i].n_parts; part++) {
            int rc = add_part(cat, i, part, place, add, user, err);
            if (rc)
                return rc;
        }
    return 0;
}

/* ---- runs ------------------------------------------------------------------------------------ */

int lade_item_order(const void *a, const void *b)
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

/* A block whose place is aligned like its bytes in the file is read to its place: what follows up
 * to the next multiple of LADE_DIRECT is padding, in the file and in memory. */
static bool goes_in_place(const struct lade_item *it)
{
    return it->block && it->padded && (uintptr_t)it->dst % LADE_DIRECT == 0 &&
           it->offset % LADE_DIRECT == 0;
}

/* Whether an item can be read in one run with those before it, of which the bytes end at `end`. */
static bool joins(const struct lade_haul *f, const struct lade_run *r, const struct lade_item *it,
                  uint64_t end)
{
    const struct lade_item *first = &f->items[r->first];
    if (it->shard != r->shard || it->offset > end + MAX_GAP)
        return false;
    return r->in_place ? goes_in_place(it) &&
                             it->dst - first->dst == (ptrdiff_t)(it->offset - first->offset)
                       : !goes_in_place(it);
}

/* Rows of an item that are read and packed together where they are cached; 0: it is not cut. */
static int slice_rows(const struct lade_haul *f, const struct lade_item *it, size_t *row)
{
    *row = it->block ? 0 : lade_pack_row_bytes(&f->cat->tensors[it->tensor], it->part);
    if (!*row || it->bytes <= CACHED_SLICE)
        return 0;
    int rows = (int)(CACHED_SLICE / *row) / LADE_TILE * LADE_TILE;
    return rows < LADE_TILE ? LADE_TILE : rows;
}

/* The memory that an item passes through where it is cached. */
static size_t slice_of(const struct lade_haul *f, const struct lade_item *it)
{
    size_t row, rows = (size_t)slice_rows(f, it, &row);
    return it->block ? 0 : rows ? rows * row : (size_t)it->bytes;
}

/* Where a run is read from, and the memory that it takes. It counts from here, so that the next run
 * may choose another copy. */
static void choose_source(struct lade_haul *f, struct lade_run *r)
{
    struct lade_file *file = &f->files->file[r->shard];
    size_t bytes;
    r->copy = lade_file_choose(file);
    struct lade_copy *copy = &file->copy[r->copy];
    const bool there = lade_copy_is_cached(copy, r->offset, r->bytes);
    r->cached = there && f->ops->now;
    r->fd = there || copy->direct < 0 ? copy->cached : copy->direct;
    atomic_fetch_add_explicit(&copy->flying, (long)r->bytes, memory_order_relaxed);
    f->n_counted++;
    aligned(r, &bytes);
    f->read_bytes += r->in_place || r->cached ? 0 : bytes;
    for (int i = r->first; r->cached && i < r->first + r->n_items; i++) {
        size_t slice = slice_of(f, &f->items[i]);
        f->slice_bytes = slice > f->slice_bytes ? slice : f->slice_bytes;
    }
}

int lade_haul_arrange(struct lade_haul *f, char *err)
{
    qsort(f->items, (size_t)f->n_items, sizeof *f->items, lade_item_order);
    for (int i = 0; i < f->n_items;) {
        if (grow((void **)&f->runs, f->n_runs, &f->cap_runs, sizeof *f->runs, err))
            return -1;
        struct lade_run *r = &f->runs[f->n_runs++];
        *r = (struct lade_run){.shard = f->items[i].shard,
                               .first = i,
                               .offset = f->items[i].offset,
                               .in_place = goes_in_place(&f->items[i])};
        uint64_t end = r->offset;
        while (i < f->n_items && joins(f, r, &f->items[i], end)) {
            uint64_t to = f->items[i].offset + f->items[i].bytes;
            end = to > end ? to : end;
            r->n_items++;
            i++;
        }
        r->bytes = end - r->offset;
        choose_source(f, r);
    }
    f->slice_bytes = (f->slice_bytes + LADE_DIRECT - 1) / LADE_DIRECT * LADE_DIRECT;
    f->stage_bytes = f->slice_bytes + f->read_bytes;
    return 0;
}

int lade_haul_lend(struct lade_haul *f, unsigned char *place, size_t bytes, char *err)
{
    const size_t skip = -(uintptr_t)place % LADE_DIRECT, left = f->stage_bytes - f->slice_bytes;
    size_t use = bytes > skip ? (bytes - skip) / LADE_DIRECT * LADE_DIRECT : 0;
    use = use < left ? use : left;
    if (!use)
        return 0;
    if (grow((void **)&f->lent, f->n_lent, &f->cap_lent, sizeof *f->lent, err))
        return -1;
    const int n = f->n_lent;
    if (n && f->lent[n - 1].at + f->lent[n - 1].bytes == place + skip)
        f->lent[n - 1].bytes += use; /* one read reaches over both */
    else
        f->lent[f->n_lent++] = (struct lade_lent){place + skip, use};
    f->stage_bytes -= use;
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Where byte `at` of what is read comes to lie: in what is lent, then in the stage. *n becomes at most what
 * lies together. */
static unsigned char *landing(const struct lade_haul *f, size_t at, size_t *n)
{
    for (int i = 0; i < f->n_lent; i++) {
        const struct lade_lent *l = &f->lent[i];
        if (at < l->bytes) {
            *n = *n < l->bytes - at ? *n : l->bytes - at;
            return l->at + at;
        }
        at -= l->bytes;
    }
    return f->stage + f->slice_bytes + at;
}

/* The reads of a run, to its place or to what is read from byte `at` on. */
static int add_chunks(struct lade_haul *f, struct lade_run *r, size_t at, char *err)
{
    size_t bytes;
    uint64_t from = aligned(r, &bytes);
    const uint64_t end = r->offset + r->bytes;
    unsigned char *const place = f->items[r->first].dst;
    unsigned char *const together = f->n_lent ? f->gather : f->stage + f->slice_bytes;
    r->data = (r->in_place ? place : together + at) + (r->offset - from);
    for (size_t done = 0; done < bytes;) {
        if (grow((void **)&f->chunks, f->n_chunks, &f->cap_chunks, sizeof *f->chunks, err))
            return -1;
        size_t n = bytes - done < CHUNK ? bytes - done : CHUNK;
        unsigned char *to = r->in_place ? place + done : landing(f, at + done, &n);
        uint64_t offset = from + done;
        f->chunks[f->n_chunks++] = (struct lade_chunk){
            .read = {.fd = r->fd, .dst = to, .bytes = n, .offset = offset},
            .haul = f,
            .shard = r->shard,
            .copy = r->copy,
            .need = end - offset < n ? (size_t)(end - offset) : n,
        };
        done += n;
    }
    return 0;
}

int lade_haul_start(struct lade_haul *f, unsigned char *stage, unsigned char *gather,
                    struct lade_io *io, char *err)
{
    size_t at = 0;
    f->stage = stage;
    f->gather = gather;
    for (int i = 0; i < f->n_runs; i++) {
        struct lade_run *r = &f->runs[i];
        size_t bytes;
        aligned(r, &bytes);
        if (r->fd == f->files->file[r->shard].copy[r->copy].cached)
            atomic_fetch_add_explicit(&f->files->from_cache, r->bytes, memory_order_relaxed);
        if (r->cached)
            continue;
        if (add_chunks(f, r, at, err))
            return -1;
        at += r->in_place ? 0 : bytes;
    }
    f->pending = f->n_chunks;
    for (int i = 0; i < f->n_chunks; i++)
        f->ops->submit(io, &f->chunks[i].read);
    return 0;
}

/* Says why a read brought nothing. */
static int read_failed(const struct lade_copy *copy, uint64_t offset, long got, char *err)
{
    if (!got)
        return lade_fail(
            err, "%s: ended at byte %llu; the file has been cut short; put the whole file back",
            copy->path, (unsigned long long)offset);
    return lade_fail(err, "%s: read error at byte %llu: %s; check the drive", copy->path,
                     (unsigned long long)offset, strerror((int)-got));
}

/* The rest of a chunk from the next copy of the file; false where all have failed. */
static bool try_next_copy(struct lade_chunk *c)
{
    const struct lade_file *file = &c->haul->files->file[c->shard];
    if (++c->failures >= file->n)
        return false;
    c->copy = (c->copy + 1) % file->n;
    c->read.fd = file->copy[c->copy].cached;
    return true;
}

void lade_haul_back(struct lade_chunk *c, struct lade_io *io)
{
    struct lade_haul *f = c->haul;
    const struct lade_copy *copy = &f->files->file[c->shard].copy[c->copy];
    struct lade_read *r = &c->read;
    if (r->got >= 0 && (size_t)r->got >= c->need) {
        f->pending--;
        return;
    }
    if (r->got == -EINVAL && r->fd == copy->direct) {
        r->fd = copy->cached; /* a block size or a file system that wants otherwise */
    } else if (r->got > 0) {
        r->dst = (unsigned char *)r->dst + r->got;
        r->bytes -= (size_t)r->got;
        r->offset += (uint64_t)r->got;
        c->need -= (size_t)r->got;
        if (r->offset % LADE_DIRECT)
            r->fd = copy->cached; /* a short read ends the alignment */
    } else if (r->got != -EINTR && r->got != -EAGAIN && !try_next_copy(c)) {
        if (!f->failed)
            read_failed(copy, r->offset, r->got, f->err);
        f->failed = true;
        f->pending--;
        return;
    }
    f->ops->submit(io, r);
}

/* ---- packing --------------------------------------------------------------------------------- */

/* Reads bytes at once, from one copy. */
static int read_copy(const struct lade_copy *copy, uint64_t offset, size_t bytes, unsigned char *to,
                     char *err)
{
    for (long got; bytes; offset += (uint64_t)got, bytes -= (size_t)got, to += got)
        if ((got = lade_read_now(copy->cached, to, bytes, offset)) <= 0)
            return read_failed(copy, offset, got, err);
    return 0;
}

/* Bytes of a run that is cached, from any copy that has them. */
static int read_cached(const struct lade_haul *f, const struct lade_run *r, uint64_t offset,
                       size_t bytes, unsigned char *to, char *err)
{
    const struct lade_file *file = &f->files->file[r->shard];
    int i = 0;
    while (i < file->n && read_copy(&file->copy[(r->copy + i) % file->n], offset, bytes, to, err))
        i++;
    return i < file->n ? 0 : -1;
}

static bool is_whole(const struct lade_haul *f, const struct lade_item *it)
{
    return lade_packed_check(it->dst, it->bytes) == f->cat->checks[it->check];
}

/* A block that a drive has given back changed may be whole on another one. */
static int check_block(const struct lade_haul *f, const struct lade_item *it, char *err)
{
    const struct lade_file *file = &f->files->file[it->shard];
    bool whole = it->check < 0 || is_whole(f, it);
    for (int i = 0; !whole && file->n > 1 && i < file->n; i++)
        whole = !read_copy(&file->copy[i], it->offset, it->bytes, it->dst, NULL) && is_whole(f, it);
    if (whole)
        return 0;
    return lade_fail(err,
                     "%s: bytes %llu to %llu are damaged (their checksum differs); check the "
                     "drive and run lade pack again",
                     f->cat->shards[it->shard].path, (unsigned long long)it->offset,
                     (unsigned long long)(it->offset + it->bytes));
}

static int pack_item(const struct lade_haul *f, const struct lade_item *it,
                     const unsigned char *data, char *err)
{
    const struct lade_tensor *t = &f->cat->tensors[it->tensor];
    if (it->rows)
        return lade_pack_rows(f->cat, t, it->part, it->first, it->rows, data, it->dst, err);
    if (!it->block)
        return lade_pack(f->cat, t, it->part, data, it->dst, err);
    if (data != it->dst)
        memcpy(it->dst, data, it->bytes);
    return check_block(f, it, err);
}

static int pack_cached(const struct lade_haul *f, const struct lade_run *r,
                       const struct lade_item *it, char *err)
{
    unsigned char *to = it->block ? it->dst : f->stage;
    size_t row;
    const int step = slice_rows(f, it, &row), rows = step ? (int)(it->bytes / row) : 0;
    if (!step)
        return read_cached(f, r, it->offset, it->bytes, to, err) || pack_item(f, it, to, err) ? -1
                                                                                              : 0;
    struct lade_item slice = *it;
    for (int i = 0; i < rows; i += step) {
        slice.first = it->first + i;
        slice.rows = step < rows - i ? step : rows - i;
        if (read_cached(f, r, it->offset + (uint64_t)i * row, (size_t)slice.rows * row, to, err) ||
            pack_item(f, &slice, to, err))
            return -1;
    }
    return 0;
}

/* What was read to lent memory goes together, and that is zero again. */
static void take_from_lent(struct lade_haul *f)
{
    size_t at = 0;
    for (int i = 0; i < f->n_lent; i++) {
        const struct lade_lent *l = &f->lent[i];
        memcpy(f->gather + at, l->at, l->bytes);
        memset(l->at, 0, l->bytes);
        at += l->bytes;
    }
    if (f->n_lent)
        memcpy(f->gather + at, f->stage + f->slice_bytes, f->read_bytes - at);
}

int lade_haul_finish(struct lade_haul *f, char *err)
{
    count_none(f);
    take_from_lent(f);
    if (f->failed)
        return lade_fail(err, "%s", f->err);
    for (int i = 0; i < f->n_runs; i++) {
        const struct lade_run *r = &f->runs[i];
        for (int j = r->first; j < r->first + r->n_items; j++) {
            const struct lade_item *it = &f->items[j];
            if (r->cached ? pack_cached(f, r, it, err)
                          : pack_item(f, it, r->data + (it->offset - r->offset), err))
                return -1;
        }
    }
    return 0;
}
