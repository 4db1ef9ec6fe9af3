/* load.c - the document around the vocabulary: what is in a tokenizer.json, in any order, and
 * whether it is the kind of tokenizer that encode.c computes. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/split.h"
#include "engine/tokenizer/vocab.h"

/* The values that matter. Those of the model's settings must have no effect, except the type. */
enum value {
    ADDED,
    NORMALIZER,
    PRE_TOKENIZER,
    DECODER,
    MODEL,
    VOCAB,
    MERGES,
    TYPE,
    DROPOUT,
    PREFIX,
    SUFFIX,
    IGNORE_MERGES,
    N_VALUES
};

static const struct {
    const char *name;
    bool in_model;
} keys[N_VALUES] = {
    [ADDED] = {"added_tokens", false},
    [NORMALIZER] = {"normalizer", false},
    [PRE_TOKENIZER] = {"pre_tokenizer", false},
    [DECODER] = {"decoder", false},
    [MODEL] = {"model", false},
    [VOCAB] = {"vocab", true},
    [MERGES] = {"merges", true},
    [TYPE] = {"type", true},
    [DROPOUT] = {"dropout", true},
    [PREFIX] = {"continuing_subword_prefix", true},
    [SUFFIX] = {"end_of_word_suffix", true},
    [IGNORE_MERGES] = {"ignore_merges", true},
};

struct document {
    struct lade_loader *l;
    const char *json;
    char *copy; /* owned: the pull reader decodes strings in place */
    size_t len;
    size_t at[N_VALUES]; /* where each value starts, 0 where it is missing */
};

static int no_json(const struct document *d, size_t at)
{
    return lade_fail(d->l->err, "%s: not valid JSON near byte %zu; " LADE_AGAIN, d->l->file, at);
}

static enum value known_key(const char *name, size_t len, bool in_model)
{
    for (int i = 0; i < N_VALUES; i++)
        if (keys[i].in_model == in_model && len == strlen(keys[i].name) &&
            !memcmp(name, keys[i].name, len))
            return (enum value)i;
    return N_VALUES;
}

/* Walks the members of one object, the model's inside the root's, and notes where values start. */
static int find_values(struct document *d, struct lade_scan *s, bool in_model)
{
    const char *start = d->copy;
    if (!lade_scan_char(s, '{'))
        return no_json(d, (size_t)(s->at - start));
    if (lade_scan_char(s, '}'))
        return 0;
    do {
        char *name;
        size_t len;
        if (!lade_scan_string(s, &name, &len) || !lade_scan_char(s, ':') || !lade_scan_peek(s))
            return no_json(d, (size_t)(s->at - start));
        enum value v = known_key(name, len, in_model);
        if (v < N_VALUES && d->at[v])
            return lade_fail(d->l->err, "%s: key '%s' appears twice; " LADE_AGAIN, d->l->file,
                             keys[v].name);
        if (v < N_VALUES)
            d->at[v] = (size_t)(s->at - start);
        if (v == MODEL && *s->at == '{') {
            if (find_values(d, s, true))
                return -1;
        } else if (!lade_scan_skip(s)) {
            return no_json(d, (size_t)(s->at - start));
        }
    } while (lade_scan_char(s, ','));
    return lade_scan_char(s, '}') ? 0 : no_json(d, (size_t)(s->at - start));
}

static int map_document(struct document *d)
{
    struct lade_scan s = {d->copy, d->copy + d->len};
    memcpy(d->copy, d->json, d->len);
    if (find_values(d, &s, false))
        return -1;
    lade_scan_peek(&s);
    return s.at == s.end ? 0 : no_json(d, (size_t)(s.at - d->copy));
}

/* One small value as a tree, JSON null where it is missing. NULL with err where it is broken. */
static json_t *tree(const struct document *d, enum value v)
{
    json_error_t e;
    if (!d->at[v])
        return json_null();
    json_t *value =
        json_loadb(d->json + d->at[v], d->len - d->at[v],
                   JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &e);
    char why[96];
    if (!value)
        lade_fail(d->l->err, "%s: %s: %s; " LADE_AGAIN, d->l->file, keys[v].name,
                  lade_printable(why, sizeof why, e.text, strlen(e.text)));
    return value;
}

/* ---- is it Qwen's kind? ---- */

static bool is_type(json_t *value, const char *type)
{
    const char *t = json_string_value(json_object_get(value, "type"));
    return t && !strcmp(t, type);
}

/* A setting that, where present, must have no effect: null, false, zero or an empty string. */
static bool is_off(json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && !json_string_length(value)) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

/* The refusal of a part of another kind, naming its type. */
static int other_kind(const struct document *d, enum value v, json_t *value, const char *want)
{
    char shown[64];
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type)
        type = json_is_null(value) ? "missing" : "of no known type";
    return lade_fail(d->l->err, "%s: %s is %s, not %s; " LADE_OWN, d->l->file, keys[v].name,
                     lade_printable(shown, sizeof shown, type, strlen(type)), want);
}

