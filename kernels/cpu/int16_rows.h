/* int16_rows.h - inputs rounded to integers of 16 bits; included by int16_impl.h. */

enum { BLOCKS = CPU_ROW_STEP / CPU_BLOCK };

#define LARGEST 16256.0f /* 127 * 128: the high half stays within 8 bits */

/* acc + the sum of four products of each lane: codes times the bytes of x. */
ALWAYS_INLINE vi dot4(vi acc, vu codes, vi x, const bool wide)
{
#if defined(SIMD_AVX512)
    (void)wide;
    return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)codes, (__m512i)x);
#elif defined(SIMD_AVXVNNI)
    (void)wide;
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)codes, (__m256i)x);
#elif defined(SIMD_AVX2)
    /* Pairs are summed in 16 bits: enough for codes up to 127 in magnitude, signs moved to x. */
    __m256i c = (__m256i)codes, b = (__m256i)x;
    if (wide) {
        b = _mm256_sign_epi8(b, c);
        c = _mm256_abs_epi8(c);
    }
    __m256i pairs = _mm256_maddubs_epi16(c, b);
    return acc + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(SIMD_NEON)
    (void)wide;
    return (vi)vdotq_s32((int32x4_t)acc, (int8x16_t)codes, (int8x16_t)x);
#endif
}
struct row {
    const int32_t *q; /* high and low halves of four inputs, in turns */
    const float *scale;
    const int32_t *minus, *half_minus;
    const float *sum, *half_sum;
};

ALWAYS_INLINE struct row row_at(const void *data, size_t blocks)
{
    struct row r = {.q = data};
    r.scale = (const float *)(r.q + blocks * (2 * CPU_BLOCK / 4));
    r.minus = (const int32_t *)(r.scale + blocks / BLOCKS);
    r.sum = (const float *)(r.minus + blocks);
    r.half_minus = (const int32_t *)(r.sum + blocks);
    r.half_sum = (const float *)(r.half_minus + 2 * blocks);
    return r;
}

/* 32 inputs as products with many tokens want them: packs are made of these (int16.h). */
struct record {
    int32_t q[CPU_BLOCK / 4][2]; /* four inputs each, see put_quad() */
    int32_t minus[3];            /* what is added to the products of all of them, of each half */
    float sum[3];                /* of all of them, of each half */
    float scale;                 /* of CPU_ROW_STEP inputs: repeated */
    int32_t minus_span;          /* minus[0] of FOLD_SPAN records, in the first of them */
};
_Static_assert(sizeof(struct record) == CPU_RECORD, "int16.h says so");

typedef int16_t vi16 __attribute__((vector_size(2 * VL)));
typedef uint64_t vu64 __attribute__((vector_size(SIMD_SIZE)));

/* Inputs i .. i + VL in the order of the codes. */
ALWAYS_INLINE vf load_ordered(const float *x, int i, enum cpu_order order)
{
    if (order == CPU_ORDER_PLAIN)
        return vf_load(x + i);
#if defined(SIMD_AVX512)
    vf v = vf_load(x + i);
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
#elif defined(SIMD_AVX2)
    vf v = vf_load(x + i);
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 1, 3, 5, 7);
#else
    vf a = vf_load(x + i / 8 * 8), b = vf_load(x + i / 8 * 8 + 4);
    return i % 8 ? __builtin_shufflevector(a, b, 1, 3, 5, 7)
                 : __builtin_shufflevector(a, b, 0, 2, 4, 6);
#endif
}

/* Those inputs as integers. */
ALWAYS_INLINE vi rounded(const float *x, int i, vf inverse, enum cpu_order order)
{
    return vf_rounded(load_ordered(x, i, order) * inverse);
}

/* The factor that makes integers of CPU_ROW_STEP inputs; *scale makes them inputs again. */
ALWAYS_INLINE vf step_inverse(const float *x, float *scale)
{
    vf most = {0};
    for (int i = 0; i < CPU_ROW_STEP; i += VL)
        most = vf_max((vf)((vu)vf_load(x + i) & 0x7fffffffu), most);
    const float largest = vf_hmax(most);
    *scale = largest / LARGEST;
    return vf_set1(largest > 0 ? LARGEST / largest : 0);
}

/* Unsigned, because what is no number becomes any code, and sums of such wrap. */
ALWAYS_INLINE uint32_t vu_sum(vu v)
{
#if defined(SIMD_AVX512)
    __m256i e = _mm256_add_epi32(_mm512_castsi512_si256((__m512i)v),
                                 _mm512_extracti64x4_epi64((__m512i)v, 1));
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(q);
#else
    uint32_t t[VL], sum = 0;
    memcpy(t, &v, sizeof(v));
    for (int i = 0; i < VL; i++)
        sum += t[i];
    return sum;
#endif
}

