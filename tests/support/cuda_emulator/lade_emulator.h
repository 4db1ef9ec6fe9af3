/* lade_emulator.h - launches, and the knobs of the emulated machine.
 *
 * kernels/cuda/launch.h includes this where the compiler is not nvcc. */
#ifndef LADE_EMULATOR_H
#define LADE_EMULATOR_H

#include <functional>
#include <tuple>
#include <type_traits>

#include "cuda_runtime.h"
#include "knobs.h"

#define LADE_LAUNCH(kernel, grid, block, shared_bytes, dev, ...)                                   \
    (void((dev)->launches++),                                                                      \
     lade_emulator_launch(#kernel, kernel, dim3(grid), dim3(block), shared_bytes,                  \
                          (dev)->compute __VA_OPT__(, ) __VA_ARGS__))
#define LADE_LAUNCH_EARLY               LADE_LAUNCH
#define LADE_DYNAMIC_SHARED(type, name) type *name = (type *)lade_emulator_dynamic_shared()

/* kernels/cuda/launch.h: here all earlier kernels have ended. */
static inline void launch_wait(void)
{
    lade_emulator_launch_wait();
}

/* blas.cc: cuBLAS's library, NULL where it is not installed, and its functions. */
void *lade_emulator_blas(void);
void *lade_emulator_blas_function(void *library, const char *name);

/* Queues the run of a grid. `words` are the arguments as memory, searched for host addresses. */
cudaError_t lade_emulator_enqueue(const char *name, const void *kernel, dim3 grid, dim3 block,
                                  size_t shared, cudaStream_t stream, std::function<void()> thread,
                                  const void *words, size_t bytes);

template <class... P, class... A>
cudaError_t lade_emulator_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                 size_t shared, cudaStream_t stream, A... args)
{
    std::tuple<std::decay_t<P>...> copies(static_cast<std::decay_t<P>>(args)...);
    std::tuple<std::decay_t<P>...> words(copies);
    size_t searched = 0;
#if __has_builtin(__builtin_clear_padding) /* padding may hold what looks like an address */
    __builtin_clear_padding(&words);
    searched = sizeof words;
#endif
    return lade_emulator_enqueue(
        name, (const void *)kernel, grid, block, shared, stream,
        [kernel, copies] { std::apply(kernel, copies); }, &words, searched);
}

#endif
