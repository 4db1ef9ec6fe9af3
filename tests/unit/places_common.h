/* places_common.h - what tests of placements share: small models, placements that do what the rows of
 * the strategy table do, and how far logits are from those of a model that is all in RAM. */
#ifndef LADE_TESTS_PLACES_COMMON_H
#define LADE_TESTS_PLACES_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/session/model.h"
#include "engine/tiers/internal.h"
#include "kernels/plugin.h"
#include "tests/support/plugins.h"
#include "tests/support/sim_gpu/sim_gpu.h"
#include "tests/unit/off_by.h"

enum { TOKENS = 40 };
static const double TOLERANCE = 1e-4;

static char err[LADE_ERR];

static const char *const models[] = {
    "tests/fixtures/tiny8-bf16",
    "tests/fixtures/tiny8-int4-mixed",
    "tests/fixtures/tiny-int4",
    "tests/fixtures/odd-bf16",
    "tests/fixtures/tiny-thinking",
    "tests/fixtures/wide-bf16",
    "tests/fixtures/tiny-gguf/tiny-bf16.gguf",
};
enum { MODELS = sizeof models / sizeof *models };

/* A placement on the CPU with room for `bytes` of experts. */
static inline struct lade_placement ram_place(uint64_t bytes, int batch)
{
    return (struct lade_placement){
        .base = LADE_RAM,
        .kv = LADE_RAM,
        .buffers = LADE_RAM,
        .ram_experts = bytes,
        .rest_by = LADE_BY_CPU,
        .context = 128,
        .batch = batch,
    };
}

/* Where the simulated GPU is: the CPU's ops behind the rules of a GPU, which it enforces. */
static inline const char *sim(void)
{
    return test_plugin_path("lade-sim.so");
}

/* Its state, to look at and to change: from find_sim, the set-up of a group of tests, on. */
static struct lade_sim *machine;

static inline int find_sim(void **state)
{
    (void)state;
    if (!lade_plugin_open(sim(), err))
        return -1;
    machine = test_plugin_symbol(sim(), "lade_sim");
    return machine ? 0 : -1;
}

static inline struct lade_model *open_model(const char *path, const struct lade_placement *place,
                                            const struct lade_io_ops *io)
{
    struct lade_model *m;
    struct lade_options opt = {.model = path,
                               .exact = true,
                               .threads = 2,
                               .place = place,
                               .io = io,
                               .plugin = place->base == LADE_VRAM ? sim() : NULL};
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    return m;
}

static inline void fill_ids(const struct lade_model *m, int32_t *ids)
{
    uint32_t state = 5;
    for (int i = 0; i < TOKENS; i++) {
        state = state * 1664525u + 1013904223u;
        ids[i] = (int32_t)((state >> 8) % (uint32_t)lade_model_catalog(m)->shape.vocab);
    }
}

static inline float *logits_of(struct lade_model *m)
{
    size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    int32_t ids[TOKENS];
    struct lade_session *s;
    float *out = malloc(TOKENS * vocab * sizeof *out);
    fill_ids(m, ids);
    if (lade_session_open(&s, m, err) || lade_session_all_logits(s, ids, TOKENS, out, err))
        fail_msg("%s", err);
    lade_session_close(s);
    return out;
}

/* The first of several runs is kept, and the others, which are freed, have the same bits. */
static inline void check_same_bits(float **first, float *have, size_t vocab)
{
    if (!*first) {
        *first = have;
        return;
    }
    assert_memory_equal(have, *first, TOKENS * vocab * sizeof *have);
    free(have);
}

static inline uint64_t expert_bytes(const struct lade_model *m)
{
    const struct lade_catalog *cat = lade_model_catalog(m);
    uint64_t sum = 0;
    for (int i = 0; i < cat->n_pieces; i++)
        if (cat->pieces[i].kind == LADE_PIECE_EXPERT)
            sum += cat->pieces[i].bytes;
    return sum;
}

/* What the rows of the strategy table do, and what lies between them: shares of the experts, in
 * sixteenths, with 0 = just so much that it works. */
