/* A job of a mover by itself: what the page cache has and what comes through the queue are packed to
 * the same bytes, a file that is cut short between looking and reading is said to be, and reading
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

/* The packed bytes of a piece, malloc'ed; NULL with err. `cut`: a file that loses its end once it is
 * known what is cached. */
static unsigned char *read_piece(const struct lade_catalog *cat, int piece,
                                 const struct lade_io_ops *ops, const char *cut, bool *cached)
{
    struct lade_files files;
    assert_int_equal(lade_files_open(&files, cat, err), 0);
    struct lade_haul haul = {.cat = cat, .files = &files, .ops = ops};
    struct lade_io *io;
    assert_int_equal(ops->open(&io, 64, err), 0);
    unsigned char *packed = calloc(1, cat->pieces[piece].bytes), *stage = NULL;
    assert_non_null(packed);
    assert_int_equal(lade_haul_piece(&haul, piece, packed, false, err), 0);
    assert_int_equal(lade_haul_arrange(&haul, err), 0);
    assert_int_equal(posix_memalign((void **)&stage, LADE_DIRECT, haul.stage_bytes + 1), 0);
    *cached = haul.n_runs > 0;
    for (int i = 0; i < haul.n_runs; i++)
        *cached &= haul.runs[i].cached;
    if (cut)
        assert_int_equal(truncate(cut, 4096), 0);
    assert_int_equal(lade_haul_start(&haul, stage, io, err), 0);
    while (haul.pending)
        lade_haul_back((struct lade_chunk *)(void *)ops->wait(io), io);
    if (lade_haul_finish(&haul, err)) {
        free(packed);
        packed = NULL;
    }
    free(stage);
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
        bool is_cached, is_not;
        unsigned char *have = read_piece(cat, piece, &now, NULL, &is_cached);
        unsigned char *want = read_piece(cat, piece, &queued, NULL, &is_not);
        assert_false(is_not);
        n_cached += is_cached;
        if (!have || !want)
            fail_msg("%s", err);
        assert_memory_equal(have, want, cat->pieces[piece].bytes);
        free(have);
        free(want);
    }
    remove_model(cat, dir);
    if (!n_cached)
        skip(); /* a file system that does not tell */
}

static void test_cut_short(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-test-XXXXXX";
    struct lade_catalog *cat = copy_model(dir);
    struct lade_io_ops now = lade_io_threads;
    now.now = true;
    bool cached;
    int piece = cat->n_pieces - 1, first = 0;
    while (cat->tensors[first].piece != piece)
        first++;
    const char *shard = cat->shards[cat->tensors[first].parts[0].shard].path;
    unsigned char *packed = read_piece(cat, piece, &now, shard, &cached);
    assert_null(packed);
    assert_non_null(strstr(err, shard));
    assert_non_null(strstr(err, "the file has been cut short"));
    remove_model(cat, dir);
    if (!cached)
        skip();
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
    const bool forgot = !lade_copy_is_cached(copy, bytes - 1, 1);
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
        cmocka_unit_test(test_cached_as_queued),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_nothing_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