/* VL inputs as their high and low halves, four of each in turns. */
ALWAYS_INLINE void put_halves(int8_t *q, vi v)
{
    vi high = (v + 64) >> 7, low = v - (high << 7);
    vi8 h = __builtin_convertvector(high, vi8), l = __builtin_convertvector(low, vi8);
    uint32_t hw[VL / 4], lw[VL / 4];
    memcpy(hw, &h, sizeof(hw));
    memcpy(lw, &l, sizeof(lw));
    UNROLL(4)
    for (int w = 0; w < VL / 4; w++) {
        memcpy(q + w * 8, &hw[w], 4);
        memcpy(q + w * 8 + 4, &lw[w], 4);
    }
}

/* One block; sums are those of its two halves. */
ALWAYS_INLINE void quantize_block(int8_t *q, uint32_t sums[2], const float *x, vf inverse,
                                  const enum cpu_order order)
{
    vu half[2] = {0};
    UNROLL(8)
    for (int i = 0; i < CPU_BLOCK; i += VL, q += 2 * VL) {
        vi v = rounded(x, i, inverse, order);
        half[i * 2 / CPU_BLOCK] += (vu)v;
        put_halves(q, v);
    }
    sums[0] = vu_sum(half[0]);
    sums[1] = vu_sum(half[1]);
}

/* CPU_ROW_STEP inputs, the n-th of their row. */
static void quantize_step(const struct row *r, size_t n, const float *x, enum cpu_order order)
{
    const vf inverse = step_inverse(x, (float *)r->scale + n);
    for (size_t b = n * BLOCKS; b < (n + 1) * BLOCKS; b++, x += CPU_BLOCK) {
        int8_t *q = (int8_t *)r->q + b * 2 * CPU_BLOCK;
        uint32_t sums[2];
        if (order == CPU_ORDER_Q4)
            quantize_block(q, sums, x, inverse, CPU_ORDER_Q4);
        else
            quantize_block(q, sums, x, inverse, CPU_ORDER_PLAIN);
        ((int32_t *)r->minus)[b] = (int32_t) - (sums[0] + sums[1]);
        ((float *)r->sum)[b] = (float)(int32_t)(sums[0] + sums[1]);
        for (int i = 0; i < 2; i++) {
            ((int32_t *)r->half_minus)[2 * b + (size_t)i] = (int32_t)-sums[i];
            ((float *)r->half_sum)[2 * b + (size_t)i] = (float)(int32_t)sums[i];
        }
    }
}

static void quantize(void *data, const float *x, int k, enum cpu_order order)
{
    const struct row r = row_at(data, cpu_int16_blocks(k));
    const size_t full = (size_t)k / CPU_ROW_STEP, rest = (size_t)k % CPU_ROW_STEP;
    for (size_t n = 0; n < full; n++)
        quantize_step(&r, n, x + n * CPU_ROW_STEP, order);
    if (rest) {
        float part[CPU_ROW_STEP] = {0};
        memcpy(part, x + full * CPU_ROW_STEP, rest * sizeof(float));
        quantize_step(&r, full, part, order);
    }
}

/* A product is of GEMM_TILES tiles with 1 to GEMM_TOKENS tokens. */
#if defined(SIMD_AVX512)
enum { GEMM_TILES = 2, GEMM_TOKENS = 6 };
#elif defined(SIMD_AVX2)
enum { GEMM_TILES = 1, GEMM_TOKENS = 4 };
#else
enum { GEMM_TILES = 1, GEMM_TOKENS = 2 };
#endif

/* ---- records --------------------------------------------------------------------------------- */

/* Quads of a block that are multiplied as they are, one bit each, and not by Winograd's identity. Where an
 * instruction multiplies and adds, half of the ports idle with the first and the others with the second. */
#if defined(SIMD_VNNI)
enum { PLAIN_QUADS = 1 << 1 | 1 << 4 | 1 << 7 };
#else
enum { PLAIN_QUADS = 0 };
#endif

/* Whether quad i of a block is multiplied by Winograd's identity (int16_product.h). */
ALWAYS_INLINE bool paired(const int i)
{
    return !(PLAIN_QUADS >> i & 1);
}

/* VL inputs of a record, the first ones of quad `from`; returns sums, modulo 2^32, that make up its
 * `minus`. */
