#include "tui/text/markdown.h"

#include <md4c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tui/text/md_render.h"
#include "tui/text/width.h"

/* ---- prefixes -------------------------------------------------------------------------------- */

static void prefix_put(struct lines *l, enum theme_role role, const char *text)
{
    lines_put(l, role, text, strlen(text), width_of(text, strlen(text)));
}

/* The marks of all levels: `drawn` says which of the item marks are blanks already. */
static void prefix_make(struct md *md, struct lines *l, bool first)
{
    lines_clear(l);
    lines_new(l);
    int room = md->width / 2;
    for (int i = 0; i < md->levels; i++) {
        struct md_level *v = &md->level[i];
        if ((room -= v->cols) < 0)
            break;
        if (v->quote)
            prefix_put(l, THEME_BORDER, width_utf8() ? "│ " : "| ");
        else if (first && *v->mark)
            prefix_put(l, THEME_QUOTE, v->mark);
        else
            for (int k = 0; k < v->cols; k++)
                lines_put(l, THEME_TEXT, " ", 1, 1);
    }
}

void md_begin(struct md *md, struct wrap_prefix *first, struct wrap_prefix *rest)
{
    prefix_make(md, &md->first, true);
    prefix_make(md, &md->rest, false);
    if (md->gap && md->any) {
        lines_new(md->out);
        if (md->quotes && !md->fresh_quote)
            prefix_put(md->out, THEME_BORDER, width_utf8() ? "│" : "|");
    }
    for (int i = 0; i < md->levels; i++)
        md->level[i].mark[0] = '\0';
    md->gap = md->fresh_quote = false;
    *first = (struct wrap_prefix){&md->first, lines_cols(&md->first, 0)};
    *rest = (struct wrap_prefix){&md->rest, lines_cols(&md->rest, 0)};
}

/* Lays out the paragraph collected so far, if any. */
static void flush(struct md *md)
{
    struct wrap_prefix first, rest;
    if (!md->para.n)
        return;
    md_begin(md, &first, &rest);
    wrap_out(&md->para, md->out, md->width, &first, &rest, false);
    md->any = true;
}

