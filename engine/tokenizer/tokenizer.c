/* tokenizer.c - tokenizer.json to the tables of vocab.h. */
#include "engine/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "engine/checkpoint/file.h"
#include "engine/tokenizer/split.h"
#include "engine/tokenizer/vocab.h"

enum { MAX_IDS = 1 << 20, MAX_MERGES = 1 << 21, MAX_FILE = 64 << 20 };

/* What loading carries along; `path` names the file in errors. */
struct loader {
    struct lade_tokenizer *tok;
    const char *path;
    char *err;
    int16_t byte_of_char[512]; /* byte-level character to byte, -1 where it is none */
};

#define BAD(l, ...) lade_fail((l)->err, __VA_ARGS__)
#define AGAIN "download the file again"

/* ---- byte-level characters ---- */

/* GPT-2's map: printable bytes stand for themselves, the other 68 for U+0100 and up, in order. */
static void fill_byte_map(int16_t map[512])
{
    for (int i = 0; i < 512; i++)
        map[i] = -1;
    int extra = 256;
    for (int b = 0; b < 256; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        map[plain ? b : extra++] = (int16_t)b;
    }
}

/* Decodes one byte-level string to bytes appended to the pool; -1 where a character is not of the
 * map. The map's characters are U+0021..U+0143, so one or two bytes of UTF-8 each. */
static int append_bytes(struct loader *l, const char *s, uint32_t *len)
{
    struct lade_tokenizer *tok = l->tok;
    size_t need = strlen(s);
    if (need > UINT32_MAX - tok->text_len)
        return -1;
    if (tok->text_len + need > tok->text_cap) {
        size_t cap = 2 * (tok->text_len + need) + 4096;
        char *grown = realloc(tok->text, cap);
        if (!grown)
            return -1;
        tok->text = grown;
        tok->text_cap = cap;
    }
    size_t start = tok->text_len;
    for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
        unsigned c = *p;
        if (c >= 0xc0) {
            if (c > 0xdf || (p[1] & 0xc0) != 0x80)
                return -1;
            c = (c & 0x1f) << 6 | (*++p & 0x3f);
        }
        if (c >= 512 || l->byte_of_char[c] < 0)
            return -1;
        tok->text[tok->text_len++] = (char)l->byte_of_char[c];
    }
    *len = (uint32_t)(tok->text_len - start);
    return 0;
}

/* ---- vocabulary ---- */

/* The largest id of the vocabulary and the added tokens decides the size of the table. */
static int count_ids(struct loader *l, json_t *vocab, json_t *added)
{
    const char *key;
    json_t *value;
    size_t i;
    json_int_t top = -1;
    json_object_foreach(vocab, key, value) {
        if (!json_is_integer(value))
            return BAD(l, "%s: model.vocab['%.80s'] is not an integer; " AGAIN, l->path, key);
        json_int_t id = json_integer_value(value);
        if (id < 0 || id >= MAX_IDS)
            return BAD(l, "%s: model.vocab['%.80s'] is %lld, not below %d; " AGAIN, l->path, key,
                       (long long)id, MAX_IDS);
        top = id > top ? id : top;
    }
    json_array_foreach(added, i, value) {
        json_t *id = json_object_get(value, "id");
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= MAX_IDS)
            return BAD(l, "%s: added_tokens[%zu].id is missing or not below %d; " AGAIN, l->path, i,
                       MAX_IDS);
        top = json_integer_value(id) > top ? json_integer_value(id) : top;
    }
    if (top < 0)
        return BAD(l, "%s: model.vocab is empty; " AGAIN, l->path);
    l->tok->size = (int)top + 1;
    l->tok->pieces = calloc((size_t)l->tok->size, sizeof *l->tok->pieces);
    if (!l->tok->pieces)
        return BAD(l, "%s: out of memory for %d tokens; close other programs", l->path,
                   l->tok->size);
    return 0;
}

