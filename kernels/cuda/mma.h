/* mma.h - the tensor core instructions the kernels use, and twins that do the same without.
 *
 * Fragments are those of PTX mma.m16n8k16: lane = 4 * g + t holds of
 *   A (16 x 16)  a[0] row g, columns 2t, 2t+1;  a[1] row g+8;  a[2] row g, columns 2t+8, 2t+9;
 *                a[3] row g+8, columns 2t+8, 2t+9
 *   B (16 x 8)   b[0] rows 2t, 2t+1 of column g;  b[1] rows 2t+8, 2t+9
 *   C (16 x 8)   c[0], c[1] row g, columns 2t, 2t+1;  c[2], c[3] row g+8
 * The order of k is free as long as A and B agree.
 *
 * Where there is no such instruction (products of bf16 below compute capability 8, the emulator) the
 * twins exchange the fragments between the lanes of the warp. All lanes must call together. */
#ifndef LADE_CUDA_MMA_H
#define LADE_CUDA_MMA_H

#include <cuda_fp16.h>
#include <stdint.h>

#include "kernels/cuda/launch.h"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define GPU_TENSOR_CORES 1
#else
#define GPU_TENSOR_CORES 0
#endif
/* What 7.5 has of it, too: matrices from shared memory, products of f16. */
#ifdef __CUDA_ARCH__
#define GPU_MATRICES 1
#else
#define GPU_MATRICES 0
#endif

enum { GPU_WARP = 32 };
#define GPU_ALL_LANES 0xffffffffu

/* ---- 16-bit numbers, two in a register, the first one low ------------------------------------ */

__device__ static inline float bf16_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

__device__ static inline float bf16_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

/* Rounds to nearest even. Not-a-numbers may become infinite. */
__device__ static inline uint32_t bf16_bits(float x)
{
    uint32_t u = __float_as_uint(x);
    return (u + 0x7fffu + (u >> 16 & 1)) >> 16;
}

__device__ static inline uint32_t bf16_pair(float low, float high)
{
#if GPU_TENSOR_CORES
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return bf16_bits(low) | bf16_bits(high) << 16;
#endif
}

/* a - b of both halves, exact where the result has 8 bits. */
__device__ static inline uint32_t bf16_sub(uint32_t a, uint32_t b)
{
#if GPU_TENSOR_CORES
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(0x3f803f80u), "r"(b ^ 0x80008000u));
    return d;
#else
    return bf16_bits(bf16_low(a) - bf16_low(b)) | bf16_bits(bf16_high(a) - bf16_high(b)) << 16;
#endif
}

__device__ static inline float half_value(uint32_t bits)
{
    return __half2float(__ushort_as_half((unsigned short)bits));
}

__device__ static inline uint32_t half_bits(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

__device__ static inline uint32_t half_pair(float low, float high)
{
    return half_bits(low) | half_bits(high) << 16;
}

/* a * b + c of both halves */
__device__ static inline uint32_t half_fma(uint32_t a, uint32_t b, uint32_t c)
{
#if GPU_TENSOR_CORES
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    return half_pair(fmaf(half_value(a & 0xffff), half_value(b & 0xffff), half_value(c & 0xffff)),
                     fmaf(half_value(a >> 16), half_value(b >> 16), half_value(c >> 16)));
#endif
}

/* ---- products -------------------------------------------------------------------------------- */

#if !GPU_TENSOR_CORES
#ifdef LADE_EMULATOR_H
struct mma_operands {
    uint32_t a[4], b[2];
};

template <float (*low)(uint32_t), float (*high)(uint32_t)>
LADE_NO_ACCESS __device__ static inline void mma_twin(float c[4], const uint32_t a[4],
                                                      const uint32_t b[2])
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
    const struct mma_operands own = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    const auto all = lade_emulator_gather(own);
    for (int i = 0; i < 4; i++) { /* the lanes that hold the row's and the columns' parts */
        const uint32_t *row = all[4 * g + i].value.a;
        for (int j = 0; j < 2; j++) {
            for (int column = 0; column < 2; column++) {
                const uint32_t other = all[4 * (2 * t + column) + i].value.b[j];
                c[column] += low(row[2 * j]) * low(other) + high(row[2 * j]) * high(other);
                c[2 + column] +=
                    low(row[2 * j + 1]) * low(other) + high(row[2 * j + 1]) * high(other);
            }
        }
    }
}
#else
/* The same sums in the same order. Called, not inlined: there are many places, and as many shuffles in
 * each take ptxas minutes and gigabytes. */