static const struct row {
    const char *name;
    int vram, ram;
    bool cache, backs, kv_in_ram;
    enum lade_experts_by rest_by;
} rows[] = {
    {"full-gpu", 16, 0, false, false, false, LADE_BY_GPU},
    {"hybrid-heavy-gpu", 11, 6, false, false, false, LADE_BY_CPU},
    {"hybrid-balanced", 8, 9, false, false, false, LADE_BY_CPU},
    {"hybrid-heavy-cpu", 4, 13, false, false, false, LADE_BY_CPU},
    {"hybrid, no expert in VRAM", 0, 16, false, false, false, LADE_BY_CPU},
    {"hybrid and drive", 4, 2, false, false, false, LADE_BY_CPU},
    {"hybrid, nothing but the base", 0, 0, false, false, false, LADE_BY_CPU},
    {"stream-cached", 3, 16, true, true, false, LADE_BY_GPU},
    {"stream-aggressive", 2, 8, true, false, false, LADE_BY_GPU},
    {"offload-buffers", 4, 11, true, false, true, LADE_BY_GPU},
    {"stream from the drive", 0, 0, true, false, false, LADE_BY_GPU},
    {"stream through two slots", 0, 16, true, true, true, LADE_BY_GPU},
};

static inline struct lade_placement gpu_place(const struct row *r, uint64_t experts, int batch)
{
    return (struct lade_placement){
        .base = LADE_VRAM,
        .kv = r->kv_in_ram ? LADE_RAM : LADE_VRAM,
        .buffers = r->kv_in_ram ? LADE_RAM : LADE_VRAM,
        .card = {{.experts = r->vram == 16 ? UINT64_MAX / 2 : experts * (uint64_t)r->vram / 16}},
        .n_cards = 1,
        .ram_experts = r->ram == 16 ? UINT64_MAX / 2 : experts * (uint64_t)r->ram / 16,
        .vram_is_cache = r->cache,
        .ram_backs_vram = r->backs,
        .rest_by = r->rest_by,
        .context = 128,
        .batch = batch,
    };
}

/* Shares a placement's layers and experts out over n cards, unequally. */
static inline struct lade_placement on_cards(struct lade_placement p, int layers, int n)
{
    const uint64_t all = p.card[0].experts;
    for (int i = 0; i < n; i++) {
        int first = i ? i + (layers - n) * i / (n + 1) : 0, end = layers;
        if (i + 1 < n)
            end = i + 1 + (layers - n) * (i + 1) / (n + 1);
        p.card[i] = (struct lade_card){.gpu = n - 1 - i, .first = first};
        p.card[i].experts = all >= UINT64_MAX / 2
                                ? UINT64_MAX / 2
                                : all * (uint64_t)(end - first) / (uint64_t)layers;
    }
    p.n_cards = n;
    return p;
}

/* What a row must count when every token of a timeline was evaluated: where experts were found. */
static inline void check_traffic(const struct row *r, const struct lade_traffic *t)
{
    assert_int_equal(t->tokens, TOKENS);
    if (r->vram == 16)
        assert_int_equal(t->ram_hits + t->disk_reads + t->link_bytes, 0);
    if (r->rest_by == LADE_BY_CPU) {
        assert_int_equal(t->link_bytes, 0);
        if (r->vram)
            assert_true(t->vram_hits > 0);
    } else if (r->vram < 16) {
        assert_true(t->link_bytes > 0);
    }
}

enum { PLACES = sizeof rows / sizeof *rows + 3 };

/* Place number i of all that there are: the rows with a GPU, and three without. */
static inline struct lade_placement any_place(int i, uint64_t experts, const char **name)
{
    static const char *const without[] = {"cpu", "cached-mmap", "mmap"};
    const uint64_t bytes[] = {UINT64_MAX / 2, experts / 2, 0};
    if (i < 3) {
        *name = without[i];
        return ram_place(bytes[i], 1);
    }
    *name = rows[i - 3].name;
    return gpu_place(&rows[i - 3], experts, 1);
}

/* What is in memory is within what the placement allows. */
static inline void check_held(const struct lade_model *m, const struct lade_placement *p,
                              const char *name)
{
    struct lade_tiers_stats now;
    lade_tiers_stats(m->tiers, &now);
    size_t largest =
        2 * 4096 + lade_model_catalog(m)->pieces[lade_catalog_expert(m->cat, 0, 0)].bytes;
    if (now.in_ram.bytes > p->ram_experts || now.in_vram.bytes > lade_vram_experts(p) + 2 * largest)
        fail_msg("%s: %llu bytes of RAM, %llu of VRAM", name, (unsigned long long)now.in_ram.bytes,
                 (unsigned long long)now.in_vram.bytes);
    assert_int_equal(m->devices.gpu, p->base == LADE_VRAM);
}

#endif
