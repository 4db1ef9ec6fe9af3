/* ask.h - a conversation as a request for /chat/completions. Pure. */
#ifndef LADE_REMOTE_ASK_H
#define LADE_REMOTE_ASK_H

#include "engine/session/worker.h"

/* malloc'ed JSON, NULL without memory. `progress` asks to be told how much of the prompt is read, which is
 * llama-server's. What the user did not set (NAN and negative, a seed of 0, no limit,
 * thinking) is not in it: the server knows its model's values, and lade does not. */
char *lade_remote_ask(const char *model, bool progress, const struct lade_request *r);

#endif