static bool tight(const struct md *md)
{
    return md->lists && md->list[md->lists - 1].tight;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void enter_item(struct md *md, const MD_BLOCK_LI_DETAIL *d)
{
    if (md->levels >= MD_DEPTH || !md->lists)
        return;
    struct md_list *list = &md->list[md->lists - 1];
    struct md_level *v = &md->level[md->levels++];
    *v = (struct md_level){0};
    if (d->is_task)
        snprintf(v->mark, sizeof v->mark, "%s ", d->task_mark == ' ' ? "[ ]" : "[x]");
    else if (list->ordered)
        snprintf(v->mark, sizeof v->mark, "%u%c ", list->number++, list->delimiter);
    else
        snprintf(v->mark, sizeof v->mark, "%s ", width_utf8() ? "•" : "*");
    v->cols = width_of(v->mark, strlen(v->mark));
}

static void enter_code(struct md *md, const MD_BLOCK_CODE_DETAIL *d)
{
    struct wrap_prefix first, rest;
    md->in_code_block = 1;
    if (!d->lang.size || !d->lang.text)
        return;
    md_begin(md, &first, &rest);
    char label[64];
    snprintf(label, sizeof label, "%s %.*s", width_utf8() ? "╭" : "+", (int)d->lang.size,
             d->lang.text);
    struct wrap w = {0};
    wrap_text(&w, THEME_DIM, label, strlen(label));
    wrap_out(&w, md->out, md->width, &first, &rest, true);
    wrap_free(&w);
    md->any = true;
}

static void leave_code(struct md *md)
{
    struct wrap_prefix first, rest;
    md->in_code_block = 0;
    md_begin(md, &first, &rest);
    struct lines *both[] = {&md->first, &md->rest};
    for (int i = 0; i < 2; i++)
        prefix_put(both[i], THEME_BORDER, width_utf8() ? "│ " : "| ");
    first.cols += 2;
    rest.cols += 2;
    wrap_out(&md->para, md->out, md->width, &first, &rest, true);
    md->any = md->gap = true;
}

static void rule(struct md *md)
{
    struct wrap_prefix first, rest;
    md_begin(md, &first, &rest);
    for (int i = first.cols; i < md->width; i++)
        wrap_text(&md->para, THEME_BORDER, width_utf8() ? "─" : "-", width_utf8() ? 3 : 1);
    wrap_out(&md->para, md->out, md->width, &first, &rest, true);
    md->any = md->gap = true;
}

static void enter_list(struct md *md, bool ordered, unsigned start, char delimiter, bool is_tight)
{
    flush(md);
    if (tight(md))
        md->gap = false;
    if (md->lists < MD_DEPTH)
        md->list[md->lists++] = (struct md_list){ordered, is_tight, start, delimiter};
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *user)
{
    struct md *md = user;
    switch (type) {
    case MD_BLOCK_QUOTE:
        flush(md);
        md->quotes++;
        md->fresh_quote = true;
        if (md->levels < MD_DEPTH)
            md->level[md->levels++] = (struct md_level){.quote = true, .cols = 2};
        break;
    case MD_BLOCK_UL:
        enter_list(md, false, 0, 0, ((MD_BLOCK_UL_DETAIL *)detail)->is_tight);
        break;
    case MD_BLOCK_OL: {
        MD_BLOCK_OL_DETAIL *d = detail;
        enter_list(md, true, d->start, d->mark_delimiter, d->is_tight);
        break;
    }
    case MD_BLOCK_LI:
        enter_item(md, detail);
        break;
    case MD_BLOCK_H:
        flush(md);
        md->heading = (int)((MD_BLOCK_H_DETAIL *)detail)->level;
        break;
    case MD_BLOCK_CODE:
        flush(md);
        enter_code(md, detail);
        break;
    case MD_BLOCK_HR:
        flush(md);
        rule(md);
        break;
    case MD_BLOCK_TABLE:
        flush(md);
        md_table_clear(&md->table);
        md->table.columns = (int)((MD_BLOCK_TABLE_DETAIL *)detail)->col_count;
        break;
    case MD_BLOCK_TH:
    case MD_BLOCK_TD: {
        struct md_table *t = &md->table;
        MD_ALIGN a = ((MD_BLOCK_TD_DETAIL *)detail)->align;
        if (type == MD_BLOCK_TH && t->n < MD_COLUMNS)
            t->align[t->n] = a == MD_ALIGN_RIGHT    ? MD_RIGHT
                             : a == MD_ALIGN_CENTER ? MD_CENTRE
                                                    : MD_LEFT;
        md->in_header = type == MD_BLOCK_TH;
        break;
    }
    default:
        break;
    }
    return 0;
}

static void leave_cell(struct md *md)
{
    struct md_table *t = &md->table;
    BUF_GROW(t->cells, t->n, t->cap);
    t->cells[t->n++] = (struct md_cell){.text = md->para, .header = md->in_header};
    md->para = (struct wrap){0};
    md->in_header = false;
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *user)
{
    struct md *md = user;
    (void)detail;
    switch (type) {
    case MD_BLOCK_P:
    case MD_BLOCK_H:
        flush(md);
        md->gap = true;
        md->heading = 0;
        break;
    case MD_BLOCK_LI:
        /* An empty item shows its mark. */
        if (!md->para.n && md->levels && *md->level[md->levels - 1].mark)
            wrap_text(&md->para, THEME_TEXT, " ", 1);
        flush(md);
        if (md->levels)
            md->levels--;
        if (tight(md))
            md->gap = false;
        break;
    case MD_BLOCK_UL:
    case MD_BLOCK_OL:
        if (md->lists)
            md->lists--;
        md->gap = !tight(md);
        break;
    case MD_BLOCK_QUOTE:
        flush(md);
        md->quotes--;
        if (md->levels)
            md->levels--;
        md->gap = true;
        break;
    case MD_BLOCK_CODE:
        leave_code(md);
        break;
    case MD_BLOCK_TH:
    case MD_BLOCK_TD:
        leave_cell(md);
        break;
    case MD_BLOCK_TABLE:
        if (md->table.columns > MD_COLUMNS)
            md_table_clear(&md->table);
        else
            md_table_out(md);
        break;
    default:
        break;
    }
    return 0;
}

/* ---- spans and text -------------------------------------------------------------------------- */

static enum theme_role role_now(const struct md *md)
{
    return md->code || md->in_code_block ? THEME_CODE
           : md->link                    ? THEME_LINK
           : md->heading                 ? THEME_HEADING
           : md->strong || md->in_header ? THEME_STRONG
           : md->deleted                 ? THEME_DIM
           : md->em                      ? THEME_EMPHASIS
           : md->quotes                  ? THEME_QUOTE
                                         : THEME_TEXT;
}

static int *counter(struct md *md, MD_SPANTYPE type)
{
    switch (type) {
    case MD_SPAN_EM:
        return &md->em;
    case MD_SPAN_STRONG:
        return &md->strong;
    case MD_SPAN_CODE:
        return &md->code;
    case MD_SPAN_DEL:
        return &md->deleted;
    default:
        return NULL;
    }
}

static int enter_span(MD_SPANTYPE type, void *detail, void *user)
{
    struct md *md = user;
    int *n = counter(md, type);
    (void)detail;
    if (n)
        ++*n;
    if (type == MD_SPAN_A || type == MD_SPAN_IMG) {
        md->link++;
        md->link_from = md->para.text.n;
    }
    return 0;
}

static int leave_span(MD_SPANTYPE type, void *detail, void *user)
{
    struct md *md = user;
    int *n = counter(md, type);
    if (n)
        --*n;
    if (type != MD_SPAN_A && type != MD_SPAN_IMG)
        return 0;
    md->link--;
    MD_ATTRIBUTE *to = type == MD_SPAN_A ? &((MD_SPAN_A_DETAIL *)detail)->href
                                         : &((MD_SPAN_IMG_DETAIL *)detail)->src;
    /* The address is shown unless the text is the address. */
    size_t shown = md->para.text.n - md->link_from;
    const char *text = buf_text(&md->para.text) + md->link_from;
    if (to->size && !(shown <= to->size && shown && to->text &&
                      memcmp(to->text + to->size - shown, text, shown) == 0)) {
        wrap_text(&md->para, THEME_DIM, " (", 2);
        wrap_text(&md->para, THEME_DIM, to->text, to->size);
        wrap_text(&md->para, THEME_DIM, ")", 1);
    }
    return 0;
}

static void entity(struct md *md, const char *text, size_t n)
{
    static const struct {
        const char *name, *text;
    } table[] = {{"&amp;", "&"},    {"&lt;", "<"},   {"&gt;", ">"},    {"&quot;", "\""},
                 {"&apos;", "'"},   {"&nbsp;", " "}, {"&mdash;", "—"}, {"&ndash;", "–"},
                 {"&hellip;", "…"}, {"&copy;", "©"}, {"&times;", "×"}, {"&middot;", "·"},
                 {"&rarr;", "→"},   {"&larr;", "←"}, {"&deg;", "°"},   {"&euro;", "€"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, text, n) == 0) {
            wrap_text(&md->para, role_now(md), table[i].text, strlen(table[i].text));
            return;
        }
    if (n > 3 && text[1] == '#') {
        bool hex = text[2] == 'x' || text[2] == 'X';
        long ch = strtol(text + (hex ? 3 : 2), NULL, hex ? 16 : 10);
        utf8proc_uint8_t out[4];
        if (ch > 0 && ch <= 0x10ffff && utf8proc_codepoint_valid((utf8proc_int32_t)ch)) {
            utf8proc_ssize_t len = utf8proc_encode_char((utf8proc_int32_t)ch, out);
            wrap_text(&md->para, role_now(md), (const char *)out, (size_t)len);
            return;
        }
    }
    wrap_text(&md->para, role_now(md), text, n);
}

static int text_in(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE size, void *user)
{
    struct md *md = user;
    if (text >= md->source && text < md->source + md->end && text + size > md->source + md->end)
        size = (MD_SIZE)(md->source + md->end - text);
    switch (type) {
    case MD_TEXT_BR:
    case MD_TEXT_SOFTBR:
        /* A model that ends a line means it: verses, addresses, one fact per line. */
        wrap_text(&md->para, role_now(md), "\n", 1);
        break;
    case MD_TEXT_NULLCHAR:
        wrap_text(&md->para, role_now(md), "\xef\xbf\xbd", 3);
        break;
    case MD_TEXT_ENTITY:
        entity(md, text, size);
        break;
    default:
        wrap_text(&md->para, role_now(md), text, size);
        break;
    }
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void render(struct lines *out, const char *text, size_t n, int width, bool any)
{
    static const MD_PARSER parser = {
        .flags = MD_DIALECT_GITHUB | MD_FLAG_NOHTML,
        .enter_block = enter_block,
        .leave_block = leave_block,
        .enter_span = enter_span,
        .leave_span = leave_span,
        .text = text_in,
    };
    /* md4c up to 0.4.8 looks past the end of its input in places (an open bracket as the last
     * character), and goes on as long as it likes what it finds there: it gets a copy that ends in
     * a line break and zeros. */
    static const char zeros[64];
    struct buf copy = {0};
    buf_add(&copy, text, n);
    buf_add(&copy, "\n", 1);
    struct md md = {.out = out, .width = width > 1 ? width : 1, .any = any, .gap = any};
    md.end = n + 1;
    buf_add(&copy, zeros, sizeof zeros);
    md.source = copy.at;
    md_parse(copy.at, (MD_SIZE)md.end, &parser, &md);
    buf_free(&copy);
    flush(&md);
    wrap_free(&md.para);
    md_table_clear(&md.table);
    lines_free(&md.first);
    lines_free(&md.rest);
}

void markdown_update(struct markdown *m, struct lines *out, const char *text, size_t n, int width)
{
    if (!m->begun) {
        m->begun = true;
        m->base = out->n;
        m->mark = lines_mark(out);
    }
    lines_cut(out, m->mark);
    size_t stable = markdown_stable(text, n, m->stable);
    if (stable > m->stable) {
        render(out, text + m->stable, stable - m->stable, width, out->n > m->base);
        m->stable = stable;
        m->mark = lines_mark(out);
    }
    if (n > m->stable)
        render(out, text + m->stable, n - m->stable, width, out->n > m->base);
}
