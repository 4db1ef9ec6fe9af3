/* Gated attention over all cache types, against plain sums in double precision; the same tokens
 * at once, one by one and in odd pieces. */
#include "kernels_common.h"

struct shape {
    int tokens, heads, kv_heads, head_dim, rotary_dim;
};
static const struct shape shapes[] = {
    {5, 2, 1, 8, 4},    {40, 4, 2, 16, 8},    {70, 6, 2, 24, 6},   {33, 3, 3, 10, 2},
    {300, 8, 2, 32, 8}, {150, 16, 2, 64, 16}, {20, 1, 1, 256, 64}, {9, 5, 1, 7, 0},
};

struct inputs {
    struct shape s;
    float *q, *k, *v, *q_norm, *k_norm, *inv_freq;
    double *want;
};

static const float eps = 1e-6f, rope_scale = 1.25f;

static void norm_rope(double *y, const float *x, const float *w, const struct inputs *in, int pos)
{
    int d = in->s.head_dim, half = in->s.rotary_dim / 2;
    double sum = 0;
    for (int i = 0; i < d; i++)
        sum += (double)x[i] * x[i];
    for (int i = 0; i < d; i++)
        y[i] = x[i] / sqrt(sum / d + eps) * w[i];
    for (int j = 0; j < half; j++) {
        float angle = (float)pos * in->inv_freq[j];
        double c = cos(angle) * rope_scale, s = sin(angle) * rope_scale, a = y[j], b = y[j + half];
        y[j] = a * c - b * s;
        y[j + half] = b * c + a * s;
    }
}

static void reference(struct inputs *in)
{
    const struct shape s = in->s;
    size_t d = (size_t)s.head_dim, kvs = (size_t)s.kv_heads * d;
    double *keys = malloc((size_t)s.tokens * kvs * sizeof(double));
    double *query = malloc(d * sizeof(double)), *p = malloc((size_t)s.tokens * sizeof(double));
    assert_true(keys && query && p);
    for (int t = 0; t < s.tokens; t++)
        for (int g = 0; g < s.kv_heads; g++)
            norm_rope(keys + (size_t)t * kvs + (size_t)g * d,
                      in->k + (size_t)t * kvs + (size_t)g * d, in->k_norm, in, t);
    for (int t = 0; t < s.tokens; t++) {
        for (int h = 0; h < s.heads; h++) {
            size_t head = (size_t)t * (size_t)s.heads + (size_t)h,
                   g = (size_t)(h / (s.heads / s.kv_heads));
            const float *gate = in->q + head * 2 * d + d;
            double *out = in->want + head * d, max = -INFINITY, sum = 0;
            norm_rope(query, in->q + head * 2 * d, in->q_norm, in, t);
            for (int j = 0; j <= t; j++) {
                p[j] = 0;
                for (size_t i = 0; i < d; i++)
                    p[j] += query[i] * keys[(size_t)j * kvs + g * d + i];
                p[j] /= sqrt((double)d);
                max = fmax(max, p[j]);
            }
            for (int j = 0; j <= t; j++)
                sum += p[j] = exp(p[j] - max);
            for (size_t i = 0; i < d; i++) {
                out[i] = 0;
                for (int j = 0; j <= t; j++)
                    out[i] += p[j] / sum * in->v[(size_t)j * kvs + g * d + i];
                out[i] /= 1 + exp(-(double)gate[i]);
            }
        }
    }
    free(keys);
    free(query);
    free(p);
}

static struct inputs make_inputs(struct shape s)
{
    size_t n = (size_t)s.tokens, d = (size_t)s.head_dim;
    struct inputs in = {.s = s};
    in.q = random_floats(n * (size_t)s.heads * 2 * d, 1);
    in.k = random_floats(n * (size_t)s.kv_heads * d, 1);
    in.v = random_floats(n * (size_t)s.kv_heads * d, 1);
    in.q_norm = random_floats(d, 1.5f);
    in.k_norm = random_floats(d, 1.5f);
    in.inv_freq = random_floats((size_t)s.rotary_dim / 2, 1);
    for (int j = 0; j < s.rotary_dim / 2; j++)
        in.inv_freq[j] = powf(10000, -2.0f * (float)j / (float)s.rotary_dim);
    in.want = malloc(n * (size_t)s.heads * d * sizeof(double));
    assert_non_null(in.want);
    reference(&in);
    return in;
}

