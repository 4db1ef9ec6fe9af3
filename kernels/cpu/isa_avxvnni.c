#if defined(__x86_64__)
#define SIMD_AVX2
#define SIMD_AVXVNNI
#include "kernels/cpu/vector_impl.h"
#include "kernels/cpu/matmul_impl.h"
#include "kernels/cpu/delta_impl.h"
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/int16_impl.h"
#include "kernels/cpu/isa_table_impl.h"

const struct cpu_isa cpu_isa_avxvnni = ISA_TABLE("avxvnni", "AVX2 with VNNI", &int16);
#endif
