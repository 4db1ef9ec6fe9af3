/* utf8.h - whole characters out of untrusted bytes. */
#ifndef LADE_TOKENIZER_UTF8_H
#define LADE_TOKENIZER_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* What starts at s[0], n > 0 bytes long. A valid character gives its length. Otherwise the result
 * is negative: minus the length of the maximal subpart (Unicode 3.9, D93b), which Python's
 * errors="replace" turns into one U+FFFD; *open (may be NULL) is then true where more bytes could
 * still complete it. */
int lade_utf8_next(const unsigned char *s, size_t n, bool *open);

/* Copies text with every maximal invalid part replaced by U+FFFD. malloc'ed, *out_len bytes, not
 * terminated; NULL when out of memory. */
char *lade_utf8_repair(const char *text, size_t len, size_t *out_len);

#endif
