#include "history/internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- JSON ------------------------------------------------------------------------------------ */

/* Sets a key unless the value is unknown; takes over the value. */
static int set_known(json_t *object, const char *key, bool known, json_t *value)
{
    if (!known) {
        json_decref(value);
        return 0;
    }
    return json_object_set_new(object, key, value);
}

static int set_text(json_t *object, const char *key, const char *text)
{
    return set_known(object, key, text && *text, json_string(text ? text : ""));
}

/* Parameters are JSON already; what does not parse is kept as text. */
static int set_parameters(json_t *object, const char *text)
{
    json_t *value = json_loads(text, 0, NULL);
    return set_known(object, "parameters", *text != '\0', value ? value : json_string(text));
}

/* Messages are numbered from 1 in the export, so that ids of this database do not matter. */
static int number_of(const struct history_messages *all, int64_t id)
{
    for (int i = 0; i < all->n; i++) {
        if (all->items[i].id == id)
            return i + 1;
    }
    return 0;
}

static json_t *message_json(const struct history_messages *all, const struct history_message *m)
{
    json_t *o = json_pack("{s:i, s:i, s:s, s:s, s:s, s:I}", "id", number_of(all, m->id), "parent",
                          number_of(all, m->parent), "role", history_role_name(m->role), "state",
                          history_state_name(m->state), "content", m->content, "created",
                          (json_int_t)m->created);
    if (!o)
        return NULL;
    const struct history_cost *c = &m->cost;
    if (set_known(o, "reasoning", m->reasoning, json_string(m->reasoning ? m->reasoning : "")) ||
        set_known(o, "finished", m->finished > 0, json_integer(m->finished)) ||
        set_text(o, "model", m->model) || set_parameters(o, m->parameters) ||
        set_known(o, "prompt_tokens", c->prompt_tokens >= 0, json_integer(c->prompt_tokens)) ||
        set_known(o, "kept_tokens", c->kept_tokens >= 0, json_integer(c->kept_tokens)) ||
        set_known(o, "tokens", c->tokens >= 0, json_integer(c->tokens)) ||
        set_known(o, "ttft_s", c->ttft_s >= 0, json_real(c->ttft_s)) ||
        set_known(o, "prefill_tps", c->prefill_tps >= 0, json_real(c->prefill_tps)) ||
        set_known(o, "decode_tps", c->decode_tps >= 0, json_real(c->decode_tps))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *conversation_json(const struct history_conversation *c,
                                 const struct history_messages *all)
{
    json_t *list = json_array();
    for (int i = 0; list && i < all->n; i++) {
        json_t *m = message_json(all, &all->items[i]);
        if (!m || json_array_append_new(list, m)) {
            json_decref(list);
            list = NULL;
        }
    }
    if (!list)
        return NULL;
    json_t *o = json_pack("{s:s, s:I, s:I, s:i, s:o}", "title", c->title, "created",
                          (json_int_t)c->created, "updated", (json_int_t)c->updated, "leaf",
                          number_of(all, c->leaf), "messages", list);
    if (o && (set_text(o, "model", c->model) || set_text(o, "strategy", c->strategy) ||
              set_parameters(o, c->parameters))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* ---- Markdown -------------------------------------------------------------------------------- */

static void write_time(FILE *out, int64_t ms)
{
    time_t seconds = ms / 1000;
    struct tm tm;
    char text[32];
    if (localtime_r(&seconds, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &tm))
        fputs(text, out);
}

static const char *heading(const struct history_message *m)
{
    static const char *const titles[] = {"System", "You", "Assistant", "Tool"};
    return m->role == HISTORY_ASSISTANT && *m->model ? m->model : titles[m->role];
}

static void write_message(FILE *out, const struct history_message *m)
{
    static const char *const ends[] = {"*(still being written)*\n\n", "", "*(stopped)*\n\n",
                                       "*(interrupted)*\n\n"};
    fprintf(out, "## %s\n\n", heading(m));
    if (m->versions > 1)
        fprintf(out, "*(version %d of %d)*\n\n", m->version, m->versions);
    if (m->reasoning && *m->reasoning)
        fprintf(out, "<details><summary>Thinking</summary>\n\n%s\n\n</details>\n\n", m->reasoning);
    if (*m->content)
        fprintf(out, "%s\n\n", m->content);
    fputs(ends[m->state], out);
}

/* Index of message `id`, -1 if there is none: they are in the order of their ids. */
static int find_message(const struct history_messages *m, int64_t id)
{
    int low = 0, high = m->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (m->items[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->n && m->items[low].id == id ? low : -1;
}

/* Each message, then all that was said after it, then its next version. A message whose parent is not
 * there, or is no older, which only damage leaves, begins a branch of its own. */
static int write_branches(FILE *out, const struct history_messages *m, char *err)
{
    int *next = calloc((size_t)m->n * 3 + 1, sizeof *next);
    if (!next)
        return history_fail_memory(err);
    int *child = next + m->n, *stack = child + m->n, depth = 0, roots = -1;
    for (int i = 0; i < m->n; i++)
        child[i] = -1;
    for (int i = m->n - 1; i >= 0; i--) { /* lists of children, the oldest first */
        int parent = find_message(m, m->items[i].parent);
        int *first = parent >= 0 && parent < i ? &child[parent] : &roots;
        next[i] = *first;
        *first = i;
    }
    if (roots >= 0)
        stack[depth++] = roots;
    while (depth) {
        int i = stack[--depth];
        write_message(out, &m->items[i]);
        if (next[i] >= 0)
            stack[depth++] = next[i];
        if (child[i] >= 0)
            stack[depth++] = child[i];
    }
    free(next);
    return 0;
}

static int write_markdown(FILE *out, const struct history_conversation *c,
                          const struct history_messages *m, bool branches, char *err)
{
    fprintf(out, "# %s\n\n", *c->title ? c->title : "Untitled");
    write_time(out, c->created);
    if (*c->model)
        fprintf(out, " · %s", c->model);
    fputs("\n\n", out);
    if (branches)
        return write_branches(out, m, err);
    for (int i = 0; i < m->n; i++)
        write_message(out, &m->items[i]);
    if (c->messages > m->n)
        fprintf(out, "*(not shown, on other branches: %d; lade history show %lld --branches)*\n\n",
                c->messages - m->n, (long long)c->id);
    return 0;
}

/* ---- both ------------------------------------------------------------------------------------ */

static int export_one(struct history *h, const struct history_conversation *c,
                      enum history_format format, FILE *markdown, json_t *list, char *err)
{
    struct history_messages m;
    int rc = format == HISTORY_MARKDOWN ? history_messages_path(h, c->id, HISTORY_ACTIVE, &m, err)
                                        : history_messages_all(h, c->id, &m, err);
    if (rc)
        return -1;
    if (format == HISTORY_MARKDOWN) {
        rc = write_markdown(markdown, c, &m, false, err);
    } else if (format == HISTORY_BRANCHES) {
        rc = write_markdown(markdown, c, &m, true, err);
    } else {
        json_t *o = conversation_json(c, &m);
        if (!o || json_array_append_new(list, o))
            rc = history_fail_memory(err);
    }
    history_messages_clear(&m);
    return rc;
}

static int export_all(struct history *h, int64_t id, enum history_format format, FILE *markdown,
                      json_t *conversations, char *err)
{
    struct history_list list = {0};
    struct history_conversation one;
    int rc;
    if (id) {
        rc = history_conversation_get(h, id, &one, err);
        if (rc == 0)
            list = (struct history_list){.items = &one, .n = 1};
    } else {
        rc = history_conversation_list(h, NULL, 0, -1, &list, err);
    }
    /* Oldest first: the order in which an import makes them again. */
    for (int i = list.n - 1; i >= 0 && rc == 0; i--)
        rc = export_one(h, &list.items[i], format, markdown, conversations, err);
    if (!id)
        history_list_clear(&list);
    else if (list.n)
        history_conversation_clear(&one);
    return rc;
}

static char *dump(json_t *conversations)
{
    json_t *root = json_pack("{s:i, s:I, s:O}", "lade_history", 1, "exported",
                             (json_int_t)history_now(), "conversations", conversations);
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    return text;
}

char *history_export(struct history *h, int64_t id, enum history_format format, char *err)
{
    char *text = NULL;
    size_t size;
    json_t *conversations = json_array();
    FILE *markdown = open_memstream(&text, &size);
    int rc = conversations && markdown ? 0 : history_fail_memory(err);
    if (rc == 0)
        rc = export_all(h, id, format, markdown, conversations, err);
    if (markdown && fclose(markdown) && rc == 0)
        rc = history_fail_memory(err);
    if (rc == 0 && format == HISTORY_JSON) {
        free(text);
        text = dump(conversations);
        if (!text)
            rc = history_fail_memory(err);
    }
    json_decref(conversations);
    if (rc == 0)
        return text;
    free(text);
    return NULL;
}
