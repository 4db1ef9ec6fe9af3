/* blas.h - cuBLAS, where it is installed: found when a device is prepared for large batches.
 *
 * The plug-in is not linked to it, so that it loads where it is missing: then the products of many.cu do
 * all. Declared here is what is used, as cublas_api.h has it (versions 12 and 13). */
#ifndef LADE_CUDA_BLAS_H
#define LADE_CUDA_BLAS_H

#include "kernels/cuda/gpu.h"

typedef struct cublasContext *blas_handle;

enum [[nodiscard]] blas_status : int{BLAS_OK = 0};

enum {
    BLAS_PLAIN = 0, /* operands as they are, column by column */
    BLAS_TURNED = 1,
    BLAS_SCALARS_ON_CARD = 1,
    BLAS_F32 = 0,
    BLAS_F16 = 2,
    BLAS_SUMS_F32 = 68,
    BLAS_CHOOSES = -1, /* the algorithm */
};

struct gpu_blas {
    void *library;
    blas_handle handle;
    int version;
    size_t taken; /* of the card: what it allocated itself, counted as the device's `fixed` */
    enum blas_status (*create)(blas_handle *handle);
    enum blas_status (*destroy)(blas_handle handle);
    enum blas_status (*get_version)(blas_handle handle, int *version);
    enum blas_status (*set_stream)(blas_handle handle, cudaStream_t stream);
    enum blas_status (*set_workspace)(blas_handle handle, void *space, size_t bytes);
    enum blas_status (*set_pointer_mode)(blas_handle handle, int mode);
    /* C = alpha * op(A) op(B) + beta * C, matrices by columns: m x k, k x n, m x n */
    enum blas_status (*gemm)(blas_handle handle, int turn_a, int turn_b, int m, int n, int k,
                             const void *alpha, const void *a, int type_a, int lda, const void *b,
                             int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
                             int sums, int algorithm);
};

/* Work space for cuBLAS itself: what its manual recommends from compute capability 9.0 on. With
 * space of ours it allocates none, and the same product has the same bits each time. */
enum { GPU_BLAS_SPACE = 32 << 20 };

/* Makes dev->blas, or leaves it NULL where there is no such library, or no room for it. */
void gpu_blas_open(struct lade_device *dev);
void gpu_blas_close(struct lade_device *dev);

#endif
