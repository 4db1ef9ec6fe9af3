/* error.h - how kernels and engine report a failure.
 *
 * A function that can fail takes the caller's buffer `char err[LADE_ERR]`, returns 0 or -1 (or a
 * pointer or NULL), and on failure leaves one line in the buffer:
 *
 *     WHAT: WHY; DO
 *
 * WHAT names the file, tensor, key or device, WHY gives the value, DO is the way out. Nobody but
 * the screen prints it. */
#ifndef LADE_KERNELS_ERROR_H
#define LADE_KERNELS_ERROR_H

enum { LADE_ERR = 512 };

/* Fills `err` (truncating at LADE_ERR). It stays one line, and a name from a file cannot move the
 * cursor: control characters become question marks. `err` may be NULL: the text is then dropped.
 * Any thread. */
void lade_set_error(char *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline int lade_failed(void)
{
    return -1;
}

/* Fills `err` and is -1, so that callers can `return lade_fail(err, ...)`. A macro, so that the
 * compiler and the analyzer see the constant. */
#define lade_fail(...) (lade_set_error(__VA_ARGS__), lade_failed())

#endif
