#include "engine/checkpoint/catalog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/checkpoint/build.h"
#include "engine/checkpoint/file.h"
#include "engine/checkpoint/packed.h"
#include "engine/checkpoint/scan.h"
#include "kernels/blocks.h"

/* ---- what a piece is made of ----------------------------------------------------------------- */

static const uint8_t embed_roles[] = {LADE_EMBED};
static const uint8_t head_roles[] = {LADE_FINAL_NORM, LADE_HEAD};
static const uint8_t attention_roles[] = {
    LADE_IN_NORM,        LADE_POST_NORM,    LADE_ATTN_Q,         LADE_ATTN_K, LADE_ATTN_V,
    LADE_ATTN_O,         LADE_Q_NORM,       LADE_K_NORM,         LADE_ROUTER, LADE_SHARED_GATE,
    LADE_SHARED_FF_GATE, LADE_SHARED_FF_UP, LADE_SHARED_FF_DOWN,
};
static const uint8_t delta_roles[] = {
    LADE_IN_NORM,    LADE_POST_NORM,   LADE_DELTA_QKVZ,     LADE_DELTA_Z,      LADE_DELTA_BA,
    LADE_DELTA_CONV, LADE_DELTA_DECAY, LADE_DELTA_DT_BIAS,  LADE_DELTA_NORM,   LADE_DELTA_OUT,
    LADE_ROUTER,     LADE_SHARED_GATE, LADE_SHARED_FF_GATE, LADE_SHARED_FF_UP, LADE_SHARED_FF_DOWN,
};
static const uint8_t expert_roles[] = {LADE_EXPERT_GATE, LADE_EXPERT_UP, LADE_EXPERT_DOWN};

struct roles {
    const uint8_t *list;
    int n;
};

static struct roles roles_of(const struct lade_shape *s, enum lade_piece_kind kind, int layer)
{
    switch (kind) {
    case LADE_PIECE_EMBED:
        return (struct roles){embed_roles, 1};
    case LADE_PIECE_HEAD:
        return (struct roles){head_roles, s->tied_embeddings ? 1 : 2};
    case LADE_PIECE_EXPERT:
        return (struct roles){expert_roles, sizeof expert_roles};
    default:
        return s->full_attention[layer] ? (struct roles){attention_roles, sizeof attention_roles}
                                        : (struct roles){delta_roles, sizeof delta_roles};
    }
}

void lade_role_dims(const struct lade_shape *s, enum lade_role role, int *rows, int *cols)
{
    const int q = s->heads * s->head_dim, v = s->value_heads * s->value_dim;
    const int dims[LADE_N_ROLES][2] = {
        [LADE_EMBED] = {s->vocab, s->hidden},
        [LADE_FINAL_NORM] = {1, s->hidden},
        [LADE_HEAD] = {s->vocab, s->hidden},
        [LADE_IN_NORM] = {1, s->hidden},
        [LADE_POST_NORM] = {1, s->hidden},
        [LADE_ATTN_Q] = {2 * q, s->hidden},
        [LADE_ATTN_K] = {s->kv_heads * s->head_dim, s->hidden},
        [LADE_ATTN_V] = {s->kv_heads * s->head_dim, s->hidden},
        [LADE_ATTN_O] = {s->hidden, q},
        [LADE_Q_NORM] = {1, s->head_dim},
        [LADE_K_NORM] = {1, s->head_dim},
        [LADE_DELTA_QKVZ] = {lade_shape_qkvz(s), s->hidden},
        [LADE_DELTA_Z] = {v, s->hidden},
        [LADE_DELTA_BA] = {2 * s->value_heads, s->hidden},
        [LADE_DELTA_CONV] = {lade_shape_channels(s), s->conv_kernel},
        [LADE_DELTA_DECAY] = {1, s->value_heads},
        [LADE_DELTA_DT_BIAS] = {1, s->value_heads},
        [LADE_DELTA_NORM] = {1, s->value_dim},
        [LADE_DELTA_OUT] = {s->hidden, v},
        [LADE_ROUTER] = {s->experts, s->hidden},
        [LADE_SHARED_GATE] = {1, s->hidden},
        [LADE_SHARED_FF_GATE] = {s->shared_ff, s->hidden},
        [LADE_SHARED_FF_UP] = {s->shared_ff, s->hidden},
        [LADE_SHARED_FF_DOWN] = {s->hidden, s->shared_ff},
        [LADE_EXPERT_GATE] = {s->expert_ff, s->hidden},
        [LADE_EXPERT_UP] = {s->expert_ff, s->hidden},
        [LADE_EXPERT_DOWN] = {s->hidden, s->expert_ff},
    };
    *rows = dims[role][0];
    *cols = dims[role][1];
}

