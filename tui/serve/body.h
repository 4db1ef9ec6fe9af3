/* body.h - JSON that clients send: read with limits, refused by name. Pure. */
#ifndef LADE_TUI_SERVE_BODY_H
#define LADE_TUI_SERVE_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/error.h"

/* What a request is refused with. */
struct serve_error {
    int status;       /* of HTTP; 0 = nothing is wrong */
    const char *code; /* static, for programs; NULL = none */
    char param[64];   /* the field it is about; "" = none */
    char message[LADE_ERR];
};

/* Fills *e; is -1. `param` may be NULL. */
int serve_refuse(struct serve_error *e, int status, const char *code, const char *param,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The same for a field that is not as it should be: `why` goes on after its name; and without memory. */
int body_refuse(struct serve_error *e, const char *field, const char *why);
int body_no_memory(struct serve_error *e);

/* A text whose root is an object; NULL with *e. `what` names the text. The caller drops it. */
json_t *body_parse(const char *text, size_t len, const char *what, struct serve_error *e);

/* A field, or NULL where it is absent or null, which is the same. */
json_t *body_field(json_t *of, const char *name);

/* null, false, 0 or empty: as if it were not given. */
bool body_is_nothing(const json_t *v);

#endif
