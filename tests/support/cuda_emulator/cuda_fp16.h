/* cuda_fp16.h - half precision. */
#ifndef LADE_EMULATOR_CUDA_FP16_H
#define LADE_EMULATOR_CUDA_FP16_H

#include "cuda_runtime.h"

struct __half {
    unsigned short bits;
};
struct __align__(4) __half2
{
    __half x, y;
};
typedef __half half;
typedef __half2 half2;

static inline __half __ushort_as_half(unsigned short bits)
{
    return __half{bits};
}
static inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}

/* Exact: every half is a float. The exponent is rebased by a multiplication, which knows subnormals too. */
static inline float __half2float(__half h)
{
    const unsigned sign = (h.bits & 0x8000u) << 16, rest = (h.bits & 0x7fffu) << 13;
    if ((h.bits & 0x7c00) == 0x7c00)
        return __uint_as_float(sign | 0x7f800000u | rest);
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(rest) * 0x1p112f));
}

/* To nearest, ties to even; what does not fit is infinite. */
static inline __half __float2half_rn(float x)
{
    unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000)
        return __half{(unsigned short)(sign | 0x7fff)};
    if (rest >= 0x477ff000) /* 65520 and more round to infinity */
        return __half{(unsigned short)(sign | 0x7c00)};
    if (rest < 0x38800000) /* below the least normal half: units of 2^-24 */
        return __half{(unsigned short)(sign | (unsigned)rintf(__uint_as_float(rest) * 0x1p24f))};
    rest += 0xfff + (rest >> 13 & 1);
    return __half{(unsigned short)(sign | (rest - 0x38000000) >> 13)};
}
static inline __half __float2half(float x)
{
    return __float2half_rn(x);
}
static inline float2 __half22float2(__half2 h)
{
    return make_float2(__half2float(h.x), __half2float(h.y));
}
static inline __half2 __floats2half2_rn(float x, float y)
{
    return __half2{__float2half_rn(x), __float2half_rn(y)};
}
static inline float __low2float(__half2 h)
{
    return __half2float(h.x);
}
static inline float __high2float(__half2 h)
{
    return __half2float(h.y);
}

/* Arithmetic rounds each result to half, as the hardware does. */
static inline __half __hadd(__half a, __half b)
{
    return __float2half_rn(__half2float(a) + __half2float(b));
}
static inline __half __hmul(__half a, __half b)
{
    return __float2half_rn(__half2float(a) * __half2float(b));
}
static inline __half2 __hadd2(__half2 a, __half2 b)
{
    return __half2{__hadd(a.x, b.x), __hadd(a.y, b.y)};
}
static inline __half2 __hmul2(__half2 a, __half2 b)
{
    return __half2{__hmul(a.x, b.x), __hmul(a.y, b.y)};
}
static inline __half2 __half2half2(__half h)
{
    return __half2{h, h};
}

#endif
