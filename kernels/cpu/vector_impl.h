/* vector_impl.h - kernels over plain vectors; included once by each isa_*.c. */
#include "kernels/cpu/simd.h"

static float dot(const float *a, const float *b, int n)
{
    vf s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        s0 = vf_fma(vf_load(a + i), vf_load(b + i), s0);
        s1 = vf_fma(vf_load(a + i + VL), vf_load(b + i + VL), s1);
        s2 = vf_fma(vf_load(a + i + 2 * VL), vf_load(b + i + 2 * VL), s2);
        s3 = vf_fma(vf_load(a + i + 3 * VL), vf_load(b + i + 3 * VL), s3);
    }
    for (; i + VL <= n; i += VL)
        s0 = vf_fma(vf_load(a + i), vf_load(b + i), s0);
    if (i < n)
        s1 = vf_fma(vf_load_part(a + i, n - i), vf_load_part(b + i, n - i), s1);
    return vf_sum((s0 + s1) + (s2 + s3));
}

/* The same sums of products with rows of w, each asked for during the one before. */
static void dots(float *y, const float *x, const float *w, const int32_t *rows, int n, int dim)
{
    for (int r = 0; r < n; r++) {
        const float *row = w + (size_t)rows[r] * (size_t)dim;
        const float *next = w + (size_t)rows[cpu_min(r + 1, n - 1)] * (size_t)dim;
        vf s[4] = {0};
        int i = 0;
        for (; i + 4 * VL <= dim; i += 4 * VL) {
            for (int at = 0; at < 4 * VL; at += LADE_ALIGN / 4)
                __builtin_prefetch(next + i + at);
            UNROLL(4)
            for (int j = 0; j < 4; j++)
                s[j] = vf_fma(vf_load(row + i + j * VL), vf_load(x + i + j * VL), s[j]);
        }
        for (; i + VL <= dim; i += VL)
            s[0] = vf_fma(vf_load(row + i), vf_load(x + i), s[0]);
        if (i < dim)
            s[1] = vf_fma(vf_load_part(row + i, dim - i), vf_load_part(x + i, dim - i), s[1]);
        y[r] = vf_sum((s[0] + s[1]) + (s[2] + s[3]));
    }
}

static void bounds(float *least, float *most, const float *x, const float *off, int n)
{
    for (int i = 0; i < n; i += VL) {
        const int k = cpu_min(VL, n - i);
        const vf v = k == VL ? vf_load(x + i) : vf_load_part(x + i, k);
        const vf d = k == VL ? vf_load(off + i) : vf_load_part(off + i, k);
        const vf none = vf_set1(-INFINITY), low = v - d;
        const vf l = vf_select(low > none, low, none), m = vf_select(d == 0, none, v + d);
        if (k == VL) {
            vf_store(least + i, l);
            vf_store(most + i, m);
        } else {
            vf_store_part(least + i, l, k);
            vf_store_part(most + i, m, k);
        }
    }
}

static int not_below(int32_t *ids, const float *x, float least, int n)
{
    int count = 0, i = 0;
    for (; i + VL <= n; i += VL)
        for (uint32_t b = vi_bits(~(vi)(vf_load(x + i) < least)); b; b &= b - 1)
            ids[count++] = i + __builtin_ctz(b);
    for (; i < n; i++)
        if (!(x[i] < least))
            ids[count++] = i;
    return count;
}

static int count_not_below(const float *x, float least, int n)
{
    int count = 0, i = 0;
    for (; i + VL <= n; i += VL)
        count += __builtin_popcount(vi_bits(~(vi)(vf_load(x + i) < least)));
    for (; i < n; i++)
        count += !(x[i] < least);
    return count;
}

