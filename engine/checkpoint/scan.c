#include "engine/checkpoint/scan.h"

#include <string.h>

enum { MAX_DEPTH = 32 };

char lade_scan_peek(struct lade_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
    return s->at < s->end ? *s->at : 0;
}

bool lade_scan_char(struct lade_scan *s, char c)
{
    if (lade_scan_peek(s) != c || s->at == s->end)
        return false;
    s->at++;
    return true;
}

/* The value of the four hexadecimal digits at *at, or -1. */
static int hex4(struct lade_scan *s)
{
    if (s->end - s->at < 4)
        return -1;
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = *s->at++;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Decodes what follows "\u" and writes it as UTF-8, which is never longer than the escape. */
static char *unicode_escape(struct lade_scan *s, char *out)
{
    int hi = hex4(s);
    if (hi <= 0 || (hi >= 0xDC00 && hi <= 0xDFFF))
        return NULL;
    uint32_t c = (uint32_t)hi;
    if (hi >= 0xD800 && hi <= 0xDBFF) {
        if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u')
            return NULL;
        s->at += 2;
        int lo = hex4(s);
        if (lo < 0xDC00 || lo > 0xDFFF)
            return NULL;
        c = 0x10000 + ((uint32_t)(hi - 0xD800) << 10) + (uint32_t)(lo - 0xDC00);
    }
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xC0 | c >> 6);
        *out++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *out++ = (char)(0xE0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    } else {
        *out++ = (char)(0xF0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 63));
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    }
    return out;
}

bool lade_scan_string(struct lade_scan *s, char **text, size_t *len)
{
    if (!lade_scan_char(s, '"'))
        return false;
    char *out = s->at;
    *text = out;
    while (s->at < s->end) {
        char c = *s->at++;
        if (c == '"') {
            *len = (size_t)(out - *text);
            return true;
        }
        if ((unsigned char)c < 0x20)
            return false;
        if (c != '\\') {
            *out++ = c;
            continue;
        }
        if (s->at == s->end)
            return false;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        c = *s->at++;
        const char *simple = c ? strchr(from, c) : NULL;
        if (simple)
            *out++ = to[simple - from];
        else if (c != 'u' || !(out = unicode_escape(s, out)))
            return false;
    }
    return false;
}

bool lade_scan_u64(struct lade_scan *s, uint64_t *value)
{
    char c = lade_scan_peek(s);
    if (c < '0' || c > '9')
        return false;
    bool leading_zero = c == '0';
    uint64_t v = 0;
    int digits = 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++, digits++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s->at - '0'), &v))
            return false;
    if (leading_zero && digits > 1)
        return false;
    *value = v;
    return s->at == s->end || !strchr(".eE", *s->at) || !*s->at;
}

static bool skip_value(struct lade_scan *s, int depth);

static bool skip_members(struct lade_scan *s, char close, int depth)
{
    if (lade_scan_char(s, close))
        return true;
    do {
        char *text;
        size_t len;
        if (close == '}' && (!lade_scan_string(s, &text, &len) || !lade_scan_char(s, ':')))
            return false;
        if (!skip_value(s, depth + 1))
            return false;
    } while (lade_scan_char(s, ','));
    return lade_scan_char(s, close);
}

static bool skip_value(struct lade_scan *s, int depth)
{
    if (depth > MAX_DEPTH)
        return false;
    char c = lade_scan_peek(s);
    if (c == '"') {
        char *text;
        size_t len;
        return lade_scan_string(s, &text, &len);
    }
    if (c == '{' || c == '[') {
        s->at++;
        return skip_members(s, c == '{' ? '}' : ']', depth);
    }
    /* true, false, null or a number: their exact spelling does not matter to a value that is
     * not used. */
    char *start = s->at;
    while (s->at < s->end && *s->at && strchr("+-.0123456789Eaeflnrstu", *s->at))
        s->at++;
    return s->at > start;
}

bool lade_scan_skip(struct lade_scan *s)
{
    return skip_value(s, 0);
}

const char *lade_printable(char *buf, size_t size, const char *text, size_t len)
{
    if (size < 8) {
        *buf = 0;
        return buf;
    }
    size_t room = size - 1, head = len, tail = 0;
    if (len > room) {
        tail = (room - 3) / 2;
        head = room - 3 - tail;
    }
    size_t n = 0;
    for (size_t i = 0; i < head; i++)
        buf[n++] = text[i];
    if (len > room) {
        memcpy(buf + n, "...", 3);
        n += 3;
        for (size_t i = len - tail; i < len; i++)
            buf[n++] = text[i];
    }
    buf[n] = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)buf[i] < 0x20 || (unsigned char)buf[i] >= 0x7F)
            buf[i] = '?';
    return buf;
}
