/* added.c - the added tokens of a tokenizer.json. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/vocab.h"

static int longest_first(const void *a, const void *b)
{
    const struct lade_added_token *x = a, *y = b;
    if (x->len != y->len)
        return x->len > y->len ? -1 : 1;
    int order = memcmp(x->match, y->match, x->len);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* What stands in the text for a token: itself, or its NFC where it is looked for after that. */
static int set_match(struct lade_loader *l, struct lade_added_token *t, const char *text,
                     size_t len)
{
    const char *why = "out of memory";
    if (t->normalized && l->tok->nfc) {
        t->match = lade_nfc(text, len, &len, &why);
    } else {
        t->match = malloc(len);
        if (t->match)
            memcpy(t->match, text, len);
    }
    if (!t->match)
        return lade_fail(l->err, "%s: added token %d: %s; close other programs", l->file, t->id,
                         why);
    t->len = (uint32_t)len;
    l->tok->starts_added[(unsigned char)*t->match] = true;
    l->tok->any_normalized |= t->normalized;
    return 0;
}

/* The id's bytes: new, or the same in the vocabulary, where some files list added tokens too. */
static int claim_id(struct lade_loader *l, const struct lade_added_token *t, const char *text,
                    size_t len, const char *shown)
{
    struct lade_tokenizer *tok = l->tok;
    if (t->id >= tok->size || !tok->pieces[t->id].len) {
        if (lade_load_piece(l, t->id, text, len))
            return -1;
    }
    struct lade_piece_text *p = &tok->pieces[t->id];
    if (p->added || p->len != len || memcmp(tok->text.at + p->at, text, len) != 0)
        return lade_fail(l->err,
                         "%s: added token '%s' has id %d, which another token has; " LADE_AGAIN,
                         l->file, shown, t->id);
    p->added = true;
    p->special = t->special;
    p->literal = false;
    return 0;
}

/* 1, 0, or -1 where it is there but no truth value. */
static int flag(json_t *entry, const char *name)
{
    json_t *value = json_object_get(entry, name);
    if (!value || json_is_null(value))
        return 0;
    return json_is_boolean(value) ? json_is_true(value) : -1;
}

static int add_token(struct lade_loader *l, json_t *entry, size_t i)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
    int set[sizeof flags / sizeof *flags];
    char shown[80];
    json_t *content = json_object_get(entry, "content"), *id = json_object_get(entry, "id");
    size_t len = json_string_length(content);
    if (len == 0 || len > LADE_MAX_PIECE)
        return lade_fail(
            l->err, "%s: added_tokens[%zu].content is not a text of 1 to %d bytes; " LADE_AGAIN,
            l->file, i, LADE_MAX_PIECE);
    const char *text = json_string_value(content);
    lade_printable(shown, sizeof shown, text, len);
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= LADE_MAX_IDS)
        return lade_fail(l->err,
                         "%s: added_tokens[%zu].id of '%s' is not a number below %d; " LADE_AGAIN,
                         l->file, i, shown, LADE_MAX_IDS);
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++) {
        set[f] = flag(entry, flags[f]);
        if (set[f] < 0)
            return lade_fail(l->err,
                             "%s: added token '%s': %s is neither true nor false; " LADE_AGAIN,
                             l->file, shown, flags[f]);
        if (f < 3 && set[f])
            return lade_fail(l->err,
                             "%s: added token '%s' has %s set, which Qwen's do not; " LADE_OWN,
                             l->file, shown, flags[f]);
    }
    struct lade_added_token *t = &l->tok->added[l->tok->n_added++];
    t->id = (int32_t)json_integer_value(id);
    t->normalized = set[3];
    t->special = set[4];
    return set_match(l, t, text, len) || claim_id(l, t, text, len, shown) ? -1 : 0;
}

int lade_load_added(struct lade_loader *l, json_t *added)
{
    struct lade_tokenizer *tok = l->tok;
    size_t n = json_array_size(added), i;
    json_t *entry;
    if (added && !json_is_null(added) && !json_is_array(added))
        return lade_fail(l->err, "%s: added_tokens is not an array; " LADE_AGAIN, l->file);
    if (n > LADE_MAX_ADDED)
        return lade_fail(l->err, "%s: added_tokens has %zu entries, more than %d; " LADE_AGAIN,
                         l->file, n, LADE_MAX_ADDED);
    tok->added = calloc(n + 1, sizeof *tok->added);
    if (!tok->added)
        return lade_fail(l->err, "%s: out of memory; close other programs", l->file);
    json_array_foreach(added, i, entry)
    {
        if (add_token(l, entry, i))
            return -1;
    }
    qsort(tok->added, n, sizeof *tok->added, longest_first);
    for (i = 1; i < n; i++) {
        char shown[80];
        const struct lade_added_token *a = &tok->added[i - 1], *b = &tok->added[i];
        if (a->len == b->len && !memcmp(a->match, b->match, a->len))
            return lade_fail(l->err, "%s: added token '%s' has ids %d and %d; " LADE_AGAIN, l->file,
                             lade_printable(shown, sizeof shown, a->match, a->len), a->id, b->id);
    }
    return 0;
}
