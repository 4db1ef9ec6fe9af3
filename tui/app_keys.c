#include "tui/app_keys.h"

#include <stdlib.h>
#include <string.h>

#include "tui/editor.h"
#include "tui/input.h"
#include "tui/slash/slash.h"
#include "tui/term.h"

enum { WHEEL_ROWS = 3 };

/* ---- completions ----------------------------------------------------------------------------- */

static void menu_close(struct chat *c)
{
    menu_clear(&c->menu);
    free(c->menu_for);
    c->menu_for = buf_strdup(input_text());
}

/* Brings the list up to what is typed. It stays closed for a line it was closed for. */
static void menu_update(struct chat *c)
{
    int from;
    if (c->menu_for && strcmp(c->menu_for, input_text()) == 0)
        return;
    slash_complete(c, input_text(), &c->menu, &from);
    free(c->menu_for);
    c->menu_for = buf_strdup(input_text());
    /* Nothing is left to say when the only item is what stands there. */
    if (c->menu.n == 1 && strcmp(c->menu.items[0].text, input_text() + from) == 0)
        menu_clear(&c->menu);
}

/* Puts `text` in the place of the word at the end of the line. */
static void fill(struct chat *c, const char *text, int n, bool whole)
{
    const char *line = input_text(), *word = strrchr(line, ' ');
    struct buf out = {0};
    buf_add(&out, line, word ? (size_t)(word + 1 - line) : 0);
    buf_add(&out, text, (size_t)n);
    /* A command that takes arguments and a setting that takes a value go on after a blank. */
    bool more = false;
    if (whole && !word) {
        const struct slash_command *s = slash_find(text + 1, n - 1, NULL);
        more = s && *s->args;
    } else if (whole) {
        more = strncmp(line, "/set ", 5) == 0;
    }
    if (more)
        buf_puts(&out, " ");
    input_set(buf_text(&out));
    buf_free(&out);
    menu_update(c);
}

static void complete(struct chat *c)
{
    if (!c->menu.n) {
        free(c->menu_for);
        c->menu_for = NULL;
        menu_update(c);
    }
    if (!c->menu.n)
        return;
    int common = menu_common(&c->menu);
    if (c->menu.chosen >= 0)
        fill(c, c->menu.items[c->menu.chosen].text, (int)strlen(c->menu.items[c->menu.chosen].text),
             true);
    else if (c->menu.n == 1)
        fill(c, c->menu.items[0].text, common, true);
    else if (common > c->menu.typed)
        fill(c, c->menu.items[0].text, common, false);
    else
        menu_move(&c->menu, 1);
}

static void enter(struct chat *c)
{
    if (c->menu.n && c->menu.chosen >= 0) {
        fill(c, c->menu.items[c->menu.chosen].text, (int)strlen(c->menu.items[c->menu.chosen].text),
             true);
        size_t n = strlen(input_text());
        if (n && input_text()[n - 1] == ' ')
            return;
    }
    menu_clear(&c->menu);
    input_feed("\r", 1);
    menu_close(c);
}

/* ---- single keys ----------------------------------------------------------------------------- */

static void restore(const char *text)
{
    if (input_is_empty())
        input_set(text);
}

static void escape(struct chat *c)
{
    if (c->menu.n)
        menu_close(c);
    else if (input_is_vi())
        input_feed("\033", 1);
    else
        chat_cancel(c, restore);
}

static void interrupt(struct chat *c, struct screen *s)
{
    if (c->menu.n)
        menu_close(c);
    else if (chat_cancel(c, restore))
        return;
    else if (!input_is_empty())
        input_set("");
    else
        s->hint = "Ctrl-D or /quit leaves; all is saved";
}

static void end(struct chat *c)
{
    if (input_is_empty() || input_at_end())
        transcript_to_end(&c->transcript);
    else
        input_end();
}

static void home(struct chat *c)
{
    if (input_is_empty() || input_at_start())
        transcript_to_top(&c->transcript);
    else
        input_home();
}

static void vertical(struct chat *c, const struct screen *s, int step)
{
    if (c->menu.n) {
        menu_move(&c->menu, step);
        return;
    }
    if (step < 0)
        input_up(screen_input_cols(s));
    else
        input_down(screen_input_cols(s));
    /* Walking through earlier lines does not open lists for them. */
    menu_close(c);
}

