/* simd.h - the vectors kernels are written with.
 *
 * An isa_*.c file defines one of SIMD_PORTABLE, SIMD_NEON, SIMD_AVX2 (with SIMD_AVXVNNI where there
 * is that) and SIMD_AVX512 and includes the *_impl.h files; this header gives them vectors of VL
 * floats. Arithmetic uses the compiler's own vector types, so the portable build has vectors on any
 * machine; only what these cannot express is written with intrinsics. Everything is static: each
 * instruction set has its own copy. */
#ifndef LADE_KERNELS_CPU_SIMD_H
#define LADE_KERNELS_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#if defined(SIMD_AVX512) || defined(SIMD_AVXVNNI)
#define SIMD_VNNI /* products of unsigned with signed bytes that never saturate */
#endif

#if defined(SIMD_AVX512)
#include <immintrin.h>
enum { VL = 16, PANEL_VECS = 2, NR = 12 };
#elif defined(SIMD_AVX2)
#include <immintrin.h>
enum { VL = 8, PANEL_VECS = 2, NR = 6 };
#elif defined(SIMD_NEON)
#include <arm_neon.h>
enum { VL = 4, PANEL_VECS = 4, NR = 6 };
#elif defined(SIMD_PORTABLE)
enum { VL = 4, PANEL_VECS = 4, NR = 3 };
#else
#error "define SIMD_PORTABLE, SIMD_NEON, SIMD_AVX2 or SIMD_AVX512"
#endif

enum { TILE_VECS = LADE_TILE / VL, PW = PANEL_VECS * VL };

#define SIMD_BYTES (VL * 4)
#if defined(SIMD_AVX512)
#define SIMD_SIZE 64
#elif defined(SIMD_AVX2)
#define SIMD_SIZE 32
#else
#define SIMD_SIZE 16
#endif

typedef float vf __attribute__((vector_size(SIMD_SIZE)));
typedef int32_t vi __attribute__((vector_size(SIMD_SIZE)));
typedef uint32_t vu __attribute__((vector_size(SIMD_SIZE)));
typedef uint16_t vu16 __attribute__((vector_size(SIMD_SIZE / 2)));
typedef int16_t vi16 __attribute__((vector_size(SIMD_SIZE / 2)));
typedef int8_t vi8 __attribute__((vector_size(SIMD_SIZE / 4)));
typedef uint8_t vu8 __attribute__((vector_size(SIMD_SIZE / 4)));

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* What is compiled for each type of weights and number of tokens apart, because all that depends on them
 * is then a constant. With AddressSanitizer's checks that is much code: there one serves all. */
#if defined(__SANITIZE_ADDRESS__)
#define SPECIALIZED static __attribute__((noinline, noclone))
#else
#define SPECIALIZED ALWAYS_INLINE
#endif

/* Loops over accumulators must be unrolled, or the accumulators live in memory. */
#define UNROLL_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define UNROLL(n) UNROLL_PRAGMA(clang loop unroll(full))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL(n) /* gcc does not follow it everywhere there, and says so */
#else
#define UNROLL(n) UNROLL_PRAGMA(GCC unroll n)
#endif

/* A loaded vector stays in a register: gcc else loads it again for every use as an operand. */
#if defined(SIMD_AVX512) || defined(SIMD_AVX2)
#define KEEP(v) __asm__("" : "+v"(v))
#else
#define KEEP(v) ((void)0)
#endif

ALWAYS_INLINE vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof(v));
    return v;
}

ALWAYS_INLINE void vf_store(float *p, vf v)
{
    memcpy(p, &v, sizeof(v));
}

ALWAYS_INLINE vu vu_load(const uint32_t *p)
{
    vu v;
    memcpy(&v, p, sizeof(v));
    return v;
}

ALWAYS_INLINE void vu_store(uint32_t *p, vu v)
{
    memcpy(p, &v, sizeof(v));
}

/* The first k < VL values, the rest 0; nothing past them is read. */
ALWAYS_INLINE vf vf_load_part(const float *p, int k)
{
    float t[VL] = {0};
    memcpy(t, p, (size_t)k * sizeof(float));
    return vf_load(t);
}

ALWAYS_INLINE void vf_store_part(float *p, vf v, int k)
{
    float t[VL];
    vf_store(t, v);
    memcpy(p, t, (size_t)k * sizeof(float));
}

ALWAYS_INLINE vf vf_set1(float x)
{
    return x - (vf){0};
}

