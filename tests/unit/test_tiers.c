/* Wherever experts are, the logits are those of a model that is all in RAM: for every fixture, in
 * prompts and token by token, with room for all experts, for some and for none, so that every token
 * evicts, with both ways to read. And what must not be lost when reading fails. */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "engine/plan/habits.h"
#include "engine/tiers/internal.h"
#include "tests/support/support_io.h"
#include "tests/unit/places_common.h"

static const int batches[] = {TOKENS, 7, 1};
enum { BATCHES = sizeof batches / sizeof *batches };

/* Whether a model is run in one of its placements with one of the batches: with all of them, but under
 * ThreadSanitizer with one. Who meets whom there is a matter of placement and batch, which all meet. */
static bool is_run(int model, size_t place, size_t batch)
{
#ifdef __SANITIZE_THREAD__
    return ((size_t)model + place) % BATCHES == batch;
#else
    (void)model, (void)place, (void)batch;
    return true;
#endif
}

/* One expert less than a token uses; three of them; half of all; nothing at all. */
static void test_every_room(void **state)
{
    (void)state;
    static const struct lade_io_ops *const ios[] = {&lade_io_uring, &lade_io_threads};
    for (int i = 0; i < MODELS; i++) {
        struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
        struct lade_model *m = open_model(models[i], &all, NULL);
        const struct lade_catalog *cat = lade_model_catalog(m);
        size_t vocab = (size_t)cat->shape.vocab;
        uint64_t bytes = expert_bytes(m), one = cat->pieces[lade_catalog_expert(cat, 0, 0)].bytes;
        uint64_t rooms[] = {bytes / 2, 3 * one, one, 0};
        int used = cat->shape.experts_used * cat->shape.layers;
        float *want = logits_of(m);
        struct lade_traffic t;
        lade_model_traffic(m, &t);
        assert_int_equal(t.disk_reads, 0);
        for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++)
            for (size_t b = 0; b < BATCHES; b++) {
                if (!is_run(i, r, b))
                    continue;
                struct lade_placement place = ram_place(rooms[r], batches[b]);
                struct lade_model *small = open_model(models[i], &place, ios[(r + b) % 2]);
                float *have = logits_of(small);
                lade_model_traffic(small, &t);
                double e = worst_off_by(have, want, TOKENS, vocab);
                if (!(e <= TOLERANCE))
                    fail_msg("%s, room for %llu bytes, batch %d: off by %.2e", models[i],
                             (unsigned long long)rooms[r], batches[b], e);
                assert_int_equal(t.tokens, TOKENS);
                if (!rooms[r])
                    assert_int_equal(t.ram_hits, 0);
                if (batches[b] == 1 && rooms[r] <= one * (uint64_t)used / 2)
                    assert_true(t.disk_reads >= TOKENS); /* at least one each token */
                free(have);
                lade_model_close(small);
            }
        free(want);
        lade_model_close(m);
    }
}

/* What is not in the page cache is read to the slots themselves where the stage has room to gather it, and packed
 * there: the same bits. */
static void test_read_to_slots(void **state)
{
    (void)state;
    static struct lade_io_ops queued;
    int lent = 0;
    queued = *lade_io_best();
    queued.now = false;
    for (int i = 0; i < MODELS; i++) {
        struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
        struct lade_model *m = open_model(models[i], &all, NULL);
        size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
        float *want = logits_of(m);
        lade_model_close(m);
        all.staging = (uint64_t)LADE_MOVERS * (16 << 20); /* however many movers there are */
        m = open_model(models[i], &all, &queued);
        assert_true(m->tiers->gather_bytes > 0);
        assert_int_equal(lade_tiers_wait(m->tiers, true, err), 0);
        for (int j = 0; j < m->tiers->n_movers * LADE_JOBS; j++)
            lent += m->tiers->movers[j / LADE_JOBS].jobs[j % LADE_JOBS].haul.cap_lent;
        float *have = logits_of(m);
        assert_memory_equal(have, want, TOKENS * vocab * sizeof *want);
        lade_model_close(m);
        free(have);
        free(want);
    }
    assert_true(lent > 0);
}