/* ---- building -------------------------------------------------------------------------------- */

struct rooms { /* allocated, of the catalog's growing arrays; checksums counted */
    int tensors, pieces, checks;
};

/* Grows an array to hold one more. The catalog grows with what was found instead of with what the
 * config claims, so that a small hostile file cannot ask for much memory. */
static int grow(void **items, int n, int *room, size_t size, char *err)
{
    if (n < *room)
        return 0;
    int wider = *room ? *room + *room / 2 : 64;
    void *grown = realloc(*items, (size_t)wider * size);
    if (!grown)
        return lade_fail(err, "catalog: no memory for %d entries; free some", wider);
    *items = grown;
    *room = wider;
    return 0;
}

static int add_tensor(struct lade_build *b, struct lade_piece *piece, enum lade_role role,
                      struct rooms *room, char *err)
{
    struct lade_catalog *cat = b->cat;
    struct lade_tensor t = {.role = role, .piece = cat->n_pieces};
    struct lade_matrix_layout layout;
    lade_role_dims(&cat->shape, role, &t.packed.rows, &t.packed.cols);
    if (cat->ops->bind(b, &t, piece->layer, piece->expert, err))
        return -1;
    size_t end;
    if (lade_matrix_layout(&t.packed, &layout) ||
        __builtin_add_overflow(piece->bytes, layout.bytes, &end) || end > SIZE_MAX - LADE_ALIGN)
        return lade_fail(err,
                         "%s: a matrix of %d x %d with groups of %d has no layout; the file is "
                         "damaged",
                         cat->path, t.packed.rows, t.packed.cols, t.packed.group);
    t.offset = piece->bytes;
    t.bytes = layout.bytes;
    piece->bytes = (end + LADE_ALIGN - 1) & ~(size_t)(LADE_ALIGN - 1);
    for (int i = 0; i < t.n_parts; i++) {
        piece->source_bytes += t.parts[i].bytes;
        cat->shards[t.parts[i].shard].wanted += t.parts[i].bytes;
    }
    if (grow((void **)&cat->tensors, cat->n_tensors, &room->tensors, sizeof t, err))
        return -1;
    cat->tensors[cat->n_tensors++] = t;
    piece->n_tensors++;
    return 0;
}

static int add_piece(struct lade_build *b, enum lade_piece_kind kind, int layer, int expert,
                     struct rooms *room, char *err)
{
    int *checks = &room->checks;
    struct lade_catalog *cat = b->cat;
    struct lade_piece piece = {
        .kind = kind, .layer = layer, .expert = expert, .first = cat->n_tensors};
    struct roles roles = roles_of(&cat->shape, kind, layer);
    b->z_apart = false;
    for (int i = 0; i < roles.n; i++) {
        if (roles.list[i] == LADE_DELTA_Z && !b->z_apart)
            continue;
        if (add_tensor(b, &piece, roles.list[i], room, err))
            return -1;
    }
    if (grow((void **)&cat->pieces, cat->n_pieces, &room->pieces, sizeof piece, err))
        return -1;
    piece.first_check = *checks;
    *checks += lade_packed_blocks(piece.bytes);
    cat->pieces[cat->n_pieces++] = piece;
    cat->source_bytes += piece.source_bytes;
    if (__builtin_add_overflow(cat->packed_bytes, piece.bytes, &cat->packed_bytes))
        return lade_fail(err, "%s: the model's size does not fit 64 bits; the file is damaged",
                         cat->path);
    return 0;
}

