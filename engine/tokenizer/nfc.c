/* nfc.c - normalising as the tokenizers library does, whose tables are of Unicode 9.
 *
 * utf8proc knows newer Unicode. Marks that came later would be sorted and composed by it, and other
 * ids would follow. To the library they are inert: nothing moves over them or joins them. So the
 * text is cut there, and what lies between is normalised on its own. */
#include <stdlib.h>

#include <utf8proc.h>

#include "engine/text.h"
#include "engine/tokenizer/unicode.h"
#include "engine/tokenizer/vocab.h"

/* Whether a character may be inert, by its first byte: U+05C0..05FF, 07C0..0FFF, 1000..1FFF,
 * A000..AFFF and all beyond U+FFFF. */
static bool may_be_inert(unsigned char c)
{
    return c == 0xd7 || c == 0xdf || c == 0xe0 || c == 0xe1 || c == 0xea || c >= 0xf0;
}

static bool is_inert(utf8proc_int32_t c)
{
    size_t low = 0, high = sizeof lade_inert / sizeof *lade_inert;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uint32_t)c > lade_inert[middle][1])
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof lade_inert / sizeof *lade_inert && (uint32_t)c >= lade_inert[low][0];
}

/* The bytes before the first inert character, all of them where there is none; *width of that
 * character, or 0. */
static size_t find_inert(const char *text, size_t len, size_t *width)
{
    *width = 0;
    for (size_t i = 0; i < len; i++) {
        utf8proc_int32_t c;
        if (!may_be_inert((unsigned char)text[i]))
            continue;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(len - i), &c);
        if (n > 0 && is_inert(c)) {
            *width = (size_t)n;
            return i;
        }
    }
    return len;
}

static char *compose(const char *text, size_t len, size_t *out_len, const char **why)
{
    utf8proc_uint8_t *composed = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len,
                                      &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        *why = utf8proc_errmsg(n);
    else
        *out_len = (size_t)n;
    return (char *)composed;
}

char *lade_nfc(const char *text, size_t len, size_t *out_len, const char **why)
{
    size_t width, cut = find_inert(text, len, &width);
    if (!width)
        return compose(text, len, out_len, why);
    struct lade_text out = {0};
    for (size_t at = 0; at < len; at += cut + width) {
        if (at)
            cut = find_inert(text + at, len - at, &width);
        size_t n = 0;
        char *part = cut ? compose(text + at, cut, &n, why) : NULL;
        if (cut && !part) {
            free(out.at);
            return NULL;
        }
        lade_text_add(&out, part, n);
        lade_text_add(&out, text + at + cut, width);
        free(part);
        if (out.failed) {
            *why = "out of memory";
            free(out.at);
            return NULL;
        }
    }
    *out_len = out.n;
    return out.at;
}
