/* VRAM is taken when a device is opened, as much as the plan says, and nothing of it later: on the
 * CUDA plug-in, emulated, whose driver counts what it is asked for. */
#include "places_common.h"

#include "engine/plan/split.h"
#include "kernels/plugin.h"
#include "tests/support/cuda_emulator/knobs.h"

enum { GRANULE = 64 << 10, FIXED_ALLOCATIONS = 2 /* codebooks and counters */ };
#define MODEL "tests/fixtures/tiny-int4"

static struct lade_emulator_knobs *knobs, usual;

static struct lade_options options(const struct lade_placement *place)
{
    return (struct lade_options){.model = MODEL,
                                 .exact = true,
                                 .threads = 2,
                                 .place = place,
                                 .plugin = test_plugin_path("lade-cuda-emulated.so")};
}

static struct lade_model *open_there(const struct lade_placement *place)
{
    struct lade_options opt = options(place);
    struct lade_model *m;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    return m;
}

static void go_on(struct lade_session *s, const char *what)
{
    if (lade_session_push(s, 1 + lade_session_length(s) % 50, err))
        fail_msg("%s: %s", what, err);
}

/* Pages of what the cards of a placement must keep. */
static unsigned long pages_of(const struct lade_model *m, const struct lade_placement *p)
{
    unsigned long pages = 0;
    for (int i = 0; i < p->n_cards; i++)
        pages += (lade_plan_card_bytes(p, &m->sizes, i) + GRANULE - 1) / GRANULE;
    return pages;
}

/* Of the one card that there is. */
static struct lade_card_memory memory_of(const struct lade_model *m)
{
    struct lade_card_memory cards[LADE_CARDS];
    assert_int_equal(lade_model_cards(m, cards), 1);
    return cards[0];
}

static uint64_t experts_of_model(void)
{
    struct lade_placement all = ram_place(UINT64_MAX, 1);
    struct lade_model *m = open_there(&all);
    uint64_t experts = expert_bytes(m);
    lade_model_close(m);
    return experts;
}

static struct lade_placement place_on(const struct row *r, uint64_t experts, int cards)
{
    struct lade_placement p = gpu_place(r, experts, 4);
    if (cards > 1) {
        p.n_cards = 2;
        p.card[1] = (struct lade_card){.gpu = 1, .first = 2, .experts = p.card[0].experts / 2};
        p.card[0].experts /= 2;
    }
    return p;
}

static void test_taken_at_open(void **state)
{
    (void)state;
    static const int some[] = {0, 1, 4, 7,
                               9}; /* full, hybrid, base alone, streaming, buffers in RAM */
    const uint64_t experts = experts_of_model();
    knobs->devices = 2;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const int cards = 1 + (int)(i % 2), r = some[i];
        struct lade_placement p = place_on(&rows[r], experts, cards);
        struct lade_options opt = options(&p);
        struct lade_session *s = NULL;
        struct lade_model *m;
        const unsigned long malloced = knobs->device_allocations, paged = knobs->pages;
        assert_int_equal(lade_model_prepare(&m, &opt, err), 0);
        const unsigned long opened = knobs->pages - paged;
        assert_int_equal(opened, pages_of(m, &p));
        if (lade_model_load(m, NULL, NULL, NULL, err) || lade_tiers_wait(m->tiers, true, err) ||
            lade_session_open(&s, m, err))
            fail_msg("%s: %s", rows[r].name, err);
        const unsigned long before = knobs->allocations;
        const int32_t ids[] = {3, 1};
        assert_int_equal(lade_session_sync(s, ids, 2, 0, NULL, NULL, NULL, NULL, err), 0);
        for (int k = 0; k < 3; k++) /* the second one is recorded where all is in VRAM */
            go_on(s, rows[r].name);
        if (knobs->allocations != before)
            fail_msg("%s: %lu allocations while it generated", rows[r].name,
                     knobs->allocations - before);
        assert_int_equal(knobs->pages - paged, opened);
        assert_int_equal(knobs->device_allocations - malloced, FIXED_ALLOCATIONS * cards);
        lade_session_close(s);
        lade_model_close(m);
        assert_int_equal(knobs->held_pages, 0);
    }
}

