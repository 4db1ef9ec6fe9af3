#include "engine/plan/predict.h"

#include <math.h>
#include <stddef.h>

#include "engine/plan/split.h"

enum { PROMPT = 512, SHORT_PROMPT = 16 };

/* Seconds of moving that many bytes. */
static double moving(double bytes, double gbps)
{
    return bytes > 0 ? bytes / (gbps * 1e9) : 0;
}

/* The share of all experts that n tokens visit between them, routed uniformly. */
static double visited(const struct lade_plan_model *m, int n)
{
    double per_token = m->experts ? (double)m->experts_read / (double)m->experts : 0;
    return 1 - pow(1 - fmin(per_token, 1), n);
}

/* How often an expert that a token needs is found in a memory that holds this share of all: as this
 * model's own routing has been in earlier runs. Where nothing is known of it, as another's was: a
 * cache of 12.5% served 67% and one of 25% 81% (512 experts, 10 a token; llama.cpp #27861), which
 * share^0.17 meets within 3 points; the hottest 6.2% alone, chosen once, served 10%: share^0.83. */
static double found(const struct lade_plan_model *m, double share, bool is_cache)
{
    if (share <= 0 || share >= 1)
        return share <= 0 ? 0 : 1;
    const double *seen = is_cache ? m->kept : m->served;
    int at = (int)(share * LADE_SERVED);
    double part = share * LADE_SERVED - at;
    if (seen[LADE_SERVED] > 0)
        return seen[at] + part * (seen[at + 1] - seen[at]);
    return pow(share, is_cache ? 0.17 : 0.83);
}

/* GB/s of VRAM, or of the link to it, as layers are spread over the cards: these work one after the
 * other on a token. */
static double card_gbps(const struct lade_placement *p, const struct lade_plan_model *m,
                        const struct lade_plan_machine *pc, bool link)
{
    double time = 0;
    for (int i = 0; i < p->n_cards; i++) {
        const struct lade_plan_gpu *g = lade_plan_gpu_of(pc, p->card[i].gpu);
        double part = (double)(lade_plan_card_end(p, m, i) - p->card[i].first) / m->layers;
        time += part / (link ? g->link_gbps : g->gbps);
    }
    return time > 0 ? 1 / time : 0;
}

/* GB/s of experts at random: what is read is packed meanwhile, and the slower of the two counts. */
static double reading_gbps(const struct lade_plan_machine *pc)
{
    return fmin(pc->disk_random_gbps, pc->pack_gbps);
}

/* Seconds in which a token waits for the drive, where this share of what it asks for lies there alone. A
 * layer asks for its experts together: the first takes as long as one read alone, the others come at the
 * speed of many at a time. */
static double waiting(const struct lade_plan_model *m, const struct lade_plan_machine *pc,
                      double share)
{
    double reading = reading_gbps(pc), layers = (double)m->layers;
    double largest = (double)m->largest,
           routes = (double)m->experts_read / fmax(layers * largest, 1);
    double first = 1 - pow(1 - share, routes), others = routes * share - first;
    return layers * (moving(first * largest, fmin(pc->disk_one_gbps, reading)) +
                     moving(others * largest, reading));
}

/* How many tokens of n visit the expert that more than this part of all experts are visited less than,
 * each token visiting this part of them. */
static int visits(int n, double per_token, double part)
{
    double chance = pow(1 - per_token, n), sum = chance; /* binomial */
    int tokens = 0;
    for (; sum < part && tokens < n; tokens++) {
        chance *= (n - tokens) / (tokens + 1.0) * per_token / (1 - per_token);
        sum += chance;
    }
    return tokens;
}

/* Seconds of a batch's routed experts in a layer of a card, where that has this share of them and the CPU
 * computes the others, but for those that are carried: as a layer divides them (carry.h), for routes at
 * random. */
static double layer_seconds(const struct lade_placement *p, const struct lade_plan_model *m,
                            int card, double in_vram, int n)
{
    struct lade_carry_expert list[LADE_MAX_EXPERTS];
    const int all = m->layers ? m->n_experts / m->layers : 0;
    const double per_token = fmin((double)m->experts_read / (double)m->experts, 0.999);
    const int rest = (int)round(all * (1 - in_vram));
    double seconds;
    struct lade_carry_layer layer = {
        .experts = list,
        .link_byte = {p->card[card].link_byte},
        .n_links = 1,
        .own = n * per_token * all * in_vram * p->carry.card_token,
        .rows = 2.0 * n * (double)m->row * p->card[card].link_byte,
    };
    for (int i = 0; i < p->n_cards; i++)
        if (i != card)
            layer.link_byte[layer.n_links++] = p->card[i].link_byte;
    for (int i = 0; i < rest && i < LADE_MAX_EXPERTS; i++) {
        int tokens = visits(n, per_token, (i + 0.5) / rest);
        if (tokens)
            list[layer.n++] =
                (struct lade_carry_expert){i, tokens, (double)m->experts / (double)m->n_experts, 0};
    }
    lade_carry_split(&p->carry, &layer, &seconds);
    return seconds;
}

/* The same of all layers, which cards have one after the other. */
static double shared_seconds(const struct lade_placement *p, const struct lade_plan_model *m,
                             double in_vram, int n)
{
    double sum = 0;
    for (int i = 0; i < p->n_cards; i++)
        sum +=
            (lade_plan_card_end(p, m, i) - p->card[i].first) * layer_seconds(p, m, i, in_vram, n);
    return sum;
}

/* GB/s at which experts of a prompt reach the cards that compute them all: over all links at once, from RAM,
 * unless activations are there, too. */
