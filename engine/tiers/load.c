#include "engine/tiers/load.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/checkpoint/pack.h"

/* One read. Long enough that a drive reaches its sequential speed, short enough that threads
 * share the work evenly and a cancel is felt at once. */
enum { READ_BYTES = 4 << 20, MAX_GAP = 128 << 10, MAX_THREADS = 16 };

/* Direct reads start, end and land on multiples of the drive's block; this suits all known. */
enum { DIRECT_ALIGN = 4096 };

/* A span with what it belongs to. */
struct item {
    const struct lade_span *span;
    int tensor, part;
};

/* A run of one shard that one thread reads at once: either whole spans, which are packed, or a
 * slice of a large span that needs no repacking and is copied to `place`. */
struct batch {
    int shard;
    int first, n_items;
    uint64_t offset, bytes;
    unsigned char *place; /* NULL: whole spans */
};

/* A thread's buffer, aligned for direct reads. */
struct stage {
    unsigned char *data;
    size_t room;
};

/* One shard, opened twice. What the page cache holds is taken from there; the rest is read past
 * it, which is faster where the drive is not (no copy, no read-ahead to guess) and leaves the cache
 * to others. direct is -1 where the file system knows no direct reads. */
struct shard_files {
    int cached, direct;
};

struct load {
    const struct lade_catalog *cat;
    unsigned char *arena;
    const size_t *place;
    struct item *items;
    int n_items;
    struct batch *batches;
    size_t n_batches, cap_batches;
    struct shard_files *files;
    atomic_size_t next;
    atomic_bool failed;
    const atomic_bool *cancel;

    pthread_mutex_t lock; /* guards everything below */
    char err[LADE_ERR];
    lade_load_fn *progress;
    void *user;
    uint64_t *shard_done, done, bytes;
};

