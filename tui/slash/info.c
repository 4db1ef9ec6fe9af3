/* Commands that tell or hand out something: /help /stats /copy /mouse /quit. */
#include "tui/slash/slash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/prefs.h"
#include "tui/term.h"
#include "tui/view/stats.h"

void slash_put_cell(struct buf *b, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (strchr("\\`*_{}[]()#+-.!|~<>&", *p))
            buf_puts(b, "\\");
        buf_add(b, *p == '\n' ? " " : p, 1);
    }
}

static void put_row(struct buf *b, const char *name, const char *what)
{
    buf_puts(b, "| ");
    slash_put_cell(b, name);
    buf_puts(b, " | ");
    slash_put_cell(b, what);
    buf_puts(b, " |\n");
}

static void help_of(struct chat *c, const struct slash_command *s)
{
    struct buf text = {0};
    buf_printf(&text, "**/%s %s**  %s.", s->name, s->args, s->help);
    if (s->alias)
        buf_printf(&text, " The same as /%s.", s->alias);
    if (s->run == slash_set) {
        buf_puts(&text, "\n\n| setting | what it does |\n|---|---|\n");
        for (int i = 0; i < settings_count; i++)
            put_row(&text, settings_rows[i].name, settings_rows[i].help);
        buf_puts(&text, "\n`/set NAME default` goes back to the model's own value.");
    }
    chat_say(c, ENTRY_INFO, "%s", buf_text(&text));
    transcript_to_last(&c->transcript);
    buf_free(&text);
}

int slash_help(struct chat *c, const char *args, char *err)
{
    static const struct {
        const char *key, *does;
    } keys[] = {
        {"Enter", "send"},
        {"Alt-Enter, Ctrl-J", "a new line in the message"},
        {"Esc, Ctrl-C", "stop the answer; take back a waiting message"},
        {"Tab", "complete a command"},
        {"PgUp, PgDn, wheel", "scroll; End follows again"},
        {"Ctrl-T", "show or fold the model's reasoning"},
        {"Up, Ctrl-R", "earlier messages; search them"},
        {"Ctrl-G", "write the message in $EDITOR"},
        {"Ctrl-L, Ctrl-Z", "draw again; suspend"},
        {"Ctrl-D", "leave"},
    };
    if (*args) {
        if (*args == '/')
            args++;
        const struct slash_command *s = slash_find(args, (int)strlen(args), err);
        if (!s)
            return -1;
        help_of(c, s);
        return 0;
    }
    struct buf text = {0};
    buf_puts(&text, "| command | |\n|---|---|\n");
    for (int i = 0; i < slash_count; i++) {
        const struct slash_command *s = &slash_commands[i];
        char typed[128];
        snprintf(typed, sizeof typed, "/%s %s", s->name, s->args);
        put_row(&text, typed, s->help);
    }
    buf_puts(&text, "\n| key | |\n|---|---|\n");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put_row(&text, keys[i].key, keys[i].does);
    buf_puts(&text, "\nHold Shift to select text with the mouse, or turn wheel scrolling off with "
                    "/mouse off.");
    chat_say(c, ENTRY_INFO, "%s", buf_text(&text));
    transcript_to_last(&c->transcript);
    buf_free(&text);
    return 0;
}

int slash_stats(struct chat *c, const char *args, char *err)
{
    char text[4096];
    struct lade_plan plan;
    (void)args;
    (void)err;
    bool have = c->engine && lade_engine_plan(c->engine, &plan) && plan.chosen >= 0;
    stats_text(text, sizeof text, c->have_info ? &c->info : NULL, &c->status.sample,
               c->have_last ? &c->last : NULL, have ? &plan.rows[plan.chosen] : NULL);
    chat_say(c, ENTRY_NOTICE, "%s", text);
    return 0;
}

/* A fence that a line of Markdown begins with: its mark, how many of them (0: none), and whether
 * nothing follows. */
struct fence {
    char mark;
    size_t n;
    bool bare;
};

static struct fence fence_at(const char *line)
{
    const char *at = line + strspn(line, " ");
    size_t n = strspn(at, *at == '~' ? "~" : "`");
    const char *rest = at + n + strspn(at + n, " \t\r");
    if (n < 3 || (*at == '`' && at[n + strcspn(at + n, "`\n")] == '`')) /* or a line with code */
        return (struct fence){0};
    return (struct fence){*at, n, !*rest || *rest == '\n'};
}

/* Fenced block number `wanted` of an answer, 0 = the last, without its fences; malloc'ed, NULL if
 * there is none. A fence ends at one of the same mark that is as long and has nothing after it, or
 * with the text. *blocks gets their number. */
