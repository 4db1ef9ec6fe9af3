/* build.h - inside engine/checkpoint: how a file format gives a catalog its tensors.
 *
 * The catalog knows which roles a piece has and how pieces lie in memory; a format knows files
 * and names. One struct lade_format per format; catalog.c picks it by what the path is. */
#ifndef LADE_CHECKPOINT_BUILD_H
#define LADE_CHECKPOINT_BUILD_H

#include "engine/checkpoint/catalog.h"
#include "engine/checkpoint/quant.h"
#include "engine/checkpoint/raw.h"

struct lade_build {
    struct lade_catalog *cat;
    struct lade_raws raws;
    struct lade_quant *quant;   /* Hugging Face: NULL for a plain checkpoint */
    char *list;                 /* owned: the file that should list a missing tensor */
    int stack_layer;            /* layer whose fused expert tensors are known; -1 = none */
    struct lade_raw *stack[2];  /* gate_up and down of that layer, or NULL */
    bool z_apart;               /* what was bound as DELTA_QKVZ last lacks z: DELTA_Z follows */
    struct lade_packed *packed; /* packed: its index */
    int packed_piece;           /* the piece that is being bound, and bytes of it so far */
    uint64_t packed_offset;
};

struct lade_format {
    const char *name; /* static */

    /* Fills shape, generation, shards and name of b->cat and b->raws from the files. */
    int (*read)(struct lade_build *b, const char *path, char *err);

    /* Finds the tensor of t->role in a layer (-1: none) and expert (-1: none): fills source,
     * rows, value, naming, parts and all that describes them, and the type, group and zeros of
     * packed, whose rows and cols are set. Marks what it takes as used. */
    int (*bind)(struct lade_build *b, struct lade_tensor *t, int layer, int expert, char *err);

    /* See lade_catalog_tensor_name. */
    void (*tensor_name)(const struct lade_tensor *t, int layer, int expert, int part, char *buf,
                        size_t size);
};

extern const struct lade_format lade_format_hf, lade_format_gguf, lade_format_packed;

/* Their `read` (hf_files.c, gguf_files.c). */
int lade_hf_read(struct lade_build *b, const char *path, char *err);
int lade_gguf_read(struct lade_build *b, const char *path, char *err);

/* Fails where shards are not there, a download that is not whole: names all of them in one line,
 * which begins with `where`. */
int lade_check_shards(const struct lade_catalog *cat, const char *where, char *err);

/* "FILE" of a raw tensor for messages. */
const char *lade_raw_file(const struct lade_build *b, const struct lade_raw *raw);

#endif