static void free_inputs(struct inputs *in)
{
    guard_free(in->q);
    guard_free(in->k);
    guard_free(in->v);
    guard_free(in->q_norm);
    guard_free(in->k_norm);
    guard_free(in->inv_freq);
    free(in->want);
}

/* A row of a Q8 cache as matrix.h has it: no value is off by more than half a code. */
static void check_codes(const void *row, const float *x, int n)
{
    const int groups = (n + LADE_CACHE_GROUP - 1) / LADE_CACHE_GROUP;
    const int8_t *codes = row;
    for (int i = 0; i < n; i++) {
        float scale, largest = 0;
        int first = i / LADE_CACHE_GROUP * LADE_CACHE_GROUP;
        memcpy(&scale, codes + groups * LADE_CACHE_GROUP + i / LADE_CACHE_GROUP * 4, 4);
        for (int k = first; k < n && k < first + LADE_CACHE_GROUP; k++)
            largest = fmaxf(largest, fabsf(x[k]));
        assert_true(fabsf(scale - largest / 127) <= 1e-6f * scale);
        assert_true(fabsf(x[i] - scale * (float)codes[i]) <= scale * 0.5001f);
    }
}

static void check_values(const struct inputs *in, const void *v_cache, int capacity)
{
    const struct shape s = in->s;
    const size_t row = lade_cache_row(LADE_Q8, s.head_dim);
    for (int t = 0; t < s.tokens; t++)
        for (int g = 0; g < s.kv_heads; g++)
            check_codes((const char *)v_cache + (size_t)(g * capacity + t) * row,
                        in->v + (size_t)(t * s.kv_heads + g) * (size_t)s.head_dim, s.head_dim);
}

/* Runs all tokens in pieces of the given sizes, repeated; of `skip` in a hundred of the tokens of every other
 * piece nothing but keys and values is wanted. */
static void run(struct lade_device *dev, const struct inputs *in, enum lade_type cache,
                const int *pieces, int n_pieces, int skip, double limit)
{
    const struct shape s = in->s;
    char err[LADE_ERR];
    int capacity = s.tokens + 3;
    size_t d = (size_t)s.head_dim;
    size_t bytes = (size_t)s.kv_heads * (size_t)capacity * lade_cache_row(cache, s.head_dim);
    void *k_cache = guard_alloc(bytes), *v_cache = guard_alloc(bytes);
    float *out = poison((size_t)s.tokens * (size_t)s.heads * d);
    memset(k_cache, 0xff, bytes);
    memset(v_cache, 0xff, bytes);
    for (int t = 0, i = 0; t < s.tokens; i++) {
        int n = pieces[i % n_pieces];
        n = n < s.tokens - t ? n : s.tokens - t;
        const int asked = i % 2 ? n : n - n * skip / 100;
        const size_t first = (size_t)(t + n - asked) * (size_t)s.heads * d;
        int32_t where = t;
        struct lade_attention a = {.n = n,
                                   .skip = n - asked,
                                   .pos = i % 3 ? s.tokens - n : t,
                                   .pos_at = i % 3 ? &where : NULL,
                                   .heads = s.heads,
                                   .kv_heads = s.kv_heads,
                                   .head_dim = s.head_dim,
                                   .rotary_dim = s.rotary_dim,
                                   .q = in->q + first * 2,
                                   .k = in->k + (size_t)t * (size_t)s.kv_heads * d,
                                   .v = in->v + (size_t)t * (size_t)s.kv_heads * d,
                                   .q_norm = in->q_norm,
                                   .k_norm = in->k_norm,
                                   .eps = eps,
                                   .inv_freq = in->inv_freq,
                                   .rope_scale = rope_scale,
                                   .cache_type = cache,
                                   .k_cache = k_cache,
                                   .v_cache = v_cache,
                                   .capacity = capacity,
                                   .out = out + first};
        assert_int_equal(ops->attention(dev, &a, err), 0);
        for (size_t j = (size_t)t * (size_t)s.heads * d; j < first; j++) { /* not written to */
            assert_true(isnan(out[j]));
            out[j] = (float)in->want[j];
        }
        t += n;
    }
    char what[100];
    snprintf(what, sizeof(what), "%d tokens, %d/%d heads of %d, %s, pieces of %d, %d%% skipped",
             s.tokens, s.heads, s.kv_heads, s.head_dim, lade_types[cache].name, pieces[0], skip);
    assert_near(what, out, in->want, (size_t)s.tokens * (size_t)s.heads * d, limit);
    if (cache == LADE_Q8)
        check_values(in, v_cache, capacity);
    guard_free(k_cache);
    guard_free(v_cache);
    guard_free(out);
}

