#include "tui/view/picker.h"

#include <stdlib.h>
#include <string.h>

void picker_open(struct picker *p, const char *title, const char *empty)
{
    picker_close(p);
    p->open = true;
    p->title = title;
    p->empty = empty;
    p->chosen = -1;
}

void picker_close(struct picker *p)
{
    for (int i = 0; i < p->n; i++)
        free(p->items[i].title);
    free(p->items);
    buf_free(&p->filter);
    *p = (struct picker){.chosen = -1};
}

struct picker_item *picker_add(struct picker *p, int64_t id, const char *title)
{
    BUF_GROW(p->items, p->n, p->cap);
    struct picker_item *it = &p->items[p->n++];
    *it = (struct picker_item){.id = id, .title = buf_strdup(title)};
    if (p->chosen < 0)
        p->chosen = 0;
    return it;
}

/* Next item that is shown from i in direction step; i itself if there is none. */
static int step_from(const struct picker *p, int i, int step)
{
    for (int k = i + step; k >= 0 && k < p->n; k += step)
        if (!p->items[k].hidden)
            return k;
    return i;
}

static void choose_shown(struct picker *p)
{
    if (p->chosen >= p->n)
        p->chosen = p->n - 1;
    if (p->chosen >= 0 && !p->items[p->chosen].hidden)
        return;
    int from = p->chosen;
    p->chosen = -1;
    for (int i = from < 0 ? 0 : from; i < p->n && p->chosen < 0; i++)
        p->chosen = p->items[i].hidden ? -1 : i;
    for (int i = from; i >= 0 && p->chosen < 0; i--)
        p->chosen = p->items[i].hidden ? -1 : i;
}

void picker_remove(struct picker *p, int64_t id)
{
    for (int i = 0; i < p->n; i++) {
        if (p->items[i].id != id)
            continue;
        free(p->items[i].title);
        memmove(p->items + i, p->items + i + 1, (size_t)(p->n - i - 1) * sizeof *p->items);
        p->n--;
        break;
    }
    choose_shown(p);
}

void picker_choose(struct picker *p, int64_t id)
{
    for (int i = 0; i < p->n; i++)
        if (p->items[i].id == id)
            p->chosen = i;
}

static void filter(struct picker *p)
{
    for (int i = 0; i < p->n; i++)
        p->items[i].hidden = p->filter.n && !strcasestr(p->items[i].title, p->filter.at);
    p->chosen = p->chosen < 0 ? 0 : p->chosen;
    choose_shown(p);
}

static enum picker_answer typed(struct picker *p, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 127 || c == 8) {
            size_t keep = p->filter.n;
            while (keep && ((unsigned char)p->filter.at[--keep] & 0xc0) == 0x80)
                ;
            buf_cut(&p->filter, keep);
        } else if (c == 21) {
            buf_cut(&p->filter, 0);
        } else if (c == 16 || c == 14) {
            p->chosen = step_from(p, p->chosen, c == 16 ? -1 : 1);
        } else if (c >= 32) {
            buf_add(&p->filter, text + i, 1);
        }
    }
    filter(p);
    return PICKER_MOVED;
}

static enum picker_answer confirmed(struct picker *p, const struct keys_event *ev)
{
    p->confirm = false;
    bool yes = ev->kind == KEYS_ENTER || (ev->kind == KEYS_BYTES && ev->n == 1 && *ev->at == 'y');
    return yes ? PICKER_DELETE : PICKER_MOVED;
}

enum picker_answer picker_key(struct picker *p, const struct keys_event *ev, int page)
{
    int steps = 0;
    if (p->confirm)
        return confirmed(p, ev);
    switch (ev->kind) {
    case KEYS_ENTER:
        return p->chosen >= 0 ? PICKER_TAKEN : PICKER_CLOSED;
    case KEYS_ESC:
    case KEYS_CTRL_C:
        return PICKER_CLOSED;
    case KEYS_CTRL_D:
        p->confirm = p->deletes && p->chosen >= 0;
        return PICKER_MOVED;
    case KEYS_SEQUENCE:
        /* The Delete key. No letter: whoever types "dynamic" wants to find it. */
        if (ev->n == 4 && memcmp(ev->at, "\033[3~", 4) == 0)
            p->confirm = p->deletes && p->chosen >= 0;
        return PICKER_MOVED;
    case KEYS_BYTES:
    case KEYS_PASTE:
        return typed(p, ev->at, ev->n);
    case KEYS_UP:
    case KEYS_BACKTAB:
    case KEYS_WHEEL_UP:
        steps = -1;
        break;
    case KEYS_DOWN:
    case KEYS_TAB:
    case KEYS_WHEEL_DOWN:
        steps = 1;
        break;
    case KEYS_PAGE_UP:
        steps = -page;
        break;
    case KEYS_PAGE_DOWN:
        steps = page;
        break;
    case KEYS_HOME:
    case KEYS_TOP:
        steps = -p->n;
        break;
    case KEYS_END:
    case KEYS_BOTTOM:
        steps = p->n;
        break;
    default:
        return PICKER_NOTHING;
    }
    for (; steps < 0 && p->chosen >= 0; steps++)
        p->chosen = step_from(p, p->chosen, -1);
    for (; steps > 0 && p->chosen >= 0; steps--)
        p->chosen = step_from(p, p->chosen, 1);
    return PICKER_MOVED;
}
