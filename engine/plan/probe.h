/* probe.h - what this machine has and how fast it is.
 *
 * Facts (sizes, devices, cores) are read from the system each time. Speeds are measured, which
 * takes about two seconds in all, and kept in a file of the cache directory for a month, so that a
 * plan can use them at once; a measurement is only made where the caller asks for one. Everything
 * unknown is 0 or empty: a probe never fails, it knows less. The speeds of whole loads and
 * of answers are not measured by a probe but noted when one has ended.
 *
 * Speeds are GB/s (10^9 bytes) and GFLOP/s; sizes are bytes. */
#ifndef LADE_PLAN_PROBE_H
#define LADE_PLAN_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/checkpoint/catalog.h"
#include "engine/plan/answers.h"
#include "engine/plan/loads.h"
#include "engine/plan/machine.h"
#include "kernels/error.h"

enum { LADE_MACHINE_GPUS = 8, LADE_MACHINE_DRIVES = 8 };

struct lade_machine_gpu {
    char name[80], bus[24];
    uint64_t total, free;              /* of all programs */
    uint64_t own;                      /* what its driver takes when it is used */
    int major, minor;                  /* compute capability; 0 where only NVML was asked */
    double memory_gbps;                /* read by kernels */
    double upload_gbps, download_gbps; /* over PCIe, pinned memory */
    bool measured;                     /* else these are the data sheet's, or 0 */
    char library[24];                  /* as of struct lade_device_rates */
};

/* How the kernels work through weights of the types that matter here. */
struct lade_machine_kernels {
    char experts[16], base[16];     /* types of weights it was measured with: "int4", "Q4_K" */
    double experts_gbps, base_gbps; /* weights of one token */
    double experts_gflops;          /* a prefill batch, about ten tokens an expert */
    double base_gflops;             /* a prefill batch of 512 */
};

/* How fast bytes of the files become weights in memory, by all cores, the drive left aside. */
struct lade_machine_packing {
    double fresh_gbps; /* into new memory, as a load does */
    double again_gbps; /* into memory that was used before, as a cache does */
};

/* One drive, as the file system sees it. */
struct lade_machine_drive {
    char name[64];   /* "nvme0n1", "md0"; "0:45" where there is no block device */
    char path[512];  /* the file that was, or would be, read to measure */
    bool rotational; /* a spinning disk */
    int disks;       /* drives read at once: more than 1 below a striped array */
    bool direct;     /* measured past the page cache (O_DIRECT) */
    int shards;
    uint64_t bytes;              /* of the checkpoint that lie there */
    double sequential_gbps;      /* front to back, four reads in flight; 0 = not measured */
    double one_gbps, eight_gbps; /* an expert's worth at random, so many in flight */
};

struct lade_machine {
    struct lade_memory memory;
    uint64_t swap_total, swap_free;
    int nodes;             /* NUMA nodes with memory */
    int cores, processors; /* physical cores; what the system schedules on */
    char cpu[96], isa[64]; /* "AMD EPYC ..."; what the kernels use: "AVX-512" */
    double ram_gbps;       /* read by all cores */
    struct lade_machine_kernels kernels;
    struct lade_machine_packing packing;
    struct lade_loads to_ram, to_vram; /* where the base has its home: loads that were seen here */
    struct lade_answers answers;
    struct lade_machine_gpu gpu[LADE_MACHINE_GPUS];
    int n_gpus;
    char gpu_missing[LADE_ERR];                           /* why no GPU can be used; "" = one can */
    struct lade_machine_drive drive[LADE_MACHINE_DRIVES]; /* those with shards */
    int n_drives;
};

enum lade_measure {
    LADE_MEASURE_NOTHING, /* only what the cache knows */
    LADE_MEASURE_MISSING, /* measure what it does not know or knew too long ago */
    LADE_MEASURE_ALL,     /* measure all, and keep that */
};

