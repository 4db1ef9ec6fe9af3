/* Reading what export.c writes. The text is untrusted: every value is checked before it is used,
 * and all of it goes in with one transaction. */
#include "history/internal.h"

#include <jansson.h>
#include <stdlib.h>

/* Where we are in the text, for messages. */
struct place {
    const char *name;
    size_t conversation, message; /* from 1; message 0 = the conversation's own keys */
    char *err;
};

static int wrong(const struct place *p, const char *key, const char *what)
{
    if (p->message)
        return history_fail(p->err, "%s: conversation %zu, message %zu: '%s' %s; export it again",
                            p->name, p->conversation, p->message, key, what);
    return history_fail(p->err, "%s: conversation %zu: '%s' %s; export it again", p->name,
                        p->conversation, key, what);
}

/* A string; NULL if absent and not needed. */
static int get_text(const struct place *p, const json_t *o, const char *key, bool needed,
                    const char **out)
{
    const json_t *v = json_object_get(o, key);
    *out = json_string_value(v);
    if (*out || (!needed && (!v || json_is_null(v))))
        return 0;
    return wrong(p, key, v ? "is not a text" : "is missing");
}

/* An integer in [0, max]; `absent` if absent. */
static int get_int(const struct place *p, const json_t *o, const char *key, int64_t max,
                   int64_t absent, int64_t *out)
{
    const json_t *v = json_object_get(o, key);
    *out = v ? json_integer_value(v) : absent;
    if (!v || (json_is_integer(v) && *out >= 0 && *out <= max))
        return 0;
    return wrong(p, key, "is not a number within its limits");
}

static int get_real(const struct place *p, const json_t *o, const char *key, double *out)
{
    const json_t *v = json_object_get(o, key);
    *out = v ? json_number_value(v) : -1;
    if (!v || (json_is_number(v) && *out >= 0))
        return 0;
    return wrong(p, key, "is not a number within its limits");
}

/* Parameters back to text; malloc'ed, NULL if absent. */
static int get_parameters(const struct place *p, const json_t *o, char **out)
{
    const json_t *v = json_object_get(o, "parameters");
    *out = NULL;
    if (!v)
        return 0;
    if (!json_is_object(v))
        return wrong(p, "parameters", "is not an object");
    *out = json_dumps(v, JSON_COMPACT);
    return *out ? 0 : history_fail_memory(p->err);
}

/* ids[number - 1] are the new ids of the messages so far. */
static int read_message(const struct place *p, const json_t *o, const int64_t *ids,
                        struct history_message *m, char **parameters)
{
    const char *role, *state, *content, *reasoning, *model;
    int64_t id, parent, prompt, kept, tokens;
    *m = (struct history_message){0};
    *parameters = NULL;
    if (get_text(p, o, "role", true, &role) || get_text(p, o, "state", true, &state) ||
        get_text(p, o, "content", true, &content) ||
        get_text(p, o, "reasoning", false, &reasoning) || get_text(p, o, "model", false, &model) ||
        get_int(p, o, "id", INT64_MAX, 0, &id) || get_int(p, o, "parent", INT64_MAX, 0, &parent) ||
        get_int(p, o, "created", INT64_MAX, 0, &m->created) ||
        get_int(p, o, "finished", INT64_MAX, 0, &m->finished) ||
        get_int(p, o, "prompt_tokens", INT32_MAX, -1, &prompt) ||
        get_int(p, o, "kept_tokens", INT32_MAX, -1, &kept) ||
        get_int(p, o, "tokens", INT32_MAX, -1, &tokens) ||
        get_real(p, o, "ttft_s", &m->cost.ttft_s) ||
        get_real(p, o, "prefill_tps", &m->cost.prefill_tps) ||
        get_real(p, o, "decode_tps", &m->cost.decode_tps))
        return -1;
    int role_id = history_role_parse(role), state_id = history_state_parse(state);
    if (role_id < 0)
        return wrong(p, "role", "is none of system, user, assistant, tool");
    if (state_id < 0)
        return wrong(p, "state", "is none of complete, stopped, interrupted, streaming");
    if (id != (int64_t)p->message)
        return wrong(p, "id", "does not count from 1");
    if (parent >= id)
        return wrong(p, "parent", "is not an earlier message");
    m->role = (enum history_role)role_id;
    /* Whoever was writing it is not writing here. */
    m->state = state_id == HISTORY_STREAMING ? HISTORY_INTERRUPTED : (enum history_state)state_id;
    m->parent = parent ? ids[parent - 1] : 0;
    m->content = (char *)content;
    m->reasoning = (char *)reasoning;
    m->model = (char *)model;
    m->cost.prompt_tokens = (int)prompt;
    m->cost.kept_tokens = (int)kept;
    m->cost.tokens = (int)tokens;
    return get_parameters(p, o, parameters);
}

