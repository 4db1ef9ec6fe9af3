/* pack_job.h - inside engine/checkpoint: what pack.c (plain values, ggml's blocks) and pack_quant.c
 * (quantized tensors of Hugging Face) share. */
#ifndef LADE_CHECKPOINT_PACK_JOB_H
#define LADE_CHECKPOINT_PACK_JOB_H

#include "engine/checkpoint/pack.h"

/* One call of lade_pack. */
struct lade_pack_job {
    const struct lade_catalog *cat;
    const struct lade_tensor *t;
    struct lade_matrix_layout layout;
    int part;
    int first, rows; /* of the packed matrix: what this part holds; all of it where parts are no
                      * runs of rows */
    const unsigned char *src;
    unsigned char *dst;
    char *err;
};

/* Fails with a line that names the file and the tensor of the part. */
int lade_pack_bad(const struct lade_pack_job *j, const char *why);

/* Packed rows that follow each other in the source, too. */
struct lade_pack_run {
    int row; /* the first one, in the source */
    int n;
};

/* The run that starts at packed row r. The Hugging Face projections are grouped by key head: each
 * group has the q and k rows of its head, then the v (and z) rows of its value heads; likewise b
 * and a. Packed, all q rows come first, then all k rows and so on. */
struct lade_pack_run lade_pack_run_at(const struct lade_pack_job *j, int r);

/* Packs a part of LADE_SRC_GPTQ, AWQ, CT or F8. */
int lade_pack_quant(const struct lade_pack_job *j);

float lade_f32_from_f16(uint16_t h);

#endif
