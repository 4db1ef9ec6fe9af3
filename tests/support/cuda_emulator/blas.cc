/* A twin of the functions of cuBLAS that kernels/cuda/blas.h knows: matrices by columns, f16 and
 * bf16 operands, sums and results of floats, scalars on the card. It is as strict as it can be: a
 * leading dimension, a piece of memory or a stream that does not fit ends the program, and the work space
 * holds anything afterwards. */
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "runtime.h"

#include <vector>

enum { OK = 0, NOT_INITIALIZED = 1, INVALID = 7, FAILED = 13, OWN_BYTES = 8 << 20 };

struct cublasContext {
    int device;
    bool on_card; /* where scalars are */
    cudaStream_t stream;
    void *space;
    size_t space_bytes;
};
typedef cublasContext *handle;

static int create(handle *out)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    const int device = lade_emulator_device();
    if (lade_emulator_call() || !lade_emulator_take(device, OWN_BYTES))
        return NOT_INITIALIZED;
    *out = new cublasContext{device, false, nullptr, nullptr, 0};
    return OK;
}

static int destroy(handle h)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    lade_emulator_give(h->device, OWN_BYTES);
    delete h;
    return OK;
}

static int get_version(handle, int *version)
{
    *version = 130100;
    return OK;
}

static int set_stream(handle h, cudaStream_t stream)
{
    h->stream = stream;
    h->space = nullptr; /* its own again */
    return OK;
}

static int set_workspace(handle h, void *space, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    if ((size_t)space % 256 || lade_emulator_where(space, bytes) != LADE_ON_DEVICE)
        lade_emulator_die("cublasSetWorkspace is given %p", space);
    h->space = space;
    h->space_bytes = bytes;
    return OK;
}

static int set_pointer_mode(handle h, int mode)
{
    h->on_card = mode == 1;
    return OK;
}

/* Bytes of a matrix of `cols` columns of `rows` values. */
static size_t bytes_of(int rows, int cols, int ld, size_t size)
{
    return ((size_t)(cols - 1) * (size_t)ld + (size_t)rows) * size;
}

/* op(matrix)[i][k], as rows of floats. */
static std::vector<float> rows_of(const void *matrix, bool half, int ld, bool by_columns, int rows,
                                  int depth)
{
    std::vector<float> out((size_t)rows * (size_t)depth);
    const unsigned short *from = (const unsigned short *)matrix;
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < depth; k++) {
            unsigned short bits = by_columns ? from[(size_t)k * (size_t)ld + (size_t)i]
                                             : from[(size_t)i * (size_t)ld + (size_t)k];
            out[(size_t)i * (size_t)depth + (size_t)k] =
                half ? __half2float(__ushort_as_half(bits))
                     : __bfloat162float(__ushort_as_bfloat16(bits));
        }
    return out;
}

/* Where most of the time goes; its arguments are whole vectors. */
__attribute__((no_sanitize("address"))) static float dot(const float *a, const float *b, int n)
{
    float sums[16] = {}, sum = 0;
    int k = 0;
    for (; k + 16 <= n; k += 16)
        for (int i = 0; i < 16; i++)
            sums[i] += a[k + i] * b[k + i];
    for (; k < n; k++)
        sum += a[k] * b[k];
    for (float s : sums)
        sum += s;
    return sum;
}

static void check(const char *name, const void *at, size_t bytes)
{
    if ((size_t)at % 4 || lade_emulator_where(at, bytes) == LADE_HOST)
        lade_emulator_die("cublasGemmEx: %s is %p, which is no memory of the card", name, at);
}

static int gemm(handle h, int turn_a, int turn_b, int m, int n, int k, const void *alpha,
                const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
                const void *beta, void *c, int type_c, int ldc, int sums, int algorithm)
{
    enum { F32 = 0, F16 = 2, BF16 = 14, SUMS_F32 = 68, DEFAULT = -1 };
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    if (lade_emulator_call() || (lade_emulator.fail_blas && !--lade_emulator.fail_blas))
        return FAILED;
    const bool known = (type_a == F16 || type_a == BF16) && type_b == type_a && type_c == F32 &&
                       sums == SUMS_F32 && algorithm == DEFAULT;
    if (!known || m < 1 || n < 1 || k < 1 || lda < (turn_a ? k : m) || ldb < (turn_b ? n : k) ||
        ldc < m)
        return INVALID;
    if (!h->on_card || !h->space)
        lade_emulator_die("cublasGemmEx: scalars and work space are to be on the card");
    check("A", a, turn_a ? bytes_of(k, m, lda, 2) : bytes_of(m, k, lda, 2));
    check("B", b, turn_b ? bytes_of(n, k, ldb, 2) : bytes_of(k, n, ldb, 2));
    check("C", c, bytes_of(m, n, ldc, 4));
    check("alpha", alpha, 4);
    check("beta", beta, 4);
    void *space = h->space;
    const size_t space_bytes = h->space_bytes;
    lade_emulator.products++;
    return lade_emulator_queue(h->stream, [=] {
        const auto left = rows_of(a, type_a == F16, lda, !turn_a, m, k);
        const auto right = rows_of(b, type_a == F16, ldb, turn_b, n, k);
        const float scale = *(const float *)alpha, keep = *(const float *)beta;
        memset(space, 0xff, space_bytes);
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                float *out = (float *)c + (size_t)j * (size_t)ldc + (size_t)i;
                const float sum = dot(&left[(size_t)i * (size_t)k], &right[(size_t)j * (size_t)k], k);
                *out = scale * sum + (keep != 0 ? keep * *out : 0);
            }
    })
               ? FAILED
               : OK;
}

void *lade_emulator_blas(void)
{
    static int library;
    return lade_emulator.no_blas ? nullptr : &library;
}

void *lade_emulator_blas_function(void *, const char *name)
{
    static const struct {
        const char *name;
        void *function;
    } functions[] = {
        {"cublasCreate_v2", (void *)create},
        {"cublasDestroy_v2", (void *)destroy},
        {"cublasGetVersion_v2", (void *)get_version},
        {"cublasSetStream_v2", (void *)set_stream},
        {"cublasSetWorkspace_v2", (void *)set_workspace},
        {"cublasSetPointerMode_v2", (void *)set_pointer_mode},
        {"cublasGemmEx", (void *)gemm},
    };
    for (auto &f : functions)
        if (!strcmp(f.name, name))
            return f.function;
    return nullptr;
}
