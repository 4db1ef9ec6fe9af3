#include "tui/keys.h"

#include <stdlib.h>
#include <string.h>

enum { CTRL_C = 3 };

static const char paste_begin[] = "\033[200~", paste_end[] = "\033[201~";

/* Sequences of xterm and its kin, of the Linux console, rxvt and the kitty protocol. */
/* clang-format off */
static const struct {
    const char *text;
    enum keys_kind kind;
} sequences[] = {
    {"\033[A", KEYS_UP}, {"\033OA", KEYS_UP}, {"\033[B", KEYS_DOWN}, {"\033OB", KEYS_DOWN},
    {"\033[5~", KEYS_PAGE_UP}, {"\033[6~", KEYS_PAGE_DOWN},
    {"\033[H", KEYS_HOME}, {"\033OH", KEYS_HOME}, {"\033[1~", KEYS_HOME}, {"\033[7~", KEYS_HOME},
    {"\033[F", KEYS_END}, {"\033OF", KEYS_END}, {"\033[4~", KEYS_END}, {"\033[8~", KEYS_END},
    {"\033[1;5H", KEYS_TOP}, {"\033[1;5F", KEYS_BOTTOM},
    {"\033[7^", KEYS_TOP}, {"\033[8^", KEYS_BOTTOM},
    {"\033[1;2A", KEYS_LINE_UP}, {"\033[1;2B", KEYS_LINE_DOWN},
    {"\033[1;5A", KEYS_LINE_UP}, {"\033[1;5B", KEYS_LINE_DOWN},
    {"\033[a", KEYS_LINE_UP}, {"\033[b", KEYS_LINE_DOWN},
    {"\033[5;2~", KEYS_PAGE_UP}, {"\033[6;2~", KEYS_PAGE_DOWN},
    {"\033[Z", KEYS_BACKTAB},
    {"\033[13;2u", KEYS_NEWLINE}, {"\033[13;3u", KEYS_NEWLINE}, {"\033[13;5u", KEYS_NEWLINE},
    {"\033[27;2;13~", KEYS_NEWLINE}, {"\033[27;5;13~", KEYS_NEWLINE},
    {"\033\r", KEYS_NEWLINE}, {"\033\n", KEYS_NEWLINE},
    {"\033[I", KEYS_FOCUS}, {"\033[O", KEYS_FOCUS},
};
/* clang-format on */

void keys_free(struct keys *k)
{
    buf_free(&k->in);
    buf_free(&k->paste);
    *k = (struct keys){0};
}

void keys_feed(struct keys *k, const char *bytes, size_t n, double now)
{
    if (k->taken) {
        size_t left = k->in.n - k->taken;
        memmove(k->in.at, k->in.at + k->taken, left);
        buf_cut(&k->in, left);
        k->taken = 0;
    }
    buf_add(&k->in, bytes, n);
    k->came = now;
    k->last = n;
}

/* Length of the escape sequence at s[0..n); 0 while it is unfinished. */
static size_t sequence(const char *s, size_t n)
{
    if (n < 2)
        return 0;
    if (s[1] == 'O')
        return n < 3 ? 0 : 3;
    if (s[1] != '[')
        return 2;
    /* The Linux console's F1..F5 are ESC [ [ A. */
    if (n > 2 && s[2] == '[')
        return n < 4 ? 0 : 4;
    for (size_t i = 2; i < n; i++) {
        if (s[i] >= 0x40 && s[i] <= 0x7e)
            return i + 1;
        if (s[i] < 0x20 || i > 40)
            return i; /* broken off */
    }
    return 0;
}

static enum keys_kind meaning(const char *s, size_t n)
{
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++)
        if (strlen(sequences[i].text) == n && memcmp(sequences[i].text, s, n) == 0)
            return sequences[i].kind;
    if (n > 3 && s[1] == '[' && s[2] == '<') {
        /* SGR mouse report: the wheel is buttons 64 and 65, with bits 2..4 for modifiers. */
        int button = atoi(s + 3) & ~0x1c;
        return button == 64 ? KEYS_WHEEL_UP : button == 65 ? KEYS_WHEEL_DOWN : KEYS_FOCUS;
    }
    return s[1] == '[' || s[1] == 'O' ? KEYS_SEQUENCE : KEYS_BYTES;
}

