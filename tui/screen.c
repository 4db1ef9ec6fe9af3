#include "tui/screen.h"

#include <curses.h>
#include <stdio.h>
#include <string.h>

#include "tui/input.h"
#include "tui/term.h"
#include "tui/text/width.h"
#include "tui/theme.h"

enum part { BOARD, TRANSCRIPT, ANATOMY, RULE, INPUT, STATUS, PANEL, POPUP, PARTS };

void screen_close(struct screen *s)
{
    for (int i = 0; i < PARTS; i++) {
        if (s->windows[i])
            delwin(s->windows[i]);
        s->windows[i] = NULL;
    }
}

/* Gives a part its window: kept if it has its place already. */
static WINDOW *place(struct screen *s, enum part part, const struct layout_rect *r)
{
    WINDOW *w = s->windows[part];
    bool fits = w && getmaxy(w) == r->rows && getmaxx(w) == r->cols && getbegy(w) == r->y &&
                getbegx(w) == r->x;
    if (w && !fits) {
        delwin(w);
        s->windows[part] = w = NULL;
    }
    if (r->rows <= 0 || r->cols <= 0)
        return NULL;
    if (!w)
        s->windows[part] = w = newwin(r->rows, r->cols, r->y, r->x);
    if (w)
        wbkgdset(w, ' ' | theme_attr(THEME_TEXT));
    return w;
}

int screen_input_cols(const struct screen *s)
{
    return s->layout.input.cols > 4 ? s->layout.input.cols - 1 : 4;
}

int screen_page(const struct screen *s)
{
    return s->layout.transcript.rows > 2 ? s->layout.transcript.rows - 1 : 1;
}

static void too_small(void)
{
    int rows, cols;
    char text[64];
    getmaxyx(stdscr, rows, cols);
    bkgdset(' ' | theme_attr(THEME_TEXT));
    erase();
    snprintf(text, sizeof text, "%dx%d is too small", cols, rows);
    attrset((int)theme_attr(THEME_WARNING));
    mvaddnstr(rows / 2 - (rows > 2), 0, text, cols);
    attrset((int)theme_attr(THEME_DIM));
    snprintf(text, sizeof text, "needs %dx%d", LAYOUT_MIN_COLS, LAYOUT_MIN_ROWS);
    if (rows > 1)
        mvaddnstr(rows / 2 + (rows <= 2), 0, text, cols);
    if (rows > 3)
        mvaddnstr(rows / 2 + 1, 0, "Ctrl-D leaves", cols);
    attrset((int)theme_attr(THEME_TEXT));
    wnoutrefresh(stdscr);
}

/* The line between the text and the input: the title left, where we are right. */
static void rule(WINDOW *w, struct chat *c)
{
    int cols = getmaxx(w), fresh, below = transcript_below(&c->transcript, &fresh);
    char right[96] = "";
    const char *line = width_utf8() ? "─" : "-", *down = width_utf8() ? "↓" : "v";
    const char *dot = width_utf8() ? "·" : "-";
    werase(w);
    wattrset(w, (int)theme_attr(THEME_BORDER));
    for (int x = 0; x < cols; x++)
        mvwaddstr(w, 0, x, line);
    if (fresh > 0)
        snprintf(right, sizeof right, " %s %d new line%s %s End follows ", down, fresh,
                 units_s(fresh), dot);
    else if (!c->transcript.follow)
        snprintf(right, sizeof right, " %s %d line%s below %s End follows ", down, below,
                 units_s(below), dot);
    int width = width_of(right, strlen(right)), left = cols - 4 - (width ? width + 3 : 0);
    if (*right) {
        wattrset(w, (int)theme_attr(fresh > 0 ? THEME_ACCENT : THEME_DIM));
        mvwaddstr(w, 0, cols - 2 - width, right);
    }
    if (*c->title && left > 8) {
        char text[sizeof c->title + 16];
        size_t n = width_fit(c->title, strlen(c->title), left - 3);
        struct width_glyph g;
        size_t at = 0;
        text[at++] = ' ';
        for (size_t i = 0; i < n;) {
            i += width_next(c->title + i, n - i, &g);
            if (at + (size_t)g.out_len + 8 < sizeof text) {
                memcpy(text + at, g.out, (size_t)g.out_len);
                at += (size_t)g.out_len;
            }
        }
        at += (size_t)snprintf(text + at, sizeof text - at, "%s ",
                               c->title[n] ? (width_utf8() ? "…" : "~") : "");
        wattrset(w, (int)theme_attr(THEME_DIM));
        mvwaddnstr(w, 0, 2, text, (int)at);
    }
    wattrset(w, (int)theme_attr(THEME_TEXT));
    wnoutrefresh(w);
}

