/* catalog.h - what a checkpoint holds, by meaning instead of by name.
 *
 * Opening a checkpoint reads only headers. Every tensor the model needs is found, its shape,
 * type and place in its file are checked, and the result is a flat list of *tensors* grouped in
 * *pieces*: the smallest things that move between tiers. Tensors the model does not need
 * (MTP, rotary caches) are counted and left alone.
 *
 * A piece is one run of bytes in memory: its tensors in packed form (kernels/matrix.h), each at
 * its own LADE_ALIGN-aligned offset. What a tensor looks like packed does not depend on the file
 * format: the convolution, the norms, the decay and the routers become F32; norm weights get
 * their +1, A_log becomes -exp(A_log), and the delta-net projections get head-major rows, so that
 * kernels see one model whatever the source. Every other matrix keeps the file's own type (a
 * router that its file has quantized stays so, too). */
#ifndef LADE_CHECKPOINT_CATALOG_H
#define LADE_CHECKPOINT_CATALOG_H

#include "engine/checkpoint/shape.h"
#include "kernels/error.h"
#include "kernels/matrix.h"

/* What a tensor is to the model. Order is the order inside a piece. */
/* clang-format off */
enum lade_role {
    LADE_EMBED,            /* [vocab][hidden] */
    LADE_FINAL_NORM,       /* [hidden] F32, +1; in the head's piece */
    LADE_HEAD,             /* [vocab][hidden]; absent where shape.tied_embeddings */
    LADE_IN_NORM,          /* [hidden] F32, +1: before the mixer */
    LADE_POST_NORM,        /* [hidden] F32, +1: before the experts */
    LADE_ATTN_Q,           /* [heads * 2 * head_dim][hidden]: per head, query rows then gate rows */
    LADE_ATTN_K, LADE_ATTN_V, /* [kv_heads * head_dim][hidden] */
    LADE_ATTN_O,           /* [hidden][heads * head_dim] */
    LADE_Q_NORM, LADE_K_NORM, /* [head_dim] F32, +1 */
    LADE_DELTA_QKVZ,       /* [q|k|v|z, each head-major][hidden]; without z where DELTA_Z is there */
    LADE_DELTA_Z,          /* [value_heads * value_dim][hidden]; only in GGUF files that have z in a
                              tensor of another type than q, k and v */
    LADE_DELTA_BA,         /* [b|a, each value_heads][hidden] */
    LADE_DELTA_CONV,       /* [channels][conv_kernel] F32 */
    LADE_DELTA_DECAY,      /* [value_heads] F32 = -exp(A_log) */
    LADE_DELTA_DT_BIAS,    /* [value_heads] F32 */
    LADE_DELTA_NORM,       /* [value_dim] F32, plain */
    LADE_DELTA_OUT,        /* [hidden][value_heads * value_dim] */
    LADE_ROUTER,           /* [experts][hidden] F32 */
    LADE_SHARED_GATE,      /* [1][hidden] F32 */
    LADE_SHARED_FF_GATE, LADE_SHARED_FF_UP, /* [shared_ff][hidden] */
    LADE_SHARED_FF_DOWN,   /* [hidden][shared_ff] */
    LADE_EXPERT_GATE, LADE_EXPERT_UP, /* [expert_ff][hidden] */
    LADE_EXPERT_DOWN,      /* [hidden][expert_ff] */
    LADE_N_ROLES
};
/* clang-format on */

/* A run of bytes in one shard. */
struct lade_span {
    int shard;
    uint64_t offset, bytes; /* offset from the start of the file */
};

/* How the source bytes of a tensor are encoded; one table entry each (pack.c). */
/* clang-format off */
enum lade_source {
    LADE_SRC_F32, LADE_SRC_F16, LADE_SRC_BF16,
    /* Packed integers; bits, scale, kinds and zero_offset of the tensor say the rest. */
    LADE_SRC_GPTQ,                   /* codes packed along the input [words][rows], zeros along
                                        the rows [groups][words], scales [groups][rows] */
    LADE_SRC_AWQ,                    /* codes [cols][words] and zeros [groups][words], both packed
                                        along the rows in AWQ's order of 8; scales as GPTQ */
    LADE_SRC_CT,                     /* compressed-tensors: codes [rows][words], zeros packed along
                                        the rows [words][groups], scales [rows][groups] */
    LADE_SRC_F8,                     /* E4M3 [rows][cols]; scales [block rows][block columns] */
    LADE_SRC_Q4_0, LADE_SRC_Q8_0,    /* ggml: per row, blocks of 32 with one scale; become tiles */
    LADE_SRC_BLOCKS,                 /* ggml: all other blocks, which are interleaved */
    LADE_SRC_PACKED,                 /* as in memory (packed.h) */
    LADE_N_SOURCES
};
/* clang-format on */

/* What the source's rows are, where the packed order is another. */
enum lade_row_order {
    LADE_ROWS_SAME,
    LADE_ROWS_QKVZ, /* per key head: its q, k, v, z rows */
    LADE_ROWS_BA,   /* per key head: its b, then its a rows */
};

