/* gguf.h - the container format of llama.cpp: metadata and a list of tensors, versions 2 and 3.
 *
 * A file is: "GGUF", u32 version, u64 tensors, u64 metadata entries; the entries (key, type,
 * value); the tensors (name, dimensions with the contiguous one first, type, offset); then, at the
 * next multiple of general.alignment, the data. All numbers are little-endian. Large models are
 * split over files PREFIX-00001-of-00003.gguf, each with its own header; the first has the
 * metadata. */
#ifndef LADE_CHECKPOINT_GGUF_H
#define LADE_CHECKPOINT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/checkpoint/raw.h"

/* clang-format off */
enum lade_gguf_type {
    LADE_GGUF_U8, LADE_GGUF_I8, LADE_GGUF_U16, LADE_GGUF_I16, LADE_GGUF_U32, LADE_GGUF_I32,
    LADE_GGUF_F32, LADE_GGUF_BOOL, LADE_GGUF_STRING, LADE_GGUF_ARRAY, LADE_GGUF_U64, LADE_GGUF_I64,
    LADE_GGUF_F64, LADE_GGUF_N_TYPES
};
/* clang-format on */

/* Bytes of a file, not terminated. */
struct lade_gguf_text {
    const char *at;
    size_t len;
};

struct lade_gguf_entry {
    struct lade_gguf_text key;
    uint8_t type, element;       /* enum lade_gguf_type; element: of an array */
    uint64_t count;              /* elements of an array */
    struct lade_gguf_text value; /* its bytes: of a string the text, of an array all elements */
};

/* One file's header. Texts point into the buffer it was parsed from. */
struct lade_gguf {
    char *buffer;     /* owned; NULL where lade_gguf_parse was called directly */
    const char *file; /* for messages, the caller's */
    uint32_t version;
    uint64_t alignment;
    uint64_t data; /* where the data starts */
    uint64_t file_bytes;
    struct lade_gguf_entry *entries;
    size_t n_entries;
    struct lade_raws tensors; /* dims outermost first, offsets from the start of the file */
};

/* Parses a header of which the first len bytes are in buf. 0: done; -1: failed; 1: the header is
 * longer than that and the file, too: read more and call again. */
int lade_gguf_parse(struct lade_gguf *g, const char *buf, size_t len, uint64_t file_bytes,
                    int shard, const char *file, char *err);

/* Opens a file and parses its header. */
int lade_gguf_open(struct lade_gguf *g, const char *path, int shard, char *err);
void lade_gguf_close(struct lade_gguf *g);

/* The entry of that key, or NULL. */
const struct lade_gguf_entry *lade_gguf_find(const struct lade_gguf *g, const char *key);

/* The value of an entry of any integer, or any numeric type. False where the entry is NULL or of
 * another type or (integer) does not fit. */
bool lade_gguf_int(const struct lade_gguf_entry *e, int64_t *value);
bool lade_gguf_real(const struct lade_gguf_entry *e, double *value);
bool lade_gguf_string(const struct lade_gguf_entry *e, struct lade_gguf_text *value);

/* Element i of an array of integers, which i must not exceed. */
int64_t lade_gguf_element(const struct lade_gguf_entry *e, uint64_t i);

/* Takes the next string off *rest, which starts as the value of an array of strings. False at the
 * end. */
bool lade_gguf_next_string(struct lade_gguf_text *rest, struct lade_gguf_text *value);

/* The files of a split model: *paths has n new strings, which the caller frees like the array. A
 * path that is no part of a split gives itself. */
int lade_gguf_parts(const char *path, char ***paths, int *n, char *err);

#endif