template <float (*low)(uint32_t), float (*high)(uint32_t)>
__device__ static __noinline__ float4 mma_shuffled(float4 c, const uint4 a, const uint2 b)
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
#pragma unroll 1
    for (int i = 0; i < 4; i++) {
        const uint32_t row[4] = {
            __shfl_sync(GPU_ALL_LANES, a.x, 4 * g + i), __shfl_sync(GPU_ALL_LANES, a.y, 4 * g + i),
            __shfl_sync(GPU_ALL_LANES, a.z, 4 * g + i), __shfl_sync(GPU_ALL_LANES, a.w, 4 * g + i)};
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const uint32_t x = __shfl_sync(GPU_ALL_LANES, j ? b.y : b.x, 4 * (2 * t) + i);
            const uint32_t y = __shfl_sync(GPU_ALL_LANES, j ? b.y : b.x, 4 * (2 * t + 1) + i);
            const uint32_t top = row[2 * j], bottom = row[2 * j + 1];
            c.x += low(top) * low(x) + high(top) * high(x);
            c.y += low(top) * low(y) + high(top) * high(y);
            c.z += low(bottom) * low(x) + high(bottom) * high(x);
            c.w += low(bottom) * low(y) + high(bottom) * high(y);
        }
    }
    return c;
}

template <float (*low)(uint32_t), float (*high)(uint32_t)>
__device__ static inline void mma_twin(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    const float4 sum =
        mma_shuffled<low, high>(make_float4(c[0], c[1], c[2], c[3]),
                                make_uint4(a[0], a[1], a[2], a[3]), make_uint2(b[0], b[1]));
    c[0] = sum.x;
    c[1] = sum.y;
    c[2] = sum.z;
    c[3] = sum.w;
}
#endif

__device__ static inline float half_low(uint32_t pair)
{
    return half_value(pair & 0xffff);
}

__device__ static inline float half_high(uint32_t pair)
{
    return half_value(pair >> 16);
}
#endif

/* c += a * b */
__device__ static inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
#if GPU_TENSOR_CORES
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    mma_twin<bf16_low, bf16_high>(c, a, b);
#endif
}

__device__ static inline void mma_half(float c[4], const uint32_t a[4], const uint32_t b[2])
{
#if GPU_TENSOR_CORES
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif GPU_MATRICES /* of 8 columns: the halves of a fragment are fragments of those */
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#else
    mma_twin<half_low, half_high>(c, a, b);
#endif
}

/* ---- shared memory --------------------------------------------------------------------------- */

/* Four 8 x 8 matrices of 16-bit numbers: lane 8 * i + r names row r (16 bytes) of matrix i. Lane
 * 4 * g + t receives in r[i] numbers 2t, 2t+1 of row g of matrix i. */
__device__ static inline void load_matrices(uint32_t r[4], const void *row)
{
#if GPU_MATRICES
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
#else
    const int lane = (int)threadIdx.x % GPU_WARP;
    for (int i = 0; i < 4; i++) {
        unsigned long long at =
            __shfl_sync(GPU_ALL_LANES, (unsigned long long)(uintptr_t)row, 8 * i + lane / 4);
        r[i] = ((const uint32_t *)(uintptr_t)at)[lane % 4];
    }
#endif
}

/* The same, each matrix transposed: lane 4 * g + t receives rows 2t, 2t+1 of column g. */
__device__ static inline void load_transposed(uint32_t r[4], const void *row)
{
#if GPU_MATRICES
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
#else
    const int lane = (int)threadIdx.x % GPU_WARP;
    for (int i = 0; i < 4; i++) {
        uint32_t pair = 0;
        for (int j = 0; j < 2; j++) {
            unsigned long long at = __shfl_sync(GPU_ALL_LANES, (unsigned long long)(uintptr_t)row,
                                                8 * i + 2 * (lane % 4) + j);
            pair |= (uint32_t)((const uint16_t *)(uintptr_t)at)[lane / 4] << 16 * j;
        }
        r[i] = pair;
    }
#endif
}

