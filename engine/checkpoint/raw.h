/* raw.h - the tensors of a checkpoint as its files list them: name, type, shape, place.
 *
 * The readers of file formats fill such lists; the catalog looks names up in them. Names are not
 * copied: they point into texts that the list owns. */
#ifndef LADE_CHECKPOINT_RAW_H
#define LADE_CHECKPOINT_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/error.h"

/* Element types of files. Order is that of lade_dtypes[]. */
/* clang-format off */
enum lade_dtype {
    LADE_DT_F32, LADE_DT_F16, LADE_DT_BF16, LADE_DT_I32, LADE_DT_I64, LADE_DT_U8, LADE_DT_F8_E4M3,
    LADE_DT_F64, LADE_DT_I16, LADE_DT_I8, LADE_DT_U16, LADE_DT_U32, LADE_DT_U64, LADE_DT_BOOL,
    LADE_DT_F8_E5M2,
    /* ggml's blocks */
    LADE_DT_Q4_0, LADE_DT_Q4_1, LADE_DT_Q5_0, LADE_DT_Q5_1, LADE_DT_Q8_0, LADE_DT_Q2_K,
    LADE_DT_Q3_K, LADE_DT_Q4_K, LADE_DT_Q5_K, LADE_DT_Q6_K, LADE_DT_IQ1_S, LADE_DT_IQ1_M,
    LADE_DT_IQ2_XXS, LADE_DT_IQ2_XS, LADE_DT_IQ2_S, LADE_DT_IQ3_XXS, LADE_DT_IQ3_S,
    LADE_DT_IQ4_NL, LADE_DT_IQ4_XS, LADE_DT_MXFP4,
    LADE_DT_OTHER, /* a type this program has no name for */
    LADE_N_DTYPES
};
/* clang-format on */

struct lade_dtype_info {
    const char *name; /* as safetensors or ggml spells it */
    int block, bytes; /* values of one block and its bytes; bytes 0 where unknown */
};
extern const struct lade_dtype_info lade_dtypes[LADE_N_DTYPES];

enum { LADE_RAW_DIMS = 4, LADE_MAX_SHARDS = 10000 };

struct lade_raw {
    const char *name; /* not terminated; in one of the list's texts */
    uint32_t len, hash;
    uint16_t shard;
    uint8_t dtype;                /* enum lade_dtype */
    uint8_t rank;                 /* may exceed LADE_RAW_DIMS: then only the first are kept */
    bool found;                   /* false: the index names it, its shard was not read yet */
    bool used;                    /* the model needs it */
    uint64_t dims[LADE_RAW_DIMS]; /* outermost first */
    uint64_t offset, bytes;       /* offset from the start of the file */
};

struct lade_raws {
    struct lade_raw *items;
    size_t n, room;
    uint32_t *slots; /* open addressing: item + 1, 0 = free */
    size_t n_slots;  /* a power of two */
    char **texts;    /* owned: what the names point into */
    size_t n_texts;
};

void lade_raws_free(struct lade_raws *r);

/* Appends an item (copied). The lookup table does not know it before lade_raws_index. */
int lade_raws_add(struct lade_raws *r, const struct lade_raw *item, char *err);

/* Hands a text over to the list. On failure the text stays the caller's. */
int lade_raws_own(struct lade_raws *r, char *text, char *err);

/* Builds the lookup table. Where two items have one name, *twice (may be NULL) is the later item
 * and the result is -1. */
int lade_raws_index(struct lade_raws *r, const struct lade_raw **twice, char *err);

/* The item of that name, or NULL. */
struct lade_raw *lade_raws_find(const struct lade_raws *r, const char *name, size_t len);

/* "[512, 2048]" for error messages. Returns buf. */
const char *lade_dims_text(char *buf, size_t size, const uint64_t *dims, int rank);

#endif