static int load_vocab(struct loader *l, json_t *vocab)
{
    struct lade_tokenizer *tok = l->tok;
    const char *key;
    json_t *value;
    for (int b = 0; b < 256; b++)
        tok->byte_id[b] = -1;
    json_object_foreach(vocab, key, value) {
        json_int_t id = json_integer_value(value);
        struct lade_piece_text *piece = &tok->pieces[id];
        if (piece->len)
            return BAD(l, "%s: model.vocab gives id %lld to '%.80s' and to another token; " AGAIN,
                       l->path, (long long)id, key);
        piece->at = (uint32_t)tok->text_len;
        if (append_bytes(l, key, &piece->len) || !piece->len)
            return BAD(l, "%s: model.vocab['%.80s'] has a character that no byte stands for; use a "
                       "byte-level tokenizer", l->path, key);
        if (piece->len == 1)
            tok->byte_id[(unsigned char)tok->text[piece->at]] = (int32_t)id;
    }
    for (int b = 0; b < 256; b++)
        if (tok->byte_id[b] < 0)
            return BAD(l, "%s: model.vocab has no token for byte %d; use a byte-level tokenizer",
                       l->path, b);
    return 0;
}

/* ---- merges ---- */

static uint32_t hash_pair(int32_t left, int32_t right)
{
    uint64_t x = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    x *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32);
}

const struct lade_merge *lade_merge_find(const struct lade_tokenizer *tok, int32_t left,
                                         int32_t right)
{
    for (uint32_t i = hash_pair(left, right) & tok->merge_mask;; i = (i + 1) & tok->merge_mask) {
        const struct lade_merge *m = &tok->merges[i];
        if (m->left < 0)
            return NULL;
        if (m->left == left && m->right == right)
            return m;
    }
}

/* Splits entry i, "left right" or ["left", "right"], into two strings; `buf` holds the first form. */
static int merge_parts(struct loader *l, json_t *entry, size_t i, char **buf, const char **left,
                       const char **right)
{
    if (json_is_array(entry) && json_array_size(entry) == 2) {
        *left = json_string_value(json_array_get(entry, 0));
        *right = json_string_value(json_array_get(entry, 1));
        if (*left && *right)
            return 0;
    } else if (json_is_string(entry)) {
        free(*buf);
        *buf = strdup(json_string_value(entry));
        char *space = *buf ? strchr(*buf, ' ') : NULL;
        if (space) {
            *space = '\0';
            *left = *buf;
            *right = space + 1;
            return 0;
        }
    }
    return BAD(l, "%s: model.merges[%zu] is not a pair of tokens; " AGAIN, l->path, i);
}

static int add_merge(struct loader *l, json_t *vocab, size_t i, const char *left, const char *right)
{
    struct lade_tokenizer *tok = l->tok;
    char joined[1024];
    json_t *a = json_object_get(vocab, left), *b = json_object_get(vocab, right);
    if (snprintf(joined, sizeof joined, "%s%s", left, right) >= (int)sizeof joined)
        return BAD(l, "%s: model.merges[%zu] is longer than 1023 bytes; " AGAIN, l->path, i);
    json_t *c = json_object_get(vocab, joined);
    if (!a || !b || !c)
        return BAD(l, "%s: model.merges[%zu] needs token '%.80s', which model.vocab lacks; " AGAIN,
                   l->path, i, !a ? left : !b ? right : joined);
    int32_t x = (int32_t)json_integer_value(a), y = (int32_t)json_integer_value(b);
    if (lade_merge_find(tok, x, y))
        return 0; /* a repeated pair: the first rank counts */
    uint32_t slot = hash_pair(x, y) & tok->merge_mask;
    while (tok->merges[slot].left >= 0)
        slot = (slot + 1) & tok->merge_mask;
    tok->merges[slot] = (struct lade_merge){x, y, (int32_t)json_integer_value(c), (uint32_t)i};
    return 0;
}

static int load_merges(struct loader *l, json_t *vocab, json_t *merges)
{
    struct lade_tokenizer *tok = l->tok;
    size_t n = json_array_size(merges), slots = 16;
    if (n > MAX_MERGES)
        return BAD(l, "%s: model.merges has %zu entries, more than %d; " AGAIN, l->path, n,
                   MAX_MERGES);
    while (slots < 2 * n)
        slots *= 2;
    tok->merge_mask = (uint32_t)(slots - 1);
    tok->merges = malloc(slots * sizeof *tok->merges);
    if (!tok->merges)
        return BAD(l, "%s: out of memory for %zu merges; close other programs", l->path, n);
    for (size_t i = 0; i < slots; i++)
        tok->merges[i].left = -1;
    char *buf = NULL;
    int failed = 0;
    size_t i;
    json_t *entry;
    json_array_foreach(merges, i, entry) {
        const char *left = NULL, *right = NULL;
        failed = merge_parts(l, entry, i, &buf, &left, &right) ||
                 add_merge(l, vocab, i, left, right);
        if (failed)
            break;
    }
    free(buf);
    return failed ? -1 : 0;
}

