#include "tui/view/entry_rows.h"

#include <stdio.h>
#include <string.h>

#include "tui/layout.h"
#include "tui/meters/units.h"
#include "tui/text/width.h"
#include "tui/text/wrap.h"

static void plain(struct lines *out, enum theme_role role, const char *text, size_t n, int width)
{
    struct wrap w = {0};
    wrap_text(&w, role, text, n);
    wrap_out(&w, out, width, NULL, NULL, false);
    wrap_free(&w);
}

static const char *sign(const char *utf8, const char *ascii)
{
    return width_utf8() ? utf8 : ascii;
}

/* "▸ thought for 3.2 s · about 120 tokens · Ctrl-T shows it" */
static void thinking_head(struct entry *e, int width, bool fold)
{
    char text[160], time[UNITS_MAX];
    int n = snprintf(text, sizeof text, "%s %s", fold ? sign("▸", ">") : sign("▾", "v"),
                     e->thinking ? "thinking" : "thought");
    const char *dot = sign(" · ", ", ");
    if (e->think_s >= 0)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s%s", e->thinking ? "" : "for ",
                      units_seconds(time, e->think_s));
    if (e->think_tokens > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, "%sabout %d token%s", dot, e->think_tokens,
                      units_s(e->think_tokens));
    if (fold && width > 60)
        snprintf(text + n, sizeof text - (size_t)n, "%sCtrl-T shows it", dot);
    lines_add(&e->rows, THEME_DIM, text, width);
}

/* The reasoning: one line when folded, with its last rows while it is being written. */
static void thinking(struct entry *e, int width, bool fold)
{
    e->laid_reasoning = e->reasoning.n;
    const char *text = buf_text(&e->reasoning);
    size_t n = e->reasoning.n;
    while (n && strchr(" \n\t", *text)) {
        text++;
        n--;
    }
    while (n && strchr(" \n\t", text[n - 1]))
        n--;
    if (!n)
        return;
    thinking_head(e, width, fold);
    if (fold && !e->thinking)
        return;
    struct lines all = {0};
    plain(&all, THEME_THINKING, text, n, width - 2);
    size_t from = fold && all.n > ENTRY_PEEK ? all.n - ENTRY_PEEK : 0;
    for (size_t i = from; i < all.n; i++) {
        lines_new(&e->rows);
        lines_put(&e->rows, THEME_BORDER, sign("│ ", "| "), strlen(sign("│ ", "| ")), 2);
        for (uint32_t s = 0; s < all.rows[i].n; s++) {
            struct lines_span *span = &all.spans[all.rows[i].span + s];
            lines_put(&e->rows, span->role, all.text.at + span->off, span->len, span->cols);
        }
    }
    lines_free(&all);
}

/* Adds what still fits as a whole. */
static void add_part(struct buf *text, const char *part, int width)
{
    const char *dot = text->n ? sign(" · ", ", ") : "";
    if (width_of(buf_text(text), text->n) + width_of(dot, strlen(dot)) +
            width_of(part, strlen(part)) <=
        width) {
        buf_puts(text, dot);
        buf_puts(text, part);
    }
}

/* What an answer cost, the most important first: "308 tokens · 12.3 tokens/s · first after 1.2 s ·
 * prompt 512 at 104/s · 1024 reused". */
static void add_cost(struct buf *text, const struct lade_result *cost, int width)
{
    char part[64], a[UNITS_MAX];
    int fresh = cost->prompt_tokens - cost->kept_tokens;
    snprintf(part, sizeof part, "%d token%s", cost->tokens, units_s(cost->tokens));
    add_part(text, part, width);
    snprintf(part, sizeof part, "%s tokens/s", units_speed(a, cost->decode_tps));
    if (cost->decode_tps > 0)
        add_part(text, part, width);
    snprintf(part, sizeof part, "first after %s", units_seconds(a, cost->ttft_s));
    if (cost->ttft_s > 0)
        add_part(text, part, width);
    snprintf(part, sizeof part, "prompt %d at %s/s", fresh, units_speed(a, cost->prefill_tps));
    if (fresh > 0 && cost->prefill_tps > 0)
        add_part(text, part, width);
    snprintf(part, sizeof part, "%d reused", cost->kept_tokens);
    if (cost->kept_tokens > 0)
        add_part(text, part, width);
}