/* A cap below what is needed is refused before anything is loaded, one of just that is kept. */
static void test_cap(void **state)
{
    (void)state;
    struct lade_placement p = place_on(&rows[2], experts_of_model(), 1);
    struct lade_options opt = options(&p);
    struct lade_model *m = open_there(&p);
    const uint64_t needed = memory_of(m).used;
    lade_model_close(m);
    opt.vram_cap[0] = needed - LADE_GPU_ALIGN;
    assert_int_equal(lade_model_prepare(&m, &opt, err), -1);
    assert_non_null(strstr(err, "allowed by --gpu-memory; "));
    assert_null(strchr(err, '\n'));
    lade_model_close(m);
    assert_int_equal(knobs->held_pages, 0);
    opt.vram_cap[0] = needed;
    assert_int_equal(lade_model_open(&m, &opt, NULL, NULL, NULL, err), 0);
    assert_int_equal(memory_of(m).peak, needed);
    lade_model_close(m);
}

/* Experts that give way give memory back to the card; where others have taken it, experts do not
 * come again, and do when it is free. */
static void test_gives_way(void **state)
{
    (void)state;
    const uint64_t experts = experts_of_model();
    struct lade_placement p = place_on(&rows[1], experts, 1);
    struct lade_options opt = options(&p);
    struct lade_model *m = open_there(&p);
    struct lade_session *s;
    opt.vram_cap[0] = memory_of(m).used; /* not a byte more than it takes */
    lade_model_close(m);
    assert_int_equal(lade_model_open(&m, &opt, NULL, NULL, NULL, err), 0);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    go_on(s, "before");
    const struct lade_card_memory before = memory_of(m);
    const uint64_t all = lade_model_planned(m, 0), ram = lade_model_planned(m, -1);
    uint64_t some = all / 4;
    assert_int_equal(lade_model_resize(m, ram, &some, err), 0);
    const struct lade_card_memory now = memory_of(m);
    assert_true(now.free >= before.free + (all - some) - 2 * GRANULE);
    /* What gave way may leave a hole: its two ends are one page more, and then pages count whole. */
    assert_in_range(now.used, before.used - (all - some) - GRANULE,
                    before.used - (all - some) + 2 * GRANULE);
    go_on(s, "after experts gave way");
    knobs->others = now.free;
    assert_int_equal(lade_model_resize(m, ram, &all, err), -1);
    assert_non_null(strstr(err, "GPU 0: "));
    assert_non_null(strstr(err, "; "));
    assert_int_equal(m->vram_room[0], some);
    go_on(s, "with others");
    knobs->others = 0;
    assert_int_equal(lade_model_resize(m, ram, &all, err), 0);
    assert_int_equal(memory_of(m).used, before.used);
    assert_int_equal(knobs->held_pages, pages_of(m, &p));
    go_on(s, "again");
    lade_session_close(s);
    lade_model_close(m);
}

/* From strategy to strategy: never more than the larger of the two, and a page for each hole. */
static void test_strategies_change(void **state)
{
    (void)state;
    static const int path[] = {0, 2, 9, 7, 1, 0};
    const uint64_t experts = experts_of_model();
    struct lade_placement p = place_on(&rows[8], experts, 1);
    struct lade_options opt = options(&p);
    struct lade_model *m = open_there(&p);
    struct lade_session *s;
    assert_int_equal(lade_session_open(&s, m, err), 0);
    for (size_t i = 0; i < sizeof path / sizeof *path; i++) {
        const struct lade_placement to = place_on(&rows[path[i]], experts, 1);
        if (lade_model_move(m, s, &opt, &to, err))
            fail_msg("to %s: %s", rows[path[i]].name, err);
        lade_tiers_wait(m->tiers, true, NULL);
        if (knobs->held_pages > pages_of(m, &to) + 3)
            fail_msg("%s: %lu pages, %lu are planned", rows[path[i]].name, knobs->held_pages,
                     pages_of(m, &to));
        go_on(s, rows[path[i]].name);
    }
    const struct lade_placement none = ram_place(UINT64_MAX / 2, 4);
    assert_int_equal(lade_model_move(m, s, &opt, &none, err), 0);
    assert_int_equal(knobs->held_pages, 0);
    go_on(s, "on the CPU");
    lade_session_close(s);
    lade_model_close(m);
}

