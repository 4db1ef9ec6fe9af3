/* The expert cache against a plain model of it: who is where, who leaves, pins, other sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/tiers/cache.h"
#include "engine/tiers/heat.h"

enum { EXPERTS = 60, KINDS = 3, STAGE = 2 };

static char err[LADE_ERR];

/* Three kinds of 30, 20 and 10 experts. */
struct fixture {
    struct lade_kinds kinds;
    uint8_t of[EXPERTS];
    struct lade_heat heat;
    struct lade_cache cache;
    int bytes[EXPERTS + STAGE]; /* what lies in a slot: the number of its expert */
};

static void set_up(struct fixture *f, int a, int b, int c)
{
    const int rooms[KINDS] = {a, b, c};
    *f = (struct fixture){.kinds = {.n = KINDS, .n_experts = EXPERTS}};
    for (int i = 0; i < EXPERTS; i++) {
        f->of[i] = i % 6 < 3 ? 0 : i % 6 < 5 ? 1 : 2;
        f->kinds.kind[f->of[i]].experts++;
    }
    f->kinds.of = f->of;
    assert_int_equal(lade_heat_open(&f->heat, EXPERTS, LADE_HEAT_CACHE, err), 0);
    assert_int_equal(lade_cache_open(&f->cache, &f->kinds, rooms, STAGE, f->heat.score, err), 0);
}

static void tear_down(struct fixture *f)
{
    lade_cache_close(&f->cache);
    lade_heat_close(&f->heat);
}

/* Every expert is in one slot at most, a slot has one expert, counts agree. */
static void check(const struct fixture *f)
{
    const struct lade_cache *c = &f->cache;
    int here = 0;
    for (int e = 0; e < EXPERTS; e++) {
        int slot = c->slot_of[e];
        if (slot < 0)
            continue;
        assert_int_equal(c->expert_in[slot], e);
        assert_int_not_equal(c->state[slot], LADE_SLOT_FREE);
        if (c->state[slot] == LADE_SLOT_HERE) {
            assert_int_equal(f->bytes[slot], e);
            here++;
        }
        if (lade_cache_is_stage(c, slot))
            continue;
        const struct lade_cache_kind *k = &c->kind[f->of[e]];
        assert_in_range(slot, k->first, k->first + k->count - 1);
    }
    assert_int_equal(here, c->here);
    int taken = 0;
    for (int slot = 0; slot < c->n_slots; slot++) {
        taken += c->expert_in[slot] >= 0;
        if (c->expert_in[slot] >= 0)
            assert_int_equal(c->slot_of[c->expert_in[slot]], slot);
        bool rests = c->state[slot] == LADE_SLOT_HERE && !c->pins[slot];
        int e = c->expert_in[slot];
        bool may_go = e >= 0 && c->kind[f->of[e]].room < c->kind[f->of[e]].count;
        assert_int_equal(c->heap_at[slot] >= 0, rests && may_go && !lade_cache_is_stage(c, slot));
    }
    int of = 0;
    for (int e = 0; e < EXPERTS; e++)
        of += c->slot_of[e] >= 0;
    assert_int_equal(taken, of);
    for (int k = 0; k < KINDS; k++) {
        const struct lade_cache_kind *kind = &c->kind[k];
        for (int i = 1; i < kind->n_heap; i++)
            assert_true(f->heat.score[c->expert_in[kind->heap[(i - 1) / 2]]] <=
                        f->heat.score[c->expert_in[kind->heap[i]]]);
    }
}

/* Uses expert e as a layer does: at hand or brought in. */
static int use(struct fixture *f, int e, enum lade_take how)
{
    struct lade_cache *c = &f->cache;
    int slot = c->slot_of[e];
    if (slot >= 0) {
        lade_cache_pin(c, slot);
    } else {
        slot = lade_cache_take(c, e, how);
        if (slot < 0)
            return -1;
        f->bytes[slot] = e;
        lade_cache_filled(c, slot);
    }
    lade_heat_use(&f->heat, e, 1);
    lade_cache_unpin(c, slot);
    check(f);
    return slot;
}

static void test_coldest_leaves(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 3, 2, 1);
    /* Experts 0, 1, 2, 6 are of the first kind. */
    int of0[] = {0, 1, 2, 6};
    for (int i = 0; i < 3; i++)
        use(&f, of0[i], LADE_TAKE_EVICT);
    use(&f, 0, LADE_TAKE_EVICT);
    use(&f, 2, LADE_TAKE_EVICT);
    assert_int_equal(use(&f, 6, LADE_TAKE_FREE), -1);
    assert_true(use(&f, 6, LADE_TAKE_EVICT) >= 0);
    assert_int_equal(f.cache.slot_of[1], -1); /* used once; 0 and 2 twice */
    assert_int_equal(f.cache.evicted, 1);
    /* Old uses count less than new ones. */
    lade_heat_tick(&f.heat, 20 * LADE_HEAT_CACHE);
    use(&f, 1, LADE_TAKE_EVICT);
    assert_int_equal(f.cache.slot_of[6], -1);
    use(&f, 6, LADE_TAKE_EVICT);
    assert_true(f.cache.slot_of[1] >= 0 && f.cache.slot_of[6] >= 0);
    tear_down(&f);
}

