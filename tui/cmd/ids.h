/* ids.h - token ids as text. */
#ifndef LADE_TUI_CMD_IDS_H
#define LADE_TUI_CMD_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/error.h"

/* Reads ids separated by blanks or commas, each below `limit`; `name` is for messages. *ids is
 * malloc'ed, also when there are none. */
int ids_parse(const char *text, const char *name, int limit, int32_t **ids, size_t *n, char *err);

#endif