/* ---- added tokens ---- */

static int longest_first(const void *a, const void *b)
{
    const struct lade_added_token *x = a, *y = b;
    if (x->len != y->len)
        return x->len > y->len ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int add_token(struct loader *l, json_t *entry, size_t i)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    struct lade_tokenizer *tok = l->tok;
    const char *text = json_string_value(json_object_get(entry, "content"));
    if (!text || !*text || strlen(text) > 1023)
        return BAD(l, "%s: added_tokens[%zu].content is missing, empty or too long; " AGAIN,
                   l->path, i);
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
        if (json_is_true(json_object_get(entry, flags[f])))
            return BAD(l, "%s: added token '%.80s' has %s set, which Qwen's have not; use the "
                       "model's own tokenizer", l->path, text, flags[f]);
    struct lade_added_token *t = &tok->added[tok->n_added];
    t->text = strdup(text);
    if (!t->text)
        return BAD(l, "%s: out of memory; close other programs", l->path);
    tok->n_added++;
    t->len = (uint32_t)strlen(text);
    t->id = (int32_t)json_integer_value(json_object_get(entry, "id"));
    t->special = json_is_true(json_object_get(entry, "special"));
    tok->starts_added[(unsigned char)*text] = true;

    struct lade_piece_text *piece = &tok->pieces[t->id];
    bool same = piece->len == t->len && !memcmp(tok->text + piece->at, text, t->len);
    if (same && !piece->added) { /* some files list added tokens in the vocabulary as well */
        piece->added = true;
        piece->special = t->special;
        return 0;
    }
    if (piece->len)
        return BAD(l, "%s: added token '%.80s' has id %d, which another token has; " AGAIN, l->path,
                   text, t->id);
    char *grown = realloc(tok->text, tok->text_len + t->len);
    if (!grown || tok->text_len + t->len > UINT32_MAX)
        return BAD(l, "%s: out of memory; close other programs", l->path);
    tok->text = grown;
    tok->text_cap = tok->text_len + t->len;
    memcpy(tok->text + tok->text_len, text, t->len);
    *piece = (struct lade_piece_text){(uint32_t)tok->text_len, t->len, true, t->special};
    tok->text_len += t->len;
    return 0;
}

static int load_added(struct loader *l, json_t *added)
{
    size_t n = json_array_size(added), i;
    json_t *entry;
    if (!n)
        return 0;
    l->tok->added = calloc(n, sizeof *l->tok->added);
    if (!l->tok->added)
        return BAD(l, "%s: out of memory; close other programs", l->path);
    json_array_foreach(added, i, entry) {
        if (add_token(l, entry, i))
            return -1;
    }
    qsort(l->tok->added, (size_t)l->tok->n_added, sizeof *l->tok->added, longest_first);
    return 0;
}

/* ---- the rest of the file ---- */

static const char *type_of(json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "none";
}

/* A setting that, where present, must have no effect: null, false, or an empty string. */
static bool is_off(json_t *value)
{
    const char *s = json_string_value(value);
    return !value || json_is_null(value) || json_is_false(value) || (s && !*s);
}

static int check_model(struct loader *l, json_t *model)
{
    static const char *const off[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                      "end_of_word_suffix", "byte_fallback", "ignore_merges"};
    if (strcmp(type_of(model), "BPE"))
        return BAD(l, "%s: model.type is '%s', not BPE; use the model's own tokenizer", l->path,
                   type_of(model));
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        if (!is_off(json_object_get(model, off[i])))
            return BAD(l, "%s: model.%s is set, which byte-level BPE does not know; use the model's "
                       "own tokenizer", l->path, off[i]);
    if (!json_is_object(json_object_get(model, "vocab")))
        return BAD(l, "%s: model.vocab is missing; " AGAIN, l->path);
    if (!json_is_array(json_object_get(model, "merges")))
        return BAD(l, "%s: model.merges is missing; " AGAIN, l->path);
    return 0;
}

static int load_normalizer(struct loader *l, json_t *normalizer)
{
    const char *type = type_of(normalizer);
    l->tok->nfc = !strcmp(type, "NFC");
    if (!l->tok->nfc && strcmp(type, "none"))
        return BAD(l, "%s: normalizer is '%s', not NFC; use the model's own tokenizer", l->path,
                   type);
    return 0;
}