static int check_type(struct document *d, json_t *value)
{
    const char *type = json_string_value(value);
    char shown[64];
    if (type && !strcmp(type, "BPE"))
        return 0;
    type = type ? lade_printable(shown, sizeof shown, type, strlen(type)) : "missing";
    return lade_fail(d->l->err, "%s: model.type is %s, not BPE; " LADE_OWN, d->l->file, type);
}

static int check_off(struct document *d, enum value v, json_t *value)
{
    if (is_off(value))
        return 0;
    return lade_fail(d->l->err, "%s: model.%s is set, which Qwen's is not; " LADE_OWN, d->l->file,
                     keys[v].name);
}

static int load_normalizer(struct document *d, json_t *value)
{
    d->l->tok->nfc = is_type(value, "NFC");
    if (d->l->tok->nfc || json_is_null(value))
        return 0;
    return other_kind(d, NORMALIZER, value, "NFC");
}

/* Sequence[Split by a regex, ByteLevel], as Qwen's files have it. */
static int load_pre_tokenizer(struct document *d, json_t *value)
{
    json_t *list = json_object_get(value, "pretokenizers");
    json_t *split = json_array_get(list, 0), *bytes = json_array_get(list, 1);
    json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    if (!is_type(value, "Sequence") || json_array_size(list) != 2 || !is_type(split, "Split") ||
        !is_type(bytes, "ByteLevel"))
        return other_kind(d, PRE_TOKENIZER, value, "a Sequence of Split and ByteLevel");
    if (!json_is_string(regex) || !behavior || strcmp(behavior, "Isolated") != 0 ||
        !is_off(json_object_get(split, "invert")))
        return lade_fail(d->l->err,
                         "%s: pre_tokenizer's Split is not by an isolated Regex; " LADE_OWN,
                         d->l->file);
    /* Both are on where they are missing. */
    if (!json_is_false(json_object_get(bytes, "add_prefix_space")) ||
        !json_is_false(json_object_get(bytes, "use_regex")))
        return lade_fail(d->l->err,
                         "%s: pre_tokenizer's ByteLevel must have add_prefix_space and "
                         "use_regex false; " LADE_OWN,
                         d->l->file);
    char why[256];
    d->l->tok->split = lade_split_compile(json_string_value(regex), why, sizeof why);
    if (!d->l->tok->split)
        return lade_fail(d->l->err, "%s: pre_tokenizer's Regex: %s; " LADE_OWN, d->l->file, why);
    return 0;
}

static int check_decoder(struct document *d, json_t *value)
{
    if (is_type(value, "ByteLevel") || json_is_null(value))
        return 0;
    return other_kind(d, DECODER, value, "ByteLevel");
}

static int load_value(struct document *d, enum value v)
{
    json_t *value = tree(d, v);
    if (!value)
        return -1;
    int rc = v == TYPE            ? check_type(d, value)
             : v == NORMALIZER    ? load_normalizer(d, value)
             : v == PRE_TOKENIZER ? load_pre_tokenizer(d, value)
             : v == DECODER       ? check_decoder(d, value)
             : v == ADDED         ? lade_load_added(d->l, value)
                                  : check_off(d, v, value);
    json_decref(value);
    return rc;
}

static int load_table(struct document *d, enum value v)
{
    struct lade_scan s = {d->copy + d->at[v], d->copy + d->len};
    if (!d->at[v])
        return lade_fail(d->l->err, "%s: model.%s is missing; " LADE_AGAIN, d->l->file,
                         keys[v].name);
    return v == VOCAB ? lade_load_vocab(d->l, &s) : lade_load_merges(d->l, &s);
}

static int load_all(struct document *d)
{
    /* The kind first: a file of another kind is refused for what it is. */
    static const enum value order[] = {TYPE,          DROPOUT, PREFIX,     SUFFIX,
                                       IGNORE_MERGES, DECODER, NORMALIZER, PRE_TOKENIZER,
                                       VOCAB,         MERGES,  ADDED};
    if (map_document(d))
        return -1;
    memcpy(d->copy, d->json, d->len); /* the tables are read from a fresh one */
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        enum value v = order[i];
        if (v == VOCAB || v == MERGES ? load_table(d, v) : load_value(d, v))
            return -1;
    }
    return lade_load_finish(d->l);
}

int lade_tokenizer_parse(struct lade_tokenizer **out, const char *text, size_t len,
                         const char *path, char *err)
{
    struct lade_loader l = {.tok = calloc(1, sizeof *l.tok), .file = path, .err = err};
    struct document d = {.l = &l, .json = text, .len = len, .copy = malloc(len + 1)};
    int failed = -1;
    *out = NULL;
    if (!l.tok || !d.copy) {
        lade_fail(err, "%s: no memory for %zu bytes; close other programs", path, len);
    } else {
        for (int b = 0; b < 256; b++)
            l.tok->byte_id[b] = -1;
        failed = load_all(&d);
    }
    free(d.copy);
    free(l.slots);
    free(l.scratch);
    if (failed) {
        lade_tokenizer_close(l.tok);
        return -1;
    }
    *out = l.tok;
    return 0;
}
