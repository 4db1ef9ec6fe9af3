#include "tui/input.h"

#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <readline/history.h>
#include <readline/readline.h>

#include "tui/input_history.h"
#include "tui/text/buf.h"
#include "tui/text/width.h"
#include "tui/theme.h"

enum { MARGIN = 2 };

static struct {
    const char *bytes; /* being fed */
    size_t n;
    void (*submit)(void *user, const char *text);
    void *user;
    FILE *null;
    bool changed, submitting;
    char *later; /* the line to show when readline is through with the one submitted */
    int top;     /* first row shown */
} in;

/* ---- readline's hooks ------------------------------------------------------------------------ */

static int get_byte(FILE *stream)
{
    (void)stream;
    if (in.n) {
        in.n--;
        return (unsigned char)*in.bytes++;
    }
    /* readline wants more than there is in the middle of something: abort that. */
    return 7;
}

static int has_bytes(void)
{
    return in.n > 0;
}

static void redisplay(void)
{
    in.changed = true;
}

static void no_prep(int meta)
{
    (void)meta;
}

static void no_deprep(void)
{
}

static void line_done(char *line)
{
    if (line && in.submit) {
        in.submitting = true;
        in.submit(in.user, line);
        in.submitting = false;
    }
    free(line);
    in.changed = true;
}

static int newline(int count, int key)
{
    (void)count;
    (void)key;
    return rl_insert_text("\n") ? 0 : 1;
}

static int nothing(int count, int key)
{
    (void)count;
    (void)key;
    return 0;
}

static void bind(void)
{
    Keymap maps[] = {emacs_standard_keymap, vi_insertion_keymap, vi_movement_keymap};
    for (int i = 0; i < 3; i++) {
        rl_bind_key_in_map('\t', nothing, maps[i]);
        if (i < 2)
            rl_bind_key_in_map('\n', newline, maps[i]);
    }
}

void input_start(const char *history, void (*submit)(void *user, const char *text), void *user)
{
    in.submit = submit;
    in.user = user;
    in.null = fopen("/dev/null", "r+e");
    rl_readline_name = "lade";
    rl_instream = in.null;
    rl_outstream = in.null;
    rl_catch_signals = 0;
    rl_catch_sigwinch = 0;
    rl_change_environment = 0;
    rl_getc_function = get_byte;
    rl_input_available_hook = has_bytes;
    rl_redisplay_function = redisplay;
    rl_prep_term_function = no_prep;
    rl_deprep_term_function = no_deprep;
    rl_inhibit_completion = 1;
    rl_initialize();
    bind();
    rl_callback_handler_install("", line_done);
    stifle_history(INPUT_HISTORY);
    input_history_load(history);
    using_history(); /* Up begins at the end of what was read */
}

void input_stop(void)
{
    if (!in.null)
        return;
    rl_callback_handler_remove();
    clear_history();
    rl_instream = rl_outstream = NULL;
    fclose(in.null);
    in.null = NULL;
}

void input_remember(const char *text)
{
    input_history_add(text);
    using_history();
}

/* ---- editing --------------------------------------------------------------------------------- */

void input_feed(const char *bytes, size_t n)
{
    in.bytes = bytes;
    in.n = n;
    while (in.n)
        rl_callback_read_char();
    /* Enter after a numeric argument: readline would hand the line over with the next key, and end badly where
     * that begins a search. */
    if (rl_done) {
        in.bytes = "\t"; /* does nothing */
        in.n = 1;
        rl_callback_read_char();
    }
    if (in.later) {
        char *text = in.later;
        in.later = NULL;
        input_set(text);
        free(text);
    }
    in.changed = true;
}

void input_feed_sequence(const char *bytes, size_t n)
{
    if (rl_function_of_keyseq_len(bytes, n, NULL, NULL))
        input_feed(bytes, n);
}

void input_insert(const char *text, size_t n)
{
    char *copy = buf_strndup(text, n);
    rl_begin_undo_group();
    rl_insert_text(copy);
    rl_end_undo_group();
    free(copy);
    in.changed = true;
}

void input_set(const char *text)
{
    /* readline empties its line after submit returns. */
    if (in.submitting) {
        free(in.later);
        in.later = buf_strdup(text);
        return;
    }
    rl_begin_undo_group();
    rl_delete_text(0, rl_end);
    rl_point = 0;
    rl_insert_text(text);
    rl_end_undo_group();
    in.changed = true;
}

const char *input_text(void)
{
    return rl_line_buffer ? rl_line_buffer : "";
}

bool input_is_empty(void)
{
    /* The line submitted is still readline's; the next one is empty. */
    return in.submitting ? !in.later : rl_end == 0;
}

bool input_at_start(void)
{
    return rl_point == 0;
}

bool input_at_end(void)
{
    return rl_point == rl_end;
}

bool input_is_vi(void)
{
    return rl_editing_mode == 0;
}

bool input_is_busy(void)
{
    return RL_ISSTATE(RL_STATE_ISEARCH | RL_STATE_NSEARCH | RL_STATE_NUMERICARG);
}