static int compare_items(const void *a, const void *b)
{
    const struct lade_span *x = ((const struct item *)a)->span;
    const struct lade_span *y = ((const struct item *)b)->span;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int collect_items(struct load *l, char *err)
{
    size_t total = 0;
    for (int i = 0; i < l->cat->n_tensors; i++)
        total += l->cat->tensors[i].n_parts;
    l->items = malloc((total ? total : 1) * sizeof *l->items);
    if (!l->items)
        return lade_fail(err, "%s: out of memory for the load order; close other programs",
                         l->cat->path);
    for (int i = 0; i < l->cat->n_tensors; i++)
        for (int part = 0; part < l->cat->tensors[i].n_parts; part++)
            l->items[l->n_items++] = (struct item){&l->cat->tensors[i].parts[part], i, part};
    qsort(l->items, (size_t)l->n_items, sizeof *l->items, compare_items);
    return 0;
}

static struct batch *add_batch(struct load *l, char *err)
{
    if (l->n_batches == l->cap_batches) {
        size_t cap = l->cap_batches ? 2 * l->cap_batches : 256;
        struct batch *grown = realloc(l->batches, cap * sizeof *grown);
        if (!grown) {
            lade_fail(err, "%s: out of memory for the load order; close other programs",
                      l->cat->path);
            return NULL;
        }
        l->batches = grown;
        l->cap_batches = cap;
    }
    struct batch *b = &l->batches[l->n_batches++];
    *b = (struct batch){0};
    return b;
}

static unsigned char *destination(const struct load *l, const struct lade_tensor *t)
{
    return l->arena + l->place[t->piece] + t->offset;
}

/* Cuts one large span into slices that are copied to their place. */
static int add_slices(struct load *l, const struct item *it, char *err)
{
    for (uint64_t done = 0; done < it->span->bytes;) {
        struct batch *b = add_batch(l, err);
        if (!b)
            return -1;
        uint64_t left = it->span->bytes - done;
        b->shard = it->span->shard;
        b->offset = it->span->offset + done;
        b->bytes = left < READ_BYTES ? left : READ_BYTES;
        b->place = destination(l, &l->cat->tensors[it->tensor]) + done;
        done += b->bytes;
    }
    return 0;
}

static int make_batches(struct load *l, char *err)
{
    for (int i = 0; i < l->n_items;) {
        const struct item *it = &l->items[i];
        if (it->span->bytes > READ_BYTES &&
            lade_pack_is_copy(&l->cat->tensors[it->tensor])) {
            if (add_slices(l, it, err))
                return -1;
            i++;
            continue;
        }
        struct batch *b = add_batch(l, err);
        if (!b)
            return -1;
        b->shard = it->span->shard;
        b->first = i;
        b->offset = it->span->offset;
        uint64_t end = b->offset;
        while (i < l->n_items) {
            const struct lade_span *s = l->items[i].span;
            uint64_t to = s->offset + s->bytes > end ? s->offset + s->bytes : end;
            bool follows = s->shard == b->shard && s->offset <= end + MAX_GAP &&
                           to - b->offset <= READ_BYTES;
            if (b->n_items && !follows)
                break;
            end = to;
            b->n_items++;
            i++;
        }
        b->bytes = end - b->offset;
    }
    return 0;
}

static void fail_once(struct load *l, const char *text)
{
    pthread_mutex_lock(&l->lock);
    if (!l->err[0]) {
        strncpy(l->err, text, LADE_ERR - 1);
        l->err[LADE_ERR - 1] = '\0';
    }
    pthread_mutex_unlock(&l->lock);
    atomic_store(&l->failed, true);
}

static int reserve_stage(struct stage *st, size_t bytes, const char *path, char *err)
{
    if (bytes <= st->room)
        return 0;
    free(st->data);
    st->room = 0;
    st->data = aligned_alloc(DIRECT_ALIGN, bytes);
    if (!st->data)
        return lade_fail(err, "%s: out of memory for a buffer of %zu bytes; close other programs",
                         path, bytes);
    st->room = bytes;
    return 0;
}

/* What the page cache holds from `offset` on, without waiting for the drive. */
static size_t read_cached(int fd, unsigned char *dst, size_t bytes, uint64_t offset)
{
    size_t done = 0;
    while (done < bytes) {
        struct iovec v = {dst + done, bytes - done};
        ssize_t got = preadv2(fd, &v, 1, (off_t)(offset + done), RWF_NOWAIT);
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    return done;
}

/* Reads until at least `need` bytes are there; `ask` may go beyond the end of the file. */
static int read_drive(const struct shard_files *f, const char *path, unsigned char *dst, size_t need,
                      size_t ask, uint64_t offset, char *err)
{
    bool direct = f->direct >= 0;
    for (size_t done = 0; done < need;) {
        ssize_t got = pread(direct ? f->direct : f->cached, dst + done, ask - done,
                            (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EINVAL && direct) {
            direct = false; /* a block size or file system that wants otherwise */
            continue;
        }
        if (got < 0)
            return lade_fail(err, "%s: read error at byte %llu: %s; check the drive", path,
                             (unsigned long long)(offset + done), strerror(errno));
        if (got == 0)
            return lade_fail(err, "%s: ended at byte %llu while being read; download it again",
                             path, (unsigned long long)(offset + done));
        done += (size_t)got;
        direct = direct && done % DIRECT_ALIGN == 0; /* a short read ends the alignment */
    }
    return 0;
}

/* Brings bytes offset..offset+bytes of a shard to the stage; *data points at the first. */
static int read_shard(const struct load *l, const struct batch *b, struct stage *st,
                      const unsigned char **data, char *err)
{
    const char *path = l->cat->shards[b->shard].path;
    const struct shard_files *f = &l->files[b->shard];
    uint64_t from = b->offset / DIRECT_ALIGN * DIRECT_ALIGN;
    size_t need = (size_t)(b->offset + b->bytes - from);
    size_t ask = (need + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;
    if (reserve_stage(st, ask, path, err))
        return -1;
    *data = st->data + (b->offset - from);
    size_t have = read_cached(f->cached, st->data, ask, from);
    if (have >= need)
        return 0;
    have = have / DIRECT_ALIGN * DIRECT_ALIGN;
    return read_drive(f, path, st->data + have, need - have, ask - have, from + have, err);
}

static int run_batch(struct load *l, const struct batch *b, struct stage *st, char *err)
{
    const unsigned char *data;
    if (read_shard(l, b, st, &data, err))
        return -1;
    if (b->place)
        memcpy(b->place, data, b->bytes);
    for (int i = b->first; i < b->first + b->n_items; i++) {
        const struct item *it = &l->items[i];
        const struct lade_tensor *t = &l->cat->tensors[it->tensor];
        if (lade_pack(l->cat, t, it->part, data + (it->span->offset - b->offset),
                      destination(l, t), err))
            return -1;
    }
    return 0;
}

/* Counts only wanted bytes: gaps that were read over belong to nobody. */
static uint64_t useful_bytes(const struct load *l, const struct batch *b)
{
    if (b->place)
        return b->bytes;
    uint64_t sum = 0;
    for (int i = b->first; i < b->first + b->n_items; i++)
        sum += l->items[i].span->bytes;
    return sum;
}

static void report(struct load *l, const struct batch *b)
{
    pthread_mutex_lock(&l->lock);
    uint64_t bytes = useful_bytes(l, b);
    l->shard_done[b->shard] += bytes;
    l->done += bytes;
    const struct lade_shard *shard = &l->cat->shards[b->shard];
    struct lade_load_progress p = {
        .shard = b->shard, .n_shards = l->cat->n_shards, .path = shard->path,
        .shard_done = l->shard_done[b->shard], .shard_bytes = shard->wanted,
        .done = l->done, .bytes = l->bytes,
    };
    if (l->progress)
        l->progress(l->user, &p);
    pthread_mutex_unlock(&l->lock);
}

static void *worker(void *arg)
{
    struct load *l = arg;
    struct stage stage = {0};
    char err[LADE_ERR];
    for (;;) {
        if (l->cancel && atomic_load(l->cancel))
            fail_once(l, "loading: cancelled; start it again when ready");
        size_t i = atomic_fetch_add(&l->next, 1);
        if (i >= l->n_batches || atomic_load(&l->failed))
            break;
        if (run_batch(l, &l->batches[i], &stage, err)) {
            fail_once(l, err);
            break;
        }
        report(l, &l->batches[i]);
    }
    free(stage.data);
    return NULL;
}

static int open_shards(struct load *l, char *err)
{
    size_t n = (unsigned)l->cat->n_shards; /* positive: an empty catalog does not open */
    l->files = malloc(n * sizeof *l->files);
    for (size_t i = 0; l->files && i < n; i++)
        l->files[i] = (struct shard_files){-1, -1};
    l->shard_done = calloc(n, sizeof *l->shard_done);
    if (!l->files || !l->shard_done)
        return lade_fail(err, "%s: out of memory; close other programs", l->cat->path);
    for (size_t i = 0; i < n; i++) {
        const char *path = l->cat->shards[i].path;
        l->files[i].cached = open(path, O_RDONLY | O_CLOEXEC);
        if (l->files[i].cached < 0)
            return lade_fail(err, "%s: cannot be opened: %s; check the file and its permissions",
                             path, strerror(errno));
        l->files[i].direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    }
    return 0;
}

static void close_shards(struct load *l)
{
    for (int i = 0; l->files && i < l->cat->n_shards; i++) {
        if (l->files[i].cached >= 0)
            close(l->files[i].cached);
        if (l->files[i].direct >= 0)
            close(l->files[i].direct);
    }
    free(l->files);
    free(l->shard_done);
}

static void run_threads(struct load *l, int threads)
{
    pthread_t ids[MAX_THREADS];
    int started = 0;
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    while (started < threads - 1 && pthread_create(&ids[started], NULL, worker, l) == 0)
        started++;
    worker(l); /* the caller works too, so that a refused thread only costs speed */
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
}

int lade_load(const struct lade_catalog *cat, unsigned char *arena, const size_t *place,
              int threads, lade_load_fn *progress, void *user, const atomic_bool *cancel,
              char *err)
{
    struct load l = {.cat = cat, .arena = arena, .place = place, .cancel = cancel,
                     .progress = progress, .user = user, .bytes = cat->source_bytes};
    pthread_mutex_init(&l.lock, NULL);
    int result = -1;
    if (!collect_items(&l, err) && !make_batches(&l, err) && !open_shards(&l, err)) {
        run_threads(&l, threads);
        result = atomic_load(&l.failed) ? lade_fail(err, "%s", l.err) : 0;
    }
    close_shards(&l);
    free(l.batches);
    free(l.items);
    pthread_mutex_destroy(&l.lock);
    return result;
}