/* ---- with a GPU ------------------------------------------------------------------------------ */

static void test_gpu_rows(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
        struct lade_model *m = open_model(models[i], &all, NULL);
        size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
        uint64_t experts = expert_bytes(m);
        float *want = logits_of(m);
        lade_model_close(m);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            for (size_t b = 0; b < BATCHES; b++) {
                if (!is_run(i, r, b))
                    continue;
                struct lade_placement place = gpu_place(&rows[r], experts, batches[b]);
                struct lade_traffic t;
                m = open_model(models[i], &place, NULL);
                float *have = logits_of(m);
                double e = worst_off_by(have, want, TOKENS, vocab);
                lade_model_traffic(m, &t);
                if (!(e <= TOLERANCE))
                    fail_msg("%s, %s, batch %d: off by %.2e", models[i], rows[r].name, batches[b],
                             e);
                check_traffic(&rows[r], &t);
                if (rows[r].vram + rows[r].ram > 16 && rows[r].rest_by == LADE_BY_CPU)
                    assert_int_equal(t.disk_reads, 0);
                free(have);
                lade_model_close(m);
            }
        free(want);
    }
}

/* ---- other sizes while it runs --------------------------------------------------------------- */

/* From all experts in RAM to a few, to none and back, in the middle of a timeline, which is kept;
 * also while the load is still going on. */
static void test_change_of_ram(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
        struct lade_options opt = {.model = models[i], .exact = true, .threads = 2, .place = &all};
        struct lade_model *m = open_model(models[i], &all, NULL);
        size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
        uint64_t bytes = expert_bytes(m),
                 rooms[] = {bytes / 3, 0, bytes / 2, UINT64_MAX, bytes / 8};
        enum { ROOMS = sizeof rooms / sizeof *rooms };
        float *want = logits_of(m);
        lade_model_close(m);
        if (lade_model_prepare(&m, &opt, err) || lade_model_load(m, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        struct lade_session *s;
        int32_t ids[TOKENS];
        fill_ids(m, ids);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        for (int at = 0; at < TOKENS; at++) {
            if (at % 5 == 0 && lade_tiers_resize(m->tiers, rooms[at / 5 % ROOMS], 0, err))
                fail_msg("%s", err);
            if (at % 10 == 9)
                assert_int_equal(lade_tiers_wait(m->tiers, true, err), 0);
            if (lade_session_push(s, ids[at], err))
                fail_msg("%s", err);
            assert_true(off_by(lade_session_logits(s), want + (size_t)at * vocab, vocab) <=
                        TOLERANCE);
        }
        free(want);
        assert_int_equal(lade_session_length(s), TOKENS);
        struct lade_tiers_stats now;
        lade_tiers_stats(m->tiers, &now);
        if (now.in_ram.bytes > rooms[(TOKENS / 5 - 1) % ROOMS])
            fail_msg("%s: %llu bytes of RAM, %llu were allowed", models[i],
                     (unsigned long long)now.in_ram.bytes,
                     (unsigned long long)rooms[(TOKENS / 5 - 1) % ROOMS]);
        lade_session_close(s);
        lade_model_close(m);
    }
}

/* A timeline that goes on while everything moves: from every placement to every other one for one
 * model, once through all of them for the others. Each token's logits are those of a model that
 * stays where it is; prompts are batches, before and after. */
static void test_moves(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        struct lade_placement all = ram_place(UINT64_MAX, 1);
        struct lade_options opt = {
            .model = models[i], .exact = true, .threads = 2, .place = &all, .plugin = sim()};
        struct lade_model *m = open_model(models[i], &all, NULL);
        size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
        uint64_t experts = expert_bytes(m);
        float *want = logits_of(m);
        struct lade_session *s;
        int32_t ids[TOKENS];
        fill_ids(m, ids);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        int from = i == 1 ? PLACES : 1, moves = 0;
        for (int a = 0; a < from; a++)
            for (int b = 0; b < PLACES; b++) {
                const char *names[2];
                struct lade_placement places[] = {any_place(a, experts, &names[0]),
                                                  any_place(b, experts, &names[1])};
                for (int k = from == 1; k < 2; k++) {
                    int at = moves++ % TOKENS;
                    if (at == 0)
                        lade_session_reset(s);
                    if (lade_model_move(m, s, &opt, &places[k], err))
                        fail_msg("%s, to %s: %s", models[i], names[k], err);
                    check_held(m, &places[k], names[k]);
                    if (lade_session_push(s, ids[at], err))
                        fail_msg("%s, at %s: %s", models[i], names[k], err);
                    double e = off_by(lade_session_logits(s), want + (size_t)at * vocab, vocab);
                    if (!(e <= TOLERANCE))
                        fail_msg("%s, token %d, %s to %s: off by %.2e", models[i], at, names[0],
                                 names[k], e);
                }
            }
        free(want);
        lade_session_close(s);
        lade_model_close(m);
    }
}

