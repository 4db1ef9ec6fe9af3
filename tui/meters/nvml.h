/* nvml.h - NVIDIA's management library, opened at run time.
 *
 * A machine without the library, the driver or a GPU is an ordinary machine: nvml_open then returns
 * NULL and says why in `reason`. Every number carries its own "known": a driver may answer one
 * question and refuse the next. */
#ifndef LADE_TUI_METERS_NVML_H
#define LADE_TUI_METERS_NVML_H

#include <stdbool.h>
#include <stdint.h>

#define NVML_UNKNOWN UINT64_MAX

struct nvml_gpu {
    char name[96];
    uint64_t total, used; /* bytes of VRAM, all processes; NVML_UNKNOWN */
    uint64_t ours;        /* bytes of VRAM of this process; NVML_UNKNOWN */
    int busy;             /* percent; -1 unknown */
};

struct nvml; /* NULL is a valid "no GPU" everywhere below */

/* Opens libnvidia-ml.so.1. Returns NULL when there is no GPU to show, with the reason as one line
 * in `reason` (may be NULL; LADE_ERR bytes). Takes milliseconds: once, not per frame. */
struct nvml *nvml_open(char *reason);
void nvml_close(struct nvml *n);

int nvml_count(const struct nvml *n);
const char *nvml_driver(const struct nvml *n); /* "550.54.15"; "" unknown */

/* Samples GPU i. -1 if there is no such GPU or it no longer answers. */
int nvml_sample(struct nvml *n, int i, struct nvml_gpu *out);

#endif
