/* settings.h - what /set changes: a table of names, ranges and defaults. Pure. */
#ifndef LADE_TUI_SETTINGS_H
#define LADE_TUI_SETTINGS_H

#include <stdbool.h>

#include "engine/engine.h"

struct settings {
    struct lade_sampling sampling;
    int max_tokens; /* 0 = no limit */
    bool think;     /* only for models that can choose */
    char *system;   /* owned; NULL or "" = none */
    unsigned set;   /* bit i: row i of the table was set by the user */
};

enum settings_type { SETTINGS_FLOAT, SETTINGS_INT, SETTINGS_SEED, SETTINGS_TEXT, SETTINGS_STOP };

struct settings_row {
    const char *name, *also; /* also: another name that is understood; NULL = none */
    const char *help;
    enum settings_type type;
    double min, max;
    unsigned offset; /* in struct settings */
};

extern const struct settings_row settings_rows[];
extern const int settings_count;

/* Takes the model's defaults for everything the user did not set. */
void settings_defaults(struct settings *s, const struct lade_sampling *of_model);

/* Sets a row by name; '_' and '-' are alike. The value "default" undoes it (the model's value comes
 * back with the next settings_defaults). Returns the row's index, or -1 with err. */
int settings_set(struct settings *s, const char *name, const char *value, char *err);

/* The value of row i as text ("0.7", "off", "" for no text, "the server's" where a server chooses it);
 * out holds n bytes. */
char *settings_value(struct settings *s, int i, char *out, int n);

/* The rows the user set, and what was used, as a JSON object; malloc'ed. */
char *settings_json(struct settings *s);

/* Takes the rows that such an object says the user set, and whether the model thinks. Anything else in
 * it is ignored. */
void settings_from_json(struct settings *s, const char *json);

/* Nothing is set by the user any more; whether the model thinks stays. */
void settings_free(struct settings *s);

#endif
