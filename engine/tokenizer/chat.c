#include "engine/tokenizer/chat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/json.h"
#include "engine/tokenizer/model_file.h"
#include "engine/tokenizer/tools.h"

/* A page, and what of it stays. */
struct chat {
    struct lade_page page;
    size_t last_turn; /* the mark that opens it */
    size_t passing;   /* the mark of the first turn that later prompts write otherwise */
    bool has_passing;
    size_t base; /* the mark of the first turn that is not the system's; 0 = that opens it */
};

/* ---- templates ---- */

/* The reasoning of an assistant message and what follows it, wherever the reasoning is kept. */
struct said {
    const char *reasoning, *answer;
    size_t reasoning_len;
    bool reasoned;
};

static void trim_newlines(const char **s, size_t *len)
{
    while (*len && **s == '\n')
        (*s)++, (*len)--;
    while (*len && (*s)[*len - 1] == '\n')
        (*len)--;
}

/* The last occurrence of `needle` in s[0..len), or NULL. */
static const char *find_last(const char *s, size_t len, const char *needle)
{
    size_t n = strlen(needle);
    for (size_t i = len; i-- > 0;)
        if (i + n <= len && !memcmp(s + i, needle, n))
            return s + i;
    return NULL;
}

static struct said split_reasoning(const struct lade_message *m)
{
    struct said s = {.reasoning = "", .answer = m->content};
    if (m->reasoning) {
        s.reasoning = m->reasoning;
        s.reasoning_len = strlen(m->reasoning);
        s.reasoned = s.reasoning_len > 0; /* the templates look before they trim */
    } else {
        const char *close = strstr(m->content, "</think>");
        if (!close)
            return s;
        const char *open = find_last(m->content, (size_t)(close - m->content), "<think>");
        s.reasoning = open ? open + strlen("<think>") : m->content;
        s.reasoning_len = (size_t)(close - s.reasoning);
        s.answer = find_last(m->content, strlen(m->content), "</think>") + strlen("</think>");
        s.answer += strspn(s.answer, "\n");
    }
    trim_newlines(&s.reasoning, &s.reasoning_len);
    s.reasoned |= s.reasoning_len > 0;
    return s;
}

/* The last thing a person said: later assistant turns keep their reasoning, earlier ones lose it.
 * A user turn that only carries a tool's result is not a person's. */
static size_t last_question(const struct lade_message *messages, size_t n)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    for (size_t i = n; i-- > 0;) {
        const char *c = messages[i].content;
        size_t len = strlen(c), tail = sizeof close - 1;
        bool is_result =
            !strncmp(c, open, sizeof open - 1) && len >= tail && !strcmp(c + len - tail, close);
        if (messages[i].role == LADE_USER && !is_result)
            return i;
    }
    return n ? n - 1 : 0;
}

static void open_turn(struct chat *c, enum lade_chat_role role, const char *name)
{
    c->page.role = role;
    c->last_turn = c->page.n_marks;
    lade_page_control(&c->page, "<|im_start|>");
    lade_text_puts(&c->page.text, name);
}

static void close_turn(struct lade_page *p)
{
    lade_page_control(p, "<|im_end|>");
    lade_text_puts(&p->text, "\n");
}

static void add_turn(struct chat *c, enum lade_chat_role role, const char *text)
{
    open_turn(c, role, role == LADE_USER ? "user\n" : "system\n");
    lade_text_puts(&c->page.text, text);
    close_turn(&c->page);
}

/* Reasoning is written only since the last question, so the next question makes it pass away. */
static void add_assistant(struct chat *c, enum lade_chat_family family,
                          const struct lade_message *m, bool after_question, bool last)
{
    struct lade_page *p = &c->page;
    struct said s = {.answer = m->content};
    if (family != LADE_CHAT_CODER)
        s = split_reasoning(m);
    const bool said = *s.answer; /* the templates look before they trim */
    open_turn(c, LADE_ASSISTANT, "assistant\n");
    if (after_question && (s.reasoned || (family == LADE_CHAT_THINKING && last))) {
        if (!c->has_passing)
            c->passing = c->last_turn;
        c->has_passing = true;
        lade_page_control(p, "<think>");
        lade_text_puts(&p->text, "\n");
        lade_text_add(&p->text, s.reasoning, s.reasoning_len);
        lade_text_puts(&p->text, "\n");
        lade_page_control(p, "</think>");
        lade_text_puts(&p->text, "\n\n");
        s.answer += strspn(s.answer, "\n");
    }
    if (m->calls)
        lade_tools_call(p, family, s.answer, said, m->calls);
    else
        lade_text_puts(&p->text, s.answer);
    close_turn(p);
}

