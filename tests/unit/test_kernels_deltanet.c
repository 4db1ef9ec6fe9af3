/* Gated DeltaNet against the recurrence in double precision; the same tokens at once (chunked),
 * one by one and in odd pieces must leave the same outputs and states. */
#include "kernels_common.h"

struct shape {
    int tokens, key_heads, value_heads, key_dim, value_dim, kernel;
    float decay; /* size of the log decay */
    float alike; /* what all tokens have in common, beside 1 that they have not */
};
static const struct shape shapes[] = {
    {3, 1, 1, 4, 4, 4, 1, 0},       {100, 2, 4, 16, 16, 4, 1, 0},   {65, 2, 2, 24, 20, 3, 0.2f, 0},
    {70, 1, 3, 10, 7, 2, 3, 0},     {130, 2, 4, 128, 128, 4, 1, 0}, {40, 4, 4, 32, 64, 4, 30, 0},
    {33, 1, 2, 5, 33, 1, 0.01f, 0},
};
/* For devices that need not be exact, which may take many tokens in another way. */
static const struct shape long_shapes[] = {
    {63, 1, 1, 128, 128, 4, 1, 0},       {64, 1, 2, 128, 32, 4, 0.1f, 0},
    {65, 2, 2, 96, 40, 3, 1, 0},         {127, 1, 3, 10, 7, 2, 30, 0},
    {70, 1, 1, 200, 20, 4, 1, 0},        {160, 1, 1, 16, 32, 1, 0, 3},
    {1070, 1, 1, 128, 16, 4, 0.001f, 1},
};

struct inputs {
    struct shape s;
    size_t channels, row;
    float *qkv, *z; /* the same apart */
    float *qkvz, *ba, *conv, *decay, *dt_bias, *norm, *conv_state, *state;
    double *want, *want_state;
};

static const float eps = 1e-6f;

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void reference_head(struct inputs *in, int h, const double *y, int t, double *s)
{
    const struct shape sh = in->s;
    int kd = sh.key_dim, vd = sh.value_dim, g = h / (sh.value_heads / sh.key_heads);
    const double *q = y + g * kd, *k = y + (sh.key_heads + g) * kd;
    const double *v = y + 2 * sh.key_heads * kd + h * vd;
    const float *ba = in->ba + t * 2 * sh.value_heads;
    double qq = 1e-6, kk = 1e-6, mean = 0;
    for (int i = 0; i < kd; i++) {
        qq += q[i] * q[i];
        kk += k[i] * k[i];
    }
    double beta = 1 / (1 + exp(-(double)ba[h]));
    double e = exp(in->decay[h] * log1p(exp((double)ba[sh.value_heads + h] + in->dt_bias[h])));
    double *out = in->want + ((size_t)t * (size_t)sh.value_heads + (size_t)h) * (size_t)vd;
    for (int c = 0; c < vd; c++) {
        double m = 0, o = 0;
        for (int i = 0; i < kd; i++)
            m += (s[i * vd + c] *= e) * k[i] / sqrt(kk);
        double d = beta * (v[c] - m);
        for (int i = 0; i < kd; i++)
            o += (s[i * vd + c] += k[i] / sqrt(kk) * d) * q[i] / sqrt(qq * kd);
        out[c] = o;
        mean += o * o / vd;
    }
    const float *z = in->qkvz + (size_t)t * in->row + in->channels + (size_t)(h * vd);
    for (int c = 0; c < vd; c++)
        out[c] = out[c] / sqrt(mean + eps) * in->norm[c] * silu(z[c]);
}

static void reference(struct inputs *in)
{
    const struct shape s = in->s;
    double *y = malloc(in->channels * sizeof(*y));
    assert_non_null(y);
    for (int t = 0; t < s.tokens; t++) {
        for (size_t c = 0; c < in->channels; c++) {
            double sum = 0;
            for (int j = 0; j < s.kernel; j++) {
                int from = t - (s.kernel - 1) + j;
                double x = from >= 0
                               ? in->qkvz[(size_t)from * in->row + c]
                               : in->conv_state[(size_t)(from + s.kernel - 1) * in->channels + c];
                sum += x * in->conv[c * (size_t)s.kernel + (size_t)j];
            }
            y[c] = silu(sum);
        }
        for (int h = 0; h < s.value_heads; h++)
            reference_head(in, h, y, t, in->want_state + (size_t)(h * s.key_dim * s.value_dim));
    }
    free(y);
}

static size_t state_floats(struct shape s)
{
    return (size_t)s.value_heads * (size_t)s.key_dim * (size_t)s.value_dim;
}