/* Starts a copy from global to shared memory: of 16 bytes at `to` the first `bytes` are those at `from`, the
 * others zeros. Both are aligned to 16. */
__device__ static inline void copy_some(void *to, const void *from, int bytes)
{
#if GPU_TENSOR_CORES
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
#elif defined(LADE_EMULATOR_H)
    lade_emulator_copy_async(to, from, (size_t)bytes);
#else
    if (bytes == 16 || !bytes)
        *(uint4 *)to = bytes ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
    else
        for (int i = 0; i < 16; i++)
            ((uint8_t *)to)[i] = i < bytes ? ((const uint8_t *)from)[i] : (uint8_t)0;
#endif
}

/* The same with all 16; zeros where `valid` is false. */
__device__ static inline void copy_async(void *to, const void *from, bool valid)
{
    copy_some(to, from, valid ? 16 : 0);
}

__device__ static inline void copy_commit(void)
{
#if GPU_TENSOR_CORES
    asm volatile("cp.async.commit_group;" ::: "memory");
#elif defined(LADE_EMULATOR_H)
    lade_emulator_copy_commit();
#endif
}

/* Waits until at most `left` committed groups are under way. */
template <int left> __device__ static inline void copy_wait(void)
{
#if GPU_TENSOR_CORES
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
#elif defined(LADE_EMULATOR_H)
    lade_emulator_copy_wait(left);
#endif
}

/* ---- weights, which are read once: past the first cache --------------------------------------- */

__device__ static inline uint4 stream16(const void *from)
{
#if GPU_TENSOR_CORES
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
        : "l"(from));
    return v;
#else
    return *(const uint4 *)from;
#endif
}

__device__ static inline uint2 stream8(const void *from)
{
#if GPU_TENSOR_CORES
    uint2 v;
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from));
    return v;
#else
    return *(const uint2 *)from;
#endif
}

/* ---- before launch_wait(), or from other blocks: past the first cache, where what was read before
 * may still be ---------------------------------------------------------------------------------- */

__device__ static inline uint2 fresh8(const void *from)
{
#if GPU_TENSOR_CORES
    uint2 v;
    asm volatile("ld.global.cg.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from));
    return v;
#else
    return *(const uint2 *)from;
#endif
}

__device__ static inline float4 fresh16(const void *from)
{
#if GPU_TENSOR_CORES
    float4 v;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "l"(from));
    return v;
#else
    return *(const float4 *)from;
#endif
}

__device__ static inline int fresh4(const int *from)
{
#if GPU_TENSOR_CORES
    int v;
    asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(v) : "l"(from));
    return v;
#else
    return *from;
#endif
}

__device__ static inline float fresh_float(const float *from)
{
#if GPU_TENSOR_CORES
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(from));
    return v;
#else
    return *(const volatile float *)from;
#endif
}

/* ---- sums over a warp ------------------------------------------------------------------------ */

__device__ static inline float warp_sum(float x)
{
    for (int step = GPU_WARP / 2; step; step /= 2)
        x += __shfl_xor_sync(GPU_ALL_LANES, x, step);
    return x;
}

__device__ static inline float warp_max(float x)
{
    for (int step = GPU_WARP / 2; step; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(GPU_ALL_LANES, x, step));
    return x;
}

/* The sum over all threads of the block, to all of them. `work` holds 33 floats; the block's size
 * is a multiple of 32, at most 1024. Two barriers. */
__device__ static inline float block_sum(float x, float *work)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int warps = (int)blockDim.x / GPU_WARP;
    x = warp_sum(x);
    if (!lane)
        work[warp] = x;
    __syncthreads();
    x = warp_sum(lane < warps ? work[lane] : 0.0f);
    __syncthreads(); /* before `work` is used again */
    return x;
}

#endif
