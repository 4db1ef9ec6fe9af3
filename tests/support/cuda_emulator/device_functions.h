/* device_functions.h - what kernels call: built-in variables, barriers, shuffles, votes, atomics,
 * conversions of bits. */
#ifndef LADE_EMULATOR_DEVICE_FUNCTIONS_H
#define LADE_EMULATOR_DEVICE_FUNCTIONS_H

#include "fibers.h"

#define threadIdx (lade_emulator_now->index)
#define blockIdx  lade_emulator_block
#define blockDim  lade_emulator_block_dim
#define gridDim   lade_emulator_grid_dim
static const int warpSize = LADE_WARP;

static inline void __syncthreads(void)
{
    lade_emulator_barrier(false);
}
static inline int __syncthreads_count(int p)
{
    return lade_emulator_barrier(p != 0);
}
static inline int __syncthreads_or(int p)
{
    return lade_emulator_barrier(p != 0) > 0;
}
static inline int __syncthreads_and(int p)
{
    return lade_emulator_barrier(p == 0) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffff)
{
    unsigned present;
    lade_emulator_exchange(mask, LADE_SYNCWARP, nullptr, 0, &present);
}
static inline void __threadfence(void)
{
    lade_emulator_fence();
}
static inline void __threadfence_block(void)
{
}
static inline void __threadfence_system(void)
{
}

/* Of what stands in registers, or is atomic: hazards.cc is not told. Such functions are not inlined. */
#ifdef __SANITIZE_ADDRESS__
#define LADE_NO_ACCESS
#else
#define LADE_NO_ACCESS __attribute__((no_sanitize("thread")))
#endif

/* For twins of instructions of a whole warp: what each lane gave, until the next exchange. */
template <class T> struct lade_emulator_given {
    alignas(LADE_EXCHANGE) T value;
};
template <class T>
LADE_NO_ACCESS static inline const lade_emulator_given<T> *lade_emulator_gather(const T &own)
{
    static_assert(sizeof(lade_emulator_given<T>) == LADE_EXCHANGE, "more than lanes can give");
    unsigned present;
    return (const lade_emulator_given<T> *)(const void *)lade_emulator_exchange(
        ~0u, LADE_SHUFFLE, &own, sizeof own, &present);
}

/* The value of lane `from`, or the lane's own where `keep`. */
template <class T>
LADE_NO_ACCESS static inline T lade_emulator_shuffle(unsigned mask, T value, int from, bool keep)
{
    static_assert(sizeof(T) <= LADE_EXCHANGE, "a shuffle of this size is not known");
    unsigned present;
    auto all = lade_emulator_exchange(mask, LADE_SHUFFLE, &value, sizeof value, &present);
    if (!keep)
        memcpy((void *)&value, all[from & (LADE_WARP - 1)], sizeof value);
    return value;
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = LADE_WARP)
{
    int base = lade_emulator_now->lane & ~(width - 1);
    return lade_emulator_shuffle(mask, v, base + (from & (width - 1)), false);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int x, int width = LADE_WARP)
{
    int lane = lade_emulator_now->lane, from = lane ^ x;
    return lade_emulator_shuffle(mask, v, from, (from & ~(width - 1)) > (lane & ~(width - 1)));
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = LADE_WARP)
{
    int lane = lade_emulator_now->lane;
    return lade_emulator_shuffle(mask, v, lane + (int)by, (lane & (width - 1)) + (int)by >= width);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = LADE_WARP)
{
    int lane = lade_emulator_now->lane;
    return lade_emulator_shuffle(mask, v, lane - (int)by, (lane & (width - 1)) < (int)by);
}

static inline unsigned __ballot_sync(unsigned mask, int p)
{
    unsigned present, votes = 0;
    unsigned char vote = p != 0;
    auto all = lade_emulator_exchange(mask, LADE_VOTE, &vote, 1, &present);
    for (int lane = 0; lane < LADE_WARP; lane++)
        votes |= (present >> lane & 1) ? (unsigned)all[lane][0] << lane : 0;
    return votes;
}
static inline int __any_sync(unsigned mask, int p)
{
    return __ballot_sync(mask, p) != 0;
}
static inline int __all_sync(unsigned mask, int p)
{
    return __ballot_sync(mask, !p) == 0;
}
#define LADE_REDUCE(name, T, expression)                                                           \
    static inline T __reduce_##name##_sync(unsigned mask, T v)                                     \
    {                                                                                              \
        unsigned present;                                                                          \
        auto all = lade_emulator_exchange(mask, LADE_SHUFFLE, &v, sizeof v, &present);             \
        bool first = true;                                                                         \
        T a = v;                                                                                   \
        for (int lane = 0; lane < LADE_WARP; lane++) {                                             \
            T b;                                                                                   \
            memcpy(&b, all[lane], sizeof b);                                                       \
            if (present >> lane & 1)                                                               \
                a = first ? b : (T)(expression), first = false;                                    \
        }                                                                                          \
        return a;                                                                                  \
    }
