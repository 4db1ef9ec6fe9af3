/* tools.h - the parts of the families' templates that tools need: which are offered, what the model
 * called. Instruct and Thinking write JSON, Coder writes tags. */
#ifndef LADE_TOKENIZER_TOOLS_H
#define LADE_TOKENIZER_TOOLS_H

#include "engine/tokenizer/page.h"

/* What stands in the system's turn: its text (NULL = the conversation has none), then the tools,
 * a JSON list. */
void lade_tools_offer(struct lade_page *p, enum lade_chat_family family, const char *system,
                      const char *tools);

/* What an assistant said with its calls: `text`, then these, a JSON list that is not empty.
 * `separate`: something is said before the first call; Coder looks itself. */
void lade_tools_call(struct lade_page *p, enum lade_chat_family family, const char *text,
                     bool separate, const char *calls);

#endif