static int add_pieces(struct lade_build *b, char *err)
{
    const struct lade_shape *s = &b->cat->shape;
    struct rooms room = {0};
    if (add_piece(b, LADE_PIECE_EMBED, -1, -1, &room, err) ||
        add_piece(b, LADE_PIECE_HEAD, -1, -1, &room, err))
        return -1;
    for (int layer = 0; layer < s->layers; layer++) {
        if (add_piece(b, LADE_PIECE_BASE, layer, -1, &room, err))
            return -1;
        for (int expert = 0; expert < s->experts; expert++)
            if (add_piece(b, LADE_PIECE_EXPERT, layer, expert, &room, err))
                return -1;
    }
    if (b->cat->checks && room.checks != b->cat->n_checks)
        return lade_fail(err, "%s: its checksums do not fit its pieces; run lade pack again",
                         b->cat->path);
    return 0;
}

/* "int4+int8 g128" or "Q4_K+Q6_K" from the matrices' types, where any is quantized only those;
 * what always becomes F32 does not count. Codes of 2 and 3 bits are named by what the file has. */
static void describe_quant(struct lade_catalog *cat)
{
    enum { INT2 = LADE_N_TYPES + LADE_N_BLOCKS, INT3, KINDS };
    const char *names[KINDS] = {0};
    int group = 0, first = 0; /* group: 0 = none seen, -1 = several */
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        const struct lade_matrix *m = &t->packed;
        if (m->rows == 1 || t->role == LADE_ROUTER || t->role == LADE_DELTA_CONV)
            continue;
        if (t->bits == 2 || t->bits == 3)
            names[t->bits == 2 ? INT2 : INT3] = t->bits == 2 ? "int2" : "int3";
        else
            names[m->type == LADE_BLOCKS ? LADE_N_TYPES + m->block : (int)m->type] =
                lade_matrix_type(m);
        if (m->type > LADE_BF16)
            first = LADE_BF16 + 1;
        if (m->group)
            group = group == 0 || group == m->group ? m->group : -1;
    }
    size_t n = 0;
    for (int i = first; i < KINDS; i++)
        if (names[i] && n + strlen(names[i]) + 2 < sizeof cat->quant)
            n += (size_t)sprintf(cat->quant + n, "%s%s", n ? "+" : "", names[i]);
    if (group > 0)
        snprintf(cat->quant + n, sizeof cat->quant - n, " g%d", group);
}

static void count_ignored(struct lade_build *b)
{
    for (size_t i = 0; i < b->raws.n; i++)
        b->cat->ignored += !b->raws.items[i].used;
}

/* The last component of the directory's real name. */
static char *model_name(const char *path)
{
    char *real = realpath(path, NULL);
    const char *base = lade_path_base(real ? real : path);
    size_t len = strlen(base);
    char *name = malloc(len + 8);
    if (name)
        lade_printable(name, len + 8, base, len);
    free(real);
    return name;
}

static bool is_gguf(const char *path)
{
    char magic[4];
    int fd = lade_file_open(path);
    bool is = fd >= 0 && read(fd, magic, 4) == 4 && !memcmp(magic, "GGUF", 4);
    if (fd >= 0)
        close(fd);
    return is;
}

static bool has_file(const char *dir, const char *name)
{
    char *path = lade_path_join(dir, name);
    bool has = path && !access(path, F_OK);
    free(path);
    return has;
}

static const struct lade_format *format_of(const char *path, char *err)
{
    struct stat st;
    if (stat(path, &st)) {
        lade_fail(err, "%s: %s; give the directory of a model (config.json and *.safetensors)",
                  path, strerror(errno));
        return NULL;
    }
    if (S_ISDIR(st.st_mode)) {
        if (has_file(path, LADE_PACKED_INDEX))
            return &lade_format_packed;
        if (has_file(path, "config.json") || !has_file(path, LADE_PACKED_JOURNAL))
            return &lade_format_hf;
        lade_fail(err,
                  "%s: lade pack was stopped before its end; run it again, it goes on from there",
                  path);
        return NULL;
    }
    if (S_ISREG(st.st_mode) && is_gguf(path)) /* a pipe would be waited for */
        return &lade_format_gguf;
    lade_fail(err,
              "%s: neither a directory nor a GGUF file; give the directory of a model (config.json "
              "and *.safetensors) or a .gguf file",
              path);
    return NULL;
}