void input_home(void)
{
    while (rl_point > 0 && rl_line_buffer[rl_point - 1] != '\n')
        rl_point--;
    in.changed = true;
}

void input_end(void)
{
    while (rl_point < rl_end && rl_line_buffer[rl_point] != '\n')
        rl_point++;
    in.changed = true;
}

bool input_changed(void)
{
    bool was = in.changed;
    in.changed = false;
    return was;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* A walk over the glyphs of the line as they lie on rows of `cols` columns. */
struct walk {
    size_t at, n; /* bytes */
    int y, x;     /* where glyph `g` goes */
    int next_y, next_x;
    struct width_glyph g;
};

static const char *mark(void)
{
    if (input_is_busy() && rl_display_prompt)
        return rl_display_prompt;
    bool command = input_is_vi() && rl_get_keymap() == vi_movement_keymap;
    return width_utf8() ? (command ? "❮ " : "❯ ") : command ? "< " : "> ";
}

static void walk_begin(struct walk *w, int cols)
{
    *w = (struct walk){.n = (size_t)rl_end};
    w->next_x = width_of(mark(), strlen(mark()));
    if (w->next_x > cols / 2)
        w->next_x = cols / 2;
}

/* Takes the next glyph; false at the end, where y and x are the place after the text. */
static bool walk_next(struct walk *w, int cols, size_t *begin)
{
    if (w->next_x >= cols) {
        w->next_x = MARGIN;
        w->next_y++;
    }
    w->y = w->next_y;
    w->x = w->next_x;
    *begin = w->at;
    if (w->at >= w->n)
        return false;
    w->at += width_next(rl_line_buffer + w->at, w->n - w->at, &w->g);
    if (w->g.kind == WIDTH_NEWLINE) {
        w->next_y++;
        w->next_x = MARGIN;
        return true;
    }
    if (w->x + w->g.cols > cols) {
        w->y = ++w->next_y;
        w->x = MARGIN;
    }
    w->next_x = w->x + w->g.cols;
    return true;
}

/* Where the cursor is, and how many rows there are. */
static int measure(int cols, int *cy, int *cx)
{
    struct walk w;
    size_t begin;
    bool more;
    walk_begin(&w, cols);
    *cy = *cx = -1;
    do {
        more = walk_next(&w, cols, &begin);
        if (*cy < 0 && (!more || w.at > (size_t)rl_point)) {
            *cy = w.y;
            *cx = w.x;
        }
    } while (more);
    return w.y + 1;
}

int input_rows(int cols)
{
    int cy, cx;
    return measure(cols > MARGIN + 2 ? cols : MARGIN + 2, &cy, &cx);
}

/* Puts the cursor on row `y`, as near to column x as there is text; false if there is no such
 * row. */
static bool go_to(int cols, int y, int x)
{
    struct walk w;
    size_t begin;
    bool more, found = false;
    walk_begin(&w, cols);
    do {
        more = walk_next(&w, cols, &begin);
        if (w.y == y && (!found || w.x <= x)) {
            rl_point = (int)begin;
            found = true;
        }
    } while (more && w.y <= y);
    in.changed |= found;
    return found;
}

void input_up(int cols)
{
    int cy, cx;
    measure(cols, &cy, &cx);
    if (cy == 0 || !go_to(cols, cy - 1, cx))
        rl_get_previous_history(1, 0);
    in.changed = true;
}

void input_down(int cols)
{
    int cy, cx, rows = measure(cols, &cy, &cx);
    if (cy + 1 >= rows || !go_to(cols, cy + 1, cx))
        rl_get_next_history(1, 0);
    in.changed = true;
}

void input_draw(void *window, const char *hint)
{
    WINDOW *win = window;
    int rows = getmaxy(win), cols = getmaxx(win), cy, cx;
    werase(win);
    int all = measure(cols, &cy, &cx);
    if (cy < in.top)
        in.top = cy;
    if (cy >= in.top + rows)
        in.top = cy - rows + 1;
    if (in.top > all - rows)
        in.top = all > rows ? all - rows : 0;
    wattrset(win, (int)theme_attr(input_is_busy() ? THEME_DIM : THEME_PROMPT));
    if (in.top == 0)
        mvwaddnstr(win, 0, 0, mark(), (int)width_fit(mark(), strlen(mark()), cols / 2));
    if (input_is_empty() && hint && !input_is_busy()) {
        wattrset(win, (int)theme_attr(THEME_DIM));
        mvwaddnstr(win, 0, MARGIN, hint, (int)width_fit(hint, strlen(hint), cols - MARGIN));
    }
    wattrset(win, (int)theme_attr(THEME_INPUT));
    struct walk w;
    size_t begin;
    walk_begin(&w, cols);
    while (walk_next(&w, cols, &begin))
        if (w.g.kind != WIDTH_NEWLINE && w.g.out_len && w.y >= in.top && w.y < in.top + rows)
            mvwaddnstr(win, w.y - in.top, w.x, w.g.out, w.g.out_len);
    wattrset(win, (int)theme_attr(THEME_TEXT));
    wmove(win, cy - in.top, cx);
}