static bool take(struct keys *k, struct keys_event *ev, enum keys_kind kind, size_t n)
{
    *ev = (struct keys_event){kind, k->in.at + k->taken, n};
    k->taken += n;
    return true;
}

/* Seconds until the last byte, if it is a Ctrl-C, ends the paste; negative = never. */
static double paste_wait(const struct keys *k, double now)
{
    if (k->last != 1 || k->in.n == k->taken || k->in.at[k->in.n - 1] != CTRL_C)
        return -1;
    double left = k->came + KEYS_PASTE_WAIT - now;
    return left > 0 ? left : 0;
}

/* Moves what was pasted so far from `in` to `paste`, with line ends made "\n". */
static bool take_paste(struct keys *k, struct keys_event *ev, double now)
{
    if (paste_wait(k, now) == 0) {
        k->taken = k->in.n - 1;
        k->pasting = false;
        return take(k, ev, KEYS_CTRL_C, 1);
    }
    const char *s = k->in.at + k->taken;
    size_t n = k->in.n - k->taken;
    const char *end = n ? memmem(s, n, paste_end, strlen(paste_end)) : NULL;
    size_t safe = end ? (size_t)(end - s) : n;
    /* The end mark may be cut by the edge of a read, and so may "\r\n". */
    if (!end)
        safe = n > strlen(paste_end) ? n - strlen(paste_end) : 0;
    if (!end && safe && s[safe - 1] == '\r')
        safe--;
    for (size_t i = 0; i < safe; i++) {
        if (s[i] == '\r') {
            buf_add(&k->paste, "\n", 1);
            i += i + 1 < safe && s[i + 1] == '\n';
        } else if ((unsigned char)s[i] >= 0x20 || s[i] == '\n' || s[i] == '\t') {
            if (s[i] != 0x7f)
                buf_add(&k->paste, s + i, 1);
        }
    }
    k->taken += safe;
    if (!end)
        return false;
    k->taken += strlen(paste_end);
    k->pasting = false;
    *ev = (struct keys_event){KEYS_PASTE, buf_text(&k->paste), k->paste.n};
    return true;
}

static bool control(struct keys *k, struct keys_event *ev, unsigned char c)
{
    static const struct {
        unsigned char c;
        enum keys_kind kind;
    } table[] = {{'\r', KEYS_ENTER},    {'\n', KEYS_NEWLINE}, {'\t', KEYS_TAB},
                 {CTRL_C, KEYS_CTRL_C}, {4, KEYS_CTRL_D},     {7, KEYS_CTRL_G},
                 {12, KEYS_CTRL_L},     {20, KEYS_CTRL_T},    {26, KEYS_CTRL_Z}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].c == c)
            return take(k, ev, table[i].kind, 1);
    return false;
}

bool keys_next(struct keys *k, struct keys_event *ev, double now)
{
    if (k->pasting)
        return take_paste(k, ev, now);
    const char *s = buf_text(&k->in) + k->taken;
    size_t n = k->in.n - k->taken;
    if (!n)
        return false;
    if (*s != 033) {
        if (control(k, ev, (unsigned char)*s))
            return true;
        size_t len = 1;
        while (len < n && ((unsigned char)s[len] >= 0x20))
            len++;
        return take(k, ev, KEYS_BYTES, len);
    }
    if (n > 1 && s[1] == 033)
        return take(k, ev, KEYS_ESC, 1);
    size_t len = sequence(s, n);
    if (!len) {
        if (now - k->came < KEYS_ESC_WAIT)
            return false;
        return take(k, ev, n == 1 ? KEYS_ESC : KEYS_BYTES, n);
    }
    if (len == strlen(paste_begin) && memcmp(s, paste_begin, len) == 0) {
        k->taken += len;
        k->pasting = true;
        buf_cut(&k->paste, 0);
        return take_paste(k, ev, now);
    }
    /* Alt and a character of several bytes. */
    if (len == 2 && (unsigned char)s[1] >= 0xc0)
        while (len < n && ((unsigned char)s[len] & 0xc0) == 0x80)
            len++;
    return take(k, ev, meaning(s, len), len);
}

double keys_wait(const struct keys *k, double now)
{
    if (k->pasting)
        return paste_wait(k, now);
    if (k->in.n == k->taken)
        return -1;
    double left = k->came + KEYS_ESC_WAIT - now;
    return left > 0 ? left : 0;
}