/* ---- while it loads -------------------------------------------------------------------------- */

/* The reads of one piece, which a layer has asked for. Not the first read of all: two movers start at
 * the same time, and the base may be read first. */
static int asked_for;

static bool reads_it(const struct lade_read *r)
{
    const struct lade_haul *h = ((const struct lade_chunk *)(const void *)r)->haul;
    return h->cat->tensors[h->items[0].tensor].piece == asked_for;
}

struct told {
    atomic_ulong done, bytes;
    atomic_bool ended;
};

static void tell(void *user, const struct lade_load_progress *p)
{
    struct told *told = user;
    atomic_store(&told->bytes, p->bytes);
    atomic_store(&told->done, p->done);
    if (p->ended)
        atomic_store(&told->ended, true);
}

/* A load has not ended while the last of its experts is on its way because a layer has asked for
 * it first, and every byte is counted when it has. */
static void test_load_ends_last(void **state)
{
    (void)state;
    struct told told = {0};
    struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
    struct lade_options opt = {
        .model = models[0], .exact = true, .threads = 1, .place = &all, .io = &support_gated_io};
    struct lade_model *m;
    struct lade_wave wave;
    const int32_t id = 3;
    all.staging = 16 << 20; /* room for the load beside the read that is held */
    if (lade_model_prepare(&m, &opt, err))
        fail_msg("%s", err);
    uint64_t one = m->cat->pieces[lade_catalog_expert(m->cat, 1, id)].source_bytes;
    asked_for = lade_catalog_expert(m->cat, 1, id);
    support_gate_shut(reads_it);
    lade_tiers_begin(m->tiers, 1, 0, NULL); /* before the movers start: they serve it first */
    lade_tiers_ask(m->tiers, 1, &id, 1);
    assert_int_equal(lade_model_load(m, tell, &told, NULL, err), 0);
    lade_tiers_end(m->tiers);
    while (!atomic_load(&told.bytes) || atomic_load(&told.done) < atomic_load(&told.bytes) - one)
        usleep(1000);
    assert_int_equal(atomic_load(&told.done), atomic_load(&told.bytes) - one);
    assert_false(atomic_load(&told.ended));
    struct lade_tiers_stats now;
    lade_tiers_stats(m->tiers, &now);
    assert_true(now.loading);
    support_gate_open();
    while (lade_tiers_wave(m->tiers, &wave, err) > 0 && wave.nothing)
        ;
    assert_int_equal(wave.n, 1);
    lade_tiers_done(m->tiers);
    assert_int_equal(lade_tiers_wait(m->tiers, true, err), 0);
    while (!atomic_load(&told.ended))
        usleep(1000);
    assert_int_equal(atomic_load(&told.done), atomic_load(&told.bytes));
    lade_model_close(m);
}

/* Where layers brought the last of a load on demand no job of the load is the last one, and its end is
 * told all the same. */
