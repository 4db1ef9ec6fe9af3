/* scan.h - a pull reader for the large JSON texts of a checkpoint: tensor headers and index.
 *
 * A full checkpoint lists 221,000 tensors twice. A DOM of that costs seconds and hundreds of MB,
 * so these two texts, whose structure is fixed, are read in one pass with no allocation. The
 * small texts (config.json and its like) go through jansson.
 *
 * Every function returns false at the first byte that is not valid there; `at` then stands near
 * it. Nothing reads past `end`. */
#ifndef LADE_CHECKPOINT_SCAN_H
#define LADE_CHECKPOINT_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lade_scan {
    char *at, *end;
};

/* The next byte that is not white space, or 0 at the end. Does not consume it. */
char lade_scan_peek(struct lade_scan *s);

/* Consumes c if it is the next byte that is not white space. */
bool lade_scan_char(struct lade_scan *s, char c);

/* Reads a string. *text points into the scanned text, where escapes are decoded in place; it is
 * not terminated. Control bytes and \u0000 are refused. */
bool lade_scan_string(struct lade_scan *s, char **text, size_t *len);

/* Reads a non-negative integer without fraction or exponent. */
bool lade_scan_u64(struct lade_scan *s, uint64_t *value);

/* Skips one value of any kind, nested at most 32 deep. */
bool lade_scan_skip(struct lade_scan *s);

/* Copies a string of a file for an error message: at most size - 1 bytes, control bytes replaced
 * and a long text cut in the middle, so that a hostile name cannot touch the terminal or push the
 * rest of the line out. Returns buf. */
const char *lade_printable(char *buf, size_t size, const char *text, size_t len);

#endif
