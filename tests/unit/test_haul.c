/* A job of a mover by itself: what the page cache has, what comes through the queue, and what is read to
 * the place itself first are packed to the same bytes, a file that is cut short between looking and reading is said to be, and reading
 * from the cache brings nothing else there. */
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/tiers/haul.h"

static char err[LADE_ERR];

enum { GUARD = 64, MARK = 0xA5 };

/* How a piece is read. */
struct way {
    const struct lade_io_ops *ops;
    const char *cut; /* a file that loses its end once it is known what is cached; or NULL */
    const unsigned char *old; /* what was in the piece's place, which is lent; NULL: it is not */
    size_t apart;             /* bytes in the middle of the place that are not lent */
    bool cached;              /* becomes: all of it came from the page cache */
    int lent;                 /* becomes: how much of it lay in its place before it was packed */
};

/* GUARD bytes of a mark, then room for a piece, then the mark again; zero, or as something was before. */
static unsigned char *make_room(size_t bytes, const unsigned char *old)
{
    unsigned char *room = NULL;
    assert_int_equal(posix_memalign((void **)&room, LADE_DIRECT, bytes + 2 * GUARD), 0);
    memset(room, MARK, bytes + 2 * GUARD);
    memset(room + GUARD, 0, bytes);
    if (old)
        memcpy(room + GUARD, old + GUARD, bytes);
    return room;
}

/* Lends a place in two parts, which are one where they touch. */
static void lend_halves(struct lade_haul *haul, unsigned char *place, size_t bytes, size_t apart)
{
    const size_t half = bytes / 2 + -((uintptr_t)place + bytes / 2) % LADE_DIRECT;
    if (half + apart > bytes) {
        assert_int_equal(lade_haul_lend(haul, place, bytes, err), 0);
        return;
    }
    assert_int_equal(lade_haul_lend(haul, place, half, err), 0);
    assert_int_equal(lade_haul_lend(haul, place + half + apart, bytes - half - apart, err), 0);
    assert_true(apart || haul->n_lent <= 1);
    for (int i = 0; i < haul->n_lent && apart; i++)
        assert_true(haul->lent[i].at + haul->lent[i].bytes <= place + half ||
                    haul->lent[i].at >= place + half + apart);
}

/* The packed bytes of a piece after GUARD others, malloc'ed; NULL with err. */
static unsigned char *read_piece(const struct lade_catalog *cat, int piece, struct way *way)
{
    const struct lade_io_ops *ops = way->ops;
    const size_t bytes = cat->pieces[piece].bytes;
    struct lade_files files;
    assert_int_equal(lade_files_open(&files, cat, err), 0);
    struct lade_haul haul = {.cat = cat, .files = &files, .ops = ops};
    struct lade_io *io;
    assert_int_equal(ops->open(&io, 64, err), 0);
    unsigned char *packed = make_room(bytes, way->old), *stage = NULL, *gather = NULL;
    assert_int_equal(lade_haul_piece(&haul, piece, packed + GUARD, false, err), 0);
    assert_int_equal(lade_haul_arrange(&haul, err), 0);
    if (way->old)
        lend_halves(&haul, packed + GUARD, bytes, way->apart);
    assert_int_equal(posix_memalign((void **)&stage, LADE_DIRECT, haul.stage_bytes + 1), 0);
    assert_int_equal(posix_memalign((void **)&gather, LADE_DIRECT, haul.read_bytes + 1), 0);
    for (int i = 0; i < haul.n_lent; i++)
        assert_int_equal(((uintptr_t)haul.lent[i].at | haul.lent[i].bytes) % LADE_DIRECT, 0);
    way->lent = (int)(haul.read_bytes + haul.slice_bytes - haul.stage_bytes);
    way->cached = haul.n_runs > 0;
    for (int i = 0; i < haul.n_runs; i++)
        way->cached &= haul.runs[i].cached;
    if (way->cut)
        assert_int_equal(truncate(way->cut, 4096), 0);
    assert_int_equal(lade_haul_start(&haul, stage, gather, io, err), 0);
    while (haul.pending)
        lade_haul_back((struct lade_chunk *)(void *)ops->wait(io), io);
    bool failed = lade_haul_finish(&haul, err) != 0;
    for (size_t i = 0; i < GUARD; i++)
        assert_true(packed[i] == MARK && packed[GUARD + bytes + i] == MARK);
    if (failed) {
        free(packed);
        packed = NULL;
    }
    free(stage);
    free(gather);
    lade_haul_close(&haul);
    ops->close(io);
    lade_files_close(&files);
    return packed;
}

/* The model, whose shards are now in the page cache. */
static struct lade_catalog *copy_model(char *dir)
{
    char command[PATH_MAX + 64];
    struct lade_catalog *cat;
    assert_non_null(mkdtemp(dir));
    snprintf(command, sizeof command, "cp engine/bundled/* %s", dir);
    assert_int_equal(system(command), 0);
    if (lade_catalog_open(&cat, dir, err))
        fail_msg("%s", err);
    return cat;
}

