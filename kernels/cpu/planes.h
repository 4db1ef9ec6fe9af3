/* planes.h - the points of ggml's lattices (codebooks.h) in the forms that kernels look them up in. */
#ifndef LADE_KERNELS_CPU_PLANES_H
#define LADE_KERNELS_CPU_PLANES_H

#include <stdint.h>

/* For byte permutes: the low bytes of all points, then the high ones, each a multiple of 64 bytes from the start. */
extern uint8_t cpu_iq1_planes[2 * 2048];
extern uint8_t cpu_iq2xxs_planes[2 * 256], cpu_iq2xs_planes[2 * 512], cpu_iq2s_planes[2 * 1024];
extern uint8_t cpu_iq3xxs_planes[2 * 256], cpu_iq3s_planes[2 * 512];

/* For loads lane by lane: a code byte for each input of a point (int16_codes.h), its first in the lowest byte, as
 * if no sign were set. */
extern uint64_t cpu_iq1_codes[2048];
extern uint64_t cpu_iq2xxs_codes[256], cpu_iq2xs_codes[512], cpu_iq2s_codes[1024];
extern uint32_t cpu_iq3xxs_codes[256], cpu_iq3s_codes[512];

/* Code bytes of a point's values: value + 2^kind_zero(), with a sign from the ninth on. Of IQ1: 8 (v - 1) and a
 * shift of 1 up or down, v = 0, 1, 2. */
extern const uint8_t cpu_iq1_values[16], cpu_iq2_values[16];
extern const uint8_t cpu_iq3xxs_values[16], cpu_iq3s_values[16];

/* Fills them, once. Before the first product; any thread. */
void cpu_planes_make(void);

#endif
