/* offer.h - the tools that a client offers, and what its messages say of calls. Pure.
 *
 * Functions only, and the model chooses: that it must call one cannot be promised, nor that arguments
 * are of the schema ("strict"); they are an object's JSON in any case. */
#ifndef LADE_TUI_SERVE_OFFER_H
#define LADE_TUI_SERVE_OFFER_H

#include "tui/serve/body.h"

/* Reads tools and tool_choice. *tools is the list (borrowed from the body), or NULL where there is none,
 * or none shall be called. */
int offer_tools(json_t *body, json_t **tools, struct serve_error *e);

/* A value's JSON text, as struct lade_message has such, kept in the list `texts`; NULL without memory. */
const char *offer_text(json_t *texts, const json_t *value);

/* Reads the calls of an assistant's message, which is the number-th. *calls is as struct lade_message has
 * them, kept in `texts`; NULL where there are none. */
int offer_calls(json_t *message, size_t number, json_t *texts, const char **calls,
                struct serve_error *e);

#endif
