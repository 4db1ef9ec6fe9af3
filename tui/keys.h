/* keys.h - terminal bytes to keys. Pure: bytes and times in, events out.
 *
 * The screen's own keys (scrolling, wheel, paste, Esc ...) are recognised here; everything else
 * is handed on as bytes, which readline reads as if it sat on the terminal itself. */
#ifndef LADE_TUI_KEYS_H
#define LADE_TUI_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "tui/text/buf.h"

/* clang-format off */
enum keys_kind {
    KEYS_BYTES, /* for readline: at, n */
    KEYS_PASTE, /* pasted text: at, n; lines end in "\n" */
    KEYS_SEQUENCE, /* an escape sequence without meaning here: at, n */
    KEYS_ESC, KEYS_ENTER, KEYS_NEWLINE, KEYS_TAB, KEYS_BACKTAB,
    KEYS_UP, KEYS_DOWN, KEYS_PAGE_UP, KEYS_PAGE_DOWN, KEYS_HOME, KEYS_END,
    KEYS_TOP, KEYS_BOTTOM,         /* Ctrl-Home, Ctrl-End */
    KEYS_LINE_UP, KEYS_LINE_DOWN,  /* Shift- or Ctrl-arrows: scroll by a line */
    KEYS_WHEEL_UP, KEYS_WHEEL_DOWN,
    KEYS_CTRL_C, KEYS_CTRL_D, KEYS_CTRL_G, KEYS_CTRL_L, KEYS_CTRL_T, KEYS_CTRL_Z,
    KEYS_FOCUS,    /* reports nobody asked for: ignored */
};
/* clang-format on */

/* Seconds after which a lone ESC byte is the Esc key and not the begin of a sequence. */
#define KEYS_ESC_WAIT 0.05

/* A paste may contain a Ctrl-C, and what follows it must stay text. Typed is one that comes by itself and
 * is followed by nothing for so many seconds: it ends a paste whose end mark got lost, of which nothing
 * is handed on. */
#define KEYS_PASTE_WAIT 0.3

/* Zero-initialised is ready. */
struct keys {
    struct buf in;
    size_t taken;
    bool pasting;
    struct buf paste;
    double came; /* when the last bytes came, */
    size_t last; /* how many they were */
};

struct keys_event {
    enum keys_kind kind;
    const char *at; /* valid until the next call */
    size_t n;
};

void keys_feed(struct keys *k, const char *bytes, size_t n, double now);

/* Takes the next event; false if none is complete. */
bool keys_next(struct keys *k, struct keys_event *ev, double now);

/* Seconds until keys_next may know more without new bytes; negative = never. */
double keys_wait(const struct keys *k, double now);

void keys_free(struct keys *k);

#endif