/* a * b + c */
ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c)
{
#if defined(SIMD_AVX512)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(SIMD_AVX2)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(SIMD_NEON)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

ALWAYS_INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* A mask's lanes as bits. */
ALWAYS_INLINE uint32_t vi_bits(vi mask)
{
#if defined(SIMD_AVX512)
    return _mm512_movepi32_mask((__m512i)mask);
#elif defined(SIMD_AVX2)
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
    uint32_t bits = 0;
    for (int i = 0; i < VL; i++)
        bits |= (uint32_t)(mask[i] & 1) << i;
    return bits;
#endif
}

/* Larger of the two; b where either is no number. */
ALWAYS_INLINE vf vf_max(vf a, vf b)
{
#if defined(SIMD_AVX512)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(SIMD_AVX2)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select(a > b, a, b);
#endif
}

ALWAYS_INLINE vf vf_sqrt(vf v)
{
#if defined(SIMD_AVX512)
    return (vf)_mm512_sqrt_ps((__m512)v);
#elif defined(SIMD_AVX2)
    return (vf)_mm256_sqrt_ps((__m256)v);
#else
    for (int i = 0; i < VL; i++)
        v[i] = sqrtf(v[i]);
    return v;
#endif
}

ALWAYS_INLINE float vf_sum(vf v)
{
#if defined(SIMD_AVX512)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float t[VL];
    vf_store(t, v);
    for (int half = VL / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    return t[0];
#endif
}

ALWAYS_INLINE float vf_hmax(vf v)
{
#if defined(SIMD_AVX512)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float t[VL];
    vf_store(t, v);
    float m = t[0];
    for (int i = 1; i < VL; i++)
        m = t[i] > m ? t[i] : m;
    return m;
#endif
}

ALWAYS_INLINE vf vf_from_int(vi v)
{
    return __builtin_convertvector(v, vf);
}

ALWAYS_INLINE vf vf_load_bf16(const uint16_t *p)
{
    vu16 h;
    memcpy(&h, p, sizeof(h));
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

ALWAYS_INLINE vf vf_load_f16(const uint16_t *p)
{
#if defined(SIMD_AVX512)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(SIMD_AVX2)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(SIMD_NEON)
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    vu16 h;
    memcpy(&h, p, sizeof(h));
    vu u = __builtin_convertvector(h, vu);
    vf f = (vf)((u & 0x7fff) << 13) * 0x1p112f; /* as cpu_half() */
    vi special = (vi)(u & 0x7c00) == 0x7c00;
    return (vf)((vi)f | (special & 0x7f800000) | (vi)((u & 0x8000) << 16));
#endif
}

ALWAYS_INLINE vf vf_load_u8(const uint8_t *p)
{
    vu8 b;
    memcpy(&b, p, sizeof(b));
    return __builtin_convertvector(__builtin_convertvector(b, vi), vf);
}

ALWAYS_INLINE vf vf_load_i8(const int8_t *p)
{
    vi8 b;
    memcpy(&b, p, sizeof(b));
    return __builtin_convertvector(__builtin_convertvector(b, vi), vf);
}

ALWAYS_INLINE vf vf_load_i16(const int16_t *p)
{
    vi16 h;
    memcpy(&h, p, sizeof(h));
    return __builtin_convertvector(__builtin_convertvector(h, vi), vf);
}

/* VL values of a row-major type. */
ALWAYS_INLINE vf vf_load_type(enum lade_type type, const void *base, size_t i)
{
    if (type == LADE_F32)
        return vf_load((const float *)base + i);
    if (type == LADE_F16)
        return vf_load_f16((const uint16_t *)base + i);
    return vf_load_bf16((const uint16_t *)base + i);
}

ALWAYS_INLINE float f_load_type(enum lade_type type, const void *base, size_t i)
{
    if (type == LADE_F32)
        return ((const float *)base)[i];
    uint16_t h = ((const uint16_t *)base)[i];
    return type == LADE_F16 ? cpu_half(h) : cpu_bf16(h);
}

/* The lanes of a and b in turn, of their first and of their second halves. */
#if defined(SIMD_AVX512)
#define ZIP_FIRST(a, b)                                                                            \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_SECOND(a, b)                                                                           \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif defined(SIMD_AVX2)
#define ZIP_FIRST(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_SECOND(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define ZIP_FIRST(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_SECOND(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

/* r[i][j] to r[j][i]: each step turns the bits of row and lane, read as one number, by one place. */
ALWAYS_INLINE void vf_transpose(vf r[VL])
{
    UNROLL(4)
    for (int step = 1; step < VL; step *= 2) {
        vf s[VL];
        UNROLL(8)
        for (int i = 0; i < VL / 2; i++) {
            s[2 * i] = ZIP_FIRST(r[i], r[i + VL / 2]);
            s[2 * i + 1] = ZIP_SECOND(r[i], r[i + VL / 2]);
        }
        UNROLL(16)
        for (int i = 0; i < VL; i++)
            r[i] = s[i];
    }
}

/* 1.5 * 2^23: adding it rounds to an integer, whose low 16 bits are those of the sum. */
#define VF_ROUNDS 12582912.0f

/* The nearest integers; of lanes below 2^22. */
ALWAYS_INLINE vi vf_rounded(vf x)
{
    return (vi)(x + VF_ROUNDS) - (vi)vf_set1(VF_ROUNDS);
}

/* e^x within 2 ulp; 0 below -104, infinity above 88.8; not-a-number stays. x is split into
 * n ln 2 + r with |r| <= ln 2 / 2; e^r is the polynomial of the Cephes library; 2^n is applied
 * in two halves where no instruction does it, because n runs from -150 to 128 and each factor must be
 * a normal number. */
ALWAYS_INLINE vf vf_exp(vf x)
{
#if defined(SIMD_AVX512) /* the second operand where one is no number */
    x = (vf)_mm512_max_ps(_mm512_set1_ps(-104.0f), (__m512)x);
    x = (vf)_mm512_min_ps(_mm512_set1_ps(88.8f), (__m512)x);
#else
    x = vf_select(x < -104.0f, vf_set1(-104.0f), x);
    x = vf_select(x > 88.8f, vf_set1(88.8f), x);
#endif
    vf t = vf_fma(x, vf_set1(1.44269504088896341f), vf_set1(VF_ROUNDS));
    vf n = t - VF_ROUNDS;
    vf r = vf_fma(n, vf_set1(-0.693359375f), x);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, r * r, r + 1.0f);
#if defined(SIMD_AVX512)
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    vi k = (vi)t - (vi)vf_set1(VF_ROUNDS);
    vi lo = k >> 1, hi = k - lo;
    return p * (vf)((lo + 127) << 23) * (vf)((hi + 127) << 23);
#endif
}

ALWAYS_INLINE vf vf_sigmoid(vf x)
{
    return 1.0f / (1.0f + vf_exp(-x));
}

ALWAYS_INLINE vf vf_silu(vf x)
{
    return x / (1.0f + vf_exp(-x));
}

#endif
