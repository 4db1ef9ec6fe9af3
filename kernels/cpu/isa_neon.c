#if defined(__aarch64__)
#define SIMD_NEON
#include "kernels/cpu/vector_impl.h"
#include "kernels/cpu/matmul_impl.h"
#include "kernels/cpu/delta_impl.h"
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/int16_impl.h"
#include "kernels/cpu/isa_table_impl.h"

const struct cpu_isa cpu_isa_neon = ISA_TABLE("neon", "NEON", &int16);
#endif
