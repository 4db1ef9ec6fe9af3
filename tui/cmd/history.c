/* lade history: saved conversations, without the screen. */
#include "history/history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/session/kept.h"
#include "tui/cmd/cmd.h"
#include "tui/nearest.h"
#include "tui/output.h"
#include "tui/paths.h"
#include "tui/report.h"
#include "tui/text/width.h"

_Static_assert((int)HISTORY_ERR <= (int)LADE_ERR, "history writes its errors into our buffers");

/* Bytes of a file to import: JSON is held as text and as values. */
enum { IMPORT_MAX = 1 << 30 };

/* What a subcommand gets; `args` are those after its name. */
struct call {
    const struct options *o;
    struct history *h;
    char **args;
    int n;
    char *err;
};

static void format_time(int64_t ms, char out[32])
{
    time_t seconds = ms / 1000;
    struct tm tm;
    if (!localtime_r(&seconds, &tm) || !strftime(out, 32, "%Y-%m-%d %H:%M", &tm))
        out[0] = '\0';
}

/* The number of a conversation, 0 if it is none. */
static int64_t parse_id(const char *text)
{
    char *end;
    errno = 0;
    long long id = strtoll(text, &end, 10);
    return end == text || *end || errno || id <= 0 ? 0 : id;
}

/* Whether there is a word in them. */
static bool has_words(const struct call *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->args[i][strspn(c->args[i], " \t\r\n")])
            return true;
    return false;
}

/* Arguments joined by blanks; malloc'ed. */
static char *join(const struct call *c, int from)
{
    size_t size = 1;
    for (int i = from; i < c->n; i++)
        size += strlen(c->args[i]) + 1;
    char *text = calloc(1, size), *p = text;
    for (int i = from; text && i < c->n; i++) {
        if (i > from)
            *p++ = ' ';
        p = stpcpy(p, c->args[i]);
    }
    if (!text)
        lade_fail(c->err, "history: out of memory; close other programs");
    return text;
}

/* ---- list ------------------------------------------------------------------------------------ */

static json_t *list_json(const struct history_list *list)
{
    json_t *out = json_array();
    for (int i = 0; i < list->n; i++) {
        const struct history_conversation *c = &list->items[i];
        json_array_append_new(
            out, json_pack("{s:I, s:s, s:I, s:I, s:i, s:s}", "id", (json_int_t)c->id, "title",
                           c->title, "created", (json_int_t)c->created, "updated",
                           (json_int_t)c->updated, "messages", c->messages, "model", c->model));
    }
    return out;
}

static void print_line(const char *text)
{
    output_text(text, strlen(text));
    putchar('\n');
}

/* On a terminal as much of it as fits into the line, whose first columns are used. */
static void print_title(const char *title, int used)
{
    enum { LEAST = 16 }; /* columns: narrower ones are left to the terminal */
    const int room = output_columns(STDOUT_FILENO) - used;
    const size_t n = strlen(title);
    const bool cut = room >= LEAST && width_of(title, n) > room;
    const char *dots = width_utf8() ? "…" : "~";
    output_text(title, cut ? width_fit(title, n, room - 1) : n);
    puts(cut ? dots : "");
}

static int list(const struct call *c)
{
    struct history_list found;
    char *filter = c->n ? join(c, 0) : NULL;
    if (c->n && !filter)
        return -1;
    int rc = history_conversation_list(c->h, filter, 0, c->o->limit, &found, c->err);
    free(filter);
    if (rc)
        return -1;
    if (c->o->json)
        rc = output_json(list_json(&found), c->err);
    for (int i = 0; i < found.n && !c->o->json; i++) {
        char when[32];
        format_time(found.items[i].updated, when);
        int used =
            printf("%4lld  %s  %4d  ", (long long)found.items[i].id, when, found.items[i].messages);
        print_title(*found.items[i].title ? found.items[i].title : "(empty)", used);
    }
    history_list_clear(&found);
    return rc;
}

/* ---- search ---------------------------------------------------------------------------------- */

static json_t *hits_json(const struct history_hits *hits)
{
    json_t *out = json_array();
    for (int i = 0; i < hits->n; i++) {
        const struct history_hit *h = &hits->items[i];
        json_array_append_new(
            out, json_pack("{s:I, s:I, s:s, s:s, s:I, s:s}", "conversation",
                           (json_int_t)h->conversation, "message", (json_int_t)h->message, "role",
                           h->message ? history_role_name(h->role) : "title", "title", h->title,
                           "at", (json_int_t)h->at, "excerpt", h->excerpt));
    }
    return out;
}

static int search(const struct call *c)
{
    struct history_hits hits;
    char *query = join(c, 0);
    if (!query)
        return -1;
    int rc = history_search(c->h, query, c->o->limit < 0 ? INT32_MAX : c->o->limit, &hits, c->err);
    free(query);
    if (rc)
        return -1;
    if (c->o->json)
        rc = output_json(hits_json(&hits), c->err);
    for (int i = 0; i < hits.n && !c->o->json; i++) {
        const struct history_hit *h = &hits.items[i];
        printf("%4lld  %-9s  ", (long long)h->conversation,
               h->message ? history_role_name(h->role) : "title");
        print_line(h->excerpt);
    }
    history_hits_clear(&hits);
    return rc;
}

