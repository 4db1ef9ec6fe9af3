/* app_keys.h - what each key does on the chat screen. */
#ifndef LADE_TUI_APP_KEYS_H
#define LADE_TUI_APP_KEYS_H

#include "tui/chat.h"
#include "tui/keys.h"
#include "tui/screen.h"

void app_key(struct chat *c, struct screen *s, const struct keys_event *ev);

#endif