static double carried_gbps(const struct lade_placement *p, const struct lade_plan_model *m,
                           const struct lade_plan_machine *pc)
{
    double sum = 0;
    if (p->buffers != LADE_VRAM || p->n_cards < 2)
        return card_gbps(p, m, pc, true);
    for (int i = 0; i < p->n_cards; i++)
        sum += lade_plan_gpu_of(pc, p->card[i].gpu)->link_gbps;
    return fmin(sum, pc->ram_gbps);
}

/* GB/s of a load: as those that were seen; before the first, the drive's, or that of packing into memory
 * that is new. */
static double loading(const struct lade_plan_machine *pc, enum lade_tier home, double bytes)
{
    double seen = lade_loads_speed(home == LADE_VRAM ? &pc->to_vram : &pc->to_ram, bytes);
    return seen > 0 ? seen : fmin(pc->disk_gbps, pc->load_gbps);
}

struct lade_plan_batch lade_plan_batch(const struct lade_plan_row *row,
                                       const struct lade_plan_model *m,
                                       const struct lade_plan_machine *pc, int n)
{
    const struct lade_placement *p = &row->place;
    const bool gpu = p->base == LADE_VRAM, gpu_rest = gpu && p->rest_by == LADE_BY_GPU;
    const double in_vram = row->experts_in_vram, in_ram = fmin(row->experts_in_ram, 1 - in_vram);
    /* A batch visits each expert that it needs once, whatever the tier. In the last layer only its last
     * token needs any. */
    const double layers = m->layers ? 1 - 1.0 / m->layers : 1;
    const double visit = (double)m->experts * layers * visited(m, n);
    struct lade_plan_batch out;
    out.compute = n * m->base_flops / (gpu ? pc->gpu_gflops : pc->base_gflops) / 1e9;
    if (p->carry.cpu_token > 0)
        out.compute += layers * shared_seconds(p, m, in_vram, n);
    else
        out.compute +=
            layers * n * m->experts_flops / (gpu_rest ? pc->gpu_gflops : pc->experts_gflops) / 1e9;
    out.moved = moving(visit * fmax(1 - in_vram - in_ram, 0), reading_gbps(pc));
    if (gpu_rest)
        out.moved += moving(visit * in_ram, carried_gbps(p, m, pc));
    return out;
}

double lade_plan_prompt(const struct lade_plan_row *row, const struct lade_plan_model *m,
                        const struct lade_plan_machine *pc, int tokens)
{
    const int batch = row->place.batch, n = batch > 0 && batch < tokens ? batch : tokens;
    const struct lade_plan_batch one = lade_plan_batch(row, m, pc, n);
    return fmax(one.compute, one.moved) * tokens / n;
}

/* Bytes over speed, for every tier that a token or a load touches. */
void lade_plan_predict(struct lade_plan_row *row, const struct lade_plan_model *m,
                       const struct lade_plan_machine *pc)
{
    const struct lade_placement *p = &row->place;
    bool gpu = p->base == LADE_VRAM, gpu_rest = gpu && p->rest_by == LADE_BY_GPU;
    double vram_gbps = card_gbps(p, m, pc, false), link_gbps = card_gbps(p, m, pc, true);
    const double all = (double)m->experts, read = (double)m->experts_read;
    /* Shares of the experts in each tier, copies of VRAM's not counted; then of a token's routes. */
    double in_vram = row->experts_in_vram, in_ram = fmin(row->experts_in_ram, 1 - in_vram);
    double from_vram = found(m, in_vram, p->vram_is_cache);
    double from_ram = found(m, in_vram + in_ram, true) - from_vram;
    double from_drive = fmax(1 - from_vram - from_ram, 0);

    /* A sketch is half as large as what it is read in place of. */
    const double base_read = (double)m->base_read - (gpu ? 0 : (double)m->sketches);
    row->read[LADE_VRAM] = read * from_vram + (gpu ? base_read : 0);
    row->read[LADE_RAM] = read * from_ram + (gpu ? 0 : base_read);
    row->read[LADE_DRIVE] = read * from_drive;

    double base = moving(base_read, gpu ? vram_gbps : pc->base_gbps) +
                  moving(2 * (double)m->state, gpu ? vram_gbps : pc->ram_gbps);
    double gpu_part = moving(read * from_vram, vram_gbps);
    double ram_part = moving(read * from_ram, gpu_rest ? link_gbps : pc->experts_gbps);
    double drive_part = waiting(m, pc, from_drive);
    /* What the drive has brought must still be computed, or carried to the GPU; the CPU works on
     * its experts while the GPU works on its own. */
    ram_part += moving(read * from_drive, gpu_rest ? link_gbps : pc->experts_gbps);
    double token = base + (gpu_rest ? gpu_part + ram_part : fmax(gpu_part, ram_part)) + drive_part;
    const ptrdiff_t strategy = row->strategy - lade_strategies;
    token /= lade_answers_factor(pc->answers.decode[strategy]);
    row->decode_tps = 1 / token;

    const double prompt =
        lade_plan_prompt(row, m, pc, PROMPT) / lade_answers_factor(pc->answers.prefill[strategy]);
    row->prefill_tps = PROMPT / prompt;
    row->ttft_s = prompt + token;

    double vram = (double)lade_vram_experts(p), ram = (double)p->ram_experts;
    double home = (double)m->base + (p->ram_backs_vram ? fmax(vram, ram) : vram + ram);
    double source = (double)m->files / fmax((double)m->base + all, 1);
    double load_gbps = loading(pc, p->base, home * source);
    row->load_s = moving(home * source, load_gbps);
    /* The base, then the experts of a short prompt, read where they lie. */
    row->first_s = moving((double)m->base * source, load_gbps) +
                   moving(all * visited(m, SHORT_PROMPT) * source, reading_gbps(pc)) + token;
}