/* Neighbouring tool results share one user turn. */
static void add_tool(struct chat *c, const char *content, bool first, bool last)
{
    struct lade_page *p = &c->page;
    p->role = LADE_TOOL;
    if (first)
        open_turn(c, LADE_TOOL, "user");
    lade_text_puts(&p->text, "\n");
    lade_page_control(p, "<tool_response>");
    lade_text_puts(&p->text, "\n");
    lade_text_puts(&p->text, content);
    lade_text_puts(&p->text, "\n");
    lade_page_control(p, "</tool_response>");
    if (last)
        close_turn(p);
}

/* The system's turn, where tools are offered: it has a text of its own if that comes first. */
static void add_tools(struct chat *c, enum lade_chat_family family, const char *tools,
                      const char *system)
{
    open_turn(c, LADE_SYSTEM, "system\n");
    lade_tools_offer(&c->page, family, system, tools);
    close_turn(&c->page);
}

static void render(struct chat *c, enum lade_chat_family family,
                   const struct lade_message *messages, size_t n, bool generate)
{
    size_t question = last_question(messages, n), first = 0;
    lade_text_puts(&c->page.text, ""); /* an empty conversation is an empty text */
    if (n && messages[0].role == LADE_TOOLS) {
        const bool system = n > 1 && messages[1].role == LADE_SYSTEM;
        add_tools(c, family, messages[0].content, system ? messages[1].content : NULL);
        first = system ? 2 : 1;
    }
    for (size_t i = first; i < n; i++) {
        const struct lade_message *m = &messages[i];
        if (!c->base && m->role != LADE_SYSTEM)
            c->base = c->page.n_marks;
        switch (m->role) {
        case LADE_SYSTEM:
        case LADE_USER:
            add_turn(c, m->role, m->content);
            break;
        case LADE_ASSISTANT:
            add_assistant(c, family, m, i > question, i + 1 == n);
            break;
        case LADE_TOOL:
            add_tool(c, m->content, i == first || messages[i - 1].role != LADE_TOOL,
                     i + 1 == n || messages[i + 1].role != LADE_TOOL);
            break;
        case LADE_TOOLS: /* elsewhere it is nothing */
            break;
        }
    }
    if (!generate)
        return;
    open_turn(c, LADE_ASSISTANT, "assistant\n");
    if (family == LADE_CHAT_THINKING) {
        lade_page_control(&c->page, "<think>");
        lade_text_puts(&c->page.text, "\n");
    }
}

char *lade_chat_render(enum lade_chat_family family, const struct lade_message *messages, size_t n,
                       bool generate, char *err)
{
    struct chat c = {0};
    render(&c, family, messages, n, generate);
    free(c.page.marks);
    if (!c.page.text.failed)
        return c.page.text.at;
    free(c.page.text.at);
    lade_set_error(err, "prompt: out of memory; start a new conversation");
    return NULL;
}

/* ---- ids ---- */

static int append(int32_t **ids, size_t *n, const int32_t *more, size_t n_more, char *err)
{
    int32_t *grown = realloc(*ids, (*n + n_more + 1) * sizeof *grown);
    if (!grown)
        return lade_fail(err, "prompt: out of memory; start a new conversation");
    memcpy(grown + *n, more, n_more * sizeof *more);
    *ids = grown;
    *n += n_more;
    return 0;
}

static int append_text(const struct lade_tokenizer *tok, const char *text, size_t len,
                       enum lade_chat_role role, int32_t **ids, size_t *n, char *err)
{
    int32_t *more;
    size_t n_more;
    enum lade_added which = role == LADE_ASSISTANT ? LADE_ADDED_TAGS : LADE_ADDED_NONE;
    if (lade_tokenizer_encode(tok, text, len, which, &more, &n_more, err))
        return -1;
    int failed = append(ids, n, more, n_more, err);
    free(more);
    return failed;
}

/* One control token. A tokenizer without it (a model that is not for chat) reads it as text. */
static int append_control(const struct lade_tokenizer *tok, const struct lade_page *p,
                          const struct lade_mark *m, int32_t **ids, size_t *n, char *err)
{
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)m->len, p->text.at + m->at);
    int32_t id = lade_tokenizer_added(tok, name);
    return id >= 0 ? append(ids, n, &id, 1, err)
                   : append_text(tok, name, m->len, LADE_USER, ids, n, err);
}

static int encode_page(const struct lade_tokenizer *tok, const struct chat *c, int32_t **ids,
                       size_t *n, struct lade_chat_repeats *repeats, char *err)
{
    const struct lade_page *p = &c->page;
    for (size_t i = 0; i < p->n_marks; i++) {
        const struct lade_mark *m = &p->marks[i];
        size_t from = m->at + m->len, to = i + 1 < p->n_marks ? p->marks[i + 1].at : p->text.n;
        if (append_control(tok, p, m, ids, n, err))
            return -1;
        /* Up to the control token that opens a turn: the newline after its name may merge with
         * the first characters of what is said there. */
        if (i == (c->has_passing ? c->passing : c->last_turn))
            repeats->stable = *n;
        if (c->base && i == c->base)
            repeats->base = *n;
        if (append_text(tok, p->text.at + from, to - from, m->role, ids, n, err))
            return -1;
    }
    return 0;
}