static void footer(struct entry *e, int width)
{
    static const struct {
        enum entry_state state;
        enum theme_role role;
        const char *text;
    } ends[] = {
        {ENTRY_STOPPED, THEME_DIM, "stopped"},
        {ENTRY_INTERRUPTED, THEME_WARNING, "interrupted here"},
        {ENTRY_ELSEWHERE, THEME_WARNING, "another lade is still writing this; /resume shows more"},
        {ENTRY_AT_LIMIT, THEME_WARNING, "ended at the token limit; /set max-tokens raises it"},
        {ENTRY_FULL, THEME_WARNING, "the context is full; /new begins another conversation"},
    };
    struct buf text = {0};
    char part[64];
    enum theme_role role = THEME_DIM;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends[i].state == e->state) {
            buf_puts(&text, ends[i].text);
            role = ends[i].role;
        }
    if (e->versions > 1) {
        snprintf(part, sizeof part, "%d/%d", e->version, e->versions);
        add_part(&text, part, width);
    }
    if (e->has_cost && e->cost.tokens > 0)
        add_cost(&text, &e->cost, width);
    if (text.n)
        plain(&e->rows, role, text.at, text.n, width);
    buf_free(&text);
}

static void answer(struct entry *e, int width, bool fold, bool again)
{
    if (again)
        thinking(e, width, fold);
    const char *text = buf_text(&e->text);
    size_t n = e->text.n, skip = strspn(text, " \n\t");
    if (n > skip) {
        if (!e->md.begun && e->rows.n) {
            lines_new(&e->rows);
        }
        markdown_update(&e->md, &e->rows, text + skip, n - skip, width);
    } else if (e->state == ENTRY_WAITING && !e->rows.n) {
        lines_add(&e->rows, THEME_DIM, *e->progress ? e->progress : "...", width);
    }
    if (e->state != ENTRY_STREAMING && e->state != ENTRY_WAITING)
        footer(e, width);
}

void entry_layout(struct entry *e, int cols, bool fold)
{
    static const char waits[] = "will be sent when ready; Esc takes it back";
    char version[32];
    int width = cols - ENTRY_GUTTER - 1;
    if (width > LAYOUT_TEXT_COLS)
        width = LAYOUT_TEXT_COLS;
    if (width < 1)
        width = 1;
    bool again = e->changed || e->width != width || e->laid_reasoning != e->reasoning.n;
    if (!again && (e->kind != ENTRY_ANSWER || e->laid_text == e->text.n))
        return;
    /* Only text that continues text can be added to the rows that are there. */
    again |= !e->md.begun;
    if (again) {
        lines_clear(&e->rows);
        e->md = (struct markdown){0};
    }
    e->width = width;
    e->laid_text = e->text.n;
    e->changed = false;
    switch (e->kind) {
    case ENTRY_ANSWER:
        answer(e, width, fold, again);
        break;
    case ENTRY_INFO:
        markdown_update(&e->md, &e->rows, buf_text(&e->text), e->text.n, width);
        break;
    case ENTRY_USER:
        plain(&e->rows, THEME_INPUT, buf_text(&e->text), e->text.n, width);
        if (e->versions > 1) {
            snprintf(version, sizeof version, "%d/%d", e->version, e->versions);
            plain(&e->rows, THEME_DIM, version, strlen(version), width);
        }
        if (e->state == ENTRY_WAITING)
            plain(&e->rows, THEME_DIM, waits, strlen(waits), width);
        break;
    default:
        plain(&e->rows, e->kind == ENTRY_ERROR ? THEME_ERROR : THEME_DIM, buf_text(&e->text),
              e->text.n, width);
        break;
    }
    lines_new(&e->rows); /* distance to the next */
}
