#include "engine/session/lookup.h"

#include <stdlib.h>

#include "kernels/error.h"

/* Tokens that the tables go by: many of them first, for where few would find a later place that has less
 * in common. */
static const int length_of[LADE_LOOKUP_TABLES] = {8, LADE_LOOKUP_LEAST};

int lade_lookup_open(struct lade_lookup *l, char *err)
{
    *l = (struct lade_lookup){.next = calloc(1, LADE_LOOKUP_BYTES)};
    return l->next ? 0 : lade_fail(err, "drafts: out of memory; close other programs");
}

void lade_lookup_close(struct lade_lookup *l)
{
    free(l->next);
    *l = (struct lade_lookup){0};
}

/* The entry of the tokens before `at`. */
static int32_t *entry(const struct lade_lookup *l, int table, const int32_t *ids, int at)
{
    uint64_t hash = 0;
    for (int i = at - length_of[table]; i < at; i++)
        hash = (hash ^ (uint32_t)ids[i]) * 0x9e3779b97f4a7c15u;
    return l->next + (size_t)table * LADE_LOOKUP_SIZE + (hash >> 32) % LADE_LOOKUP_SIZE;
}

void lade_lookup_see(struct lade_lookup *l, const int32_t *ids, int n)
{
    /* What ends at the end is put in when something has followed it. */
    for (int at = l->n > 0 ? l->n : 1; at < n; at++)
        for (int t = 0; t < LADE_LOOKUP_TABLES; t++)
            if (at >= length_of[t])
                *entry(l, t, ids, at) = at;
    l->n = n;
}

static int common(const int32_t *ids, int a, int b)
{
    int n = 0;
    while (n < LADE_LOOKUP_MOST && n < a && ids[a - 1 - n] == ids[b - 1 - n])
        n++;
    return n;
}

int lade_lookup_find(const struct lade_lookup *l, const int32_t *ids, int *same)
{
    for (int t = 0; t < LADE_LOOKUP_TABLES; t++) {
        const int at = l->n >= length_of[t] ? *entry(l, t, ids, l->n) : 0;
        *same = at ? common(ids, at, l->n) : 0;
        if (*same >= length_of[t])
            return at;
    }
    return *same = 0;
}