/* ---- the others ------------------------------------------------------------------------------ */

static int write_export(const struct call *c, int64_t id, enum history_format format)
{
    char *text = history_export(c->h, id, format, c->err);
    int rc = text ? 0 : -1;
    if (rc == 0 && format != HISTORY_JSON)
        output_calm(text);
    if (rc == 0 && c->o->output && strcmp(c->o->output, "-") != 0) {
        rc = output_file(c->o->output, text, strlen(text), c->err);
    } else if (rc == 0) {
        output_text(text, strlen(text));
        if (format == HISTORY_JSON)
            putchar('\n');
    }
    free(text);
    return rc;
}

static enum history_format markdown(const struct call *c)
{
    return c->o->branches ? HISTORY_BRANCHES : HISTORY_MARKDOWN;
}

static int show(const struct call *c)
{
    return write_export(c, parse_id(c->args[0]), c->o->json ? HISTORY_JSON : markdown(c));
}

static int export(const struct call *c)
{
    int64_t id = c->n ? parse_id(c->args[0]) : 0;
    return write_export(c, id, c->o->markdown || c->o->branches ? markdown(c) : HISTORY_JSON);
}

static int import(const struct call *c)
{
    size_t len;
    int n;
    int64_t first = 0;
    char *text = output_read(c->args[0], IMPORT_MAX, &len, c->err);
    if (!text)
        return -1;
    const char *name = strcmp(c->args[0], "-") == 0 ? "standard input" : c->args[0];
    int rc = history_import(c->h, text, len, name, &n, &first, c->err);
    free(text);
    if (rc == 0 && c->o->json)
        return output_json(json_pack("{s:i, s:I}", "imported", n, "first", (json_int_t)first),
                           c->err);
    if (rc == 0 && n)
        printf("imported %d, from number %lld on\n", n, (long long)first);
    return rc;
}

static int rename_one(const struct call *c)
{
    char *title = join(c, 1);
    int rc = title ? history_conversation_rename(c->h, parse_id(c->args[0]), title, c->err) : -1;
    free(title);
    return rc;
}

static int delete (const struct call *c)
{
    char timelines[PATH_MAX];
    bool kept = paths_timelines(timelines, NULL) == 0;
    for (int i = 0; i < c->n; i++) {
        int64_t id = parse_id(c->args[i]);
        if (history_conversation_delete(c->h, id, c->err))
            return -1;
        if (kept) /* what the chat's engine keeps of it between runs */
            lade_kept_forget(timelines, id);
    }
    return 0;
}

static const struct subcommand {
    const char *name, *usage;
    int least, most; /* arguments */
    int ids;         /* so many of them, from the first on, are numbers of conversations */
    bool writes;
    int (*call)(const struct call *c);
} subcommands[] = {
    {"list", "list [TITLE]", 0, 1 << 30, 0, false, list},
    {"show", "show ID", 1, 1, 1, false, show},
    {"search", "search WORDS", 1, 1 << 30, 0, false, search},
    {"rename", "rename ID TITLE", 2, 1 << 30, 1, true, rename_one},
    {"export", "export [ID]", 0, 1, 1, false, export},
    {"import", "import FILE|-", 1, 1, 0, true, import},
    {"delete", "delete ID...", 1, 1 << 30, 1 << 30, true, delete},
};

static const struct subcommand *find(const char *name)
{
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(*subcommands); i++) {
        if (strcmp(subcommands[i].name, name) == 0)
            return &subcommands[i];
    }
    return NULL;
}

int cmd_history(const struct options *o)
{
    char path[PATH_MAX], err[LADE_ERR];
    struct call c = {.o = o, .args = o->args + 1, .n = o->n_args - 1, .err = err};
    const char *name = o->n_args ? o->args[0] : "list";
    const struct subcommand *sub = find(name);
    if (c.n < 0)
        c.n = 0;
    if (!sub) {
        struct nearest near = NEAREST_TO(name);
        for (size_t i = 0; i < sizeof(subcommands) / sizeof(*subcommands); i++)
            nearest_consider(&near, subcommands[i].name);
        if (near.name)
            lade_fail(err, "history %s: there is no such command; did you mean %s?", name,
                      near.name);
        else
            lade_fail(err,
                      "history %s: there is no such command; use list, show, search, rename, "
                      "export, import or delete",
                      name);
        return report_usage(o->json, err);
    }
    if (c.n < sub->least || c.n > sub->most) {
        lade_fail(err, "history %s: has %s arguments; use lade history %s", name,
                  c.n < sub->least ? "too few" : "too many", sub->usage);
        return report_usage(o->json, err);
    }
    if (sub->call == search && !has_words(&c))
        return report_usage(o->json, "history search: has nothing but blanks to look for; "
                                     "use lade history search WORDS");
    for (int i = 0; i < c.n && i < sub->ids; i++)
        if (!parse_id(c.args[i])) {
            lade_fail(err, "%s: is not the number of a conversation; see lade history list",
                      c.args[i]);
            return report_usage(o->json, err);
        }
    int rc = paths_history(path, err);
    if (rc == 0)
        rc = (sub->writes ? history_open : history_open_to_read)(&c.h, path, err);
    if (rc == 0)
        rc = sub->call(&c);
    history_close(c.h);
    return rc ? report_failed(o->json, err) : EXIT_DONE;
}
