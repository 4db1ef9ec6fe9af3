/* buf.h - growing bytes and arrays for the screen.
 *
 * The screen has no use for a failed allocation of a few kilobytes: what the user typed and what
 * the model said must not be silently lost. Such a failure therefore ends the program through
 * buf_no_memory, which the chat points at the orderly way out. */
#ifndef LADE_TUI_TEXT_BUF_H
#define LADE_TUI_TEXT_BUF_H

#include <stddef.h>

/* Zero-initialised is empty; `at` is then NULL, otherwise NUL-terminated. */
struct buf {
    char *at;
    size_t n, cap;
};

void buf_add(struct buf *b, const char *text, size_t n);
void buf_puts(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_cut(struct buf *b, size_t n); /* keeps the first n bytes */
void buf_free(struct buf *b);
const char *buf_text(const struct buf *b); /* never NULL */

/* realloc and strdup that do not return without memory. */
void *buf_realloc(void *old, size_t n, size_t size);
char *buf_strdup(const char *text);
char *buf_strndup(const char *text, size_t n);

/* Makes room for one more element of *array, whose capacity is *cap. */
#define BUF_GROW(array, n, cap)                                                                    \
    do {                                                                                           \
        if ((size_t)(n) >= (size_t)(cap)) {                                                        \
            (cap) = (cap) ? 2 * (cap) : 16;                                                        \
            (array) = buf_realloc((array), (size_t)(cap), sizeof *(array));                        \
        }                                                                                          \
    } while (0)

/* Called when memory is out; must not return. NULL = abort. */
extern void (*buf_no_memory)(void);

#endif