/* A list covers the conversation. */
static bool covered(const struct chat *c)
{
    return c->picker.open || c->strategies.open;
}

/* Fits the narrowest screen beside the mark of the input: at most 38 columns. */
static const char *hint(const struct screen *s, const struct chat *c)
{
    if (s->hint)
        return s->hint;
    if (c->strategies.open)
        return "Up and Down, Enter changes, Esc closes";
    if (c->failed)
        return "/ for commands";
    if (!c->usable)
        return "Type now: sent when the model is ready";
    if (!c->ready && !c->asked)
        return "Ask now: answers will still get faster";
    return c->answer.entry ? "Esc stops the answer" : "Message, or / for commands";
}

static void make_layout(struct screen *s, struct chat *c)
{
    struct layout_wants want = {0};
    getmaxyx(stdscr, want.rows, want.cols);
    c->rows = want.rows;
    status_wants(want.rows, want.cols, &want.status, &want.panel);
    for (int turn = 0; turn < 2; turn++) {
        /* The panel's place decides the width, and the width the rows of everything else. */
        int cols = turn ? s->layout.input.cols : want.cols - want.panel;
        want.input = input_rows(cols > 5 ? cols - 1 : 4);
        want.popup = covered(c) ? 0 : menu_rows(&c->menu);
        want.anatomy = c->anatomy && !covered(c) ? status_anatomy_rows(want.rows) : 0;
        if (chat_is_loading(c) && !covered(c)) {
            want.board = chat_board_is_line(c) ? 1 : board_rows(&c->board);
            c->transcript.cols = cols;
            want.transcript = transcript_rows(&c->transcript, want.rows);
        }
        layout_make(&s->layout, &want);
        if (s->layout.too_small)
            return;
    }
    c->status.panel = s->layout.panel.rows > 0;
}

static void draw_parts(struct screen *s, struct chat *c)
{
    const struct layout *l = &s->layout;
    struct layout_rect text = l->transcript, board = l->board;
    WINDOW *w;
    if ((w = place(s, BOARD, &board))) {
        board_draw(&c->board, w);
        wnoutrefresh(w);
    }
    if ((w = place(s, TRANSCRIPT, &text))) {
        if (c->strategies.open)
            strategies_draw(&c->strategies, w);
        else if (c->picker.open)
            picker_draw(&c->picker, w);
        else
            transcript_draw(&c->transcript, w);
        wnoutrefresh(w);
    }
    if ((w = place(s, ANATOMY, &l->anatomy))) {
        status_anatomy_draw(&c->status, w);
        wnoutrefresh(w);
    }
    if ((w = place(s, RULE, &l->rule)))
        rule(w, c);
    if ((w = place(s, STATUS, &l->status))) {
        status_draw(&c->status, w);
        wnoutrefresh(w);
    }
    if ((w = place(s, PANEL, &l->panel))) {
        status_panel_draw(&c->status, w);
        wnoutrefresh(w);
    }
    struct layout_rect popup = covered(c) ? (struct layout_rect){0} : l->popup;
    if ((w = place(s, POPUP, &popup))) {
        menu_draw(&c->menu, w);
        touchwin(w);
        wnoutrefresh(w);
    }
    /* Last, so that the cursor stays there. */
    if ((w = place(s, INPUT, &l->input))) {
        curs_set(covered(c) ? 0 : 1);
        input_draw(w, hint(s, c));
        wnoutrefresh(w);
    }
}

void screen_draw(struct screen *s, struct chat *c)
{
    if (c->repaint) {
        screen_close(s);
        clearok(curscr, TRUE);
        c->repaint = false;
    }
    struct layout_rect popup = s->layout.popup;
    make_layout(s, c);
    if (s->layout.too_small) {
        screen_close(s);
        too_small();
    } else {
        /* What a list covered is drawn again when it goes. */
        if (popup.rows != s->layout.popup.rows && s->windows[TRANSCRIPT])
            touchwin((WINDOW *)s->windows[TRANSCRIPT]);
        if (popup.rows != s->layout.popup.rows && s->windows[BOARD])
            touchwin((WINDOW *)s->windows[BOARD]);
        draw_parts(s, c);
    }
    term_frame(true);
    doupdate();
    term_frame(false);
    c->dirty = false;
}
