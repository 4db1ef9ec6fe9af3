#include "engine/tokenizer/model_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/scan.h"
#include "engine/text.h"

/* What a token of tokenizer.ggml.token_type is. */
enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5 };

/* The part of tokenizer.json that "pre: qwen2" stands for: how text is cut before merging. */
static const char qwen2[] =
    "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":"
    "["
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":"
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}|"
    " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
    "\"behavior\":\"Isolated\",\"invert\":false},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,"
    "\"use_regex\":false}]},\"decoder\":{\"type\":\"ByteLevel\"},";

/* A JSON string. */
static void add_string(struct lade_text *to, const struct lade_gguf_text *t)
{
    char escape[8];
    size_t start = 0;
    lade_text_puts(to, "\"");
    for (size_t i = 0; i < t->len; i++) {
        unsigned char c = (unsigned char)t->at[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        lade_text_add(to, t->at + start, i - start);
        snprintf(escape, sizeof escape, "\\u%04x", c);
        lade_text_puts(to, escape);
        start = i + 1;
    }
    lade_text_add(to, t->at + start, t->len - start);
    lade_text_puts(to, "\"");
}

/* An array of strings of the metadata, or NULL with err filled. */
static const struct lade_gguf_entry *strings(const struct lade_gguf *g, const char *key, char *err)
{
    const struct lade_gguf_entry *e = lade_gguf_find(g, key);
    if (e && e->type == LADE_GGUF_ARRAY && e->element == LADE_GGUF_STRING)
        return e;
    lade_fail(err, "%s: key '%s' is missing or no list of texts; get another file of the model",
              g->file, key);
    return NULL;
}

static int check_kind(const struct lade_gguf *g, char *err)
{
    static const char *const want[][2] = {{"tokenizer.ggml.model", "gpt2"},
                                          {"tokenizer.ggml.pre", "qwen2"}};
    for (size_t i = 0; i < 2; i++) {
        struct lade_gguf_text t = {"", 0};
        lade_gguf_string(lade_gguf_find(g, want[i][0]), &t);
        if (t.len != strlen(want[i][1]) || memcmp(t.at, want[i][1], t.len) != 0)
            return lade_fail(err, "%s: %s is '%s', expected '%s'; get another file of the model",
                             g->file, want[i][0], lade_printable((char[64]){0}, 64, t.at, t.len),
                             want[i][1]);
    }
    return 0;
}

/* The tokens of the types from..to: as vocabulary, or as added tokens. */
static void add_tokens(struct lade_text *to, const struct lade_gguf_entry *tokens,
                       const struct lade_gguf_entry *types, bool added)
{
    struct lade_gguf_text rest = tokens->value, token;
    const char *comma = "";
    char number[64];
    for (uint64_t id = 0; lade_gguf_next_string(&rest, &token); id++) {
        int64_t type = types ? lade_gguf_element(types, id) : NORMAL;
        bool is_added = type == CONTROL || type == USER_DEFINED;
        if (type == UNUSED || is_added != added)
            continue;
        lade_text_puts(to, comma);
        comma = ",";
        if (added) {
            snprintf(number, sizeof number,
                     "{\"id\":%llu,\"special\":%s,\"content\":", (unsigned long long)id,
                     type == CONTROL ? "true" : "false");
            lade_text_puts(to, number);
            add_string(to, &token);
            lade_text_puts(to, ",\"normalized\":false}");
        } else {
            add_string(to, &token);
            snprintf(number, sizeof number, ":%llu", (unsigned long long)id);
            lade_text_puts(to, number);
        }
    }
}

static int write_tokenizer(struct lade_text *to, const struct lade_gguf *g, char *err)
{
    const struct lade_gguf_entry *tokens = strings(g, "tokenizer.ggml.tokens", err);
    const struct lade_gguf_entry *merges = tokens ? strings(g, "tokenizer.ggml.merges", err) : NULL;
    const struct lade_gguf_entry *types = lade_gguf_find(g, "tokenizer.ggml.token_type");
    if (!merges || check_kind(g, err))
        return -1;
    if (types && (types->type != LADE_GGUF_ARRAY || types->element != LADE_GGUF_I32 ||
                  types->count != tokens->count))
        return lade_fail(err,
                         "%s: key 'tokenizer.ggml.token_type' does not fit its tokens; "
                         "download the file again",
                         g->file);
    lade_text_puts(to, qwen2);
    lade_text_puts(to, "\"added_tokens\":[");
    add_tokens(to, tokens, types, true);
    lade_text_puts(to, "],\"model\":{\"type\":\"BPE\",\"vocab\":{");
    add_tokens(to, tokens, types, false);
    lade_text_puts(to, "},\"merges\":[");
    struct lade_gguf_text rest = merges->value, merge;
    for (const char *comma = ""; lade_gguf_next_string(&rest, &merge); comma = ",") {
        lade_text_puts(to, comma);
        add_string(to, &merge);
    }
    lade_text_puts(to, "]}}");
    return 0;
}

/* 0, or -1 with errno ENOENT where the metadata has no such thing. */
static int write_file(struct lade_text *to, const struct lade_gguf *g, const char *file, char *err)
{
    struct lade_gguf_text t;
    if (!strcmp(file, "tokenizer.json"))
        return write_tokenizer(to, g, err);
    if (!strcmp(file, "chat_template.jinja") &&
        lade_gguf_string(lade_gguf_find(g, "tokenizer.chat_template"), &t)) {
        lade_text_add(to, t.at, t.len);
        return 0;
    }
    lade_fail(err, "%s: its metadata has no %s; get another file of the model", g->file, file);
    errno = ENOENT;
    return -1;
}

static int from_gguf(const char *path, const char *file, size_t limit, char **text, size_t *len,
                     char *err)
{
    struct lade_gguf g;
    struct lade_text made = {.most = limit};
    char **parts;
    int n;
    if (lade_gguf_parts(path, &parts, &n, err))
        return -1;
    int rc = lade_gguf_open(&g, parts[0], 0, err), saved;
    errno = rc ? EIO : 0;
    if (!rc) {
        rc = write_file(&made, &g, file, err);
        if (!rc && (made.failed || !made.at))
            rc = lade_fail(err, "%s: its %s has more than %zu bytes or none; get another file",
                           g.file, file, limit);
    }
    saved = errno;
    lade_gguf_close(&g);
    while (n)
        free(parts[--n]);
    free(parts);
    if (rc)
        free(made.at);
    *text = rc ? NULL : made.at;
    *len = made.n;
    errno = saved;
    return rc;
}

int lade_model_file(const char *model, const char *file, size_t limit, char **text, size_t *len,
                    char *err)
{
    struct stat st;
    *text = NULL;
    if (!stat(model, &st) && S_ISREG(st.st_mode))
        return from_gguf(model, file, limit, text, len, err);
    char *path = lade_path_join(model, file);
    if (!path)
        return lade_fail(err, "%s: no memory; free some", file);
    int rc = lade_file_read(path, limit, text, len, err), saved = errno;
    free(path);
    errno = saved;
    return rc;
}