/* Halves an interval until few enough are found; without luck more are. */
static int largest(int32_t *ids, const float *x, int k, int n)
{
    enum { TRIES = 12 };
    float found = -INFINITY;
    if (n >= 2 * VL) {
        vf most = vf_set1(-INFINITY);
        for (int i = 0; i + VL <= n; i += VL)
            most = vf_max(vf_load(x + i), most);
        const float first = -vf_hmax(-most); /* VL of them are not below it */
        float above = vf_hmax(most), least = first;
        for (int i = 0; i < TRIES; i++) {
            const int count = count_not_below(x, least, n);
            if (count < k)
                above = least;
            else
                found = least;
            if (count >= k && count <= k + k / 2)
                break;
            least = found == -INFINITY ? least - (above - least) : found + (above - found) / 2;
        }
    }
    return not_below(ids, x, found, n);
}

static void axpy(float *y, float a, const float *x, int n)
{
    int i = 0;
    for (; i + VL <= n; i += VL)
        vf_store(y + i, vf_fma(vf_set1(a), vf_load(x + i), vf_load(y + i)));
    if (i < n)
        vf_store_part(y + i,
                      vf_fma(vf_set1(a), vf_load_part(x + i, n - i), vf_load_part(y + i, n - i)),
                      n - i);
}

static void rmsnorm(float *y, const float *x, const float *w, int dim, float eps)
{
    float scale = 1.0f / sqrtf(dot(x, x, dim) / (float)dim + eps);
    int i = 0;
    for (; i + VL <= dim; i += VL)
        vf_store(y + i, vf_load(x + i) * scale * vf_load(w + i));
    for (; i < dim; i++)
        y[i] = x[i] * scale * w[i];
}

static void gated_norm(float *y, const float *x, const float *z, const float *w, int dim, float eps)
{
    float scale = 1.0f / sqrtf(dot(x, x, dim) / (float)dim + eps);
    for (int i = 0; i < dim; i += VL) {
        int k = cpu_min(VL, dim - i);
        if (k == VL)
            vf_store(y + i, vf_load(x + i) * scale * vf_load(w + i) * vf_silu(vf_load(z + i)));
        else
            vf_store_part(y + i,
                          vf_load_part(x + i, k) * scale * vf_load_part(w + i, k) *
                              vf_silu(vf_load_part(z + i, k)),
                          k);
    }
}

static void swiglu(float *h, const float *gate, const float *up, int n)
{
    int i = 0;
    for (; i + VL <= n; i += VL)
        vf_store(h + i, vf_silu(vf_load(gate + i)) * vf_load(up + i));
    if (i < n)
        vf_store_part(h + i, vf_silu(vf_load_part(gate + i, n - i)) * vf_load_part(up + i, n - i),
                      n - i);
}

static void mul_sigmoid(float *y, const float *gate, int n)
{
    int i = 0;
    for (; i + VL <= n; i += VL)
        vf_store(y + i, vf_load(y + i) * vf_sigmoid(vf_load(gate + i)));
    if (i < n)
        vf_store_part(y + i, vf_load_part(y + i, n - i) * vf_sigmoid(vf_load_part(gate + i, n - i)),
                      n - i);
}

static float exp_sum(float *p, const float *x, float max, int n)
{
    vf sum = {0};
    int i = 0;
    for (; i + VL <= n; i += VL) {
        vf e = vf_exp(vf_load(x + i) - max);
        vf_store(p + i, e);
        sum += e;
    }
    float total = vf_sum(sum);
    if (i < n) {
        vf_store_part(p + i, vf_exp(vf_load_part(x + i, n - i) - max), n - i);
        for (; i < n; i++)
            total += p[i];
    }
    return total;
}

static void conv_silu(float *out, const float *const *taps, const float *w, int ldw, int kernel,
                      int n)
{
    for (int i = 0; i < n; i += VL) {
        int k = cpu_min(VL, n - i);
        vf s = {0};
        for (int j = 0; j < kernel; j++)
            s = k == VL ? vf_fma(vf_load(taps[j] + i), vf_load(w + j * ldw + i), s)
                        : vf_fma(vf_load_part(taps[j] + i, k), vf_load_part(w + j * ldw + i, k), s);
        if (k == VL)
            vf_store(out + i, vf_silu(s));
        else
            vf_store_part(out + i, vf_silu(s), k);
    }
}

