/* output.h - standard input and output of commands without a screen. */
#ifndef LADE_TUI_OUTPUT_H
#define LADE_TUI_OUTPUT_H

#include <jansson.h>
#include <stddef.h>

#include "engine/engine.h"

/* Writes text of a model or of a saved conversation to stdout. To a pipe as it is; to a terminal
 * without control characters but newline and tab, because they could drive the terminal, and without
 * those that turn the order of what follows. */
void output_text(const char *text, size_t len);

/* The same for what holds names of files, of models or of devices: they are as little trusted. */
void output_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Takes control characters but newline and tab out of a text that a terminal may be shown later: a file to
 * read. */
void output_calm(char *text);

/* Columns of the terminal that `fd` is; 0 where it is none. */
int output_columns(int fd);

/* Such characters, which names of files may hold, become '?' (each byte): for a text on one line. */
void output_clean(char *text);

/* Prints the value and a newline on stdout, flushes, and drops the reference. 0, or -1 with err
 * (also for NULL: out of memory). */
int output_json(json_t *value, char *err);

/* A JSON string; bytes that are no UTF-8 (in names of files) become '?'. */
json_t *output_string(const char *text);

/* Writes `len` bytes to a file ("-": stdout), replacing it. */
int output_file(const char *path, const void *data, size_t len, char *err);

/* What the plan said of its chosen row: {"load_s", "first_s", "ttft_s", "prefill_tps",
 * "decode_tps"}; null where there is none. */
json_t *output_predicted(const struct lade_plan *plan);

/* What each GPU holds of the model: [{"gpu", "first_layer", "layers", "vram_bytes",
 * "vram_peak_bytes"}]. */
json_t *output_cards(const struct lade_card_memory *cards, int n);

/* Where experts were, and what waiting for them cost: the fields of struct lade_traffic. */
json_t *output_traffic(const struct lade_traffic *t);

/* Flushes stdout: a full disk or a closed pipe shows here. */
int output_end(char *err);

/* All of stdin or of a file ("-": stdin): malloc'ed, with a NUL behind it. NULL with err, which says so
 * where it is more than `most` bytes (below SIZE_MAX / 4). OUTPUT_TEXT_MAX: what somebody asks or
 * counts, a hundred times the longest context. */
enum { OUTPUT_TEXT_MAX = 64 << 20 };
char *output_read(const char *path, size_t most, size_t *len, char *err);

#endif
