/* The Hugging Face format: the transformers library's names of tensors, bound to roles. */
#include "engine/checkpoint/hf.h"

#include <stdio.h>
#include <string.h>

enum { NAME = LADE_HF_NAME };

/* ---- names ----------------------------------------------------------------------------------- */

/* Where a role lives: the module's name under its layer (or expert), and what is special. */
static const struct hf_role {
    const char *module;
    uint8_t bare;   /* the tensor is the module's name itself, without ".weight" */
    uint8_t vector; /* never quantized; becomes F32 */
    uint8_t value;  /* enum lade_value */
    uint8_t rows;   /* enum lade_row_order */
} hf_roles[LADE_N_ROLES] = {
    [LADE_EMBED] = {.module = "model.embed_tokens"},
    [LADE_FINAL_NORM] = {.module = "model.norm", .vector = 1, .value = LADE_VALUE_PLUS_ONE},
    [LADE_HEAD] = {.module = "lm_head"},
    [LADE_IN_NORM] = {.module = "input_layernorm", .vector = 1, .value = LADE_VALUE_PLUS_ONE},
    [LADE_POST_NORM] = {.module = "post_attention_layernorm",
                        .vector = 1,
                        .value = LADE_VALUE_PLUS_ONE},
    [LADE_ATTN_Q] = {.module = "self_attn.q_proj"},
    [LADE_ATTN_K] = {.module = "self_attn.k_proj"},
    [LADE_ATTN_V] = {.module = "self_attn.v_proj"},
    [LADE_ATTN_O] = {.module = "self_attn.o_proj"},
    [LADE_Q_NORM] = {.module = "self_attn.q_norm", .vector = 1, .value = LADE_VALUE_PLUS_ONE},
    [LADE_K_NORM] = {.module = "self_attn.k_norm", .vector = 1, .value = LADE_VALUE_PLUS_ONE},
    [LADE_DELTA_QKVZ] = {.module = "linear_attn.in_proj_qkvz", .rows = LADE_ROWS_QKVZ},
    [LADE_DELTA_BA] = {.module = "linear_attn.in_proj_ba", .rows = LADE_ROWS_BA},
    [LADE_DELTA_CONV] = {.module = "linear_attn.conv1d", .vector = 1},
    [LADE_DELTA_DECAY] = {.module = "linear_attn.A_log",
                          .bare = 1,
                          .vector = 1,
                          .value = LADE_VALUE_NEG_EXP},
    [LADE_DELTA_DT_BIAS] = {.module = "linear_attn.dt_bias", .bare = 1, .vector = 1},
    [LADE_DELTA_NORM] = {.module = "linear_attn.norm", .vector = 1},
    [LADE_DELTA_OUT] = {.module = "linear_attn.out_proj"},
    [LADE_ROUTER] = {.module = "mlp.gate"},
    [LADE_SHARED_GATE] = {.module = "mlp.shared_expert_gate"},
    [LADE_SHARED_FF_GATE] = {.module = "mlp.shared_expert.gate_proj"},
    [LADE_SHARED_FF_UP] = {.module = "mlp.shared_expert.up_proj"},
    [LADE_SHARED_FF_DOWN] = {.module = "mlp.shared_expert.down_proj"},
    [LADE_EXPERT_GATE] = {.module = "gate_proj"},
    [LADE_EXPERT_UP] = {.module = "up_proj"},
    [LADE_EXPERT_DOWN] = {.module = "down_proj"},
};

/* Writes the module's name, returns its length. */
static size_t module_name(enum lade_role role, int layer, int expert, char *buf, size_t size)
{
    const char *module = hf_roles[role].module;
    int n = expert >= 0
                ? snprintf(buf, size, "model.layers.%d.mlp.experts.%d.%s", layer, expert, module)
            : layer >= 0 ? snprintf(buf, size, "model.layers.%d.%s", layer, module)
                         : snprintf(buf, size, "%s", module);
    return (size_t)n;
}

static const char *const stack_names[] = {"gate_up_proj", "down_proj"};

static void stack_name(int layer, int down, char *buf, size_t size)
{
    snprintf(buf, size, "model.layers.%d.mlp.experts.%s", layer, stack_names[down]);
}