static int import_messages(struct history *h, struct place *p, const json_t *list,
                           int64_t conversation, int64_t *ids)
{
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        struct history_message m;
        char *parameters;
        p->message = i + 1;
        if (read_message(p, o, ids, &m, &parameters))
            return -1;
        m.parameters = parameters;
        int rc = history_insert(h, conversation, &m, -1, &ids[i], p->err);
        free(parameters);
        if (rc)
            return -1;
    }
    p->message = 0;
    return 0;
}

static int import_conversation(struct history *h, struct place *p, const json_t *o, int64_t *id)
{
    const json_t *list = json_object_get(o, "messages");
    struct history_setup setup = {0};
    const char *title;
    char *parameters;
    int64_t created, updated, leaf;
    size_t n = json_array_size(list);
    if (!json_is_array(list))
        return wrong(p, "messages", "is not a list");
    if (get_text(p, o, "title", true, &title) || get_text(p, o, "model", false, &setup.model) ||
        get_text(p, o, "strategy", false, &setup.strategy) ||
        get_int(p, o, "created", INT64_MAX, 0, &created) ||
        get_int(p, o, "updated", INT64_MAX, 0, &updated) ||
        get_int(p, o, "leaf", (int64_t)n, 0, &leaf) || get_parameters(p, o, &parameters))
        return -1;
    setup.parameters = parameters;
    int64_t *ids = calloc(n + 1, sizeof(*ids));
    int rc =
        ids ? history_conversation_new(h, title, &setup, id, p->err) : history_fail_memory(p->err);
    if (rc == 0)
        rc = import_messages(h, p, list, *id, ids);
    if (rc == 0)
        rc = history_run(
            h, "UPDATE conversations SET created = ?, updated = ?, leaf = ? WHERE id = ?",
            BINDS(INT(created), INT(updated), OPTIONAL(leaf ? ids[leaf - 1] : -1), INT(*id)),
            p->err);
    free(ids);
    free(parameters);
    return rc;
}

static int import_root(struct history *h, const json_t *root, const char *name, int *n,
                       int64_t *first, char *err)
{
    const json_t *list = json_object_get(root, "conversations");
    json_int_t version = json_integer_value(json_object_get(root, "lade_history"));
    if (!json_is_array(list) || version < 1)
        return history_fail(err, "%s: is not an export of lade; make one with lade history export",
                            name);
    if (version > 1)
        return history_fail(err,
                            "%s: was exported by a newer lade (version %" JSON_INTEGER_FORMAT
                            ", this one knows 1); update lade",
                            name, version);
    struct place p = {.name = name, .err = err};
    for (size_t i = 0; i < json_array_size(list); i++) {
        int64_t id;
        p.conversation = i + 1;
        p.message = 0;
        if (import_conversation(h, &p, json_array_get(list, i), &id))
            return -1;
        if (i == 0 && first)
            *first = id;
    }
    if (n)
        *n = (int)json_array_size(list);
    return 0;
}

static int import_once(struct history *h, const json_t *root, const char *name, int *n,
                       int64_t *first, char *err)
{
    if (history_begin(h, err))
        return -1;
    return history_end(h, import_root(h, root, name, n, first, err), err);
}

int history_import(struct history *h, const char *text, size_t len, const char *name, int *n,
                   int64_t *first, char *err)
{
    json_error_t e;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!root)
        return history_fail(err, "%s: is not JSON: line %d: %s; export it again", name, e.line,
                            e.text);
    int rc = history_mending(h, import_once(h, root, name, n, first, err), err);
    json_decref(root);
    return rc;
}
