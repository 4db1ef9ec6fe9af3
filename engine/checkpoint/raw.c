#include "engine/checkpoint/raw.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct lade_dtype_info lade_dtypes[LADE_N_DTYPES] = {
    [LADE_DT_F32] = {"F32", 1, 4},
    [LADE_DT_F16] = {"F16", 1, 2},
    [LADE_DT_BF16] = {"BF16", 1, 2},
    [LADE_DT_I32] = {"I32", 1, 4},
    [LADE_DT_I64] = {"I64", 1, 8},
    [LADE_DT_U8] = {"U8", 1, 1},
    [LADE_DT_F8_E4M3] = {"F8_E4M3", 1, 1},
    [LADE_DT_F64] = {"F64", 1, 8},
    [LADE_DT_I16] = {"I16", 1, 2},
    [LADE_DT_I8] = {"I8", 1, 1},
    [LADE_DT_U16] = {"U16", 1, 2},
    [LADE_DT_U32] = {"U32", 1, 4},
    [LADE_DT_U64] = {"U64", 1, 8},
    [LADE_DT_BOOL] = {"BOOL", 1, 1},
    [LADE_DT_F8_E5M2] = {"F8_E5M2", 1, 1},
    [LADE_DT_Q4_0] = {"Q4_0", 32, 18},
    [LADE_DT_Q4_1] = {"Q4_1", 32, 20},
    [LADE_DT_Q5_0] = {"Q5_0", 32, 22},
    [LADE_DT_Q5_1] = {"Q5_1", 32, 24},
    [LADE_DT_Q8_0] = {"Q8_0", 32, 34},
    [LADE_DT_Q2_K] = {"Q2_K", 256, 84},
    [LADE_DT_Q3_K] = {"Q3_K", 256, 110},
    [LADE_DT_Q4_K] = {"Q4_K", 256, 144},
    [LADE_DT_Q5_K] = {"Q5_K", 256, 176},
    [LADE_DT_Q6_K] = {"Q6_K", 256, 210},
    [LADE_DT_IQ1_S] = {"IQ1_S", 256, 50},
    [LADE_DT_IQ1_M] = {"IQ1_M", 256, 56},
    [LADE_DT_IQ2_XXS] = {"IQ2_XXS", 256, 66},
    [LADE_DT_IQ2_XS] = {"IQ2_XS", 256, 74},
    [LADE_DT_IQ2_S] = {"IQ2_S", 256, 82},
    [LADE_DT_IQ3_XXS] = {"IQ3_XXS", 256, 98},
    [LADE_DT_IQ3_S] = {"IQ3_S", 256, 110},
    [LADE_DT_IQ4_NL] = {"IQ4_NL", 32, 18},
    [LADE_DT_IQ4_XS] = {"IQ4_XS", 256, 136},
    [LADE_DT_MXFP4] = {"MXFP4", 32, 17},
    [LADE_DT_OTHER] = {"an unknown type", 1, 0},
};

void lade_raws_free(struct lade_raws *r)
{
    for (size_t i = 0; i < r->n_texts; i++)
        free(r->texts[i]);
    free(r->texts);
    free(r->items);
    free(r->slots);
    *r = (struct lade_raws){0};
}

/* FNV-1a. Names differ in a digit or two in the middle, which it spreads well enough. */
static uint32_t hash_name(const char *name, size_t len)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)name[i]) * 0x100000001B3u;
    return (uint32_t)(h ^ h >> 32);
}

int lade_raws_add(struct lade_raws *r, const struct lade_raw *item, char *err)
{
    if (r->n == r->room) {
        size_t room = r->room ? r->room + r->room / 2 : 256;
        struct lade_raw *items =
            room > UINT32_MAX / 4 ? NULL : realloc(r->items, room * sizeof *items);
        if (!items)
            return lade_fail(err, "tensor list: no memory for %zu entries; free some", room);
        r->items = items;
        r->room = room;
    }
    r->items[r->n] = *item;
    r->items[r->n++].hash = hash_name(item->name, item->len);
    return 0;
}

int lade_raws_own(struct lade_raws *r, char *text, char *err)
{
    char **texts = realloc(r->texts, (r->n_texts + 1) * sizeof *texts);
    if (!texts)
        return lade_fail(err, "tensor list: no memory; free some");
    r->texts = texts;
    r->texts[r->n_texts++] = text;
    return 0;
}

static bool same_name(const struct lade_raw *a, uint32_t hash, const char *name, size_t len)
{
    return a->hash == hash && a->len == len && !memcmp(a->name, name, len);
}

/* The slot that holds the name or the free one where it belongs. */
static uint32_t *slot_of(const struct lade_raws *r, uint32_t hash, const char *name, size_t len)
{
    for (size_t i = hash;; i++) {
        uint32_t *slot = &r->slots[i & (r->n_slots - 1)];
        if (!*slot || same_name(&r->items[*slot - 1], hash, name, len))
            return slot;
    }
}

int lade_raws_index(struct lade_raws *r, const struct lade_raw **twice, char *err)
{
    size_t n_slots = 16;
    while (n_slots < r->n * 2)
        n_slots *= 2;
    free(r->slots);
    r->n_slots = 0;
    r->slots = calloc(n_slots, sizeof *r->slots);
    if (!r->slots)
        return lade_fail(err, "tensor list: no memory for %zu names; free some", r->n);
    r->n_slots = n_slots;
    for (size_t i = 0; i < r->n; i++) {
        const struct lade_raw *item = &r->items[i];
        uint32_t *slot = slot_of(r, item->hash, item->name, item->len);
        if (*slot) {
            if (twice)
                *twice = item;
            return lade_fail(err, "tensor list: a name occurs twice");
        }
        *slot = (uint32_t)i + 1;
    }
    return 0;
}

struct lade_raw *lade_raws_find(const struct lade_raws *r, const char *name, size_t len)
{
    if (!r->n_slots)
        return NULL;
    uint32_t *slot = slot_of(r, hash_name(name, len), name, len);
    return *slot ? &r->items[*slot - 1] : NULL;
}

const char *lade_dims_text(char *buf, size_t size, const uint64_t *dims, int rank)
{
    int n = snprintf(buf, size, "[");
    for (int i = 0; i < rank && i < LADE_RAW_DIMS && n < (int)size; i++)
        n += snprintf(buf + n, size - (size_t)n, "%s%" PRIu64, i ? ", " : "", dims[i]);
    if (n < (int)size)
        snprintf(buf + n, size - (size_t)n, "%s]", rank > LADE_RAW_DIMS ? ", ..." : "");
    return buf;
}