static void test_end_without_a_job(void **state)
{
    (void)state;
    struct told told = {0};
    struct lade_catalog *cat;
    struct lade_tiers *t;
    if (lade_catalog_open(&cat, models[0], err))
        fail_msg("%s", err);
    struct lade_tiers_config config = {.cat = cat, .place = ram_place(UINT64_MAX, 1)};
    if (lade_tiers_open(&t, &config, err))
        fail_msg("%s", err);
    for (int i = 0; i < t->load.n_base; i++)
        lade_load_count_base(t, i);
    t->load.next_base = t->load.n_base;
    for (int e = 0; e < t->kinds.n_experts; e++)
        lade_load_count_expert(t, e);
    assert_false(t->load.ended);
    if (lade_tiers_load(t, tell, &told, NULL, err))
        fail_msg("%s", err);
    while (!atomic_load(&told.ended))
        usleep(1000);
    assert_int_equal(atomic_load(&told.done), lade_tiers_to_load(t));
    lade_tiers_close(t);
    lade_catalog_close(cat);
}

/* ---- reads that fail ------------------------------------------------------------------------- */

/* Reads by threads, until a budget is spent; then the drive is gone until it gets a new one. */
static atomic_long budget;

static int faulty_open(struct lade_io **out, int depth, char *e)
{
    return lade_io_threads.open(out, depth, e);
}

static void faulty_close(struct lade_io *io)
{
    lade_io_threads.close(io);
}

static void faulty_submit(struct lade_io *io, struct lade_read *r)
{
    if (atomic_fetch_sub(&budget, 1) <= 0)
        r->fd = -1; /* EBADF */
    lade_io_threads.submit(io, r);
}

static struct lade_read *faulty_wait(struct lade_io *io)
{
    struct lade_read *r = lade_io_threads.wait(io);
    if (r->got == -EBADF)
        r->got = -EIO;
    return r;
}

static const struct lade_io_ops faulty = {"faulty",      faulty_open, faulty_close,
                                          faulty_submit, faulty_wait, false};

/* A drive that fails while the base loads: no model, the file and the reason named. */
static void test_load_error(void **state)
{
    (void)state;
    struct lade_placement place = ram_place(0, 8);
    struct lade_options opt = {
        .model = models[0], .exact = true, .threads = 1, .place = &place, .io = &faulty};
    struct lade_model *m;
    for (long n = 0; n < 3; n++) {
        atomic_store(&budget, n);
        assert_int_equal(lade_model_open(&m, &opt, NULL, NULL, NULL, err), -1);
        assert_null(m);
        assert_non_null(strstr(err, "read error"));
        assert_non_null(strstr(err, ".safetensors"));
        assert_non_null(strstr(err, strerror(EIO)));
    }
}

/* One that fails in the middle of a conversation: that call fails, what was read before stays, and
 * when the drive is back everything goes on with the same logits. */
static void test_error_in_conversation(void **state)
{
    (void)state;
    struct lade_placement place = ram_place(0, 8);
    int32_t ids[TOKENS];
    struct lade_session *s;
    atomic_store(&budget, LONG_MAX / 2);
    struct lade_model *m = open_model(models[0], &place, &faulty);
    size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    float *want = logits_of(m);
    fill_ids(m, ids);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    int stable = 24, kept = -1;
    assert_int_equal(lade_session_sync(s, ids, stable, stable, NULL, NULL, NULL, NULL, err), 0);
    for (long n = 0; n < 40; n += 7) {
        atomic_store(&budget, n);
        int rc = lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err);
        assert_int_equal(rc, -1);
        assert_non_null(strstr(err, "read error"));
        assert_true(lade_session_length(s) >= stable);
    }
    atomic_store(&budget, LONG_MAX / 2);
    assert_int_equal(lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, &kept, err), 0);
    assert_true(kept >= stable);
    const float *have = lade_session_logits(s), *last = want + (TOKENS - 1) * vocab;
    for (size_t i = 0; i < vocab; i++)
        assert_true(fabsf(have[i] - last[i]) <= 1e-3f * (1 + fabsf(last[i])));
    free(want);
    lade_session_close(s);
    lade_model_close(m);
}

/* ---- habits --------------------------------------------------------------------------------- */

