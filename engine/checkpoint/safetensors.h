/* safetensors.h - headers of safetensors files and the index that joins them.
 *
 * A file is: u64 length n, n bytes of JSON, data. Each JSON member names a tensor with its dtype,
 * shape and data_offsets [begin, end) from the start of the data. The format allows neither holes
 * nor overlap: the tensors, sorted by place, tile the data exactly, and the file ends with the
 * last of them. All of that is checked here. */
#ifndef LADE_CHECKPOINT_SAFETENSORS_H
#define LADE_CHECKPOINT_SAFETENSORS_H

#include "engine/checkpoint/raw.h"

/* The format's own limit on n. */
#define LADE_SAFETENSORS_MAX_HEADER 100000000

/* Parses a header text of n bytes (changed: strings are decoded in place) of a file of
 * `file_bytes` bytes and appends its tensors to `out` with the given shard number. Names point
 * into `text`. `file` only names the file in errors. */
int lade_safetensors_parse(struct lade_raws *out, char *text, size_t n, uint64_t file_bytes,
                           int shard, const char *file, char *err);

/* Opens the file, reads and parses its header. On success *text is the header, which the caller
 * frees after the last use of the names, and *file_bytes the size of the file. */
int lade_safetensors_read(struct lade_raws *out, const char *path, int shard, char **text,
                          uint64_t *file_bytes, char *err);

/* Parses model.safetensors.index.json (changed in place): appends one item with found = false per
 * member of weight_map, and the shards' file names, sorted, to *files, an array of
 * *n_files strings that point into `text` and are terminated there. The caller frees the
 * array, not the strings. File names that leave the directory are refused. */
int lade_index_parse(struct lade_raws *out, char *text, size_t n, char ***files, int *n_files,
                     const char *file, char *err);

#endif
