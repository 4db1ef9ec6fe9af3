#include "engine/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

/* Well-formed sequences by first byte (Unicode 3.9, table 3-7): length, range of the second byte. */
static int lead(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    if (c < 0xe0)
        return 2;
    if (c < 0xf0) {
        if (c == 0xe0)
            *low = 0xa0;
        if (c == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (c == 0xf0)
        *low = 0x90;
    if (c == 0xf4)
        *high = 0x8f;
    return 4;
}

int lade_utf8_next(const unsigned char *s, size_t n, bool *open)
{
    unsigned char low, high;
    int len = lead(s[0], &low, &high);
    if (open)
        *open = false;
    if (len == 0)
        return -1;
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n) {
            if (open)
                *open = true;
            return -i;
        }
        if (s[i] < low || s[i] > high)
            return -i;
        low = 0x80;
        high = 0xbf;
    }
    return len;
}

char *lade_utf8_repair(const char *text, size_t len, size_t *out_len)
{
    /* One bad byte grows to three at most. */
    char *out = len <= ((size_t)-1 - 1) / 3 ? malloc(3 * len + 1) : NULL;
    if (!out)
        return NULL;
    char *end = out;
    for (size_t i = 0; i < len;) {
        int step = lade_utf8_next((const unsigned char *)text + i, len - i, NULL);
        if (step > 0)
            memcpy(end, text + i, (size_t)step);
        else
            memcpy(end, "\xef\xbf\xbd", 3);
        end += step > 0 ? step : 3;
        i += (size_t)abs(step);
    }
    *out_len = (size_t)(end - out);
    return out;
}