/* Whichever allocation fails: one sentence, nothing is kept, and the CPU does it. */
static void test_allocations_fail(void **state)
{
    (void)state;
    struct lade_placement p = place_on(&rows[0], experts_of_model(), 1),
                          cpu = ram_place(UINT64_MAX, 1);
    struct lade_options opt = options(&p);
    struct lade_model *m;
    long n = 1;
    for (;; n = n < 8 ? n + 1 : n + n / 2) {
        knobs->fail_allocation = n;
        *err = '\0';
        int rc = lade_model_open(&m, &opt, NULL, NULL, NULL, err);
        bool met = !knobs->fail_allocation;
        knobs->fail_allocation = 0;
        lade_model_close(rc ? NULL : m);
        assert_int_equal(knobs->held_pages, 0);
        if (!met)
            break;
        if (!rc || !strstr(err, "GPU 0: ") || !strstr(err, "; ") || strchr(err, '\n'))
            fail_msg("allocation %ld: '%s'", n, err);
    }
    assert_true(n > 3);
    m = open_there(&cpu);
    lade_model_close(m);
}

/* A large reserve has larger pages, not more of them. */
static void test_page_size(void **state)
{
    (void)state;
    enum { SMALL = 4096, MOST = 4096 };
    const struct lade_device_config cfg = {.reserve = 4 * (size_t)MOST * SMALL};
    const struct lade_ops *ops = lade_plugin_open(test_plugin_path("lade-cuda-emulated.so"), err);
    struct lade_device *dev;
    void *p;
    knobs->granule = SMALL;
    const unsigned long before = knobs->pages;
    assert_int_equal(ops->open(&dev, &cfg, err), 0);
    assert_int_equal(knobs->pages - before, MOST);
    assert_int_equal(knobs->page_bytes, 4 * SMALL);
    assert_int_equal(ops->alloc(dev, &p, 5 * SMALL, err), 0);
    assert_int_equal(knobs->pages - before, MOST);
    ops->close(dev);
    assert_int_equal(knobs->held_pages, 0);
}

/* A driver without virtual memory management is asked each time. */
static void test_without_pages(void **state)
{
    (void)state;
    const uint64_t experts = experts_of_model();
    struct lade_placement p = place_on(&rows[1], experts, 1);
    const unsigned long before = knobs->device_allocations;
    struct lade_session *s;
    knobs->no_pages = 1;
    struct lade_model *m = open_there(&p);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    assert_true(knobs->device_allocations > before + FIXED_ALLOCATIONS);
    assert_int_equal(knobs->held_pages, 0);
    uint64_t some = lade_model_planned(m, 0) / 2;
    assert_int_equal(lade_model_resize(m, lade_model_planned(m, -1), &some, err), 0);
    go_on(s, "without pages");
    lade_session_close(s);
    lade_model_close(m);
}

static int find_knobs(void **state)
{
    (void)state;
    struct lade_placement p = gpu_place(&rows[6], 0, 4);
#ifdef __SANITIZE_THREAD__
    return 0; /* which does not follow the emulator's own stacks */
#endif
    lade_model_close(open_there(&p)); /* loads the plug-in */
    knobs = test_plugin_symbol(test_plugin_path("lade-cuda-emulated.so"), "lade_emulator");
    if (!knobs)
        return -1;
    usual = *knobs;
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    if (!knobs)
        skip();
    knobs->granule = GRANULE;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (knobs)
        *knobs = usual;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_taken_at_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gives_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strategies_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_allocations_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_page_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_pages, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, find_knobs, NULL);
}
