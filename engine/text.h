/* text.h - bytes under construction: a text made of pieces, whose length nobody knows before. Any
 * thread, one at a time. */
#ifndef LADE_TEXT_H
#define LADE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Zero-initialised is empty, or with `most` set. Sticky: where a piece passes `most` or memory, nothing
 * of it is added and nothing after it, so that whoever writes many pieces looks once, at the end. */
struct lade_text {
    char *at; /* malloc'ed, the owner's to free; ends with a zero byte. NULL: nothing was added */
    size_t n; /* bytes; the owner may lessen it, for a new text in the same memory */
    size_t room;           /* bytes allocated */
    size_t most;           /* bytes that it may have; 0 = as many as memory holds */
    bool failed, too_long; /* the latter: by `most`, not for want of memory */
};

/* Adds n bytes, which may be none, and zero bytes among them. False where the text has failed. */
bool lade_text_add(struct lade_text *t, const void *bytes, size_t n);
/* The same with a C string. */
bool lade_text_puts(struct lade_text *t, const char *string);

#endif
