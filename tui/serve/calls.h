/* calls.h - tells what a model calls from what it says. Pure; the text comes in any pieces.
 *
 *     <tool_call>                                  <tool_call>
 *     {"name": "f", "arguments": {"x": 1}}         <function=f>
 *     </tool_call>                                 <parameter=x>
 *                                                  1
 *                                                  </parameter>
 *                                                  </function>
 *                                                  </tool_call>
 *
 * Both forms are read whatever the family. A tag inside a JSON text is text; a value between tags ends
 * where </parameter> is followed by another parameter or by the end. Models forget tags: the first of
 * the right form (of a tool that is offered) and the last may be missing. Nothing is lost: what begins
 * as a call and is none, or does not end, is text. White space between text and calls is neither. */
#ifndef LADE_TUI_SERVE_CALLS_H
#define LADE_TUI_SERVE_CALLS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "tui/text/buf.h"

struct call {
    char *name, *arguments; /* owned; arguments: the JSON text of an object */
};

/* Where in what is held the parts of a call stand; ends are the bytes after. */
struct call_span {
    size_t at, end;
};

struct calls {
    json_t *tools;     /* owned: the list that is offered, which says of what types arguments are */
    struct buf text;   /* what is sure to be text; the reader cuts what it takes */
    struct call *made; /* owned: in the order in which they came */
    size_t n, cap;

    /* Private. */
    struct buf held; /* white space, and then what may be a call */
    int state;
    bool wrapped;  /* it began with <tool_call> */
    size_t spaces; /* bytes of the white space */
    size_t tag;    /* where a tag begins that has not ended; SIZE_MAX = none */
    bool quoted, escaped;
    bool after_call; /* nothing was said since */
    struct call_span name, value;
    struct call_span *parameters; /* owned: a key and a value each */
    size_t n_spans, cap_spans;
};

/* Begins with the list of tools of a request (as OpenAI's API has it; kept by a reference). */
void calls_begin(struct calls *c, json_t *tools);
/* Takes what comes next: c->text and c->made grow. */
void calls_take(struct calls *c, const char *text, size_t n);
/* Nothing more comes. `whole`: the model ended by itself, so that a last tag was forgotten. */
void calls_end(struct calls *c, bool whole);
void calls_free(struct calls *c);

#endif
