/* lade bench: loading, prefill and decode at several depths, measured on this machine. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/model/state.h"
#include "engine/plan/machine.h"
#include "tui/cmd/cmd.h"
#include "tui/meters/units.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

enum { MOST_DEPTHS = 64, GREEDY = 1 };

/* Tokens between two looks at how fast memory is: tenths of a second on a machine that reads them
 * at tens of GB/s. */
enum { STRETCH = 8 };
static const uint64_t LOOK = (uint64_t)1 << 30; /* bytes to read for one */

struct bench {
    const struct options *o;
    struct lade_model *model;
    struct lade_session *session;
    int depths[MOST_DEPTHS], n_depths;
    int32_t *ids;                /* [deepest + prefill + tokens], owned */
    double *prefill, *decode;    /* tokens per second of each repetition, owned */
    double *peak, *of_peak;      /* GB/s that plain reads got in between, and what part was used */
    struct lade_traffic experts; /* of the last decode */
    double load_s;
    int threads;
};

/* Medians at one depth; 0 = not measured. */
struct row {
    int depth;
    double prefill_tps, decode_tps;
    double bytes_per_token, gbps, peak_gbps, of_peak;
    struct lade_traffic experts; /* of the last repetition's decode */
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof(*values), by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static int parse_depths(struct bench *b, char *err)
{
    const char *s = b->o->depths ? b->o->depths : "0";
    for (;;) {
        char *end;
        errno = 0;
        long depth = strtol(s, &end, 10);
        if (end == s || errno || depth < 0 || depth > 10000000 || b->n_depths == MOST_DEPTHS ||
            (*end && *end != ','))
            return lade_fail(err, "--depth %s: is not a list of at most %d numbers; write 0,4096",
                             b->o->depths, MOST_DEPTHS);
        b->depths[b->n_depths++] = (int)depth;
        if (!*end)
            return 0;
        s = end + 1;
    }
}

/* What the CPU need not read of routers, where it has them in 16 bits, too. */
static double spared(const struct lade_plan *plan)
{
    const bool in_ram = plan->chosen >= 0 && plan->rows[plan->chosen].place.base == LADE_RAM;
    return in_ram ? (double)plan->model.sketches : 0;
}

/* Bytes a token moves while decoding: weights that every token needs, its share of the experts, the
 * keys and values behind it, and the recurrent state, which is read and written. */
static double bytes_per_token(const struct lade_catalog *cat, const struct lade_plan *plan,
                              int depth)
{
    const struct lade_shape *s = &cat->shape;
    double base = 0, experts = 0;
    for (int i = 0; i < cat->n_pieces; i++) {
        if (cat->pieces[i].kind == LADE_PIECE_EXPERT)
            experts += (double)cat->pieces[i].bytes;
        else if (cat->pieces[i].kind != LADE_PIECE_EMBED || s->tied_embeddings)
            base += (double)cat->pieces[i].bytes;
    }
    double kv = (double)plan->model.kv_token * depth;
    double state = 2.0 * (double)lade_state_recurrent_bytes(s);
    return base + experts * s->experts_used / s->experts + kv + state;
}

static bool is_exact(const struct bench *b)
{
    return b->o->precision == PRECISION_EXACT;
}

static int setup(struct bench *b, char *err)
{
    const struct options *o = b->o;
    int vocab = lade_model_catalog(b->model)->shape.vocab, deepest = 0;
    for (int i = 0; i < b->n_depths; i++)
        deepest = b->depths[i] > deepest ? b->depths[i] : deepest;
    long total = (long)deepest + o->prefill + o->tokens + 1;
    if (total > lade_model_context(b->model))
        return lade_fail(err,
                         "bench: %ld tokens are more than the context of %d; give smaller -p, "
                         "-n and --depth, or a larger --context",
                         total, lade_model_context(b->model));
    b->ids = calloc((size_t)total, sizeof(*b->ids));
    b->prefill = calloc((size_t)o->repeat, sizeof(*b->prefill));
    b->decode = calloc((size_t)o->repeat, sizeof(*b->decode));
    b->peak = calloc((size_t)o->repeat, sizeof(*b->peak));
    b->of_peak = calloc((size_t)o->repeat, sizeof(*b->of_peak));
    if (!b->ids || !b->prefill || !b->decode || !b->peak || !b->of_peak)
        return lade_fail(err, "bench: out of memory; close other programs");
    /* Spread over the vocabulary, so that the router meets different tokens; the same every time. */
    uint32_t state = 1;
    for (long i = 0; i < total; i++) {
        state = state * 1664525U + 1013904223U;
        b->ids[i] = (int32_t)((state >> 8) % (uint32_t)vocab);
    }
    if (lade_session_open(&b->session, b->model, err))
        return -1;
    lade_session_want(b->session, GREEDY);
    return 0;
}

static int sync_to(struct bench *b, int n, char *err)
{
    return lade_session_sync(b->session, b->ids, n, 0, NULL, NULL, NULL, NULL, err);
}

/* Decodes by stretches, with reads of memory before each and after the last, which do not count as
 * decode: what is compared are two means of the same moments, while memory changes its speed. The
 * threads that compute do the reading: with others a host may move the cores, and decode is then
 * measured on cores that halt. The first token of a stretch finds its states out of the caches,
 * which it does not show. */
static int decode(struct bench *b, int at, int k, char *err)
{
    const int n = b->o->tokens;
    struct lade_reads reads = {0};
    double seconds = 0;
    lade_model_read(b->model, LOOK, &reads);
    for (int done = 0; done < n;) {
        const int end = n - done < STRETCH ? n : done + STRETCH;
        const double begin = lade_now();
        for (; done < end; done++) {
            if (lade_session_push(b->session, b->ids[at++], err))
                return -1;
        }
        seconds += lade_now() - begin;
        lade_model_read(b->model, LOOK, &reads);
    }
    if (n)
        b->decode[k] = n / seconds;
    b->peak[k] = reads.seconds > 0 ? reads.bytes / reads.seconds / 1e9 : 0;
    return 0;
}

/* One repetition. A decode needs a token before it: with neither depth nor prefill, one is given. */
static int measure_once(struct bench *b, int depth, int k, char *err)
{
    const struct options *o = b->o;
    int at = depth;
    lade_session_reset(b->session);
    if (depth && sync_to(b, depth, err))
        return -1;
    if (o->prefill) {
        double begin = lade_now();
        at += o->prefill;
        if (sync_to(b, at, err))
            return -1;
        b->prefill[k] = o->prefill / (lade_now() - begin);
    }
    if (o->tokens && at == 0 && sync_to(b, ++at, err))
        return -1;
    struct lade_traffic before, after;
    lade_model_traffic(b->model, &before);
    if (decode(b, at, k, err))
        return -1;
    lade_model_traffic(b->model, &after);
    b->experts = lade_traffic_between(&before, &after);
    return 0;
}

static int measure(struct bench *b, int depth, struct row *row, char *err)
{
    const struct options *o = b->o;
    const struct lade_plan *plan = lade_model_plan(b->model);
    *row = (struct row){
        .depth = depth,
        .bytes_per_token = bytes_per_token(lade_model_catalog(b->model), plan,
                                           depth + o->prefill + o->tokens / 2) -
                           spared(plan),
    };
    for (int k = 0; k < o->repeat; k++) {
        if (measure_once(b, depth, k, err))
            return -1;
        if (b->peak[k] > 0)
            b->of_peak[k] = row->bytes_per_token * b->decode[k] / 1e9 / b->peak[k];
    }
    row->prefill_tps = o->prefill ? median(b->prefill, o->repeat) : 0;
    row->decode_tps = o->tokens ? median(b->decode, o->repeat) : 0;
    row->gbps = row->bytes_per_token * row->decode_tps / 1e9;
    row->peak_gbps = median(b->peak, o->repeat);
    row->of_peak = median(b->of_peak, o->repeat);
    row->experts = b->experts;
    return 0;
}

static json_t *row_json(const struct bench *b, const struct row *row)
{
    uint64_t rss, peak, own, vram = lade_model_vram_peak(b->model, &own);
    lade_machine_rss(&rss, &peak);
    return json_pack(
        "{s:o, s:s, s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
        "s:I, s:I, s:I, s:o, s:o}",
        "model", output_string(lade_model_catalog(b->model)->name), "strategy",
        lade_model_strategy(b->model), "device", lade_model_device(b->model), "exact", is_exact(b),
        "kv_q8", b->o->kv_q8, "threads", b->threads, "depth", row->depth, "n_prompt", b->o->prefill,
        "n_gen", b->o->tokens, "prefill_tps", row->prefill_tps, "decode_tps", row->decode_tps,
        "load_s", b->load_s, "bytes_per_token", row->bytes_per_token, "gbps", row->gbps,
        "peak_gbps", row->peak_gbps, "of_peak", row->of_peak, "rss_peak_bytes", (json_int_t)peak,
        "vram_peak_bytes", (json_int_t)vram, "vram_own_bytes", (json_int_t)own, "experts",
        output_traffic(&row->experts), "predicted", output_predicted(lade_model_plan(b->model)));
}

static void print_head(const struct bench *b)
{
    char load[UNITS_MAX], size[UNITS_MAX];
    const struct lade_catalog *cat = lade_model_catalog(b->model);
    output_format("%s, %s, %s\n", cat->name, cat->quant,
                  units_file(size, (double)cat->source_bytes));
    output_format("%s, %s%s, loaded in %s\n\n", lade_model_device(b->model),
                  lade_model_strategy(b->model),
                  is_exact(b)   ? ", exact"
                  : b->o->kv_q8 ? ", KV cache q8"
                                : "",
                  units_seconds(load, b->load_s));
    printf("%8s %8s %10s %8s %10s %10s %8s %8s\n", "depth", "prompt", "tokens/s", "decode",
           "tokens/s", "MB/token", "GB/s", "of RAM");
}

static void print_row(const struct bench *b, const struct row *row)
{
    char prefill[UNITS_MAX], decode[UNITS_MAX];
    printf("%8d %8d %10s %8d %10s %10.2f ", row->depth, b->o->prefill,
           b->o->prefill ? units_speed(prefill, row->prefill_tps) : "-", b->o->tokens,
           b->o->tokens ? units_speed(decode, row->decode_tps) : "-", row->bytes_per_token / 1e6);
    if (b->o->tokens)
        printf("%8.2f ", row->gbps);
    else
        printf("%8s ", "-");
    if (row->of_peak > 0)
        printf("%7.0f%%\n", 100 * row->of_peak);
    else
        printf("%8s\n", "-");
    fflush(stdout);
}

static int measure_all(struct bench *b, char *err)
{
    json_t *list = b->o->json ? json_array() : NULL;
    int rc = 0;
    if (!list)
        print_head(b);
    for (int i = 0; i < b->n_depths && rc == 0; i++) {
        struct row row;
        rc = measure(b, b->depths[i], &row, err);
        if (rc == 0 && list)
            json_array_append_new(list, row_json(b, &row));
        else if (rc == 0)
            print_row(b, &row);
    }
    if (rc == 0 && b->o->json)
        return output_json(list, err);
    json_decref(list);
    return rc;
}

int cmd_bench(const struct options *o)
{
    struct bench b = {.o = o};
    struct lade_options opt;
    char path[PATH_MAX], err[LADE_ERR];
    if (parse_depths(&b, err))
        return report_usage(o->json, err);
    int rc = model_path_resolve(o->model, path, err);
    if (rc == 0) {
        options_engine(o, path, false, &opt);
        b.threads = o->threads ? o->threads : lade_machine_cores();
        double begin = lade_now();
        rc = lade_model_open(&b.model, &opt, NULL, NULL, NULL, err);
        b.load_s = lade_now() - begin;
    }
    if (rc == 0 && lade_model_notice(b.model))
        report_note(lade_model_notice(b.model));
    if (rc == 0)
        rc = setup(&b, err);
    if (rc == 0)
        rc = measure_all(&b, err);
    lade_session_close(b.session);
    lade_model_close(b.model);
    free(b.ids);
    free(b.prefill);
    free(b.decode);
    free(b.peak);
    free(b.of_peak);
    return rc ? report_failed(o->json, err) : EXIT_DONE;
}
