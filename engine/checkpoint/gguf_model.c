/* The GGUF format: llama.cpp's tensor names of the qwen3next architecture, bound to roles.
 *
 * Its converter has already added 1 to the norms and made A_log to -exp(A_log). Rows of ssm_in and
 * ssm_ba are as in the Hugging Face checkpoint, grouped by key head; attn_qkv and attn_gate, which
 * newer files have instead of ssm_in, are head-major already. */
#include "engine/checkpoint/build.h"

#include <stdio.h>
#include <string.h>

#include "kernels/blocks.h"

enum { NAME = 128 };

/* ---- names ----------------------------------------------------------------------------------- */

static const struct gguf_role {
    const char *name;
    uint8_t f32;  /* becomes F32 */
    uint8_t rows; /* enum lade_row_order */
} roles[LADE_N_ROLES] = {
    [LADE_EMBED] = {.name = "token_embd.weight"},
    [LADE_FINAL_NORM] = {.name = "output_norm.weight", .f32 = 1},
    [LADE_HEAD] = {.name = "output.weight"},
    [LADE_IN_NORM] = {.name = "attn_norm.weight", .f32 = 1},
    [LADE_POST_NORM] = {.name = "post_attention_norm.weight", .f32 = 1},
    [LADE_ATTN_Q] = {.name = "attn_q.weight"},
    [LADE_ATTN_K] = {.name = "attn_k.weight"},
    [LADE_ATTN_V] = {.name = "attn_v.weight"},
    [LADE_ATTN_O] = {.name = "attn_output.weight"},
    [LADE_Q_NORM] = {.name = "attn_q_norm.weight", .f32 = 1},
    [LADE_K_NORM] = {.name = "attn_k_norm.weight", .f32 = 1},
    [LADE_DELTA_QKVZ] = {.name = "ssm_in.weight", .rows = LADE_ROWS_QKVZ},
    [LADE_DELTA_Z] = {.name = "attn_gate.weight"},
    [LADE_DELTA_BA] = {.name = "ssm_ba.weight", .rows = LADE_ROWS_BA},
    [LADE_DELTA_CONV] = {.name = "ssm_conv1d.weight", .f32 = 1},
    [LADE_DELTA_DECAY] = {.name = "ssm_a", .f32 = 1},
    [LADE_DELTA_DT_BIAS] = {.name = "ssm_dt.bias", .f32 = 1},
    [LADE_DELTA_NORM] = {.name = "ssm_norm.weight", .f32 = 1},
    [LADE_DELTA_OUT] = {.name = "ssm_out.weight"},
    [LADE_ROUTER] = {.name = "ffn_gate_inp.weight", .f32 = 1},
    [LADE_SHARED_GATE] = {.name = "ffn_gate_inp_shexp.weight", .f32 = 1},
    [LADE_SHARED_FF_GATE] = {.name = "ffn_gate_shexp.weight"},
    [LADE_SHARED_FF_UP] = {.name = "ffn_up_shexp.weight"},
    [LADE_SHARED_FF_DOWN] = {.name = "ffn_down_shexp.weight"},
    [LADE_EXPERT_GATE] = {.name = "ffn_gate_exps.weight"},
    [LADE_EXPERT_UP] = {.name = "ffn_up_exps.weight"},
    [LADE_EXPERT_DOWN] = {.name = "ffn_down_exps.weight"},
};

enum naming {
    NAMING_OWN,   /* the role's own name */
    NAMING_FUSED, /* gate and up, or q, k and v of an attention layer, in one tensor */
    NAMING_SPLIT, /* qkvz in two tensors */
};

static const char fused_qkv[] = "attn_qkv.weight", fused_gate_up[] = "ffn_gate_up_exps.weight";
static const char *const split_qkvz[] = {"attn_qkv.weight", "attn_gate.weight"};

static const char *suffix(enum lade_role role, enum naming naming, int part)
{
    if (naming == NAMING_SPLIT)
        return split_qkvz[part];
    if (naming == NAMING_FUSED)
        return role == LADE_EXPERT_GATE || role == LADE_EXPERT_UP ? fused_gate_up : fused_qkv;
    return roles[role].name;
}

static void gguf_tensor_name(const struct lade_tensor *t, int layer, int expert, int part,
                             char *buf, size_t size)
{
    (void)expert;
    const char *name = suffix(t->role, t->naming, part);
    if (layer < 0)
        snprintf(buf, size, "%s", name);
    else
        snprintf(buf, size, "blk.%d.%s", layer, name);
}

/* ---- binding --------------------------------------------------------------------------------- */