const char *lade_raw_file(const struct lade_build *b, const struct lade_raw *raw)
{
    return lade_path_base(b->cat->shards[raw->shard].path);
}

int lade_check_shards(const struct lade_catalog *cat, const char *where, char *err)
{
    char list[160];
    int missing = 0;
    size_t n = 0;
    for (int i = 0; i < cat->n_shards; i++) {
        struct stat st;
        if (!stat(cat->shards[i].path, &st) || errno != ENOENT)
            continue;
        const char *name = lade_path_base(cat->shards[i].path);
        if (n + strlen(name) + 8 < sizeof list)
            n += (size_t)sprintf(list + n, "%s%s", missing ? ", " : "", name);
        else if (n && list[n - 1] != '.')
            n += (size_t)sprintf(list + n, ", ...");
        missing++;
    }
    return missing ? lade_fail(err, "%s: %d of %d files %s missing: %s; download %s", where,
                               missing, cat->n_shards, missing == 1 ? "is" : "are", list,
                               missing == 1 ? "it" : "them")
                   : 0;
}

int lade_catalog_open(struct lade_catalog **out, const char *path, char *err)
{
    *out = NULL;
    const struct lade_format *format = format_of(path, err);
    if (!format)
        return -1;
    struct lade_catalog *cat = calloc(1, sizeof *cat);
    if (!cat || !(cat->path = strdup(path)) || !(cat->name = model_name(path))) {
        lade_catalog_close(cat);
        return lade_fail(err, "%s: no memory; free some", path);
    }
    cat->ops = format;
    cat->format = format->name;
    struct lade_build b = {.cat = cat, .stack_layer = -1, .packed_piece = -1};
    int rc = format->read(&b, path, err) || add_pieces(&b, err) ? -1 : 0;
    if (!rc) {
        count_ignored(&b);
        describe_quant(cat);
    }
    lade_raws_free(&b.raws);
    lade_quant_free(b.quant);
    if (b.packed)
        lade_packed_free(b.packed);
    free(b.packed);
    free(b.list);
    if (rc) {
        lade_catalog_close(cat);
        return -1;
    }
    *out = cat;
    return 0;
}

void lade_catalog_close(struct lade_catalog *cat)
{
    if (!cat)
        return;
    for (int i = 0; i < cat->n_shards; i++) {
        free(cat->shards[i].path);
        while (cat->shards[i].n_copies)
            free(cat->shards[i].copies[--cat->shards[i].n_copies]);
    }
    free(cat->shards);
    free(cat->checks);
    free(cat->tensors);
    free(cat->pieces);
    free(cat->path);
    free(cat->name);
    free(cat->chat_template);
    free(cat);
}

/* ---- looking things up ----------------------------------------------------------------------- */

int lade_catalog_base(const struct lade_catalog *cat, int layer)
{
    return 2 + layer * (1 + cat->shape.experts);
}

int lade_catalog_expert(const struct lade_catalog *cat, int layer, int expert)
{
    return lade_catalog_base(cat, layer) + 1 + expert;
}

const struct lade_tensor *lade_catalog_find(const struct lade_catalog *cat, int piece,
                                            enum lade_role role)
{
    if (piece < 0 || piece >= cat->n_pieces)
        return NULL;
    const struct lade_piece *p = &cat->pieces[piece];
    for (int i = 0; i < p->n_tensors; i++)
        if (cat->tensors[p->first + i].role == role)
            return &cat->tensors[p->first + i];
    return NULL;
}

void lade_catalog_tensor_name(const struct lade_catalog *cat, const struct lade_tensor *t, int part,
                              char *buf, size_t size)
{
    const struct lade_piece *p = &cat->pieces[t->piece];
    cat->ops->tensor_name(t, p->layer, p->expert, part, buf, size);
}
