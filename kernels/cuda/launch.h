/* launch.h - what CUDA says in its own syntax, as macros.
 *
 * The kernels compile twice: with nvcc for a GPU, and with the host compiler for the emulator of
 * tests/support, which runs the same sources where there is no GPU. Both see
 *
 *     LADE_LAUNCH(kernel, grid, block, shared bytes, stream, arguments...)   a cudaError_t
 *     LADE_DYNAMIC_SHARED(type, name)   the launch's shared memory as `type *name`, 16-byte aligned
 *
 * A kernel that is a template goes in parentheses. */
#ifndef LADE_CUDA_LAUNCH_H
#define LADE_CUDA_LAUNCH_H

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define LADE_DYNAMIC_SHARED(type, name)                                                            \
    extern __shared__ __align__(16) unsigned char lade_dynamic_shared[];                           \
    type *name = reinterpret_cast<type *>(lade_dynamic_shared)

/* Checks the types of the arguments, which are converted to those of the kernel's parameters. */
template <typename... Params, typename... Args>
static inline cudaError_t lade_launch(void (*kernel)(Params...), dim3 grid, dim3 block,
                                      size_t shared, cudaStream_t stream, Args... args)
{
    cudaLaunchConfig_t cfg = {};
    cfg.gridDim = grid;
    cfg.blockDim = block;
    cfg.dynamicSmemBytes = shared;
    cfg.stream = stream;
    return cudaLaunchKernelEx(&cfg, kernel, static_cast<Params>(args)...);
}

#define LADE_LAUNCH(kernel, grid, block, shared, stream, ...)                                      \
    lade_launch(kernel, grid, block, shared, stream, __VA_ARGS__)

#else

#include "lade_emulator.h"

#endif

#endif
