/* state.h - what a timeline of tokens leaves behind: KV caches of the full-attention layers,
 * recurrent state and convolution tails of the delta-net layers.
 *
 * The KV cache may be cut to any length. The recurrent part cannot: it has one value, that after
 * the last token, so going back needs a copy taken at that point (lade_state_save). */
#ifndef LADE_MODEL_STATE_H
#define LADE_MODEL_STATE_H

#include "engine/checkpoint/shape.h"
#include "engine/model/devices.h"

struct lade_layer_state {
    void *k, *v;  /* full attention: [kv_heads][capacity] rows of cache_type */
    float *conv;  /* delta-net: [conv_kernel - 1][channels] */
    float *delta; /* delta-net: [value_heads][key_dim][value_dim] */
    int away;     /* which of the caches lade_state_move() has brought elsewhere; else 0 */
};

struct lade_state {
    struct lade_devices devices; /* a copy: each layer's part is on the device of its part */
    bool kv_in_ram;              /* where the GPUs' KV caches are */
    enum lade_type cache_type;   /* as lade_state_cache_type() says */
    int layers, capacity;        /* capacity in tokens */
    int length;                  /* tokens evaluated */
    size_t kv_bytes;             /* of one k or v cache */
    unsigned char
        *recurrent[LADE_CARDS];     /* of each part: the conv and delta states of its layers in
                                             one run, so that a save is a copy */
    size_t part_bytes[LADE_CARDS];  /* of these */
    size_t recurrent_bytes;         /* of all */
    struct lade_layer_state *layer; /* NULL: not open */
};

/* What the caches hold, by what the user wants, and whether a GPU may have to compute with them. */
enum lade_type lade_state_cache_type(bool exact, bool kv_q8, bool gpu);

/* Bytes that a state of `capacity` tokens takes: caches and recurrent part. 0 on overflow. */
size_t lade_state_bytes(const struct lade_shape *shape, int capacity, enum lade_type cache_type);
size_t lade_state_recurrent_bytes(const struct lade_shape *shape);
size_t lade_state_layer_bytes(const struct lade_shape *shape); /* of these, one delta-net's */

/* kv_in_ram: see lade_part_alloc. The devices stay open until it is closed. */
int lade_state_open(struct lade_state *st, const struct lade_shape *shape,
                    const struct lade_devices *devices, int capacity, enum lade_type cache_type,
                    bool kv_in_ram, char *err);
void lade_state_close(struct lade_state *st);

/* Back to no tokens. */
int lade_state_reset(struct lade_state *st, char *err);

/* Moves everything to other devices, or to other memory of the same ones; both sets are open, the
 * GPUs of both (if any) are the same. One cache at a time, so that little is held twice. On failure
 * the state is where it was, or, where even that fails, closed (st->layer is NULL). */
int lade_state_move(struct lade_state *st, const struct lade_shape *shape,
                    const struct lade_devices *to, bool kv_in_ram, char *err);

/* Copies the recurrent part to / from host memory of recurrent_bytes. After a restore the length
 * must be set to that of the save, at most the tokens the caches still hold. */
int lade_state_save(struct lade_state *st, void *host, char *err);
int lade_state_restore(struct lade_state *st, const void *host, int length, char *err);

/* The same of one delta-net: to its place in that memory. */
int lade_state_save_layer(const struct lade_state *st, const struct lade_shape *shape, int layer,
                          void *host, char *err);

/* Copies the recurrent part of one delta-net to other memory of its device, lade_state_layer_bytes() of
 * it; *there (conv and delta) is where it then lies. */
int lade_state_copy_layer(const struct lade_state *st, const struct lade_shape *shape, int layer,
                          void *to, struct lade_layer_state *there, char *err);

/* The caches as runs: of each attention layer k, then v, of these head after head. Copies the first
 * `length` positions of a run, lade_state_run_bytes() of them, to / from host memory. */
int lade_state_runs(const struct lade_shape *shape);
size_t lade_state_run_bytes(const struct lade_state *st, const struct lade_shape *shape,
                            int length);
int lade_state_save_run(const struct lade_state *st, const struct lade_shape *shape, int run,
                        void *host, int length, char *err);
int lade_state_restore_run(const struct lade_state *st, const struct lade_shape *shape, int run,
                           const void *host, int length, char *err);

#endif
