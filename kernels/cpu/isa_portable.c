#define SIMD_PORTABLE
#include "kernels/cpu/vector_impl.h"
#include "kernels/cpu/matmul_impl.h"
#include "kernels/cpu/delta_impl.h"
#include "kernels/cpu/attention_impl.h"
#include "kernels/cpu/isa_table_impl.h"

const struct cpu_isa cpu_isa_portable = ISA_TABLE("portable", "plain C", NULL);