/* What rounding to a code leaves of sums that cancel, as those of random values do. */
static const double Q8_LIMIT = 2e-2;

static void run_pieces(struct lade_device *dev, const struct inputs *in, enum lade_type cache,
                       double limit)
{
    static const int whole[] = {1 << 20}, single[] = {1}, odd[] = {7, 1, 13, 3, 31};
    run(dev, in, cache, whole, 1, 0, limit);
    run(dev, in, cache, single, 1, 0, limit);
    run(dev, in, cache, odd, 5, 0, limit);
    if (in->s.tokens > 70)
        return; /* slow on the emulated device, and nothing new */
    run(dev, in, cache, whole, 1, 60, limit);
    run(dev, in, cache, odd, 5, 100, limit);
}

/* What all numbers of threads must give is computed once. */
static void shapes_of(const char *device, bool exact)
{
    enum { SHAPES = sizeof shapes / sizeof *shapes };
    struct inputs in[SHAPES];
    need_device(device);
    for (int i = 0; i < SHAPES; i++) {
        struct shape s = shapes[i];
        if (is_emulated(device) && s.tokens > 140) /* two tiles of 64 keys and a part of a third */
            s.tokens = 140;
        in[i] = make_inputs(s);
    }
    for (int threads = least_threads(device); threads <= most_threads(device); threads++) {
        struct lade_device *dev = open_device(device, threads, exact);
        for (int i = 0; i < SHAPES; i++) {
            if (exact)
                run_pieces(dev, &in[i], LADE_F32, 3e-6);
            run_pieces(dev, &in[i], LADE_F16, 2e-3);
            if (!is_plugin(device))
                run_pieces(dev, &in[i], LADE_Q8, Q8_LIMIT);
        }
        close_device(dev);
    }
    for (int i = 0; i < SHAPES; i++)
        free_inputs(&in[i]);
}

static void each_shape(void **state)
{
    shapes_of(*state, true);
}

/* Devices that need not be exact may round queries and weights to the cache's f16. */
static void fast(void **state)
{
    shapes_of(*state, false);
}

/* Scores of 1e4 must neither overflow nor lose the largest. Their own rounding, 1e4 times 2^-24,
 * is what bounds the precision of near ties. */
static void large_scores(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    struct inputs in = make_inputs((struct shape){90, 2, 1, 16, 4});
    for (int i = 0; i < 16; i++)
        in.k_norm[i] *= 3000;
    reference(&in);
    static const int whole[] = {90}, single[] = {1};
    run(dev, &in, LADE_F32, single, 1, 0, 1e-3);
    run(dev, &in, LADE_F32, whole, 1, 0, 1e-3);
    free_inputs(&in);
    close_device(dev);
}

/* A cache of half floats as a long conversation leaves it, and what a few tokens more must give: the
 * double precision sums of what stands in it. Values of either sign cancel, so that a part of the
 * context that is left out shows. */
struct far {
    struct inputs in;
    uint16_t *k, *v; /* [kv_heads][capacity][head_dim] */
    int pos, capacity;
};