static void remove_model(struct lade_catalog *cat, const char *dir)
{
    char command[PATH_MAX + 16];
    lade_catalog_close(cat);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void test_cached_as_queued(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-test-XXXXXX";
    struct lade_catalog *cat = copy_model(dir);
    struct lade_io_ops queued = lade_io_threads, now = lade_io_threads;
    queued.now = false;
    now.now = true;
    int n_cached = 0;
    for (int piece = 0; piece < cat->n_pieces; piece++) {
        struct way cached = {.ops = &now}, read = {.ops = &queued};
        unsigned char *have = read_piece(cat, piece, &cached);
        unsigned char *want = read_piece(cat, piece, &read);
        assert_false(read.cached);
        n_cached += cached.cached;
        if (!have || !want)
            fail_msg("%s", err);
        assert_memory_equal(have, want, GUARD + cat->pieces[piece].bytes);
        free(have);
        free(want);
    }
    remove_model(cat, dir);
    if (!n_cached)
        skip(); /* a file system that does not tell */
}

/* All pieces of a model, each with its place lent, which has something else but for what is padding. */
static void check_lent(const char *path, struct lade_io_ops ops, bool now, size_t apart,
                       size_t *lent)
{
    struct lade_catalog *cat;
    ops.now = now;
    if (lade_catalog_open(&cat, path, err))
        fail_msg("%s", err);
    for (int piece = 0; piece < cat->n_pieces; piece++) {
        const size_t bytes = cat->pieces[piece].bytes;
        struct way usual = {.ops = &ops};
        unsigned char *want = read_piece(cat, piece, &usual);
        unsigned char *old = make_room(bytes, want);
        for (size_t i = GUARD; i < GUARD + bytes; i++)
            old[i] = old[i] ? old[i] * 2 + 1 : 0;
        struct way there = {.ops = &ops, .old = old, .apart = apart};
        unsigned char *have = want ? read_piece(cat, piece, &there) : NULL;
        if (!have)
            fail_msg("%s", err);
        assert_memory_equal(have, want, GUARD + bytes + GUARD);
        *lent += (size_t)there.lent;
        free(have);
        free(old);
        free(want);
    }
    lade_catalog_close(cat);
}

static void test_lent(void **state)
{
    (void)state;
    static const char *const models[] = {
        "engine/bundled", "tests/fixtures/tiny-int4", "tests/fixtures/tiny8-int4-mixed",
        "tests/fixtures/odd-bf16", "tests/fixtures/tiny-gguf/tiny-q8_0.gguf"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        size_t lent = 0;
        check_lent(models[i], lade_io_threads, false, 0, &lent);
        check_lent(models[i], *lade_io_best(), false, LADE_DIRECT, &lent);
        assert_true(lent > 0);
        /* Little of it is read, or nothing. */
        check_lent(models[i], lade_io_threads, true, 0, &lent);
    }
}

/* The last piece of a model whose shard loses its end meanwhile; its place lent or not. Returns how it was read. */
static struct way cut_short(struct lade_io_ops ops, bool now, bool lend)
{
    char dir[] = "/tmp/lade-test-XXXXXX";
    struct lade_catalog *cat = copy_model(dir);
    const int piece = cat->n_pieces - 1;
    const struct lade_tensor *first = &cat->tensors[cat->pieces[piece].first];
    const char *shard = cat->shards[first->parts[0].shard].path;
    unsigned char *old = lend ? make_room(cat->pieces[piece].bytes, NULL) : NULL;
    struct way way = {.ops = &ops, .old = old, .cut = shard};
    ops.now = now;
    assert_null(read_piece(cat, piece, &way));
    assert_non_null(strstr(err, shard));
    assert_non_null(strstr(err, "the file has been cut short"));
    free(old);
    remove_model(cat, dir);
    return (struct way){.cached = way.cached, .lent = way.lent};
}

static void test_cut_short(void **state)
{
    (void)state;
    if (!cut_short(lade_io_threads, true, false).cached)
        skip();
}

static void test_cut_short_lent(void **state)
{
    (void)state;
    assert_true(cut_short(lade_io_threads, false, true).lent > 0);
}

/* Takes a file out of the page cache; what is not written yet would stay. */
static void forget(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* A model that nobody has read yet is opened, and the first half of a shard read in pieces: the rest
 * stays out of the cache. */
static void test_nothing_ahead(void **state)
{
    (void)state;
    enum { PIECE = 64 << 10 };
    static unsigned char to[PIECE];
    char dir[] = "/tmp/lade-test-XXXXXX";
    struct lade_catalog *cat = copy_model(dir);
    struct lade_files files;
    forget(cat->shards[0].path);
    lade_catalog_close(cat);
    assert_int_equal(lade_catalog_open(&cat, dir, err), 0);
    assert_int_equal(lade_files_open(&files, cat, err), 0);
    const struct lade_copy *copy = &files.file[0].copy[0];
    const uint64_t bytes = cat->shards[0].bytes, half = bytes / 2 / PIECE * PIECE;
    bool forgot = true;
    for (uint64_t at = half; at < bytes; at += LADE_DIRECT)
        forgot &= !lade_copy_is_cached(copy, at, 1);
    for (uint64_t at = 0; at < half; at += PIECE)
        assert_int_equal(lade_read_now(copy->cached, to, PIECE, at), PIECE);
    const bool tells = forgot && lade_copy_is_cached(copy, 0, half);
    for (uint64_t at = half; tells && at < bytes; at += LADE_DIRECT)
        assert_false(lade_copy_is_cached(copy, at, 1));
    lade_files_close(&files);
    remove_model(cat, dir);
    if (!tells)
        skip(); /* a file system that keeps it, or does not tell */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cached_as_queued), cmocka_unit_test(test_lent),
        cmocka_unit_test(test_cut_short),        cmocka_unit_test(test_cut_short_lent),
        cmocka_unit_test(test_nothing_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