int lade_chat_encode(const struct lade_tokenizer *tok, enum lade_chat_family family,
                     const struct lade_message *messages, size_t n, bool generate, int32_t **ids,
                     size_t *n_ids, struct lade_chat_repeats *repeats, char *err)
{
    struct chat c = {0};
    struct lade_chat_repeats unused = {0};
    *ids = NULL;
    *n_ids = 0;
    repeats = repeats ? repeats : &unused;
    *repeats = (struct lade_chat_repeats){0};
    render(&c, family, messages, n, generate);
    int failed = c.page.text.failed
                     ? lade_fail(err, "prompt: out of memory; start a new conversation")
                     : encode_page(tok, &c, ids, n_ids, repeats, err);
    free(c.page.text.at);
    free(c.page.marks);
    if (failed) {
        free(*ids);
        *ids = NULL;
        *n_ids = 0;
    }
    return failed;
}

/* ---- which family ---- */

/* Is there a <think> that is not closed at once? Newlines between the two are written out or
 * escaped. */
static bool opens_thinking(const char *template)
{
    for (const char *at = template; (at = strstr(at, "<think>"));) {
        at += strlen("<think>");
        const char *p = at;
        while (*p == '\n' || (p[0] == '\\' && p[1] == 'n'))
            p += *p == '\n' ? 1 : 2;
        if (strncmp(p, "</think>", strlen("</think>")) != 0)
            return true;
    }
    return false;
}

/* Thinking's generation prompt, the template's end, opens a block; Coder's tool calls are XML. */
static enum lade_chat_family recognise(const char *template)
{
    const char *prompt = find_last(template, strlen(template), "add_generation_prompt");
    /* From the start of its tag: the text may stand before the word, {{ 'x' if ... }}. */
    while (prompt && prompt > template &&
           !(prompt[0] == '{' && (prompt[1] == '{' || prompt[1] == '%')))
        prompt--;
    if (prompt && opens_thinking(prompt))
        return LADE_CHAT_THINKING;
    return strstr(template, "<function=") ? LADE_CHAT_CODER : LADE_CHAT_INSTRUCT;
}

/* chat_template is a string, or a list of named ones, of which "default" counts. NULL with *broken
 * unset where there is none. */
static const char *template_of(json_t *config, bool *broken)
{
    json_t *t = json_object_get(config, "chat_template");
    *broken = t && !json_is_string(t) && !json_is_array(t) && !json_is_null(t);
    for (size_t i = 0; i < json_array_size(t); i++) {
        json_t *entry = json_array_get(t, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && !strcmp(name, "default"))
            return json_string_value(json_object_get(entry, "template"));
    }
    return json_string_value(t);
}

/* DIR/FILE as text, or *out NULL where there is no such file. */
static int read_optional(const char *dir, const char *file, char **out, size_t *len, char *err)
{
    enum { MAX_TEMPLATE = 16 << 20 };
    *out = NULL;
    int failed = lade_model_file(dir, file, MAX_TEMPLATE, out, len, err);
    return failed && errno == ENOENT ? 0 : failed;
}

static int config_template(const char *text, size_t len, char **out, char *err)
{
    static const char file[] = "tokenizer_config.json";
    bool broken;
    json_t *config = lade_json_object(text, len, file, err);
    if (!config)
        return -1;
    int failed = 0;
    const char *template = template_of(config, &broken);
    if (broken)
        failed = lade_fail(err,
                           "%s: chat_template is neither a text nor a list; download the file "
                           "again",
                           file);
    else if (template && !(*out = strdup(template)))
        failed = lade_fail(err, "%s: out of memory; close other programs", file);
    json_decref(config);
    return failed;
}

int lade_chat_detect(enum lade_chat_family *family, bool *found, const char *dir, char *err)
{
    char *template, *config = NULL;
    size_t len;
    *family = LADE_CHAT_INSTRUCT;
    int failed = read_optional(dir, "chat_template.jinja", &template, &len, err);
    if (!failed && !template)
        failed = read_optional(dir, "tokenizer_config.json", &config, &len, err) ||
                 (config && config_template(config, len, &template, err));
    if (!failed && template)
        *family = recognise(template);
    if (found)
        *found = template != NULL;
    free(template);
    free(config);
    return failed ? -1 : 0;
}

int lade_chat_family(enum lade_chat_family *family, bool *found, const struct lade_catalog *cat,
                     char *err)
{
    if (!cat->template_known)
        return lade_chat_detect(family, found, cat->path, err);
    *family = cat->chat_template ? recognise(cat->chat_template) : LADE_CHAT_INSTRUCT;
    if (found)
        *found = cat->chat_template != NULL;
    return 0;
}
