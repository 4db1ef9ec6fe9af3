/* support_gguf.h - writes small GGUF files: a header under full control, and whole models made of
 * a support_checkpoint the way llama.cpp's converter makes them. */
#ifndef LADE_TESTS_SUPPORT_GGUF_H
#define LADE_TESTS_SUPPORT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/support_checkpoint.h"

/* Bytes that grow. */
struct support_bytes {
    unsigned char *at; /* owned */
    size_t len;
};

void support_put(struct support_bytes *b, const void *data, size_t len);
void support_put_u32(struct support_bytes *b, uint32_t v);
void support_put_u64(struct support_bytes *b, uint64_t v);
void support_put_text(struct support_bytes *b, const char *text);

/* A GGUF file in the making. */
struct support_gguf {
    struct support_bytes entries, infos, data;
    uint64_t n_entries, n_tensors;
    uint32_t version;
};

void support_gguf_u32(struct support_gguf *g, const char *key, uint32_t value);
void support_gguf_u16(struct support_gguf *g, const char *key, uint16_t value);
void support_gguf_f32(struct support_gguf *g, const char *key, float value);
void support_gguf_text(struct support_gguf *g, const char *key, const char *value);

/* Appends a tensor; dims as ggml has them: the contiguous one first. */
void support_gguf_tensor(struct support_gguf *g, const char *name, uint32_t type, int rank,
                         const uint64_t *dims, const void *data, size_t len);

/* Header and data in one run; the caller frees out->at. */
void support_gguf_finish(struct support_gguf *g, struct support_bytes *out);
void support_gguf_clear(struct support_gguf *g);

enum support_layout {
    SUPPORT_SSM_IN, /* the projection as in the checkpoint; experts in three stacks */
    SUPPORT_SPLIT,  /* attn_qkv and attn_gate */
    SUPPORT_MIXED,  /* as SPLIT, with attn_gate as F16, rounded towards zero */
    SUPPORT_FUSED,  /* as SPLIT, with fused gate_up_exps and attention q|k|v */
};

/* Writes the F32 checkpoint c (support_add_plain) as PREFIX.gguf or, with parts > 1, as a split.
 * With mtp, a third block and its key are added. */
void support_gguf_save(struct support_checkpoint *c, const char *prefix, enum support_layout layout,
                       int parts, bool mtp);

#endif
