/* launch.h - what CUDA says in its own syntax, as macros.
 *
 * The kernels compile twice: with nvcc for a GPU, and with the host compiler for the emulator of
 * tests/support, which runs the same sources where there is no GPU. Both see
 *
 *     LADE_LAUNCH(kernel, grid, block, shared bytes, device, arguments...)   a cudaError_t
 *     LADE_LAUNCH_EARLY(...)   the same, see below
 *     LADE_DYNAMIC_SHARED(type, name)   the launch's shared memory as `type *name`, 16-byte aligned
 *
 * A kernel that is a template goes in parentheses.
 *
 * Launches go to the device's compute queue. From compute capability 9 on one by LADE_LAUNCH_EARLY may
 * start while the kernel before it still runs, so that the one's start hides behind the other's end;
 * in decode that is a third of the time, in prefill it takes room from those that work. Therefore
 * every thread of every kernel calls launch_wait() before it touches memory. It returns when all
 * earlier kernels have ended and what they wrote is there. Before it only weights may be read, which
 * no kernel writes, and what was there before the kernel ahead began: that one has returned from
 * its own launch_wait(). The emulator dies where a thread does not call. */
#ifndef LADE_CUDA_LAUNCH_H
#define LADE_CUDA_LAUNCH_H

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define LADE_DYNAMIC_SHARED(type, name)                                                            \
    extern __shared__ __align__(16) unsigned char lade_dynamic_shared[];                           \
    type *name = reinterpret_cast<type *>(lade_dynamic_shared)

/* Only after that may the next kernel start: were it sooner, a third one could start as well, and
 * blocks that wait would take the room of those that work. */
__device__ static inline void launch_wait(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Checks the types of the arguments, which are converted to those of the kernel's parameters. */
template <typename... Params, typename... Args>
static inline cudaError_t lade_launch(void (*kernel)(Params...), dim3 grid, dim3 block,
                                      size_t shared, cudaStream_t stream, bool early, Args... args)
{
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t cfg = {};
    cfg.attrs = &attribute;
    cfg.numAttrs = early;
    cfg.gridDim = grid;
    cfg.blockDim = block;
    cfg.dynamicSmemBytes = shared;
    cfg.stream = stream;
    return cudaLaunchKernelEx(&cfg, kernel, static_cast<Params>(args)...);
}

#define LADE_LAUNCH(kernel, grid, block, shared, dev, ...)                                         \
    lade_launch(kernel, grid, block, shared, (dev)->compute, (void((dev)->launches++), false),     \
                __VA_ARGS__)
#define LADE_LAUNCH_EARLY(kernel, grid, block, shared, dev, ...)                                   \
    lade_launch(kernel, grid, block, shared, (dev)->compute,                                       \
                (void((dev)->launches++), (dev)->major >= 9), __VA_ARGS__)

#else

#include "lade_emulator.h"

#endif

#endif
