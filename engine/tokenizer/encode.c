/* encode.c - text to ids: added tokens, NFC, the splitting regex, byte-level BPE. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "engine/tokenizer/utf8.h"
#include "engine/tokenizer/vocab.h"

/* One symbol of a word while it merges: a doubly linked list in an array. id < 0: merged away. */
struct symbol {
    int32_t id, prev, next;
};

/* A possible merge, kept in a heap by rank, then position. It is stale when its symbols changed. */
struct candidate {
    uint32_t rank;
    int32_t at, left, right, merged;
};

struct encoder {
    const struct lade_tokenizer *tok;
    char *err;
    int32_t *ids;
    size_t n, cap;
    struct symbol *symbols;
    struct candidate *heap;
    size_t room, n_heap; /* symbols and half the heap entries allocated */
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static int out_of_memory(struct encoder *e)
{
    return lade_fail(e->err, "tokenizer: out of memory; give a shorter text");
}

static int put(struct encoder *e, int32_t id)
{
    if (e->n == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : 256;
        int32_t *grown = realloc(e->ids, cap * sizeof *grown);
        if (!grown)
            return out_of_memory(e);
        e->ids = grown;
        e->cap = cap;
    }
    e->ids[e->n++] = id;
    return 0;
}

/* ---- BPE of one word ---- */

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(struct encoder *e, int32_t at)
{
    int32_t next = e->symbols[at].next;
    if (next < 0)
        return;
    const struct lade_merge *m =
        lade_merge_find(e->tok, e->symbols[at].id, e->symbols[next].id);
    if (!m)
        return;
    struct candidate c = {m->rank, at, m->left, m->right, m->merged};
    size_t i = e->n_heap++;
    for (; i && before(&c, &e->heap[(i - 1) / 2]); i = (i - 1) / 2)
        e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = c;
}

static struct candidate pop(struct encoder *e)
{
    struct candidate top = e->heap[0], last = e->heap[--e->n_heap];
    size_t i = 0, n = e->n_heap;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&e->heap[child + 1], &e->heap[child]))
            child++;
        if (!before(&e->heap[child], &last))
            break;
        e->heap[i] = e->heap[child];
    }
    e->heap[i] = last;
    return top;
}

/* Every merge adds at most two candidates, so 3 n places hold the n - 1 first ones and all later. */
static int reserve(struct encoder *e, size_t n)
{
    if (n <= e->room)
        return 0;
    size_t room = n < 64 ? 64 : 2 * n;
    struct symbol *symbols = realloc(e->symbols, room * sizeof *symbols);
    if (symbols)
        e->symbols = symbols;
    struct candidate *heap = realloc(e->heap, 3 * room * sizeof *heap);
    if (heap)
        e->heap = heap;
    if (!symbols || !heap)
        return out_of_memory(e);
    e->room = room;
    return 0;
}

static int encode_word(struct encoder *e, const unsigned char *bytes, size_t n)
{
    if (n > INT32_MAX / 4)
        return lade_fail(e->err, "tokenizer: a word of %zu bytes is too long; split the text", n);
    if (reserve(e, n))
        return -1;
    for (size_t i = 0; i < n; i++)
        e->symbols[i] = (struct symbol){e->tok->byte_id[bytes[i]], (int32_t)i - 1,
                                        i + 1 < n ? (int32_t)i + 1 : -1};
    e->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++)
        push(e, (int32_t)i);
    while (e->n_heap) {
        struct candidate c = pop(e);
        struct symbol *s = &e->symbols[c.at];
        if (s->id != c.left || s->next < 0 || e->symbols[s->next].id != c.right)
            continue;
        struct symbol *gone = &e->symbols[s->next];
        s->id = c.merged;
        s->next = gone->next;
        gone->id = -1;
        if (s->next >= 0)
            e->symbols[s->next].prev = c.at;
        push(e, c.at);
        if (s->prev >= 0)
            push(e, s->prev);
    }
    for (int32_t i = n ? 0 : -1; i >= 0; i = e->symbols[i].next)
        if (put(e, e->symbols[i].id))
            return -1;
    return 0;
}