/* Sequence[Split by a regex, ByteLevel], as Qwen's files have it. */
static int load_split(struct loader *l, json_t *pre)
{
    json_t *list = json_object_get(pre, "pretokenizers");
    json_t *split = json_array_get(list, 0), *bytes = json_array_get(list, 1);
    const char *regex =
        json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    if (strcmp(type_of(pre), "Sequence") || json_array_size(list) != 2 ||
        strcmp(type_of(split), "Split") || strcmp(type_of(bytes), "ByteLevel") || !regex ||
        !behavior || strcmp(behavior, "Isolated") || !is_off(json_object_get(split, "invert")) ||
        !is_off(json_object_get(bytes, "add_prefix_space")) ||
        !is_off(json_object_get(bytes, "use_regex")))
        return BAD(l, "%s: pre_tokenizer is not [Split by regex, ByteLevel] as Qwen's; use the "
                   "model's own tokenizer", l->path);
    char why[256];
    l->tok->split = lade_split_compile(regex, why, sizeof why);
    if (!l->tok->split)
        return BAD(l, "%s: pre_tokenizer's regex does not compile: %s; " AGAIN, l->path, why);
    return 0;
}

static int load_all(struct loader *l, json_t *root)
{
    json_t *model = json_object_get(root, "model");
    json_t *added = json_object_get(root, "added_tokens");
    if (check_model(l, model))
        return -1;
    json_t *vocab = json_object_get(model, "vocab");
    if (added && !json_is_null(added) && !json_is_array(added))
        return BAD(l, "%s: added_tokens is not an array; " AGAIN, l->path);
    return count_ids(l, vocab, added) || load_vocab(l, vocab) ||
                   load_merges(l, vocab, json_object_get(model, "merges")) ||
                   load_added(l, added) ||
                   load_normalizer(l, json_object_get(root, "normalizer")) ||
                   load_split(l, json_object_get(root, "pre_tokenizer"))
               ? -1
               : 0;
}

int lade_tokenizer_parse(struct lade_tokenizer **out, const char *text, size_t len,
                         const char *path, char *err)
{
    json_error_t error;
    *out = NULL;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return lade_fail(err, "%s: line %d: %.200s; " AGAIN, path, error.line, error.text);
    struct loader l = {.path = path, .err = err, .tok = calloc(1, sizeof *l.tok)};
    fill_byte_map(l.byte_of_char);
    int failed = l.tok ? load_all(&l, root)
                       : lade_fail(err, "%s: out of memory; close other programs", path);
    json_decref(root);
    if (failed) {
        lade_tokenizer_close(l.tok);
        return -1;
    }
    *out = l.tok;
    return 0;
}

int lade_tokenizer_open(struct lade_tokenizer **out, const char *dir, char *err)
{
    char *path = lade_path_join(dir, "tokenizer.json"), *text;
    size_t len;
    *out = NULL;
    if (!path)
        return lade_fail(err, "%.200s: out of memory; close other programs", dir);
    int failed = lade_file_read(path, MAX_FILE, &text, &len, err);
    if (!failed) {
        failed = lade_tokenizer_parse(out, text, len, path, err);
        free(text);
    }
    free(path);
    return failed;
}

void lade_tokenizer_close(struct lade_tokenizer *tok)
{
    if (!tok)
        return;
    for (int i = 0; i < tok->n_added; i++)
        free(tok->added[i].text);
    free(tok->added);
    free(tok->merges);
    free(tok->pieces);
    free(tok->text);
    pcre2_code_free(tok->split);
    free(tok);
}

int lade_tokenizer_size(const struct lade_tokenizer *tok)
{
    return tok->size;
}

const char *lade_tokenizer_piece(const struct lade_tokenizer *tok, int32_t id, size_t *len)
{
    if (id < 0 || id >= tok->size || !tok->pieces[id].len) {
        *len = 0;
        return "";
    }
    *len = tok->pieces[id].len;
    return tok->text + tok->pieces[id].at;
}

int32_t lade_tokenizer_added(const struct lade_tokenizer *tok, const char *text)
{
    for (int i = 0; i < tok->n_added; i++)
        if (!strcmp(tok->added[i].text, text))
            return tok->added[i].id;
    return -1;
}

bool lade_tokenizer_is_special(const struct lade_tokenizer *tok, int32_t id)
{
    return id >= 0 && id < tok->size && tok->pieces[id].special;
}
