#include "engine/plan/split.h"

#include <stdlib.h>

#include "kernels/kernels.h"

/* ---- sizes ---- */

int lade_plan_card_end(const struct lade_placement *p, const struct lade_plan_model *m, int i)
{
    return i + 1 < p->n_cards ? p->card[i + 1].first : m->layers;
}

const struct lade_plan_gpu *lade_plan_gpu_of(const struct lade_plan_machine *pc, int gpu)
{
    const struct lade_plan_gpu *g = pc->gpu;
    while (g->gpu != gpu)
        g++;
    return g;
}

/* Allocations end at multiples of LADE_GPU_ALIGN: of a layer its base, its state and two caches; of a
 * card embedding, head, work space, tables, two runs of buffers, and chunks of experts. */
enum { OF_LAYER = 4 * LADE_GPU_ALIGN, OF_CARD = 128 * LADE_GPU_ALIGN };

/* What any card holds of a placement, and what the first and the last one have beside layers. */
static double any_card(const struct lade_placement *p, const struct lade_plan_model *m)
{
    return (double)(OF_CARD + m->workspace +
                    (p->buffers == LADE_VRAM ? m->buffers : m->token_buffers));
}

static double ends(const struct lade_plan_model *m, bool is_first, bool is_last)
{
    double sum = is_first ? (double)m->embed : 0;
    sum += is_last ? (double)m->head : 0;
    return sum + (is_last && !is_first && m->tied ? (double)m->embed : 0);
}

static double layer_fixed(const struct lade_placement *p, const struct lade_plan_layer *l)
{
    return OF_LAYER + (double)l->base + (double)l->state +
           (p->kv == LADE_VRAM ? (double)l->kv_token * p->context : 0);
}

double lade_plan_card_fixed(const struct lade_placement *p, const struct lade_plan_model *m, int i)
{
    double sum = any_card(p, m) + ends(m, i == 0, i + 1 == p->n_cards);
    for (int l = p->card[i].first; l < lade_plan_card_end(p, m, i); l++)
        sum += layer_fixed(p, &m->layer[l]);
    return sum;
}

uint64_t lade_plan_card_bytes(const struct lade_placement *p, const struct lade_plan_model *m,
                              int i)
{
    double all = lade_plan_card_experts(p, m, i), experts = (double)p->card[i].experts;
    uint64_t bytes =
        (uint64_t)lade_plan_card_fixed(p, m, i) + (uint64_t)(experts < all ? experts : all);
    return bytes / LADE_GPU_ALIGN * LADE_GPU_ALIGN;
}

double lade_plan_card_experts(const struct lade_placement *p, const struct lade_plan_model *m,
                              int i)
{
    double sum = 0;
    for (int l = p->card[i].first; l < lade_plan_card_end(p, m, i); l++)
        sum += (double)m->layer[l].experts;
    return sum;
}

/* ---- the cards ---- */

static double room_of(const struct lade_plan_gpu *g)
{
    return (double)g->bytes - (double)g->reserve;
}

static int largest_first(const void *a, const void *b)
{
    const struct lade_plan_gpu *x = a, *y = b;
    double p = room_of(x), q = room_of(y);
    return p != q ? (p < q ? 1 : -1) : x->gpu - y->gpu;
}

static int by_number(const void *a, const void *b)
{
    const struct lade_card *x = a, *y = b;
    return x->gpu - y->gpu;
}

/* What a card has for layers; never negative. */
static double for_layers(const struct lade_placement *p, const struct lade_plan_model *m,
                         const struct lade_plan_machine *pc, int i)
{
    double room = room_of(lade_plan_gpu_of(pc, p->card[i].gpu)) - any_card(p, m) -
                  ends(m, i == 0, i + 1 == p->n_cards);
    return room > 0 ? room : 0;
}

static double layer_all(const struct lade_placement *p, const struct lade_plan_layer *l)
{
    return layer_fixed(p, l) + (double)l->experts;
}