/* ---- splitting ---- */

/* JIT's own stack is small; a long run of spaces may need more. */
static int open_matcher(struct encoder *e)
{
    enum { STACK_START = 32 << 10, STACK_MAX = 8 << 20 };
    e->match = pcre2_match_data_create_from_pattern(e->tok->split, NULL);
    e->context = pcre2_match_context_create(NULL);
    e->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
    if (!e->match || !e->context)
        return out_of_memory(e);
    if (e->stack)
        pcre2_jit_stack_assign(e->context, NULL, e->stack);
    return 0;
}

/* Words are the matches and, as the tokenizers library has it, whatever lies between them. */
static int encode_normal(struct encoder *e, const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0;
    if (!e->match && open_matcher(e))
        return -1;
    while (at < len) {
        int found = pcre2_match(e->tok->split, bytes, len, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                                e->match, e->context);
        if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
            PCRE2_UCHAR why[128];
            pcre2_get_error_message(found, why, sizeof why);
            return lade_fail(e->err, "tokenizer: splitting the text failed at byte %zu: %s; give a "
                             "shorter text", at, (char *)why);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(e->match);
        size_t from = found < 0 ? len : span[0], to = found < 0 ? len : span[1];
        if (from > at && encode_word(e, bytes + at, from - at))
            return -1;
        if (to > from && encode_word(e, bytes + from, to - from))
            return -1;
        at = to;
    }
    return 0;
}

static bool is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] & 0x80)
            return false;
    return true;
}

/* Text without added tokens: valid UTF-8, not yet normalised. */
static int encode_plain(struct encoder *e, const char *text, size_t len)
{
    if (!e->tok->nfc || is_ascii(text, len))
        return encode_normal(e, text, len);
    utf8proc_uint8_t *composed;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len,
                                      &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return lade_fail(e->err, "tokenizer: NFC failed: %s; give a shorter text",
                         utf8proc_errmsg(n));
    int failed = encode_normal(e, (const char *)composed, (size_t)n);
    free(composed);
    return failed;
}

/* The longest added token at s, or NULL. */
static const struct lade_added_token *added_at(const struct encoder *e, const char *s, size_t left,
                                               enum lade_added which)
{
    for (int i = 0; i < e->tok->n_added; i++) {
        const struct lade_added_token *t = &e->tok->added[i];
        if ((which == LADE_ADDED_TAGS && t->special) || t->len > left)
            continue;
        if (!memcmp(t->text, s, t->len))
            return t;
    }
    return NULL;
}

static int encode_all(struct encoder *e, const char *text, size_t len, enum lade_added which)
{
    size_t from = 0;
    for (size_t i = 0; which != LADE_ADDED_NONE && i < len;) {
        const struct lade_added_token *t = NULL;
        if (e->tok->starts_added[(unsigned char)text[i]])
            t = added_at(e, text + i, len - i, which);
        if (!t) {
            i++;
            continue;
        }
        if (encode_plain(e, text + from, i - from) || put(e, t->id))
            return -1;
        i += t->len;
        from = i;
    }
    return encode_plain(e, text + from, len - from);
}

int lade_tokenizer_encode(const struct lade_tokenizer *tok, const char *text, size_t len,
                          enum lade_added which, int32_t **ids, size_t *n, char *err)
{
    struct encoder e = {.tok = tok, .err = err};
    size_t valid_len;
    *ids = NULL;
    *n = 0;
    char *valid = lade_utf8_repair(text, len, &valid_len);
    int failed = valid ? encode_all(&e, valid, valid_len, which) : out_of_memory(&e);
    if (!failed && !e.ids) {
        e.ids = malloc(sizeof *e.ids); /* no ids: still a pointer to free */
        failed = e.ids ? 0 : out_of_memory(&e);
    }
    free(valid);
    free(e.symbols);
    free(e.heap);
    pcre2_match_data_free(e.match);
    pcre2_match_context_free(e.context);
    pcre2_jit_stack_free(e.stack);
    if (failed) {
        free(e.ids);
        return -1;
    }
    *ids = e.ids;
    *n = e.n;
    return 0;
}