/* How the types of tensors are taken over. All are row-major and may be cut and joined by rows. */
static const struct type {
    uint8_t known, source, packed, group, block;
} types[LADE_N_DTYPES] = {
#define BLOCKS(name) [LADE_DT_##name] = {1, LADE_SRC_BLOCKS, LADE_BLOCKS, 0, LADE_BLOCK_##name}
    [LADE_DT_F32] = {1, LADE_SRC_F32, LADE_F32, 0, 0},
    [LADE_DT_F16] = {1, LADE_SRC_F16, LADE_F16, 0, 0},
    [LADE_DT_BF16] = {1, LADE_SRC_BF16, LADE_BF16, 0, 0},
    [LADE_DT_Q4_0] = {1, LADE_SRC_Q4_0, LADE_Q4, 32, 0},
    [LADE_DT_Q8_0] = {1, LADE_SRC_Q8_0, LADE_Q8, 32, 0},
    BLOCKS(Q4_1),
    BLOCKS(Q5_0),
    BLOCKS(Q5_1),
    BLOCKS(Q2_K),
    BLOCKS(Q3_K),
    BLOCKS(Q4_K),
    BLOCKS(Q5_K),
    BLOCKS(Q6_K),
    BLOCKS(IQ1_S),
    BLOCKS(IQ1_M),
    BLOCKS(IQ2_XXS),
    BLOCKS(IQ2_XS),
    BLOCKS(IQ2_S),
    BLOCKS(IQ3_XXS),
    BLOCKS(IQ3_S),
    BLOCKS(IQ4_NL),
    BLOCKS(IQ4_XS),
    BLOCKS(MXFP4),
#undef BLOCKS
};

static struct lade_raw *find_raw(struct lade_build *b, enum lade_role role, enum naming naming,
                                 int part, int layer, char *name)
{
    struct lade_tensor t = {.role = (uint8_t)role, .naming = (uint8_t)naming};
    gguf_tensor_name(&t, layer, -1, part, name, NAME);
    return lade_raws_find(&b->raws, name, strlen(name));
}

/* Compares dimensions, leaving out those of size one. */
static bool same_dims(const struct lade_raw *raw, const uint64_t *want, int rank)
{
    int i = 0, k = 0;
    for (;;) {
        while (i < raw->rank && raw->dims[i] == 1)
            i++;
        while (k < rank && want[k] == 1)
            k++;
        if (i == raw->rank || k == rank)
            return i == raw->rank && k == rank;
        if (raw->dims[i++] != want[k++])
            return false;
    }
}

static int check_dims(const struct lade_build *b, const struct lade_raw *raw, const char *name,
                      const uint64_t *want, int rank, char *err)
{
    char have_text[96], want_text[96];
    if (same_dims(raw, want, rank))
        return 0;
    return lade_fail(err,
                     "%s: tensor '%s' has shape %s, expected %s by the metadata; download the "
                     "file again",
                     lade_raw_file(b, raw), name,
                     lade_dims_text(have_text, sizeof have_text, raw->dims, raw->rank),
                     lade_dims_text(want_text, sizeof want_text, want, rank));
}

/* Takes `rows` rows from row `first` on, of a tensor's `all` rows, as the next part. */
static int take_rows(struct lade_build *b, struct lade_tensor *t, struct lade_raw *raw,
                     const char *name, uint64_t first, uint64_t rows, uint64_t all, char *err)
{
    const char *dtype = lade_dtypes[raw->dtype].name;
    const struct type *type = &types[raw->dtype];
    bool f32 = roles[t->role].f32, is_float = type->packed <= LADE_BF16;
    if (!type->known || (f32 && !is_float))
        return lade_fail(err,
                         "%s: tensor '%s' has type %s, which is not supported%s; get another "
                         "quantization of the model",
                         lade_raw_file(b, raw), name, dtype, f32 ? " there" : "");
    t->source = type->source;
    t->packed.type = f32 ? LADE_F32 : type->packed;
    t->packed.group = type->group;
    t->packed.block = type->block;
    uint64_t row_bytes = raw->bytes / all;
    raw->used = true;
    t->parts[t->n_parts++] =
        (struct lade_span){raw->shard, raw->offset + first * row_bytes, rows * row_bytes};
    return 0;
}

static int missing(const struct lade_build *b, const char *name, char *err)
{
    return lade_fail(err, "%s: tensor '%s' is missing; download the file again", b->list, name);
}