/* Gives every card its part of the layers' bytes, at least one layer. */
static void share_out(struct lade_placement *p, const struct lade_plan_model *m,
                      const struct lade_plan_machine *pc)
{
    double bytes = 0, room = 0, given = 0, done = 0;
    int layer = 0;
    for (int l = 0; l < m->layers; l++)
        bytes += layer_all(p, &m->layer[l]);
    for (int i = 0; i < p->n_cards; i++)
        room += for_layers(p, m, pc, i);
    for (int i = 0; i < p->n_cards; i++) {
        int most = m->layers - (p->n_cards - 1 - i); /* one for each card to come */
        double next;
        p->card[i].first = layer;
        given += for_layers(p, m, pc, i);
        do {
            done += layer_all(p, &m->layer[layer++]);
            next = layer < m->layers ? layer_all(p, &m->layer[layer]) : 0;
            /* the next one belongs to the card that gets more than half of it */
        } while (layer < most && (done + next / 2) * room <= bytes * given);
    }
}

/* Gives every card as many layers as it holds with all their experts; false where some are left. */
static bool fill_up(struct lade_placement *p, const struct lade_plan_model *m,
                    const struct lade_plan_machine *pc)
{
    int layer = 0;
    for (int i = 0; i < p->n_cards; i++) {
        double left = for_layers(p, m, pc, i);
        int most = m->layers - (p->n_cards - 1 - i);
        p->card[i].first = layer;
        for (; layer < most && layer_all(p, &m->layer[layer]) <= left; layer++)
            left -= layer_all(p, &m->layer[layer]);
        if (layer == p->card[i].first)
            return false;
    }
    return layer == m->layers;
}

static bool holds_all(const struct lade_placement *p, const struct lade_plan_model *m,
                      const struct lade_plan_machine *pc)
{
    for (int i = 0; i < p->n_cards; i++)
        if (lade_plan_card_fixed(p, m, i) + lade_plan_card_experts(p, m, i) >
            room_of(lade_plan_gpu_of(pc, p->card[i].gpu)))
            return false;
    return true;
}

/* The layers of the first n of some cards; whether these hold everything. */
static bool try_cards(struct lade_placement *p, const struct lade_plan_model *m,
                      const struct lade_plan_machine *pc, const struct lade_plan_gpu *gpus, int n)
{
    p->n_cards = n;
    for (int i = 0; i < n; i++)
        p->card[i] = (struct lade_card){.gpu = gpus[i].gpu};
    qsort(p->card, (size_t)n, sizeof *p->card, by_number);
    share_out(p, m, pc);
    if (holds_all(p, m, pc))
        return true;
    struct lade_placement full = *p;
    if (!fill_up(&full, m, pc) || !holds_all(&full, m, pc))
        return false;
    *p = full;
    return true;
}

/* How many of the largest are of use: they hold a layer's base beside what any card holds. */
static int count_useful(const struct lade_placement *p, const struct lade_plan_model *m,
                        const struct lade_plan_gpu *gpus, int n)
{
    double least = any_card(p, m) + layer_fixed(p, &m->layer[0]);
    n = n < m->layers ? n : m->layers;
    while (n > 1 && room_of(&gpus[n - 1]) < least)
        n--;
    return n;
}

void lade_plan_split(struct lade_placement *p, const struct lade_plan_model *m,
                     const struct lade_plan_machine *pc)
{
    struct lade_plan_gpu gpus[LADE_CARDS];
    struct lade_placement wide = *p; /* as if caches and buffers were in VRAM, as in most rows */
    int n = 0;
    if (pc->gpus_held) {
        p->n_cards = pc->n_gpus;
        for (int i = 0; i < pc->n_gpus; i++)
            p->card[i] = (struct lade_card){.gpu = pc->gpu[i].gpu, .first = pc->gpu[i].first};
        return;
    }
    for (; n < pc->n_gpus; n++)
        gpus[n] = pc->gpu[n];
    p->n_cards = 0;
    if (!n || !m->layers)
        return;
    wide.kv = wide.buffers = LADE_VRAM;
    qsort(gpus, (size_t)n, sizeof *gpus, largest_first);
    n = count_useful(&wide, m, gpus, n);
    for (int k = 1; k <= n; k++)
        if (try_cards(&wide, m, pc, gpus, k))
            break;
    p->n_cards = wide.n_cards;
    for (int i = 0; i < p->n_cards; i++)
        p->card[i] = wide.card[i];
}
