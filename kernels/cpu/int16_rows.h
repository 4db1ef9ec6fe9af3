/* int16_rows.h - inputs rounded to integers of 16 and of 8 bits; included by int16_impl.h. */

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

/* A quantized row: its first block. */
ALWAYS_INLINE const int8_t *inputs_at(const char *row, int b, const enum cpu_bits bits)
{
    return (const int8_t *)row + (size_t)b * cpu_int16_block(bits);
}

ALWAYS_INLINE const struct cpu_block_end *end_at(const char *row, int b, const enum cpu_bits bits)
{
    row += (size_t)(b + 1) * cpu_int16_block(bits) - sizeof(struct cpu_block_end);
    return (const struct cpu_block_end *)(const void *)row;
}

/* Minus the sum of a block's inputs, of one of two parts where scales are fine. */
ALWAYS_INLINE int32_t minus_of(const struct cpu_block_end *x, const bool fine, const int part)
{
    return !fine ? x->minus : part ? x->minus - x->minus_first : x->minus_first;
}

/* Four inputs, in each lane. */
ALWAYS_INLINE vi word_at(const int8_t *q)
{
    int32_t word;
    memcpy(&word, q, sizeof(word));
    return (vi){0} + word;
}

typedef int8_t vi8 __attribute__((vector_size(VL)));

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

ALWAYS_INLINE int32_t vi_sum(vi v)
{
#if defined(SIMD_AVX512)
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t t[VL], sum = 0;
    memcpy(t, &v, sizeof(v));
    for (int i = 0; i < VL; i++)
        sum += t[i];
    return sum;
#endif
}

/* One block times `inverse`, rounded. */
ALWAYS_INLINE void quantize_block(int8_t *q, struct cpu_block_end *end, const float *x, vf inverse,
                                  float scale, const enum cpu_bits bits, const enum cpu_order order)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    vi half[2] = {0};
    UNROLL(8)
    for (int i = 0; i < CPU_BLOCK; i += VL) {
        vi v = (vi)(load_ordered(x, i, order) * inverse + magic) - (vi)vf_set1(magic);
        half[i * 2 / CPU_BLOCK] += v;
        if (bits == CPU_BITS_8) {
            vi8 bytes = __builtin_convertvector(v, vi8);
            memcpy(q + i, &bytes, sizeof(bytes));
            continue;
        }
        vi high = (v + 64) >> 7, low = v - (high << 7);
        vi8 h = __builtin_convertvector(high, vi8), l = __builtin_convertvector(low, vi8);
        uint32_t hw[VL / 4], lw[VL / 4];
        memcpy(hw, &h, sizeof(hw));
        memcpy(lw, &l, sizeof(lw));
        UNROLL(4)
        for (int w = 0; w < VL / 4; w++) {
            memcpy(q + 2 * i + w * 8, &hw[w], 4);
            memcpy(q + 2 * i + w * 8 + 4, &lw[w], 4);
        }
    }
    const int32_t first = vi_sum(half[0]), sum = first + vi_sum(half[1]);
    end->scale = scale;
    end->minus_sum = (float)-sum * (bits == CPU_BITS_8 ? scale : 1);
    end->minus = -sum;
    end->minus_first = -first;
}

ALWAYS_INLINE float largest_of(const float *x, const int n)
{
    vf most = {0};
    UNROLL(16)
    for (int i = 0; i < n; i += VL)
        most = vf_max((vf)((vu)vf_load(x + i) & 0x7fffffffu), most);
    return vf_hmax(most);
}

/* CPU_ROW_STEP inputs, from block b of their row on. */
ALWAYS_INLINE void quantize_step(char *row, int b, const float *x, const enum cpu_bits bits,
                                 const enum cpu_order order)
{
    const float most = bits == CPU_BITS_8 ? 127.0f : LARGEST;
    float largest = 0;
    if (bits == CPU_BITS_16)
        largest = largest_of(x, CPU_ROW_STEP);
    for (int i = 0; i < BLOCKS; i++, x += CPU_BLOCK) {
        if (bits == CPU_BITS_8)
            largest = largest_of(x, CPU_BLOCK);
        quantize_block((int8_t *)inputs_at(row, b + i, bits),
                       (struct cpu_block_end *)end_at(row, b + i, bits), x,
                       vf_set1(largest > 0 ? most / largest : 0), largest / most, bits, order);
    }
}

ALWAYS_INLINE void quantize_row(char *row, const float *x, int k, const enum cpu_bits bits,
                                const enum cpu_order order)
{
    int at = 0;
    for (; at + CPU_ROW_STEP <= k; at += CPU_ROW_STEP)
        quantize_step(row, at / CPU_BLOCK, x + at, bits, order);
    if (at < k) {
        float part[CPU_ROW_STEP] = {0};
        memcpy(part, x + at, (size_t)(k - at) * sizeof(float));
        quantize_step(row, at / CPU_BLOCK, part, bits, order);
    }
}

static void quantize(void *row, const float *x, int k, enum cpu_bits bits, enum cpu_order order)
{
    if (bits == CPU_BITS_8 && order == CPU_ORDER_Q4)
        quantize_row(row, x, k, CPU_BITS_8, CPU_ORDER_Q4);
    else if (bits == CPU_BITS_8)
        quantize_row(row, x, k, CPU_BITS_8, CPU_ORDER_PLAIN);
    else if (order == CPU_ORDER_Q4)
        quantize_row(row, x, k, CPU_BITS_16, CPU_ORDER_Q4);
    else
        quantize_row(row, x, k, CPU_BITS_16, CPU_ORDER_PLAIN);
}