/* One expert of a layer's stacks [experts][rows][cols]; gate and up may share one, gate first. */
static int bind_expert(struct lade_build *b, struct lade_tensor *t, int layer, int expert,
                       char *err)
{
    uint64_t experts = (uint64_t)b->cat->shape.experts, rows = (uint64_t)t->packed.rows;
    char name[NAME];
    struct lade_raw *raw = find_raw(b, t->role, NAMING_OWN, 0, layer, name);
    uint64_t height = rows, slice = 0;
    if (!raw && t->role != LADE_EXPERT_DOWN) {
        raw = find_raw(b, t->role, NAMING_FUSED, 0, layer, name);
        height = 2 * rows;
        slice = t->role == LADE_EXPERT_UP ? rows : 0;
        t->naming = NAMING_FUSED;
    }
    if (!raw)
        return missing(b, (find_raw(b, t->role, NAMING_OWN, 0, layer, name), name), err);
    const uint64_t want[] = {experts, height, (uint64_t)t->packed.cols};
    if (check_dims(b, raw, name, want, 3, err))
        return -1;
    return take_rows(b, t, raw, name, (uint64_t)expert * height + slice, rows, experts * height,
                     err);
}

/* q, k or v of a full-attention layer out of one tensor [q | k | v]. */
static int bind_fused_qkv(struct lade_build *b, struct lade_tensor *t, struct lade_raw *raw,
                          const char *name, char *err)
{
    const struct lade_shape *s = &b->cat->shape;
    uint64_t q = 2 * (uint64_t)s->heads * (uint64_t)s->head_dim;
    uint64_t kv = (uint64_t)s->kv_heads * (uint64_t)s->head_dim;
    uint64_t first = t->role == LADE_ATTN_Q ? 0 : t->role == LADE_ATTN_K ? q : q + kv;
    const uint64_t want[] = {q + 2 * kv, (uint64_t)s->hidden};
    t->naming = NAMING_FUSED;
    if (check_dims(b, raw, name, want, 2, err))
        return -1;
    return take_rows(b, t, raw, name, first, (uint64_t)t->packed.rows, want[0], err);
}

/* qkvz in two tensors, both head-major. They are joined where they have one type; else z is for
 * LADE_DELTA_Z. */
static int bind_split_qkvz(struct lade_build *b, struct lade_tensor *t, int layer, char *err)
{
    const struct lade_shape *s = &b->cat->shape;
    const uint64_t rows[] = {(uint64_t)lade_shape_channels(s),
                             (uint64_t)(lade_shape_qkvz(s) - lade_shape_channels(s))};
    t->naming = NAMING_SPLIT;
    t->rows = LADE_ROWS_SAME;
    for (int part = 0; part < (b->z_apart ? 1 : 2); part++) {
        char name[NAME];
        struct lade_raw *raw = find_raw(b, t->role, NAMING_SPLIT, part, layer, name);
        const struct lade_raw *z = find_raw(b, t->role, NAMING_SPLIT, 1, layer, (char[NAME]){0});
        const uint64_t want[] = {rows[part], (uint64_t)s->hidden};
        if (!raw)
            return missing(b, name, err);
        if (z && z->dtype != raw->dtype) {
            b->z_apart = true;
            t->packed.rows = (int)rows[0];
        }
        if (check_dims(b, raw, name, want, 2, err) ||
            take_rows(b, t, raw, name, 0, rows[part], rows[part], err))
            return -1;
    }
    return 0;
}

static int gguf_bind(struct lade_build *b, struct lade_tensor *t, int layer, int expert, char *err)
{
    char name[NAME], fused[NAME];
    if (expert >= 0)
        return bind_expert(b, t, layer, expert, err);
    t->rows = roles[t->role].rows;
    struct lade_raw *raw = find_raw(b, t->role, NAMING_OWN, 0, layer, name);
    if (!raw && t->role == LADE_DELTA_QKVZ)
        return bind_split_qkvz(b, t, layer, err);
    if (!raw && (t->role == LADE_ATTN_Q || t->role == LADE_ATTN_K || t->role == LADE_ATTN_V) &&
        (raw = find_raw(b, t->role, NAMING_FUSED, 0, layer, fused)))
        return bind_fused_qkv(b, t, raw, fused, err);
    if (!raw)
        return missing(b, name, err);
    const uint64_t want[] = {(uint64_t)t->packed.rows, (uint64_t)t->packed.cols};
    if (check_dims(b, raw, name, want, 2, err))
        return -1;
    return take_rows(b, t, raw, name, 0, want[0], want[0], err);
}

const struct lade_format lade_format_gguf = {
    .name = "gguf",
    .read = lade_gguf_read,
    .bind = gguf_bind,
    .tensor_name = gguf_tensor_name,
};