static char *code_block(const char *text, int wanted, int *blocks)
{
    const char *best = NULL, *open = NULL, *best_end = NULL;
    struct fence begin = {0};
    *blocks = 0;
    for (const char *line = text, *next; *line; line = next) {
        const struct fence f = fence_at(line);
        next = line + strcspn(line, "\n");
        next += *next == '\n';
        if (f.n && !open) {
            open = next;
            begin = f;
            if (++*blocks == wanted || !wanted)
                best = open;
        } else if (open && f.bare && f.mark == begin.mark && f.n >= begin.n) {
            best_end = best == open ? line : best_end;
            open = NULL;
        }
    }
    if (best && best == open)
        best_end = best + strlen(best);
    return best ? buf_strndup(best, (size_t)(best_end - best)) : NULL;
}

static int copy_code(const struct entry *answer, int wanted, struct buf *out, char *err)
{
    int blocks;
    char *code = code_block(buf_text(&answer->text), wanted, &blocks);
    if (!blocks)
        return lade_fail(err, "/copy: the last answer has no code block; /copy takes all of it");
    if (!code)
        return lade_fail(err, "/copy %d: the last answer has %d code block%s; choose one of them",
                         wanted, blocks, units_s(blocks));
    buf_puts(out, code);
    free(code);
    return 0;
}

static void all_text(const struct chat *c, struct buf *out)
{
    for (int i = 0; i < c->transcript.n; i++) {
        const struct entry *e = c->transcript.items[i];
        if (e->kind == ENTRY_USER || e->kind == ENTRY_ANSWER)
            buf_printf(out, "%s%s\n", e->kind == ENTRY_USER ? "\n> " : "\n", buf_text(&e->text));
    }
}

/* A number from 1 to 999. */
static bool is_count(const char *s)
{
    size_t n = strspn(s, "0123456789");
    return n > 0 && n < 4 && !s[n] && atoi(s) > 0;
}

int slash_copy(struct chat *c, const char *args, char *err)
{
    const struct entry *last = NULL;
    struct buf text = {0};
    for (int i = 0; i < c->transcript.n; i++)
        if (c->transcript.items[i]->kind == ENTRY_ANSWER && c->transcript.items[i]->text.n)
            last = c->transcript.items[i];
    if (!last)
        return lade_fail(err, "/copy: there is no answer yet; ask something first");
    if (strcmp(args, "all") == 0) {
        all_text(c, &text);
    } else if (strcmp(args, "code") == 0 || is_count(args)) {
        if (copy_code(last, atoi(args), &text, err) != 0)
            return -1;
    } else if (!*args || strcmp(args, "answer") == 0) {
        buf_puts(&text, buf_text(&last->text) + strspn(buf_text(&last->text), " \n"));
    } else {
        return lade_fail(err,
                         "/copy %.40s: cannot be copied; choose answer, code, the number of a "
                         "code block, or all",
                         args);
    }
    term_clipboard(text.at, text.n);
    chat_say(c, ENTRY_NOTICE, "%zu byte%s given to the terminal's clipboard.", text.n,
             units_s((double)text.n));
    buf_free(&text);
    return 0;
}

void slash_copy_complete(struct chat *c, const char *args, struct menu *out)
{
    (void)c;
    menu_offer(out, args, "answer", "the last answer");
    menu_offer(out, args, "code", "its last code block; a number takes another");
    menu_offer(out, args, "all", "the whole conversation");
}

int slash_mouse(struct chat *c, const char *args, char *err)
{
    bool on = *args ? strcmp(args, "on") == 0 : !term_has_mouse();
    if (*args && !on && strcmp(args, "off") != 0)
        return lade_fail(err, "/mouse %.40s: not understood; choose on or off", args);
    term_mouse(on);
    if (prefs_set("mouse", on ? "on" : "off", err) != 0)
        return -1;
    chat_say(c, ENTRY_NOTICE,
             on ? "The wheel scrolls; hold Shift to select text."
                : "The mouse selects text; scroll with PgUp and PgDn.");
    return 0;
}

void slash_mouse_complete(struct chat *c, const char *args, struct menu *out)
{
    (void)c;
    menu_offer(out, args, "on", "the wheel scrolls; Shift selects");
    menu_offer(out, args, "off", "the terminal's own selection");
}

int slash_quit(struct chat *c, const char *args, char *err)
{
    (void)args;
    (void)err;
    c->quit = true;
    return 0;
}
