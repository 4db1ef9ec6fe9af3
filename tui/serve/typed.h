/* typed.h - arguments that a model wrote as plain text, of the types that the tool's schema gives them.
 * Pure; what the schema is, and the text, are others' words. */
#ifndef LADE_TUI_SERVE_TYPED_H
#define LADE_TUI_SERVE_TYPED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether the list of tools has a function of that name. */
bool typed_is_offered(const json_t *tools, const char *name);

/* The schema of a parameter; borrowed, NULL = there is none. */
const json_t *typed_schema(const json_t *tools, const char *function, const char *parameter);

/* The value that a text is: where a text is wanted the text itself, else what it is in JSON if it is
 * anything there, else again the text. Where nothing is known of the type, an object or a list is what it
 * looks like, and everything else a text. New; NULL where the text is no UTF-8. */
json_t *typed_value(const json_t *schema, const char *text, size_t n);

#endif
