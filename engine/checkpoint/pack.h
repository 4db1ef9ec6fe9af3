/* pack.h - from a file's bytes to the packed layout of kernels/matrix.h.
 *
 * The parts of a tensor (codes, zeros, scales) may arrive in any order and from different
 * threads: each writes its own part of the destination. Repacking is a copy at memory speed. Values
 * stay what they are: integers and 8-bit floats keep their codes, and scales are exact but for BF16
 * and F32 ones below 2^-14, which tiles hold in steps of 2^-24. */
#ifndef LADE_CHECKPOINT_PACK_H
#define LADE_CHECKPOINT_PACK_H

#include "engine/checkpoint/catalog.h"

/* Whether the packed bytes of t are the file's bytes as they are, so that they can be read
 * straight to their place. */
bool lade_pack_is_copy(const struct lade_tensor *t);

/* Packs part `part` of tensor t. `src` holds the part's bytes as they are in the file
 * (any alignment), `dst` the start of the tensor's packed bytes, which the caller has zeroed and
 * aligned to LADE_ALIGN. Checks values that only the data can tell (a symmetric tensor with other
 * zeros, an infinite scale). Any thread; two parts of a tensor may be packed at the same time. */
int lade_pack(const struct lade_catalog *cat, const struct lade_tensor *t, int part,
              const void *src, void *dst, char *err);

/* Bytes of one row of part `part` in the file, where a part may be packed in runs of rows
 * (lade_pack_rows); 0 where only the whole part can be. */
size_t lade_pack_row_bytes(const struct lade_tensor *t, int part);

/* The same as lade_pack for rows [first, first + n) of the part alone: `src` holds their bytes. */
int lade_pack_rows(const struct lade_catalog *cat, const struct lade_tensor *t, int part, int first,
                   int n, const void *src, void *dst, char *err);

/* Where among its packed bytes only these rows of part `part` lie, if not all of them; n 0: the whole part.
 * Returns the bytes from *at on, which may be none. */
size_t lade_pack_own(const struct lade_tensor *t, int part, int first, int n, size_t *at);

#endif