struct lade_probe_wish {
    const struct lade_catalog *catalog; /* whose drives and types matter; NULL = none */
    const char *plugin;                 /* path of the GPU plug-in; NULL = no GPU is looked for */
    const char *cache_dir;              /* NULL = nothing is kept or known */
    int threads;                        /* 0 = physical cores */
    const char *isa;                    /* NULL = the best */
    bool exact;
    enum lade_measure measure;
};

/* Fills *out. Any thread, but measuring disturbs what else runs. */
void lade_machine_probe(struct lade_machine *out, const struct lade_probe_wish *wish);

/* A load of this catalog has brought so many bytes of its files home, with the base to VRAM or to
 * RAM, in so many seconds from when it was opened: kept for later plans. Nothing happens where
 * cache_dir is NULL or the load was too small to tell anything. Any thread. */
void lade_machine_note_load(const struct lade_catalog *cat, const char *cache_dir, bool to_vram,
                            double bytes, double seconds);

/* An answer with this strategy came at so many tokens/s where speeds alone told others (0 = not
 * measured): kept for later plans. The wish is that of the plan. Nothing happens without its
 * cache_dir. Any thread. */
void lade_machine_note_answer(const struct lade_probe_wish *wish, int strategy,
                              const struct lade_tokens_per_s *told,
                              const struct lade_tokens_per_s *measured);

/* ---- parts, for the probe itself and for tests ---- */

/* The drive that holds files of this device number, from the sysfs at `sys` ("/sys") and, for file
 * systems without a block device of their own, the mounts at `mounts` ("/proc/self/mountinfo"). */
void lade_probe_drive_of(struct lade_machine_drive *out, const char *sys, const char *mounts,
                         unsigned major, unsigned minor);

/* Reads from `drive->path` for half a second: sequentially, then `block` bytes at random, one and
 * eight in flight. Files of less than 64 MiB tell nothing and are left alone. */
void lade_probe_drive_measure(struct lade_machine_drive *drive, size_t block);

/* NUMA nodes with memory of the sysfs at `sys`, at least 1. */
int lade_probe_nodes(const char *sys);

/* GB/s of the best of a few reads, because other programs only ever make them slower; 0 without
 * memory or threads for it. */
double lade_probe_ram(int threads);

/* Names the types of weights that matter in a catalog (NULL: int4 experts, int8 base). */
void lade_probe_types(struct lade_machine_kernels *out, const struct lade_catalog *cat);

/* Times the CPU's kernels on matrices of these types and the shapes of the 80B model, with one token and with
 * a prompt of so many, at most LADE_PROBE_PROMPT. Leaves zeros where there is no memory for it. */
enum { LADE_PROBE_PROMPT = 512 };
void lade_probe_kernels(struct lade_machine_kernels *out, const struct lade_probe_wish *wish,
                        int prompt);

/* Packs an expert of the catalog over and over with `threads` threads. Leaves zeros where there is
 * no memory for it or the file cannot be read. */
void lade_probe_packing(struct lade_machine_packing *out, const struct lade_catalog *cat,
                        int threads);

/* GPUs through the plug-in. Where that does not work, probe->gpu_missing says why. `measure` opens
 * each for a moment, and without the plug-in asks NVML, so that a person is told of a GPU that
 * cannot be used. */
void lade_probe_gpus(struct lade_machine *probe, const char *plugin, bool measure);

/* The file of measured speeds in `cache_dir`. `format` is the checkpoint's ("gguf"), on which the
 * speed of packing depends; "" = none is meant. Takes what it knows, not older than a month, of the
 * probe's drives, kernels, GPUs and memory; writes what the probe has measured. A file that is
 * missing or damaged knows nothing. Unwritable directories are left alone. */
void lade_speeds_recall(struct lade_machine *probe, const char *format, const char *cache_dir,
                        double now);
void lade_speeds_keep(const struct lade_machine *probe, const char *format, const char *cache_dir,
                      double now);

#endif