static void hf_tensor_name(const struct lade_tensor *t, int layer, int expert, int part, char *buf,
                           size_t size)
{
    if (t->naming == LADE_HF_STACK) {
        stack_name(layer, t->role == LADE_EXPERT_DOWN, buf, size);
        return;
    }
    size_t n = module_name(t->role, layer, expert, buf, size);
    if (n < size)
        snprintf(buf + n, size - n, "%s",
                 t->bits                  ? lade_hf_suffix(t, part)
                 : hf_roles[t->role].bare ? ""
                                          : ".weight");
}

/* ---- binding --------------------------------------------------------------------------------- */

struct lade_raw *lade_hf_find(struct lade_build *b, char *name, size_t module_len,
                              const char *suffix)
{
    size_t n = strlen(suffix);
    if (module_len + n >= NAME)
        return NULL;
    memcpy(name + module_len, suffix, n + 1);
    return lade_raws_find(&b->raws, name, module_len + n);
}

int lade_hf_wrong_shape(const struct lade_build *b, const struct lade_raw *raw, const char *name,
                        const uint64_t *want, int rank, const char *by, char *err)
{
    char have_text[96], want_text[96];
    return lade_fail(err,
                     "%s: tensor '%s' has shape %s, expected %s by %s; the files do not belong "
                     "together",
                     lade_raw_file(b, raw), name,
                     lade_dims_text(have_text, sizeof have_text, raw->dims, raw->rank),
                     lade_dims_text(want_text, sizeof want_text, want, rank), by);
}

bool lade_hf_same_dims(const struct lade_raw *raw, const uint64_t *want, int rank)
{
    return raw->rank == rank && !memcmp(raw->dims, want, (size_t)rank * sizeof *want);
}

int lade_hf_wrong_dtype(const struct lade_build *b, const struct lade_raw *raw, const char *name,
                        const char *want, char *err)
{
    return lade_fail(err,
                     "%s: tensor '%s' has dtype %s, expected %s; get a checkpoint in a "
                     "supported format",
                     lade_raw_file(b, raw), name, lade_dtypes[raw->dtype].name, want);
}

void lade_hf_take(struct lade_tensor *t, int part, struct lade_raw *raw)
{
    raw->used = true;
    t->parts[part] = (struct lade_span){raw->shard, raw->offset, raw->bytes};
}

/* Source and packed type of a plain tensor. */
static int plain_type(const struct lade_build *b, struct lade_tensor *t, const struct lade_raw *raw,
                      const char *name, char *err)
{
    static const struct {
        uint8_t source, packed;
    } types[LADE_N_DTYPES] = {
        [LADE_DT_F32] = {LADE_SRC_F32, LADE_F32},
        [LADE_DT_F16] = {LADE_SRC_F16, LADE_F16},
        [LADE_DT_BF16] = {LADE_SRC_BF16, LADE_BF16},
    };
    if (raw->dtype != LADE_DT_F32 && raw->dtype != LADE_DT_F16 && raw->dtype != LADE_DT_BF16)
        return lade_hf_wrong_dtype(b, raw, name, "BF16, F16 or F32", err);
    bool to_f32 = hf_roles[t->role].vector || t->role == LADE_SHARED_GATE ||
                  (t->role == LADE_ROUTER && raw->dtype != LADE_DT_BF16); /* GPUs have those two */
    t->source = types[raw->dtype].source;
    t->packed.type = to_f32 ? LADE_F32 : types[raw->dtype].packed;
    t->packed.group = 0;
    t->packed.has_zeros = false;
    return 0;
}

/* The shape a plain tensor has in the file. Sizes of one may be dropped there. */
static int check_plain_dims(const struct lade_build *b, const struct lade_tensor *t,
                            const struct lade_raw *raw, const char *name, char *err)
{
    uint64_t rows = (uint64_t)t->packed.rows, cols = (uint64_t)t->packed.cols;
    const uint64_t matrix[] = {rows, cols}, conv[] = {rows, 1, cols}, vector[] = {cols};
    if (t->role == LADE_DELTA_CONV)
        return lade_hf_same_dims(raw, conv, 3) || lade_hf_same_dims(raw, matrix, 2)
                   ? 0
                   : lade_hf_wrong_shape(b, raw, name, conv, 3, "config.json", err);
    if (hf_roles[t->role].vector)
        return lade_hf_same_dims(raw, vector, 1)
                   ? 0
                   : lade_hf_wrong_shape(b, raw, name, vector, 1, "config.json", err);
    if (lade_hf_same_dims(raw, matrix, 2) || (rows == 1 && lade_hf_same_dims(raw, vector, 1)))
        return 0;
    return lade_hf_wrong_shape(b, raw, name, matrix, 2, "config.json", err);
}

