/* packer.c - the work of lade pack.
 *
 * Files are laid out first, so that every piece knows its place. Threads then take pieces in the
 * order of the source, read and pack them as a load does, and write them. Every FLUSH bytes the
 * files are synced, and only then the pieces are noted in a journal: what the journal says is on
 * the drive, whatever happens next. The index comes last. */
#include "engine/tiers/packing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/pages.h"
#include "engine/tokenizer/model_file.h"
#include "kernels/kernels.h"

#define FLUSH     ((uint64_t)512 << 20)
#define MAX_TEXTS ((size_t)256 << 20)

enum { MAX_THREADS = 4, READS = 64, STAGE = 16 << 20 };

/* ---- the work -------------------------------------------------------------------------------- */

struct worker {
    struct packer *p;
    const struct lade_io_ops *ops;
    struct lade_io *io;
    struct lade_haul haul;
    unsigned char *piece, *stage;
    size_t piece_room, stage_room;
};

static int make_room(unsigned char **data, size_t *room, size_t bytes, char *err)
{
    if (bytes <= *room)
        return 0;
    lade_pages_give(*data, *room);
    *room = 0;
    *data = lade_pages_take(bytes);
    if (!*data)
        return lade_packing_no_memory(err);
    *room = bytes;
    return 0;
}

/* Reads and packs the items that the haul has. */
static int run_haul(struct worker *w, char *err)
{
    if (lade_haul_arrange(&w->haul, err) ||
        make_room(&w->stage, &w->stage_room, w->haul.stage_bytes, err) ||
        lade_haul_start(&w->haul, w->stage, NULL, w->io, err))
        return -1;
    while (w->haul.pending)
        lade_haul_back((struct lade_chunk *)(void *)w->ops->wait(w->io), w->io);
    int rc = lade_haul_finish(&w->haul, err);
    lade_haul_clear(&w->haul);
    return rc;
}

/* Collects items up to some MiB, then reads them. */
static int add_item(void *user, const struct lade_item *item, char *err)
{
    struct worker *w = user;
    uint64_t bytes = item->bytes;
    for (int i = 0; i < w->haul.n_items; i++)
        bytes += w->haul.items[i].bytes;
    if (w->haul.n_items && bytes > STAGE && run_haul(w, err))
        return -1;
    return lade_haul_item(&w->haul, item, err);
}

static int pack_piece(struct worker *w, int piece, char *err)
{
    struct packer *p = w->p;
    size_t bytes = p->cat->pieces[piece].bytes, padded = (size_t)lade_packing_align(bytes);
    if (make_room(&w->piece, &w->piece_room, padded, err))
        return -1;
    memset(w->piece, 0, padded);
    lade_haul_clear(&w->haul);
    if (lade_items_of_piece(p->cat, piece, w->piece, true, add_item, w, err) ||
        (w->haul.n_items && run_haul(w, err)))
        return -1;
    uint64_t *check = p->index.checks + p->first_check[piece];
    for (size_t at = 0; at < bytes; at += LADE_PACKED_BLOCK)
        *check++ = lade_packed_check(
            w->piece + at, bytes - at < LADE_PACKED_BLOCK ? bytes - at : LADE_PACKED_BLOCK);
    return lade_packing_write(p, piece, w->piece, padded, err);
}

/* Under the lock: brings what was written to the drives, then notes it. */
static int flush(struct packer *p, char *err)
{
    if (lade_packing_sync(p, err))
        return -1;
    for (int i = 0; i < p->cat->n_pieces; i++) {
        if (!p->written[i])
            continue;
        if (lade_journal_note(&p->journal, i, p->index.checks + p->first_check[i],
                              lade_packed_blocks(p->cat->pieces[i].bytes), err))
            return -1;
        p->written[i] = false;
        p->noted[i] = true;
    }
    p->unsynced = 0;
    return lade_journal_sync(&p->journal, err);
}

