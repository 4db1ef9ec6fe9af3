/* sorted.h - experts of many tokens: routes sorted by expert (sorted.cu). */
#ifndef LADE_CUDA_SORTED_H
#define LADE_CUDA_SORTED_H

#include "kernels/cuda/moe.h"

/* Tokens from which experts have enough routes in common. */
enum { GPU_SORTED = 65 };

int gpu_sorted(struct lade_device *dev, const struct gpu_moe *m, char *err);
size_t gpu_sorted_work(const struct lade_limits *l);

#endif
