/* isa_table_impl.h - fills the struct cpu_isa of one instruction set; included last. */
#include "kernels/cpu/simd.h"

_Static_assert((int)NR <= (int)CPU_MAX_NR && (int)PW <= (int)CPU_MAX_PW, "bounds of cpu.h");
_Static_assert(LADE_TILE % VL == 0 && PW % LADE_TILE == 0, "panels hold whole tiles");

#define ISA_TABLE(NAME, TITLE, INT16)                                                              \
    {                                                                                              \
        .name = NAME, .title = TITLE, .nr = NR, .pw = PW, .dot = dot, .dots = dots,                \
        .bounds = bounds, .not_below = not_below, .largest = largest, .axpy = axpy,                \
        .rmsnorm = rmsnorm, .gated_norm = gated_norm, .swiglu = swiglu,                            \
        .mul_sigmoid = mul_sigmoid, .exp_sum = exp_sum, .gemv = gemv, .pack = pack, .gemm = gemm,  \
        .conv_silu = conv_silu, .delta_step = delta_step, .delta_chunk = delta_chunk,              \
        .int16 = INT16, .to_f16 = to_f16, .to_q8 = to_q8, .to_q16 = to_q16,                        \
        .attend_part = attend_part, .attend_block = attend_block                                   \
    }
