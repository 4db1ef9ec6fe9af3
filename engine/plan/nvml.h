/* nvml.h - NVIDIA's management library, opened at run time.
 *
 * A machine without the library, the driver or a GPU is an ordinary machine: lade_nvml_open then
 * returns NULL and says why in `reason`. Every number carries its own "known": a driver may answer one
 * question and refuse the next. */
#ifndef LADE_PLAN_NVML_H
#define LADE_PLAN_NVML_H

#include <stdbool.h>
#include <stdint.h>

#define LADE_NVML_UNKNOWN UINT64_MAX

struct lade_nvml_gpu {
    char name[96];
    uint64_t total, used; /* bytes of VRAM, all processes; LADE_NVML_UNKNOWN */
    uint64_t ours;        /* bytes of VRAM of this process; LADE_NVML_UNKNOWN */
    int busy;             /* percent; -1 unknown */
};

struct lade_nvml; /* NULL is a valid "no GPU" everywhere below */

/* Opens libnvidia-ml.so.1. Returns NULL when there is no GPU to show, with the reason as one line
 * in `reason` (may be NULL; LADE_ERR bytes). Takes milliseconds: once, not per frame. */
struct lade_nvml *lade_nvml_open(char *reason);
void lade_nvml_close(struct lade_nvml *n);

int lade_nvml_count(const struct lade_nvml *n);

/* Samples GPU i. -1 if there is no such GPU or it no longer answers. */
int lade_nvml_sample(struct lade_nvml *n, int i, struct lade_nvml_gpu *out);

#endif