static void test_stage_keeps_nothing(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 0, 0, 0);
    assert_int_equal(use(&f, 0, LADE_TAKE_EVICT), -1);
    int slot = lade_cache_take(&f.cache, 0, LADE_TAKE_ANY);
    int other = lade_cache_take(&f.cache, 3, LADE_TAKE_STAGE);
    assert_true(lade_cache_is_stage(&f.cache, slot) && lade_cache_is_stage(&f.cache, other));
    assert_int_equal(lade_cache_take(&f.cache, 5, LADE_TAKE_ANY), -1);
    f.bytes[slot] = 0;
    lade_cache_filled(&f.cache, slot);
    lade_cache_pin(&f.cache, slot);
    lade_cache_unpin(&f.cache, slot);
    assert_int_equal(f.cache.slot_of[0], slot); /* one pin is left */
    lade_cache_unpin(&f.cache, slot);
    assert_int_equal(f.cache.slot_of[0], -1);
    lade_cache_failed(&f.cache, other);
    assert_int_equal(f.cache.n_stage_free, STAGE);
    check(&f);
    /* What was given up last is taken last: a GPU may still be at work on it. */
    assert_int_equal(lade_cache_take(&f.cache, 0, LADE_TAKE_ANY), slot);
    assert_int_equal(lade_cache_take(&f.cache, 3, LADE_TAKE_ANY), other);
    lade_cache_failed(&f.cache, other);
    lade_cache_failed(&f.cache, slot);
    assert_int_equal(lade_cache_take(&f.cache, 0, LADE_TAKE_ANY), other);
    lade_cache_failed(&f.cache, other);
    tear_down(&f);
}

static void test_pinned_stays(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1, 1, 1);
    int slot = use(&f, 0, LADE_TAKE_EVICT);
    lade_cache_pin(&f.cache, slot);
    assert_int_equal(lade_cache_take(&f.cache, 1, LADE_TAKE_EVICT), -1);
    lade_cache_unpin(&f.cache, slot);
    assert_int_equal(lade_cache_take(&f.cache, 1, LADE_TAKE_EVICT), slot);
    lade_cache_failed(&f.cache, slot);
    check(&f);
    tear_down(&f);
}

static void move(void *user, int from, int to)
{
    struct fixture *f = user;
    f->bytes[to] = f->bytes[from];
}

/* Random uses and sizes; check() after each. */
static void test_random(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 10, 20, 4);
    srand(11);
    for (int i = 0; i < 20000; i++) {
        int e = rand() % 3 ? rand() % 12 : rand() % EXPERTS;
        use(&f, e, rand() % 2 ? LADE_TAKE_ANY : LADE_TAKE_EVICT);
        if (rand() % 8 == 0)
            lade_heat_tick(&f.heat, rand() % 2000);
        if (rand() % 50 == 0) {
            int kind = rand() % KINDS, want = rand() % 30;
            int most = f.cache.kind[kind].count;
            int got = lade_cache_resize(&f.cache, kind, want, move, &f);
            assert_int_equal(got, want < most ? want : most);
            assert_true(f.cache.kind[kind].n_heap <= got);
            check(&f);
        }
    }
    tear_down(&f);
}

/* Shrinking keeps the hottest and stops at what is in use. */
static void test_shrink(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 30, 0, 0);
    int order[] = {0, 1, 2, 6, 7, 8, 12, 13};
    for (int i = 0; i < 8; i++) {
        lade_heat_tick(&f.heat, LADE_HEAT_CACHE);
        use(&f, order[i], LADE_TAKE_EVICT);
    }
    assert_int_equal(lade_cache_resize(&f.cache, 0, 3, move, &f), 3);
    check(&f);
    for (int i = 0; i < 8; i++)
        assert_int_equal(f.cache.slot_of[order[i]] >= 0, i >= 5);
    int slot = f.cache.slot_of[order[7]];
    for (int i = 5; i < 8; i++)
        lade_cache_pin(&f.cache, f.cache.slot_of[order[i]]);
    assert_int_equal(lade_cache_resize(&f.cache, 0, 0, move, &f), 3);
    for (int i = 5; i < 8; i++)
        lade_cache_unpin(&f.cache, f.cache.slot_of[order[i]]);
    assert_int_equal(lade_cache_resize(&f.cache, 0, 1, move, &f), 1);
    assert_true(f.cache.slot_of[order[7]] >= 0 && slot >= 0);
    check(&f);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coldest_leaves), cmocka_unit_test(test_stage_keeps_nothing),
        cmocka_unit_test(test_pinned_stays),   cmocka_unit_test(test_random),
        cmocka_unit_test(test_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
