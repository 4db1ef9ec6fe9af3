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

static const char *cache_name(enum lade_type type)
{
    return type == LADE_Q16 ? "q16" : lade_types[type].name;
}

/* All tokens; caches, where they begin and the output are still to be told. */
static struct lade_attention op_of(const struct inputs *in, enum lade_type cache)
{
    return (struct lade_attention){.n = in->s.tokens,
                                   .heads = in->s.heads,
                                   .kv_heads = in->s.kv_heads,
                                   .head_dim = in->s.head_dim,
                                   .rotary_dim = in->s.rotary_dim,
                                   .q = in->q,
                                   .k = in->k,
                                   .v = in->v,
                                   .q_norm = in->q_norm,
                                   .k_norm = in->k_norm,
                                   .eps = eps,
                                   .inv_freq = in->inv_freq,
                                   .rope_scale = rope_scale,
                                   .cache_type = cache};
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
        struct lade_attention a = op_of(in, cache);
        a.n = n;
        a.skip = n - asked;
        a.pos = i % 3 ? s.tokens - n : t;
        a.pos_at = i % 3 ? &where : NULL;
        a.q += first * 2;
        a.k += (size_t)t * (size_t)s.kv_heads * d;
        a.v += (size_t)t * (size_t)s.kv_heads * d;
        a.k_cache = k_cache;
        a.v_cache = v_cache;
        a.capacity = capacity;
        a.out = out + first;
        assert_int_equal(ops->attention(dev, &a, err), 0);
        for (size_t j = (size_t)t * (size_t)s.heads * d; j < first; j++) { /* not written to */
            assert_true(isnan(out[j]));
            out[j] = (float)in->want[j];
        }
        t += n;
    }
    char what[100];
    snprintf(what, sizeof(what), "%d tokens, %d/%d heads of %d, %s, pieces of %d, %d%% skipped",
             s.tokens, s.heads, s.kv_heads, s.head_dim, cache_name(cache), pieces[0], skip);
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
            if (is_plugin(device))
                continue;
            run_pieces(dev, &in[i], LADE_Q16, 2e-3);
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

/* Puts a row of n values into a cache, as matrix.h has it, and makes them what stands there then. */
static void to_cache(void *row, double *x, int n, enum lade_type type)
{
    double largest = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        largest = fmax(largest, fabs(x[i]));
        squares += x[i] * x[i];
    }
    const float scale =
        (float)fmax(largest / LADE_CODE_MOST, sqrt(squares) / LADE_CODE_LENGTH) + 1e-30f;
    for (int i = 0; i < n; i++) {
        const uint16_t half = nearest_half(x[i]);
        const int16_t code = (int16_t)lrint(x[i] / (double)scale);
        x[i] = type == LADE_F16 ? (double)half_value(half) : code * (double)scale;
        memcpy((char *)row + 2 * i, type == LADE_F16 ? (const void *)&half : &code, 2);
    }
    if (type == LADE_Q16)
        memcpy((char *)row + 2 * n, &scale, sizeof scale);
}

/* A cache as a long conversation leaves it, and what a few tokens more must give: the double precision sums
 * of what stands in it, with theirs. Values of either sign cancel, so that a part of the context that is left
 * out shows. */
struct far {
    struct inputs in;
    enum lade_type type;
    void *k, *v;         /* the caches */
    double *key, *value; /* what stands there, [kv_heads][capacity][head_dim] */
    int pos, capacity;
};

/* Where a head's position is in `key` and `value`. */
static size_t far_at(const struct far *f, size_t head, int pos)
{
    return (head * (size_t)f->capacity + (size_t)pos) * (size_t)f->in.s.head_dim;
}

/* The tokens that the op will put there itself. */
static void put_fresh(const struct far *f)
{
    const struct shape s = f->in.s;
    char *row = malloc(lade_cache_row(f->type, s.head_dim));
    for (int t = 0; t < s.tokens; t++)
        for (int g = 0; g < s.kv_heads; g++) {
            const size_t fresh = (size_t)(t * s.kv_heads + g) * (size_t)s.head_dim;
            double *key = f->key + far_at(f, (size_t)g, f->pos + t);
            double *value = f->value + far_at(f, (size_t)g, f->pos + t);
            norm_rope(key, f->in.k + fresh, f->in.k_norm, &f->in, f->pos + t);
            for (int i = 0; i < s.head_dim; i++)
                value[i] = (double)f->in.v[fresh + (size_t)i];
            to_cache(row, key, s.head_dim, f->type);
            to_cache(row, value, s.head_dim, f->type);
        }
    free(row);
}

