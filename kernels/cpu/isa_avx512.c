#if defined(__x86_64__)
#define SIMD_AVX512
#include "kernels/cpu/vector_impl.h"
#include "kernels/cpu/matmul_impl.h"
#include "kernels/cpu/delta_impl.h"
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/int16_impl.h"
#include "kernels/cpu/isa_table_impl.h"

const struct cpu_isa cpu_isa_avx512 = ISA_TABLE("avx512", "AVX-512", &int16);
#endif