/* The bytes of a key, for readline while it asks for something itself. */
static void raw(const struct keys_event *ev)
{
    if (ev->kind == KEYS_ESC || ev->kind == KEYS_CTRL_C)
        input_feed("\a", 1);
    else if (ev->kind == KEYS_PASTE)
        input_feed(ev->at, strcspn(ev->at, "\n"));
    else if (ev->kind < KEYS_WHEEL_UP || ev->kind >= KEYS_CTRL_C)
        input_feed(ev->at, ev->n);
}

static void edit(struct chat *c, const struct keys_event *ev)
{
    if (ev->kind == KEYS_PASTE)
        input_insert(ev->at, ev->n);
    else if (ev->kind == KEYS_SEQUENCE)
        input_feed_sequence(ev->at, ev->n);
    else if (ev->kind == KEYS_NEWLINE)
        input_insert("\n", 1);
    else
        input_feed(ev->at, ev->n);
    menu_update(c);
}

static void start_editor(struct chat *c)
{
    char err[LADE_ERR];
    if (editor_start(input_text(), err) != 0)
        chat_say(c, ENTRY_ERROR, "%s", err);
}

/* A key for the input line or the transcript. */
static void key(struct chat *c, struct screen *s, const struct keys_event *ev)
{
    switch (ev->kind) {
    case KEYS_BYTES:
    case KEYS_PASTE:
    case KEYS_SEQUENCE:
    case KEYS_NEWLINE:
        edit(c, ev);
        break;
    case KEYS_ENTER:
        enter(c);
        break;
    case KEYS_TAB:
        complete(c);
        break;
    case KEYS_BACKTAB:
        menu_move(&c->menu, -1);
        break;
    case KEYS_ESC:
        escape(c);
        break;
    case KEYS_CTRL_C:
        interrupt(c, s);
        break;
    case KEYS_CTRL_D:
        if (input_is_empty())
            c->quit = true;
        else
            edit(c, ev);
        break;
    case KEYS_CTRL_L:
        c->repaint = true;
        break;
    case KEYS_CTRL_T:
        transcript_fold(&c->transcript, !c->transcript.fold);
        break;
    case KEYS_UP:
    case KEYS_DOWN:
        vertical(c, s, ev->kind == KEYS_UP ? -1 : 1);
        break;
    case KEYS_PAGE_UP:
    case KEYS_PAGE_DOWN:
        transcript_scroll(&c->transcript,
                          ev->kind == KEYS_PAGE_UP ? -screen_page(s) : screen_page(s));
        break;
    case KEYS_LINE_UP:
    case KEYS_LINE_DOWN:
        transcript_scroll(&c->transcript, ev->kind == KEYS_LINE_UP ? -1 : 1);
        break;
    case KEYS_WHEEL_UP:
    case KEYS_WHEEL_DOWN:
        transcript_scroll(&c->transcript, ev->kind == KEYS_WHEEL_UP ? -WHEEL_ROWS : WHEEL_ROWS);
        break;
    case KEYS_HOME:
        home(c);
        break;
    case KEYS_END:
        end(c);
        break;
    case KEYS_TOP:
        transcript_to_top(&c->transcript);
        break;
    case KEYS_BOTTOM:
        transcript_to_end(&c->transcript);
        break;
    case KEYS_CTRL_G:
    case KEYS_CTRL_Z:
    case KEYS_FOCUS:
        break;
    }
}

void app_key(struct chat *c, struct screen *s, const struct keys_event *ev)
{
    c->dirty = true;
    s->hint = NULL;
    if (ev->kind == KEYS_CTRL_Z) {
        term_suspend();
        c->repaint = true;
        return;
    }
    if (s->layout.too_small) {
        if (ev->kind == KEYS_CTRL_C)
            chat_cancel(c, restore);
        c->quit = ev->kind == KEYS_CTRL_D;
        return;
    }
    if (ev->kind == KEYS_CTRL_G && !c->picker.open && !c->strategies.open && !input_is_busy()) {
        start_editor(c);
        return;
    }
    if (c->strategies.open) {
        slash_strategies_key(c, ev);
        return;
    }
    if (c->picker.open) {
        slash_picker_key(c, ev, screen_page(s) - 3);
        return;
    }
    if (input_is_busy())
        raw(ev);
    else
        key(c, s, ev);
}