/* Under the lock: the next piece that is not noted, or -1. */
static int next_piece(struct packer *p)
{
    if (p->cancel && atomic_load(p->cancel) && !p->failed) {
        p->failed = true;
        lade_fail(p->err, "packing: stopped; run it again to go on");
    }
    while (!p->failed && p->next < p->cat->n_pieces)
        if (!p->noted[p->order[p->next++]])
            return p->order[p->next - 1];
    return -1;
}

static void fail(struct packer *p, const char *err)
{
    if (!p->failed)
        lade_fail(p->err, "%s", err);
    p->failed = true;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct packer *p = w->p;
    char err[LADE_ERR];
    pthread_mutex_lock(&p->lock);
    for (int piece; (piece = next_piece(p)) >= 0;) {
        pthread_mutex_unlock(&p->lock);
        int rc = pack_piece(w, piece, err);
        pthread_mutex_lock(&p->lock);
        if (rc) {
            fail(p, err);
            break;
        }
        size_t bytes = p->cat->pieces[piece].bytes;
        p->written[piece] = true;
        p->done += bytes;
        p->unsynced += bytes;
        struct lade_pack_progress now = {p->done, p->bytes,
                                         p->index.files[p->index.pieces[piece].file].name};
        if (p->progress)
            p->progress(p->user, &now);
        if (p->unsynced >= FLUSH && flush(p, err))
            fail(p, err);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int open_worker(struct worker *w, struct packer *p, char *err)
{
    *w = (struct worker){.p = p, .ops = lade_io_best()};
    w->haul.cat = p->cat;
    w->haul.files = &p->source;
    w->haul.ops = w->ops;
    return w->ops->open(&w->io, READS, err);
}

static void close_worker(struct worker *w)
{
    w->ops->close(w->io);
    lade_haul_close(&w->haul);
    lade_pages_give(w->piece, w->piece_room);
    lade_pages_give(w->stage, w->stage_room);
}

static int run_workers(struct packer *p, int threads, char *err)
{
    struct worker w[MAX_THREADS];
    pthread_t id[MAX_THREADS];
    int n = 0, started = 0;
    threads = threads ? threads : lade_cpu_cores();
    threads = threads > MAX_THREADS ? MAX_THREADS : threads;
    while (n < threads && !open_worker(&w[n], p, err))
        n++;
    if (!n)
        return -1;
    while (started < n - 1 && !pthread_create(&id[started], NULL, work, &w[started + 1]))
        started++;
    work(&w[0]);
    for (int i = 0; i < started; i++)
        pthread_join(id[i], NULL);
    for (int i = 0; i < n; i++)
        close_worker(&w[i]);
    /* What was written so far is worth keeping after a failure, too. */
    if (flush(p, err))
        fail(p, err);
    return p->failed ? lade_fail(err, "%s", p->err) : 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* The texts a tokenizer needs, as files, whatever the source is. */
static int write_texts(const struct lade_catalog *cat, const char *dir, char *err)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "chat_template.jinja"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *text;
        size_t len;
        if (lade_model_file(cat->path, names[i], MAX_TEXTS, &text, &len, err)) {
            if (errno == ENOENT && i > 0)
                continue;
            return -1;
        }
        char *path = lade_path_join(dir, names[i]);
        FILE *f = path ? fopen(path, "we") : NULL;
        bool ok = f && fwrite(text, 1, len, f) == len;
        ok = f && fclose(f) == 0 && ok;
        if (!ok)
            lade_fail(err, "%s/%s: cannot be written: %s; free some space and run lade pack again",
                      dir, names[i], strerror(errno));
        free(text);
        free(path);
        if (!ok)
            return -1;
    }
    return 0;
}

static int finish(struct packer *p, char *err)
{
    struct lade_packed *x = &p->index;
    if (lade_packing_rename(p, err))
        return -1;
    for (int i = 0; i < x->n_drives; i++)
        if (write_texts(p->cat, x->drives[i], err))
            return -1;
    for (int i = x->n_drives - 1; i >= 0; i--)
        if (lade_packed_write(x, x->drives[i], err))
            return -1;
    lade_journal_remove(&p->journal);
    return 0;
}

static bool same_text(const char *a, const char *b)
{
    return a && b && !strcmp(a, b);
}

/* Whether the directories hold just this already. */
static bool is_up_to_date(const struct packer *p)
{
    const struct lade_packed *x = &p->index;
    struct lade_packed there;
    if (lade_packed_read(&there, x->drives[0], NULL))
        return false;
    bool same = there.n_sources == x->n_sources && there.n_drives == x->n_drives &&
                there.mirrored == x->mirrored && there.n_pieces == x->n_pieces;
    for (int i = 0; same && i < x->n_drives; i++)
        same = same_text(there.drives[i], x->drives[i]);
    for (int i = 0; same && i < x->n_sources; i++)
        same = same_text(there.sources[i].path, x->sources[i].path) &&
               there.sources[i].bytes == x->sources[i].bytes &&
               there.sources[i].time_ns == x->sources[i].time_ns;
    lade_packed_free(&there);
    struct lade_catalog *cat;
    same = same && !lade_catalog_open(&cat, x->drives[0], NULL);
    if (same)
        lade_catalog_close(cat);
    return same;
}

/* An old index must not stand beside files that are about to change. */
static void remove_indexes(const struct packer *p)
{
    for (int i = 0; i < p->index.n_drives; i++) {
        char *path = lade_path_join(p->index.drives[i], LADE_PACKED_INDEX);
        if (path)
            unlink(path);
        free(path);
    }
}

/* Takes over what an earlier run has noted. */
static void take_over(void *user, int piece, const uint64_t *checks, int n)
{
    struct packer *p = user;
    if (piece < 0 || piece >= p->cat->n_pieces || p->noted[piece] ||
        n != lade_packed_blocks(p->cat->pieces[piece].bytes))
        return;
    memcpy(p->index.checks + p->first_check[piece], checks, (size_t)n * sizeof *checks);
    p->noted[piece] = true;
    p->done += p->cat->pieces[piece].bytes;
}

static int open_journal(struct packer *p, char *err)
{
    size_t n = (size_t)p->cat->n_pieces;
    p->noted = calloc(n, sizeof *p->noted);
    p->written = calloc(n, sizeof *p->written);
    if (!p->noted || !p->written)
        return lade_packing_no_memory(err);
    uint64_t signature = lade_packed_signature(&p->index);
    return signature
               ? lade_journal_open(&p->journal, p->index.drives[0], signature, take_over, p, err)
               : lade_packing_no_memory(err);
}

static int pack(struct packer *p, const struct lade_pack_options *opt, char *err)
{
    if (lade_packing_lay_out(p, opt, err))
        return -1;
    if (is_up_to_date(p))
        return 0;
    remove_indexes(p);
    if (open_journal(p, err) || lade_packing_open(p, err) ||
        lade_files_open(&p->source, p->cat, err) || run_workers(p, opt->threads, err))
        return -1;
    return finish(p, err);
}

int lade_pack_model(const struct lade_pack_options *opt, lade_pack_progress_fn *progress,
                    void *user, const atomic_bool *cancel, char *err)
{
    struct lade_catalog *cat;
    if (lade_catalog_open(&cat, opt->model, err))
        return -1;
    struct packer p = {.cat = cat, .progress = progress, .user = user, .cancel = cancel};
    p.journal.fd = -1;
    pthread_mutex_init(&p.lock, NULL);
    int rc = pack(&p, opt, err);
    lade_packing_close(&p);
    lade_journal_close(&p.journal);
    lade_files_close(&p.source);
    lade_packed_free(&p.index);
    free(p.order);
    free(p.first_check);
    free(p.noted);
    free(p.written);
    pthread_mutex_destroy(&p.lock);
    lade_catalog_close(cat);
    return rc;
}