static int bind_plain(struct lade_build *b, struct lade_tensor *t, struct lade_raw *raw,
                      const char *name, char *err)
{
    if (check_plain_dims(b, t, raw, name, err) || plain_type(b, t, raw, name, err))
        return -1;
    t->n_parts = 1;
    lade_hf_take(t, 0, raw);
    return 0;
}

/* One expert's slice of the layer's fused tensors: gate_up [experts][2 * ff][hidden] with the
 * gate's rows first, down [experts][hidden][ff]. */
static int bind_stack(struct lade_build *b, struct lade_tensor *t, int layer, int expert, char *err)
{
    bool down = t->role == LADE_EXPERT_DOWN;
    uint64_t rows = (uint64_t)t->packed.rows, cols = (uint64_t)t->packed.cols;
    const uint64_t want[] = {(uint64_t)b->cat->shape.experts, down ? rows : 2 * rows, cols};
    struct lade_raw *raw = b->stack[down];
    char name[NAME];
    stack_name(layer, down, name, sizeof name);
    if (!raw)
        return lade_fail(err, "%s: tensor '%s' is missing; download the checkpoint again", b->list,
                         name);
    if (!lade_hf_same_dims(raw, want, 3))
        return lade_hf_wrong_shape(b, raw, name, want, 3, "config.json", err);
    if (plain_type(b, t, raw, name, err))
        return -1;
    raw->used = true;
    uint64_t bytes = rows * cols * (uint64_t)lade_dtypes[raw->dtype].bytes;
    uint64_t slices = down ? 1 : 2, slice = t->role == LADE_EXPERT_UP ? 1 : 0;
    t->naming = LADE_HF_STACK;
    t->n_parts = 1;
    t->parts[0] = (struct lade_span){
        raw->shard, raw->offset + ((uint64_t)expert * slices + slice) * bytes, bytes};
    return 0;
}

static void find_stack(struct lade_build *b, int layer)
{
    char name[NAME];
    for (int down = 0; down < 2; down++) {
        stack_name(layer, down, name, sizeof name);
        b->stack[down] = lade_raws_find(&b->raws, name, strlen(name));
    }
    b->stack_layer = layer;
}

/* Nothing of a module was found where plain or quantized tensors should be: says what is there. */
static int not_found(struct lade_build *b, char *name, size_t module_len, bool bare, char *err)
{
    static const char *const others[] = {".weight_scale_2", ".weight_global_scale", ".weight_scale",
                                         ".absmax", ".codes"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct lade_raw *raw = lade_hf_find(b, name, module_len, others[i]);
        if (raw)
            return lade_fail(err,
                             "%s: tensor '%s' belongs to a packing that is not supported%s; get "
                             "a BF16, FP8, AutoRound, GPTQ or AWQ checkpoint",
                             lade_raw_file(b, raw), name, i < 2 ? " (NVFP4)" : "");
    }
    lade_hf_find(b, name, module_len, bare ? "" : ".weight");
    return lade_fail(err, "%s: tensor '%s' is missing; download the checkpoint again", b->list,
                     name);
}

static int hf_bind(struct lade_build *b, struct lade_tensor *t, int layer, int expert, char *err)
{
    const struct hf_role *role = &hf_roles[t->role];
    t->value = role->value;
    t->rows = role->rows;
    if (expert >= 0) {
        if (b->stack_layer != layer)
            find_stack(b, layer);
        if (b->stack[0] || b->stack[1])
            return bind_stack(b, t, layer, expert, err);
    }
    char name[NAME];
    size_t n = module_name(t->role, layer, expert, name, sizeof name);
    int rc = role->vector ? 0 : lade_hf_bind_quantized(b, t, name, n, err);
    if (rc)
        return rc < 0 ? -1 : 0;
    struct lade_raw *plain = lade_hf_find(b, name, n, role->bare ? "" : ".weight");
    if (plain)
        return bind_plain(b, t, plain, name, err);
    return not_found(b, name, n, role->bare, err);
}

const struct lade_format lade_format_hf = {
    .name = "safetensors",
    .read = lade_hf_read,
    .bind = hf_bind,
    .tensor_name = hf_tensor_name,
};