ALWAYS_INLINE vu put_quads(int32_t *q, vi v, const int from)
{
#if defined(SIMD_NEON)
    (void)from;
    put_halves((int8_t *)q, v);
    return (vu){0};
#else
    vi16 words = __builtin_convertvector(v, vi16);
#if defined(SIMD_AVX512)
    words =
        __builtin_shufflevector(words, words, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
#else
    words = __builtin_shufflevector(words, words, 0, 2, 1, 3, 4, 6, 5, 7);
#endif
    memcpy(q, &words, sizeof(words));
    /* The first of two inputs times the second one. */
    vu first = (vu)v, second = (vu)((vu64)v >> 32);
    vu64 pairs;
    UNROLL(8)
    for (int i = 0; i < VL / 2; i++)
        pairs[i] = paired(from + i / 2) ? UINT32_MAX : 0;
    return first * second & (vu)pairs;
#endif
}

typedef int32_t vi4 __attribute__((vector_size(16)));
typedef uint32_t vu4 __attribute__((vector_size(16)));
typedef float vf4 __attribute__((vector_size(16)));

/* The sum of each of four vectors. */
ALWAYS_INLINE vu4 vu_sums(vu a, vu b, vu c, vu d)
{
#if defined(SIMD_AVX512)
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32((__m512i)a, (__m512i)b),
                                        _mm512_unpackhi_epi32((__m512i)a, (__m512i)b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32((__m512i)c, (__m512i)d),
                                        _mm512_unpackhi_epi32((__m512i)c, (__m512i)d));
    const __m512i all =
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return (vu4)_mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
#else
    return (vu4){vu_sum(a), vu_sum(b), vu_sum(c), vu_sum(d)};
#endif
}

/* What stands behind a record's inputs, from the sums of each half's inputs and products; returns minus[0]. Few
 * stores: records are not in the cache, and a core holds so many that wait for it. */
ALWAYS_INLINE uint32_t put_sums(struct record *r, vu4 halves, float scale)
{
    const vf4 of = __builtin_convertvector((vi4)halves, vf4);
    const vu4 both = halves + __builtin_shufflevector(halves, halves, 1, 0, 3, 2);
    const vf4 of_both = of + __builtin_shufflevector(of, of, 1, 0, 3, 2);
    const vu4 minus = -__builtin_shufflevector(both, halves, 2, 6, 7, 2);
    vf4 sum = __builtin_shufflevector(of_both, of, 0, 4, 5, 0);
    sum[3] = scale;
    char *to = (char *)r;
    memcpy(to + offsetof(struct record, minus), &minus, sizeof(minus)); /* one too many */
    memcpy(to + offsetof(struct record, sum), &sum, sizeof(sum));
    return minus[0];
}

/* Returns minus[0]; minus_span is the caller's. */
ALWAYS_INLINE uint32_t quantize_record(struct record *r, const float *x, vf inverse, float scale,
                                       const enum cpu_order order)
{
    vu sum[2] = {0}, product[2] = {0};
    UNROLL(8)
    for (int i = 0; i < CPU_BLOCK; i += VL) {
        vi v = rounded(x, i, inverse, order);
        sum[i * 2 / CPU_BLOCK] += (vu)v;
        product[i * 2 / CPU_BLOCK] += put_quads(r->q[i / 4], v, i / 4);
    }
    return put_sums(r, vu_sums(sum[0], sum[1], product[0], product[1]), scale);
}

/* CPU_ROW_STEP inputs: record b goes to at + b * step. Those of the next inputs are asked for. */
static void quantize_records(char *at, size_t step, const float *x, enum cpu_order order)
{
    float scale;
    const vf inverse = step_inverse(x, &scale);
    for (int b = 0; b < BLOCKS; b += FOLD_SPAN) {
        struct record *first = (struct record *)(void *)at;
        uint32_t minus_span = 0;
        UNROLL(4)
        for (int i = 0; i < FOLD_SPAN; i++, at += step, x += CPU_BLOCK) {
            struct record *r = (struct record *)(void *)at;
            __builtin_prefetch(at + BLOCKS * step, 1);
            __builtin_prefetch(at + BLOCKS * step + sizeof(*r) - 1, 1);
            minus_span += order == CPU_ORDER_Q4
                              ? quantize_record(r, x, inverse, scale, CPU_ORDER_Q4)
                              : quantize_record(r, x, inverse, scale, CPU_ORDER_PLAIN);
            r->minus_span = 0;
        }
        first->minus_span = (int32_t)minus_span;
    }
}

enum { RECORDS_AHEAD = 3 }; /* of each token, which the third cache has */

static void gather(void *packs, const void *x, const int32_t *rows, int n, int k)
{
    const size_t bytes = cpu_pack_bytes(k);
    const int all = cpu_packs(n, GEMM_TOKENS);
    char *to = packs;
    for (int i = 0; i < all; i++) {
        const int begin = cpu_pack_begin(n, all, i), m = cpu_pack_begin(n, all, i + 1) - begin;
        for (size_t at = 0; at < bytes; at += CPU_RECORD)
            for (int j = 0; j < m; j++, to += CPU_RECORD) {
                const char *from = (const char *)x + (size_t)rows[begin + j] * bytes + at;
                __builtin_prefetch(from + RECORDS_AHEAD * CPU_RECORD);
                __builtin_prefetch(from + (RECORDS_AHEAD + 1) * CPU_RECORD - 1);
                memcpy(to, from, CPU_RECORD);
            }
    }
}

static void quantize_packed(void *data, size_t step, const float *x, int k, enum cpu_order order)
{
    char *at = data;
    const int full = k / CPU_ROW_STEP, rest = k % CPU_ROW_STEP;
    for (int n = 0; n < full; n++, at += BLOCKS * step)
        quantize_records(at, step, x + (size_t)n * CPU_ROW_STEP, order);
    if (rest) {
        float part[CPU_ROW_STEP] = {0};
        memcpy(part, x + (size_t)full * CPU_ROW_STEP, (size_t)rest * sizeof(float));
        quantize_records(at, step, part, order);
    }
}