static void attend_far(struct far *f)
{
    const struct shape s = f->in.s;
    const size_t d = (size_t)s.head_dim;
    double *query = malloc(d * sizeof *query), *p = malloc((size_t)f->capacity * sizeof *p);
    for (int t = 0; t < s.tokens; t++)
        for (int h = 0; h < s.heads; h++) {
            const size_t head = (size_t)t * (size_t)s.heads + (size_t)h,
                         g = (size_t)(h / (s.heads / s.kv_heads));
            const float *gate = f->in.q + head * 2 * d + d;
            double *out = f->in.want + head * d, max = -INFINITY, sum = 0;
            norm_rope(query, f->in.q + head * 2 * d, f->in.q_norm, &f->in, f->pos + t);
            for (int j = 0; j <= f->pos + t; j++) {
                p[j] = 0;
                for (size_t i = 0; i < d; i++)
                    p[j] += query[i] * f->key[far_at(f, g, j) + i];
                p[j] /= sqrt((double)d);
                max = fmax(max, p[j]);
            }
            for (size_t i = 0; i < d; i++)
                out[i] = 0;
            for (int j = 0; j <= f->pos + t; j++) {
                const double w = exp(p[j] - max);
                sum += w;
                for (size_t i = 0; i < d; i++)
                    out[i] += w * f->value[far_at(f, g, j) + i];
            }
            for (size_t i = 0; i < d; i++)
                out[i] = out[i] / sum / (1 + exp(-(double)gate[i]));
        }
    free(query);
    free(p);
}

/* What stands in the cache: values alike; columns and positions with larger values than others; one key that
 * a query agrees with so much that it counts about as much as all others together; weights that are alike and
 * a column that has the same large value everywhere, so that integers become as large as they may. */
enum cached { EVEN, UNEVEN, PEAK, SAME };

enum { LARGE_COLUMN = 8, LARGE_ROW = 4 }; /* by so many powers of two */

static bool is_large(enum cached kind, int column)
{
    return kind == UNEVEN && column % 16 == 3;
}

/* The first query of each key head, and of the first token, scores ln(positions) with one key, and with the
 * others next to nothing. */
static void put_peak(const struct far *f)
{
    const struct shape s = f->in.s;
    const size_t d = (size_t)s.head_dim, head = d * 2;
    double *query = malloc(d * sizeof *query);
    for (int g = 0; g < s.kv_heads; g++) {
        const float *q = f->in.q + (size_t)(g * (s.heads / s.kv_heads)) * head;
        double square = 0;
        norm_rope(query, q, f->in.q_norm, &f->in, f->pos);
        for (size_t i = 0; i < d; i++)
            square += query[i] * query[i];
        for (size_t i = 0; i < d; i++) {
            const double x = query[i] * log(f->pos) * sqrt((double)d) / square;
            f->key[far_at(f, (size_t)g, f->pos / 3) + i] = x;
        }
    }
    free(query);
}

static double random_value(double scale)
{
    return scale * (0.5 + rng_uniform()) * (rng_int(0, 1) ? 1 : -1);
}

static void fill_cache(struct far *f, enum cached kind)
{
    const struct shape s = f->in.s;
    const size_t rows = (size_t)f->capacity * (size_t)s.kv_heads, d = (size_t)s.head_dim;
    const size_t bytes = lade_cache_row(f->type, s.head_dim);
    f->k = guard_alloc(rows * bytes);
    f->v = guard_alloc(rows * bytes);
    f->key = malloc(rows * d * sizeof *f->key);
    f->value = malloc(rows * d * sizeof *f->value);
    for (size_t j = 0; j < rows * d; j++) {
        const int more = (is_large(kind, (int)(j % d)) ? LARGE_COLUMN : 0) +
                         (kind == UNEVEN && j / d % 100 == 7 ? LARGE_ROW : 0);
        f->key[j] = random_value(kind == PEAK ? 1.0 / 64 : kind == SAME ? 1e-4 : 1);
        f->value[j] =
            kind == SAME && j % d == 3 ? -1 : ldexp(random_value(kind == SAME ? 1e-3 : 1), more);
    }
    if (kind == PEAK)
        put_peak(f);
    for (size_t r = 0; r < rows; r++) {
        to_cache((char *)f->k + r * bytes, f->key + r * d, s.head_dim, f->type);
        to_cache((char *)f->v + r * bytes, f->value + r * d, s.head_dim, f->type);
    }
    put_fresh(f);
}