#if !defined(SIMD_AVX512) && !defined(SIMD_AVX2)
/* Round to nearest, ties to even, as the hardware does. */
static uint16_t half_from_float(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    uint32_t sign = v.u >> 16 & 0x8000, a = v.u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) /* 65520 and more */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000) { /* subnormal: let the adder round at 2^-24 */
        union {
            float f;
            uint32_t u;
        } s = {.u = a};
        s.f += 0.5f;
        return (uint16_t)(sign | (s.u - 0x3f000000));
    }
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}
#endif

static void to_f16(uint16_t *y, const float *x, int n)
{
    int i = 0;
#if defined(SIMD_AVX512)
    for (; i + VL <= n; i += VL)
        _mm256_storeu_si256((__m256i *)(y + i),
                            _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(SIMD_AVX2)
    for (; i + VL <= n; i += VL)
        _mm_storeu_si128((__m128i *)(y + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; i++) {
#if defined(SIMD_AVX512) || defined(SIMD_AVX2)
        y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
#else
        y[i] = half_from_float(x[i]);
#endif
    }
}

/* A group of a Q8 cache, rounded to the nearest code; its scale. */
ALWAYS_INLINE float to_q8_group(int8_t *codes, const float *x)
{
    vf max = {0};
    for (int i = 0; i < LADE_CACHE_GROUP; i += VL) {
        vf v = vf_load(x + i);
        max = vf_max(vf_max(v, -v), max);
    }
    const float scale = vf_hmax(max) / 127, inverse = scale > 0 ? 1 / scale : 0;
    for (int i = 0; i < LADE_CACHE_GROUP; i += VL) {
        vi8 b = __builtin_convertvector(vf_rounded(vf_load(x + i) * inverse), vi8);
        memcpy(codes + i, &b, sizeof(b));
    }
    return scale;
}

static void to_q8(void *row, const float *x, int n)
{
    const int groups = (n + LADE_CACHE_GROUP - 1) / LADE_CACHE_GROUP;
    int8_t *codes = row;
    float *scales = (float *)(void *)(codes + groups * LADE_CACHE_GROUP);
    for (int g = 0; g < groups; g++, codes += LADE_CACHE_GROUP, x += LADE_CACHE_GROUP) {
        float last[LADE_CACHE_GROUP] = {0};
        const int left = n - g * LADE_CACHE_GROUP;
        if (left < LADE_CACHE_GROUP)
            memcpy(last, x, (size_t)left * sizeof(float));
        scales[g] = to_q8_group(codes, left < LADE_CACHE_GROUP ? last : x);
    }
}

/* x * factor as words, rounded to the nearest. */
ALWAYS_INLINE vi16 vf_words(vf x, vf factor)
{
    return __builtin_convertvector(
        (vi)vf_fma(x, factor, vf_set1(VF_ROUNDS)) - (vi)vf_set1(VF_ROUNDS), vi16);
}

static void to_q16(void *row, const float *x, int n)
{
    int16_t *codes = row;
    vf largest = {0}, squares = {0};
    for (int i = 0; i < n; i += VL) {
        const vf v = n - i < VL ? vf_load_part(x + i, n - i) : vf_load(x + i);
        largest = vf_max(vf_max(v, -v), largest);
        squares = vf_fma(v, v, squares);
    }
    const float most = vf_hmax(largest) / LADE_CODE_MOST;
    const float length = sqrtf(vf_sum(squares)) / LADE_CODE_LENGTH; /* may be no number */
    const float scale = (most > length ? most : length) + 1e-30f;
    for (int i = 0; i < n; i += VL) {
        const vf v = n - i < VL ? vf_load_part(x + i, n - i) : vf_load(x + i);
        const vi16 c = vf_words(v, vf_set1(1 / scale));
        memcpy(codes + i, &c, (size_t)cpu_min(VL, n - i) * sizeof(*codes));
    }
    if (n % 2)
        codes[n] = 0;
    memcpy(codes + (n + 1) / 2 * 2, &scale, sizeof(scale));
}
