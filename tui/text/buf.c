#include "tui/text/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void (*buf_no_memory)(void);

void *buf_realloc(void *old, size_t n, size_t size)
{
    size_t bytes;
    void *p = __builtin_mul_overflow(n, size, &bytes) ? NULL : realloc(old, bytes ? bytes : 1);
    if (!p) {
        if (buf_no_memory)
            buf_no_memory();
        abort();
    }
    return p;
}

char *buf_strndup(const char *text, size_t n)
{
    char *p = buf_realloc(NULL, n + 1, 1);
    memcpy(p, text, n);
    p[n] = '\0';
    return p;
}

char *buf_strdup(const char *text)
{
    return buf_strndup(text, strlen(text));
}

void buf_add(struct buf *b, const char *text, size_t n)
{
    if (b->cap - b->n <= n) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap - b->n <= n)
            cap *= 2;
        b->at = buf_realloc(b->at, cap, 1);
        b->cap = cap;
    }
    if (n)
        memcpy(b->at + b->n, text, n);
    b->n += n;
    b->at[b->n] = '\0';
}

void buf_puts(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        if (buf_no_memory)
            buf_no_memory();
        abort();
    }
    buf_add(b, text, (size_t)n);
    free(text);
}

void buf_cut(struct buf *b, size_t n)
{
    if (b->at && n <= b->n) {
        b->n = n;
        b->at[n] = '\0';
    }
}

void buf_free(struct buf *b)
{
    free(b->at);
    *b = (struct buf){0};
}

const char *buf_text(const struct buf *b)
{
    return b->at ? b->at : "";
}