/* What happens to each value of a tensor that becomes F32. */
enum lade_value { LADE_VALUE_SAME, LADE_VALUE_PLUS_ONE, LADE_VALUE_NEG_EXP };

/* What a part of a quantized tensor holds. */
enum lade_part {
    LADE_PART_CODES,
    LADE_PART_ZEROS,
    LADE_PART_SCALES,
    LADE_PART_ORDER, /* i32 [cols]: the group of each input */
    LADE_PART_SHAPE, /* i64 [2]: rows and columns */
    LADE_N_PARTS
};

enum { LADE_MAX_PARTS = 5 };

struct lade_tensor {
    uint8_t role;                  /* enum lade_role */
    uint8_t source;                /* enum lade_source */
    uint8_t rows;                  /* enum lade_row_order */
    uint8_t value;                 /* enum lade_value */
    uint8_t n_parts;               /* quantized by Hugging Face's rules: see kinds; others: runs
                                        of rows */
    uint8_t naming;                /* which of the names its role may have; see tensor_name */
    uint8_t kinds[LADE_MAX_PARTS]; /* enum lade_part */
    uint8_t bits;                  /* packed integers: of a code in the file: 2, 3, 4 or 8 */
    uint8_t scale;                 /* packed integers, F8: enum lade_dtype of the scales */
    uint8_t zero_offset;           /* packed integers: what is added to a stored zero */
    int block_rows, block_cols;    /* F8: rows and columns that share a scale; columns -1: all */
    int piece;
    struct lade_span parts[LADE_MAX_PARTS];
    struct lade_matrix packed; /* type and shape; data is NULL */
    size_t offset, bytes;      /* where it lies inside its piece, packed */
};

enum lade_piece_kind { LADE_PIECE_EMBED, LADE_PIECE_HEAD, LADE_PIECE_BASE, LADE_PIECE_EXPERT };

struct lade_piece {
    enum lade_piece_kind kind;
    int layer, expert;     /* -1 where they mean nothing */
    int first, n_tensors;  /* into tensors[] */
    size_t bytes;          /* packed, a multiple of LADE_ALIGN */
    uint64_t source_bytes; /* of its spans, in the files */
    int first_check;       /* where there are checksums: into checks[] */
};

enum { LADE_MAX_COPIES = 7 };

struct lade_shard {
    char *path;                    /* owned */
    char *copies[LADE_MAX_COPIES]; /* of the same file on other drives, owned */
    int n_copies;
    uint64_t bytes;  /* file size */
    uint64_t wanted; /* bytes of spans the model needs */
};

struct lade_format; /* build.h */

struct lade_catalog {
    char *path;         /* as given, owned */
    char *name;         /* for people: directory name or general.name, owned */
    const char *format; /* "safetensors", "gguf": static */
    const struct lade_format *ops;
    char quant[64]; /* for people: "int4+int8 g128", "bf16" */
    struct lade_shape shape;
    struct lade_generation generation;
    bool template_known; /* the headers tell whether there is a chat template, */
    char *chat_template; /* this one, owned, or NULL */
    struct lade_shard *shards;
    int n_shards;
    struct lade_tensor *tensors;
    int n_tensors;
    struct lade_piece *pieces;
    int n_pieces;
    int ignored;           /* tensors the model does not need */
    uint64_t source_bytes; /* of all spans */
    size_t packed_bytes;   /* of all pieces */
    bool aligned;          /* each piece is one run of its file, as it will be in memory,
                                        from a multiple of 4096 on and padded to one */
    uint64_t *checks;      /* NULL, or checksums of the pieces' blocks (packed.h), owned */
    int n_checks;
};

/* Opens a directory (config.json + *.safetensors) or a .gguf file (any part of a split). On
 * success *out is owned by the caller, who ends it with lade_catalog_close. Reads headers only;
 * keeps no file open. Any thread. */
int lade_catalog_open(struct lade_catalog **out, const char *path, char *err);
void lade_catalog_close(struct lade_catalog *cat);

/* Piece numbers: embed 0, head 1, then per layer its base and its experts. */
int lade_catalog_base(const struct lade_catalog *cat, int layer);
int lade_catalog_expert(const struct lade_catalog *cat, int layer, int expert);

/* The tensor of a role in a piece, or NULL. */
const struct lade_tensor *lade_catalog_find(const struct lade_catalog *cat, int piece,
                                            enum lade_role role);

/* The shape a role has in this model: rows x cols of its packed matrix (DELTA_QKVZ: with z). */
void lade_role_dims(const struct lade_shape *s, enum lade_role role, int *rows, int *cols);

/* The name of part `part` of tensor t as its file has it, for error messages. */
void lade_catalog_tensor_name(const struct lade_catalog *cat, const struct lade_tensor *t, int part,
                              char *buf, size_t size);

#endif