static struct inputs make_inputs(struct shape s)
{
    struct inputs in = {.s = s};
    size_t n = (size_t)s.tokens, values = (size_t)(s.value_heads * s.value_dim);
    in.channels = 2 * (size_t)(s.key_heads * s.key_dim) + values;
    in.row = in.channels + values;
    in.qkvz = random_floats(n * in.row, 1);
    float *common = random_floats(in.row, s.alike);
    for (size_t i = 0; i < n * in.row; i++)
        in.qkvz[i] += common[i % in.row];
    guard_free(common);
    in.qkv = poison(n * in.channels);
    in.z = poison(n * values);
    for (size_t t = 0; t < n; t++) {
        memcpy(in.qkv + t * in.channels, in.qkvz + t * in.row, in.channels * sizeof(float));
        memcpy(in.z + t * values, in.qkvz + t * in.row + in.channels, values * sizeof(float));
    }
    in.ba = random_floats(n * 2 * (size_t)s.value_heads, 1);
    in.conv = random_floats(in.channels * (size_t)s.kernel, 0.6f);
    in.decay = random_floats((size_t)s.value_heads, 1);
    for (int h = 0; h < s.value_heads; h++)
        in.decay[h] = -fabsf(in.decay[h]) * s.decay;
    in.dt_bias = random_floats((size_t)s.value_heads, 1);
    in.norm = random_floats((size_t)s.value_dim, 1);
    in.conv_state = random_floats((size_t)(s.kernel - 1) * in.channels, 1);
    in.state = random_floats(state_floats(s), 0.3f);
    in.want = malloc(n * values * sizeof(double));
    assert_non_null(in.want);
    in.want_state = to_double(in.state, state_floats(s));
    reference(&in);
    return in;
}

static void free_inputs(struct inputs *in)
{
    float *all[] = {in->qkvz,  in->qkv,     in->z,    in->ba,         in->conv,
                    in->decay, in->dt_bias, in->norm, in->conv_state, in->state};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        guard_free(all[i]);
    free(in->want);
    free(in->want_state);
}

static void check_conv_state(const struct inputs *in, const float *conv_state)
{
    int past = in->s.kernel - 1;
    for (int i = 0; i < past; i++) {
        int t = in->s.tokens - past + i;
        const float *want = t >= 0 ? in->qkvz + (size_t)t * in->row
                                   : in->conv_state + (size_t)(t + past) * in->channels;
        assert_memory_equal(conv_state + (size_t)i * in->channels, want,
                            in->channels * sizeof(float));
    }
}

static void run_as(struct lade_device *dev, const struct inputs *in, const int *pieces,
                   int n_pieces, bool apart, double limit)
{
    const struct shape s = in->s;
    char err[LADE_ERR], what[100];
    size_t values = (size_t)(s.value_heads * s.value_dim);
    float *state = copy_of(in->state, state_floats(s) * sizeof(float));
    float *conv_state =
        copy_of(in->conv_state, (size_t)(s.kernel - 1) * in->channels * sizeof(float));
    float *out = poison((size_t)s.tokens * values);
    for (int t = 0, i = 0; t < s.tokens; i++) {
        int n = pieces[i % n_pieces];
        n = n < s.tokens - t ? n : s.tokens - t;
        struct lade_deltanet d = {.n = n,
                                  .key_heads = s.key_heads,
                                  .value_heads = s.value_heads,
                                  .key_dim = s.key_dim,
                                  .value_dim = s.value_dim,
                                  .kernel = s.kernel,
                                  .qkvz = apart ? in->qkv + (size_t)t * in->channels
                                                : in->qkvz + (size_t)t * in->row,
                                  .z = apart ? in->z + (size_t)t * values : NULL,
                                  .ba = in->ba + t * 2 * s.value_heads,
                                  .conv = in->conv,
                                  .decay = in->decay,
                                  .dt_bias = in->dt_bias,
                                  .norm = in->norm,
                                  .eps = eps,
                                  .conv_state = conv_state,
                                  .state = state,
                                  .out = out + (size_t)t * values};
        assert_int_equal(ops->deltanet(dev, &d, err), 0);
        t += n;
    }
    snprintf(what, sizeof(what), "%d tokens, %d/%d heads of %d x %d, pieces of %d", s.tokens,
             s.key_heads, s.value_heads, s.key_dim, s.value_dim, pieces[0]);
    assert_near(what, out, in->want, (size_t)s.tokens * values, limit);
    assert_near("state", state, in->want_state, state_floats(s), limit);
    check_conv_state(in, conv_state);
    guard_free(state);
    guard_free(conv_state);
    guard_free(out);
}

static void run(struct lade_device *dev, const struct inputs *in, const int *pieces, int n_pieces,
                double limit)
{
    run_as(dev, in, pieces, n_pieces, false, limit);
    run_as(dev, in, pieces, n_pieces, true, limit);
}

static const int whole[] = {1 << 20}, single[] = {1}, odd[] = {2, 31, 9, 1, 40};

static void each_shape(void **state)
{
    for (int threads = least_threads(*state); threads <= most_threads(*state); threads++) {
        struct lade_device *dev = open_device(*state, threads, true);
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            struct inputs in = make_inputs(shapes[i]);
            run(dev, &in, whole, 1, 5e-6);
            run(dev, &in, single, 1, 5e-6);
            run(dev, &in, odd, 5, 5e-6);
            free_inputs(&in);
        }
        close_device(dev);
    }
}

/* At once, and in pieces of which each begins with the state that the one before it left. */
static void long_ones(void **state)
{
    static const int pieces[] = {70, 3, 64, 95, 20};
    struct lade_device *dev = open_device(*state, 1, false);
    for (size_t i = 0; i < sizeof(long_shapes) / sizeof(long_shapes[0]); i++) {
        struct inputs in = make_inputs(long_shapes[i]);
        run_as(dev, &in, whole, 1, i % 2, 1e-4);
        if (in.s.tokens < 1000)
            run_as(dev, &in, pieces, 5, !(i % 2), 1e-4);
        free_inputs(&in);
    }
    close_device(dev);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {EACH_DEVICE(each_shape), EACH_DEVICE(long_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
