/* Finds cuBLAS and opens it for a device. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/blas.h"

#ifdef __CUDACC__

static void *open_library(void)
{
    static const char *const names[] = {"libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13",
                                        "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so.12"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

static void *find(void *library, const char *name)
{
    return dlsym(library, name);
}

static void close_library(void *library)
{
    dlclose(library);
}

#else /* the emulator has one of its own */

static void *open_library(void)
{
    return lade_emulator_blas();
}

static void *find(void *library, const char *name)
{
    return lade_emulator_blas_function(library, name);
}

static void close_library(void *library)
{
    (void)library;
}

#endif

static bool find_functions(struct gpu_blas *b)
{
    const struct gpu_symbol symbols[] = {
        {"cublasCreate_v2", &b->create},
        {"cublasDestroy_v2", &b->destroy},
        {"cublasGetVersion_v2", &b->get_version},
        {"cublasSetStream_v2", &b->set_stream},
        {"cublasSetWorkspace_v2", &b->set_workspace},
        {"cublasSetPointerMode_v2", &b->set_pointer_mode},
        {"cublasGemmEx", &b->gemm},
    };
    return gpu_find_symbols(symbols, sizeof symbols / sizeof *symbols, find, b->library);
}

/* Its errors are numbers of its own: one that comes of a lost device shows at the next call. */
static void close_blas(struct lade_device *dev, struct gpu_blas *b)
{
    if (b->handle && b->destroy(b->handle) != BLAS_OK)
        gpu_gave(dev, "closing cuBLAS", cudaErrorUnknown);
    if (b->library)
        close_library(b->library);
    free(b);
}

static bool start(struct lade_device *dev, struct gpu_blas *b)
{
    b->library = open_library();
    if (!b->library || !find_functions(b))
        return false;
    if (b->create(&b->handle) != BLAS_OK) {
        b->handle = NULL;
        return false;
    }
    return b->get_version(b->handle, &b->version) == BLAS_OK &&
           b->set_stream(b->handle, dev->compute) == BLAS_OK &&
           b->set_pointer_mode(b->handle, BLAS_SCALARS_ON_CARD) == BLAS_OK;
}

/* What the library has taken of the card counts as the driver's own does. */
static bool take_own(struct lade_device *dev, struct gpu_blas *b, size_t free_before)
{
    size_t free, total;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess)
        return false;
    const size_t taken = free_before > free ? free_before - free : 0;
    pthread_mutex_lock(&dev->lock);
    const bool fits = gpu_fits(dev, taken);
    dev->fixed += fits ? taken : 0;
    pthread_mutex_unlock(&dev->lock);
    b->taken = taken;
    return fits;
}

void gpu_blas_open(struct lade_device *dev)
{
    size_t free, total;
    struct gpu_blas *b = (struct gpu_blas *)calloc(1, sizeof *b);
    if (!b)
        return;
    if (cudaMemGetInfo(&free, &total) == cudaSuccess && start(dev, b) && take_own(dev, b, free))
        dev->blas = b;
    else
        close_blas(dev, b);
    gpu_forget_error(); /* of what did not work nothing may turn up later */
    if (dev->blas)
        snprintf(dev->blas_title, sizeof dev->blas_title, "%.120s, cuBLAS %d.%d", dev->title,
                 b->version / 10000, b->version / 100 % 100);
}

void gpu_blas_close(struct lade_device *dev)
{
    struct gpu_blas *b = dev->blas;
    dev->blas = NULL;
    if (!b)
        return;
    pthread_mutex_lock(&dev->lock);
    dev->fixed -= b->taken;
    pthread_mutex_unlock(&dev->lock);
    close_blas(dev, b);
}
