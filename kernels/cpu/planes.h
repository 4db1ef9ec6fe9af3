/* planes.h - the points of ggml's lattices (codebooks.h) as byte permutes look them up: the low bytes
 * of all, then the high ones, each a multiple of 64 bytes from the start. */
#ifndef LADE_KERNELS_CPU_PLANES_H
#define LADE_KERNELS_CPU_PLANES_H

#include <stdint.h>

extern uint8_t cpu_iq1_planes[2 * 2048];
extern uint8_t cpu_iq2xxs_planes[2 * 256], cpu_iq2xs_planes[2 * 512], cpu_iq2s_planes[2 * 1024];
extern uint8_t cpu_iq3xxs_planes[2 * 256], cpu_iq3s_planes[2 * 512];

/* Fills them, once. Before the first product; any thread. */
void cpu_planes_make(void);

#endif
