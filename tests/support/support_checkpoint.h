/* support_checkpoint.h - tiny checkpoints made in memory and written to a temporary directory, so
 * that a test can break exactly one thing. Fails the running cmocka test where it cannot. */
#ifndef LADE_TESTS_SUPPORT_CHECKPOINT_H
#define LADE_TESTS_SUPPORT_CHECKPOINT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { SUPPORT_DIMS = 4 };

struct support_tensor {
    char name[128], dtype[16];
    int rank;
    uint64_t dims[SUPPORT_DIMS];
    unsigned char *data; /* owned */
    size_t bytes;
};

struct support_checkpoint {
    char dir[64]; /* made by support_new, removed by support_free */
    json_t *config, *generation;
    struct support_tensor *tensors;
    int n;
    uint64_t seed; /* of the values to come */
};

/* A directory and the two JSON files of a model with 2 layers (delta-net, full attention), hidden
 * 32, 2 key heads of 4, 4 value heads of 12, 3 experts of 32; no tensors yet. */
void support_new(struct support_checkpoint *c);
void support_free(struct support_checkpoint *c);

/* Appends a tensor with random values that suit its dtype and name. */
struct support_tensor *support_add(struct support_checkpoint *c, const char *name,
                                   const char *dtype, int rank, const uint64_t *dims);
struct support_tensor *support_find(struct support_checkpoint *c, const char *name);
void support_drop(struct support_checkpoint *c, const char *name);

/* New values, which `name` alone determines. */
void support_refill(struct support_tensor *t, const char *name);

/* Every tensor of the model, all of them of `dtype` (BF16, F16 or F32); its
 * hidden_size, vocab_size and moe_intermediate_size are those of config. */
void support_add_plain(struct support_checkpoint *c, const char *dtype);

/* Replaces the .weight of a module by qweight, qzeros and scales, symmetric, zeros stored minus
 * one. */
void support_quantize(struct support_checkpoint *c, const char *module, int bits, int group);

/* Quantizes everything AutoRound does: experts with 4 bits, other linear layers with 8, group 16,
 * and adds the quantization_config that says so. */
void support_quantize_mixed(struct support_checkpoint *c);

/* Sets (or with NULL removes) a key of an object from JSON text. */
void support_set(json_t *object, const char *key, const char *json);

/* Writes config, generation config and the tensors: one shard as model.safetensors, more with an
 * index. */
void support_save(struct support_checkpoint *c, int shards);

/* Writes DIR/FILE. */
void support_write(const struct support_checkpoint *c, const char *file, const void *data,
                   size_t len);

/* "DIR/FILE" in a static buffer. */
const char *support_path(const struct support_checkpoint *c, const char *file);

#endif