LADE_REDUCE(add, unsigned, a + b)
LADE_REDUCE(add, int, a + b)
LADE_REDUCE(max, unsigned, a > b ? a : b)
LADE_REDUCE(max, int, a > b ? a : b)
LADE_REDUCE(min, unsigned, a < b ? a : b)
LADE_REDUCE(min, int, a < b ? a : b)
LADE_REDUCE(or, unsigned, a | b)
LADE_REDUCE(and, unsigned, a &b)
#undef LADE_REDUCE

/* Fibers switch at barriers only, so a plain read and write is atomic. */
#define LADE_ATOMIC(name, T, expression)                                                           \
    LADE_NO_ACCESS static inline T atomic##name(T *p, T v)                                         \
    {                                                                                              \
        lade_emulator_atomic();                                                                    \
        T old = *p;                                                                                \
        *p = (T)(expression);                                                                      \
        return old;                                                                                \
    }
#define LADE_ATOMICS(T)                                                                            \
    LADE_ATOMIC(Add, T, old + v)                                                                   \
    LADE_ATOMIC(Max, T, old > v ? old : v)                                                         \
    LADE_ATOMIC(Min, T, old < v ? old : v)                                                         \
    LADE_ATOMIC(Exch, T, v)
LADE_ATOMICS(int)
LADE_ATOMICS(unsigned)
LADE_ATOMICS(unsigned long long)
LADE_ATOMICS(float)
LADE_ATOMIC(Sub, int, old - v)
LADE_ATOMIC(Sub, unsigned, old - v)
LADE_ATOMIC(Or, unsigned, old | v)
LADE_ATOMIC(And, unsigned, old &v)
LADE_ATOMIC(Inc, unsigned, old >= v ? 0 : old + 1)
#undef LADE_ATOMICS
#undef LADE_ATOMIC
template <class T> LADE_NO_ACCESS static inline T atomicCAS(T *p, T compare, T v)
{
    lade_emulator_atomic();
    T old = *p;
    if (old == compare)
        *p = v;
    return old;
}

template <class T> static inline T __ldg(const T *p)
{
    return *p;
}
#define __ldcs __ldg
#define __ldcg __ldg
#define __ldca __ldg
template <class T> static inline void __stcs(T *p, T v)
{
    *p = v;
}
#define __stcg __stcs

template <class To, class From> static inline To lade_emulator_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "bits of another size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x)
{
    return lade_emulator_bits<unsigned>(x);
}
static inline int __float_as_int(float x)
{
    return lade_emulator_bits<int>(x);
}
static inline float __uint_as_float(unsigned x)
{
    return lade_emulator_bits<float>(x);
}
static inline float __int_as_float(int x)
{
    return lade_emulator_bits<float>(x);
}

/* Four bytes picked out of eight; bit 3 of a selector repeats the sign of its byte. */
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selectors)
{
    unsigned long long both = (unsigned long long)high << 32 | low;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = selectors >> 4 * i & 15, byte = (unsigned)(both >> 8 * (s & 7)) & 255;
        out |= (s & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * i;
    }
    return out;
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (int)(signed char)(a >> 8 * i) * (int)(signed char)(b >> 8 * i);
    return c;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 4; i++)
        c += (a >> 8 * i & 255) * (b >> 8 * i & 255);
    return c;
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline unsigned __brev(unsigned x)
{
    unsigned y = 0;
    for (int i = 0; i < 32; i++)
        y |= (x >> i & 1) << (31 - i);
    return y;
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by)
{
    return (unsigned)(((unsigned long long)high << 32 | low) >> (by & 31));
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by)
{
    return (unsigned)(((unsigned long long)high << 32 | low) << (by & 31) >> 32);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}

/* Macros, because C libraries have functions of these names of their own. */
static inline float lade_emulator_rsqrt(float x)
{
    return 1 / sqrtf(x);
}
#define rsqrtf   lade_emulator_rsqrt
#define __expf   expf
#define __exp10f exp10f
#define __logf   logf
#define __log2f  log2f
#define __sinf   sinf
#define __cosf   cosf
#define __powf   powf
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __frcp_rn(float x)
{
    return 1 / x;
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}
static inline float __saturatef(float x)
{
    return x > 0 ? (x < 1 ? x : 1) : 0;
}
static inline int __float2int_rn(float x)
{
    return (int)rintf(x);
}
static inline int __float2int_rz(float x)
{
    return (int)x;
}
static inline float __int2float_rn(int x)
{
    return (float)x;
}

#define LADE_MIN_MAX(T)                                                                            \
    static inline T min(T a, T b)                                                                  \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    static inline T max(T a, T b)                                                                  \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
LADE_MIN_MAX(int)
LADE_MIN_MAX(unsigned)
LADE_MIN_MAX(long)
LADE_MIN_MAX(unsigned long)
LADE_MIN_MAX(long long)
LADE_MIN_MAX(unsigned long long)
LADE_MIN_MAX(float)
#undef LADE_MIN_MAX

static inline size_t __cvta_generic_to_shared(const void *p)
{
    return (size_t)p;
}

#endif