static void attend_far(struct far *f)
{
    const struct shape s = f->in.s;
    const size_t d = (size_t)s.head_dim, room = (size_t)f->capacity;
    double *query = malloc(d * sizeof *query), *key = malloc(d * sizeof *key);
    double *p = malloc(room * sizeof *p);
    for (int t = 0; t < s.tokens; t++)
        for (int h = 0; h < s.heads; h++) {
            const size_t head = (size_t)t * (size_t)s.heads + (size_t)h,
                         g = (size_t)(h / (s.heads / s.kv_heads));
            const float *gate = f->in.q + head * 2 * d + d;
            double *out = f->in.want + head * d, max = -INFINITY, sum = 0;
            norm_rope(query, f->in.q + head * 2 * d, f->in.q_norm, &f->in, f->pos + t);
            for (int j = 0; j <= f->pos + t; j++) {
                const size_t fresh = ((size_t)(j - f->pos) * (size_t)s.kv_heads + g) * d;
                if (j >= f->pos)
                    norm_rope(key, f->in.k + fresh, f->in.k_norm, &f->in, j);
                p[j] = 0;
                for (size_t i = 0; i < d; i++)
                    p[j] += query[i] *
                            (j < f->pos ? (double)half_value(f->k[(g * room + (size_t)j) * d + i])
                                        : key[i]);
                p[j] /= sqrt((double)d);
                max = fmax(max, p[j]);
            }
            for (size_t i = 0; i < d; i++)
                out[i] = 0;
            for (int j = 0; j <= f->pos + t; j++) {
                const size_t fresh = ((size_t)(j - f->pos) * (size_t)s.kv_heads + g) * d;
                const double w = exp(p[j] - max);
                sum += w;
                for (size_t i = 0; i < d; i++)
                    out[i] += w * (j < f->pos ? half_value(f->v[(g * room + (size_t)j) * d + i])
                                              : f->in.v[fresh + i]);
            }
            for (size_t i = 0; i < d; i++)
                out[i] = out[i] / sum / (1 + exp(-(double)gate[i]));
        }
    free(query);
    free(key);
    free(p);
}

/* Contexts that are cut in many parts, and prompts that begin far in one. */
static void long_contexts(void **state)
{
    static const struct {
        struct shape s;
        int pos;
    } cases[] = {{{1, 2, 1, 64, 16}, 20011}, {{3, 4, 2, 32, 8}, 4100}, {{20, 2, 1, 64, 16}, 1100}};
    for (int fast = 0; fast < 2; fast++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct lade_device *dev = open_device(*state, 1, !fast);
            struct far f = {.in = make_inputs(cases[i].s), .pos = cases[i].pos};
            const struct shape s = f.in.s;
            char err[LADE_ERR] = "", what[64];
            f.capacity = f.pos + s.tokens + 2;
            const size_t n = (size_t)f.capacity * (size_t)s.kv_heads * (size_t)s.head_dim;
            f.k = guard_alloc(n * sizeof *f.k);
            f.v = guard_alloc(n * sizeof *f.v);
            for (size_t j = 0; j < n; j++) {
                f.k[j] = random_half(1) ^ (rng_int(0, 1) ? 0x8000 : 0);
                f.v[j] = random_half(1) ^ (rng_int(0, 1) ? 0x8000 : 0);
            }
            attend_far(&f);
            float *out = poison((size_t)s.tokens * (size_t)s.heads * (size_t)s.head_dim);
            const struct lade_attention a = {.n = s.tokens,
                                             .pos = f.pos,
                                             .heads = s.heads,
                                             .kv_heads = s.kv_heads,
                                             .head_dim = s.head_dim,
                                             .rotary_dim = s.rotary_dim,
                                             .q = f.in.q,
                                             .k = f.in.k,
                                             .v = f.in.v,
                                             .q_norm = f.in.q_norm,
                                             .k_norm = f.in.k_norm,
                                             .eps = eps,
                                             .inv_freq = f.in.inv_freq,
                                             .rope_scale = rope_scale,
                                             .cache_type = LADE_F16,
                                             .k_cache = f.k,
                                             .v_cache = f.v,
                                             .capacity = f.capacity,
                                             .out = out};
            if (ops->attention(dev, &a, err))
                fail_msg("%s", err);
            snprintf(what, sizeof what, "%d tokens after %d%s", s.tokens, f.pos,
                     fast ? ", fast" : "");
            assert_near(what, out, f.in.want,
                        (size_t)s.tokens * (size_t)s.heads * (size_t)s.head_dim, 2e-3);
            guard_free(f.k);
            guard_free(f.v);
            guard_free(out);
            free_inputs(&f.in);
            close_device(dev);
        }
}

static void cache_full(void **state)
{
    struct lade_device *dev = open_device(*state, 1, true);
    char err[LADE_ERR] = "";
    struct lade_attention a = {.n = 2,
                               .pos = 3,
                               .heads = 1,
                               .kv_heads = 1,
                               .head_dim = 8,
                               .cache_type = LADE_F32,
                               .capacity = 4};
    assert_int_equal(ops->attention(dev, &a, err), -1);
    assert_non_null(strstr(err, "cache of 4"));
    close_device(dev);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {EACH_DEVICE(each_shape), EACH_DEVICE(fast),
                                       EACH_DEVICE(large_scores), EACH_DEVICE(long_contexts),
                                       EACH_DEVICE(cache_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
