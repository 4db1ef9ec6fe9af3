/* stats.h - the numbers behind /stats as plain text lines. Pure. */
#ifndef LADE_TUI_VIEW_STATS_H
#define LADE_TUI_VIEW_STATS_H

#include <stddef.h>

#include "engine/engine.h"
#include "tui/meters/meter.h"

/* `planned` is what the plan said of the strategy that runs, or NULL. Writes lines "label  value",
 * aligned, ended by '\n', into out (cap bytes, always NUL-terminated). info and last may be NULL
 * (no model yet, no answer yet). Returns the number of lines. */
int stats_text(char *out, size_t cap, const struct lade_model_info *info,
               const struct meter_sample *sample, const struct lade_result *last,
               const struct lade_plan_row *planned);

#endif
