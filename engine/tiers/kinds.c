#include "engine/tiers/kinds.h"

#include <stdlib.h>

enum { PAGE = 4096, SMALL = 16 * PAGE };

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

static bool same_matrix(const struct lade_tensor *a, const struct lade_tensor *b)
{
    const struct lade_matrix *x = &a->packed, *y = &b->packed;
    return a->role == b->role && a->offset == b->offset && x->type == y->type &&
           x->rows == y->rows && x->cols == y->cols && x->group == y->group &&
           x->has_zeros == y->has_zeros && x->has_order == y->has_order && x->block == y->block;
}

static bool same_kind(const struct lade_catalog *cat, int piece, int example)
{
    const struct lade_piece *p = &cat->pieces[piece], *q = &cat->pieces[example];
    if (p->bytes != q->bytes || p->n_tensors != q->n_tensors)
        return false;
    for (int i = 0; i < p->n_tensors; i++)
        if (!same_matrix(&cat->tensors[p->first + i], &cat->tensors[q->first + i]))
            return false;
    return true;
}

/* The kind of a piece, made if it is new; -1 where there are too many. Neighbours are mostly
 * alike, so the search begins at the kind of the one before. */
static int find_kind(struct lade_kinds *k, const struct lade_catalog *cat, int piece, int before)
{
    if (k->n && same_kind(cat, piece, k->kind[before].example))
        return before;
    for (int i = 0; i < k->n; i++)
        if (same_kind(cat, piece, k->kind[i].example))
            return i;
    if (k->n == LADE_MAX_KINDS)
        return -1;
    size_t bytes = cat->pieces[piece].bytes;
    k->kind[k->n] = (struct lade_kind){
        .example = piece,
        .bytes = bytes,
        .stride = round_up(bytes, bytes < SMALL ? LADE_ALIGN : PAGE),
    };
    return k->n++;
}

int lade_kinds_open(struct lade_kinds *k, const struct lade_catalog *cat, char *err)
{
    const struct lade_shape *s = &cat->shape;
    *k = (struct lade_kinds){.n_experts = s->layers * s->experts};
    k->of = malloc((size_t)k->n_experts);
    if (!k->of)
        return lade_fail(err, "%s: out of memory for %d experts; close other programs", cat->path,
                         k->n_experts);
    for (int i = 0, before = 0; i < k->n_experts; i++) {
        int piece = lade_catalog_expert(cat, i / s->experts, i % s->experts);
        before = find_kind(k, cat, piece, before);
        if (before < 0)
            return lade_fail(err,
                             "%s: its experts have more than %d different forms; use another "
                             "quantization of the model",
                             cat->path, LADE_MAX_KINDS);
        struct lade_kind *kind = &k->kind[before];
        uint64_t read = cat->pieces[piece].source_bytes;
        k->of[i] = (uint8_t)before;
        kind->experts++;
        kind->read_bytes = read > kind->read_bytes ? read : kind->read_bytes;
        k->all += kind->stride;
        k->largest = kind->stride > k->largest ? kind->stride : k->largest;
        k->read_largest = read > k->read_largest ? read : k->read_largest;
    }
    return 0;
}

void lade_kinds_close(struct lade_kinds *k)
{
    free(k->of);
    *k = (struct lade_kinds){0};
}

void lade_kinds_of(struct lade_kinds *out, const struct lade_kinds *k, int first, int end)
{
    *out = *k;
    out->all = out->largest = 0;
    for (int i = 0; i < k->n; i++)
        out->kind[i].experts = 0;
    for (int e = first; e < end; e++) {
        struct lade_kind *kind = &out->kind[k->of[e]];
        kind->experts++;
        out->all += kind->stride;
        out->largest = kind->stride > out->largest ? kind->stride : out->largest;
    }
}

size_t lade_kinds_rooms(const struct lade_kinds *k, uint64_t bytes, int *room)
{
    size_t packed = 0, taken = 0;
    for (int i = 0; i < k->n; i++)
        packed += (size_t)k->kind[i].experts * k->kind[i].bytes;
    bool all = bytes >= packed;
    for (int i = 0; i < k->n; i++) {
        const struct lade_kind *kind = &k->kind[i];
        double share = k->all ? (double)kind->experts * (double)kind->stride / (double)k->all : 0;
        int most = (int)((double)bytes * share / (double)kind->stride);
        room[i] = all || most > kind->experts ? kind->experts : most;
        taken += (size_t)room[i] * kind->stride;
    }
    return taken;
}