/* Contexts that are cut in many parts, and prompts that begin far in one. `limit`: of an error. */
static void long_context(const char *device, struct shape s, int pos, enum cached kind,
                         enum lade_type type, bool exact, double limit)
{
    struct lade_device *dev = open_device(device, 1, exact);
    struct far f = {.in = make_inputs(s), .type = type, .pos = pos, .capacity = pos + s.tokens + 2};
    const size_t n = (size_t)s.tokens * (size_t)s.heads * (size_t)s.head_dim;
    char err[LADE_ERR] = "", what[80];
    for (int i = 0; kind == UNEVEN && i < s.tokens * s.kv_heads * s.head_dim; i++)
        f.in.v[i] = is_large(kind, i % s.head_dim) ? ldexpf(f.in.v[i], LARGE_COLUMN) : f.in.v[i];
    fill_cache(&f, kind);
    attend_far(&f);
    float *out = poison(n);
    struct lade_attention a = op_of(&f.in, type);
    a.pos = f.pos;
    a.k_cache = f.k;
    a.v_cache = f.v;
    a.capacity = f.capacity;
    a.out = out;
    if (ops->attention(dev, &a, err))
        fail_msg("%s", err);
    /* Else large columns would be all that counts, as they are where a row has one scale. */
    for (size_t i = 0; type == LADE_F16 && i < n; i++)
        if (is_large(kind, (int)(i % (size_t)s.head_dim))) {
            out[i] = ldexpf(out[i], -LARGE_COLUMN);
            f.in.want[i] = ldexp(f.in.want[i], -LARGE_COLUMN);
        }
    snprintf(what, sizeof what, "%d tokens after %d, kind %d, %s%s", s.tokens, f.pos, kind,
             cache_name(type), exact ? "" : ", fast");
    assert_near(what, out, f.in.want, n, limit);
    guard_free(f.k);
    guard_free(f.v);
    guard_free(out);
    free(f.key);
    free(f.value);
    free_inputs(&f.in);
    close_device(dev);
}

static void long_contexts(void **state)
{
    static const struct {
        struct shape s;
        int pos;
        enum cached kind;
    } cases[] = {{{1, 2, 1, 64, 16}, 20011, EVEN},  {{3, 4, 2, 32, 8}, 4100, EVEN},
                 {{20, 2, 1, 64, 16}, 1100, EVEN},  {{20, 4, 2, 64, 16}, 1400, UNEVEN},
                 {{9, 4, 2, 64, 16}, 4100, UNEVEN}, {{9, 2, 1, 64, 16}, 4100, PEAK},
                 {{2, 2, 1, 64, 16}, 4100, PEAK},   {{2, 8, 1, 64, 16}, 4100, PEAK},
                 {{1, 16, 2, 96, 16}, 2101, EVEN},  {{3, 8, 1, 256, 64}, 700, UNEVEN},
                 {{2, 8, 1, 64, 16}, 1000, SAME},   {{16, 8, 1, 64, 16}, 1000, SAME}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct shape s = cases[i].s;
        const int pos = cases[i].pos;
        if (is_emulated(*state) && cases[i].kind != EVEN)
            continue; /* slow there, and of roundings that are not there */
        long_context(*state, s, pos, cases[i].kind, LADE_F16, true, 3e-6);
        long_context(*state, s, pos, cases[i].kind, LADE_F16, false, 5e-4);
        if (is_plugin(*state))
            continue;
        long_context(*state, s, pos, cases[i].kind, LADE_Q16, true, 3e-6);
        long_context(*state, s, pos, cases[i].kind, LADE_Q16, false, 5e-4);
    }
}

/* How many threads there are decides what a unit has, and nothing else. */
static void threads_agree(void **state)
{
    need_device(*state);
    struct inputs in = make_inputs((struct shape){40, 16, 2, 64, 16});
    const struct shape s = in.s;
    const size_t n = (size_t)s.tokens * (size_t)s.heads * (size_t)s.head_dim;
    float *first[2] = {0};
    for (int i = 0; i < 6; i++) { /* 1, 3 and 5 threads with either cache */
        const enum lade_type type = i % 2 ? LADE_Q16 : LADE_F16;
        const size_t bytes =
            (size_t)s.kv_heads * (size_t)s.tokens * lade_cache_row(type, s.head_dim);
        struct lade_device *dev = open_device(*state, i / 2 * 2 + 1, false);
        void *k = guard_alloc(bytes), *v = guard_alloc(bytes);
        float *out = poison(n);
        char err[LADE_ERR] = "";
        struct lade_attention a = op_of(&in, type);
        a.k_cache = k;
        a.v_cache = v;
        a.capacity = s.tokens;
        a.out = out;
        assert_int_equal(ops->attention(dev, &a, err), 0);
        if (i < 2) {
            first[i] = out;
        } else {
            assert_memory_equal(first[i % 2], out, n * sizeof *out);
            guard_free(out);
        }
        guard_free(k);
        guard_free(v);
        close_device(dev);
    }
    guard_free(first[0]);
    guard_free(first[1]);
    free_inputs(&in);
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
    const struct CMUnitTest tests[] = {EACH_DEVICE(each_shape),   EACH_DEVICE(fast),
                                       EACH_DEVICE(large_scores), EACH_DEVICE(long_contexts),
                                       EACH_ISA(threads_agree),   EACH_DEVICE(cache_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