/* A model with room for a quarter of its experts, which keeps its habits in `dir`. */
static struct lade_model *open_with_habits(const char *dir)
{
    struct lade_model *m;
    struct lade_placement place = ram_place(0, 8);
    struct lade_options opt = {
        .model = models[0], .exact = true, .threads = 2, .place = &place, .cache_dir = dir};
    struct lade_catalog *cat;
    assert_int_equal(lade_catalog_open(&cat, models[0], err), 0);
    size_t bytes = cat->pieces[lade_catalog_expert(cat, 0, 0)].bytes;
    place.ram_experts = bytes * (size_t)(cat->shape.layers * cat->shape.experts / 4);
    lade_catalog_close(cat);
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    return m;
}

/* The order in which a start reads experts; n of them. */
static int *load_order(const char *dir, int *n, double *habits)
{
    struct lade_model *m = open_with_habits(dir);
    const struct lade_tiers *t = m->tiers;
    *n = t->load.n_order;
    int *order = malloc((size_t)*n * sizeof *order);
    memcpy(order, t->load.order, (size_t)*n * sizeof *order);
    for (int i = 0; habits && i < t->habit.n; i++)
        habits[i] = t->habit.score[i];
    lade_model_close(m);
    return order;
}

/* What one run used comes home first in the next one; a file that is not whole is as none. */
static void test_habits(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-test-XXXXXX", path[PATH_MAX], command[PATH_MAX + 16];
    int n, again, damaged;
    assert_non_null(mkdtemp(dir));
    int *first = load_order(dir, &n, NULL);

    struct lade_model *m = open_with_habits(dir);
    const struct lade_catalog *cat = lade_model_catalog(m);
    int experts = cat->shape.layers * cat->shape.experts;
    double *uses = calloc(lade_habits_count(cat), sizeof *uses);
    char *kept = lade_habits_path(dir, cat);
    snprintf(path, sizeof path, "%s", kept);
    assert_false(lade_habits_read(path, cat, uses)); /* nothing was asked for */
    const double no_uses[] = {NAN, INFINITY, -1};
    for (size_t i = 0; i < sizeof no_uses / sizeof *no_uses; i++) {
        uses[experts - 1] = no_uses[i];
        assert_true(lade_habits_write(path, cat, uses));
        assert_false(lade_habits_read(path, cat, uses));
    }
    free(logits_of(m));
    lade_model_close(m);

    int *order = load_order(dir, &again, uses);
    assert_int_equal(again, n);
    assert_memory_not_equal(order, first, (size_t)n * sizeof *order);
    double coldest = INFINITY, hottest_left = 0;
    char *chosen = calloc((size_t)experts, 1);
    for (int i = 0; i < n; i++) {
        chosen[order[i]] = 1;
        coldest = fmin(coldest, uses[order[i]]);
    }
    for (int e = 0; e < experts; e++)
        hottest_left = chosen[e] ? hottest_left : fmax(hottest_left, uses[e]);
    assert_true(coldest > 0 && coldest >= hottest_left);
    double first_part = INFINITY, rest = 0; /* the hottest quarter comes before the others */
    for (int i = 0; i < n; i++) {
        if (i < n / 4)
            first_part = fmin(first_part, uses[order[i]]);
        else
            rest = fmax(rest, uses[order[i]]);
    }
    assert_true(first_part >= rest);

    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 60, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, 60, SEEK_SET);
    fputc(byte ^ 1, f);
    fclose(f);
    int *other = load_order(dir, &damaged, NULL);
    assert_int_equal(damaged, n);
    assert_memory_equal(other, first, (size_t)n * sizeof *first);
    assert_int_equal(truncate(path, 70), 0);
    free(other);
    other = load_order(dir, &damaged, NULL);
    assert_memory_equal(other, first, (size_t)n * sizeof *first);

    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    free(kept);
    free(first);
    free(order);
    free(other);
    free(uses);
    free(chosen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_room),        cmocka_unit_test(test_gpu_rows),
        cmocka_unit_test(test_change_of_ram),     cmocka_unit_test(test_moves),
        cmocka_unit_test(test_load_ends_last),    cmocka_unit_test(test_habits),
        cmocka_unit_test(test_load_error),        cmocka_unit_test(test_error_in_conversation),
        cmocka_unit_test(test_end_without_a_job), cmocka_unit_test(test_read_to_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
