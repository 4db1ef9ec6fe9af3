/* encode.c - text to ids: added tokens, NFC, the splitting regex, byte-level BPE. */
#include <stdlib.h>
#include <string.h>

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
    enum lade_added which;
    int32_t *ids;
    size_t n, cap;
    struct symbol *symbols;
    struct candidate *heap;
    size_t room, n_heap; /* symbols allocated, and half the heap's entries; entries in use */
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
    const struct lade_merge *m = lade_merge_find(e->tok, e->symbols[at].id, e->symbols[next].id);
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

/* n symbols start n - 1 candidates at most; each of at most n - 1 merges takes one and adds two. */
static int reserve(struct encoder *e, size_t n)
{
    if (n <= e->room)
        return 0;
    size_t room = n < 2 * e->room ? 2 * e->room : n < 64 ? 64 : n;
    struct symbol *symbols = realloc(e->symbols, room * sizeof *symbols);
    if (symbols)
        e->symbols = symbols;
    struct candidate *heap = realloc(e->heap, 2 * room * sizeof *heap);
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

/* Limits of one match, for the regex is as untrusted as the file: steps (more for longer runs of
 * white space, which are matched as one), and memory, in KiB where the regex is interpreted. */
static int open_matcher(struct encoder *e, size_t len)
{
    enum { STACK_START = 32 << 10, STACK_MAX = 8 << 20, STEPS = 10000000, HEAP_KIB = 256 << 10 };
    if (!e->match) {
        e->match = pcre2_match_data_create_from_pattern(e->tok->split, NULL);
        e->context = pcre2_match_context_create(NULL);
        e->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
        if (!e->match || !e->context || !e->stack)
            return out_of_memory(e);
        pcre2_jit_stack_assign(e->context, NULL, e->stack);
        pcre2_set_heap_limit(e->context, HEAP_KIB);
    }
    pcre2_set_match_limit(e->context, (uint32_t)(len < STEPS ? STEPS + 16 * len : UINT32_MAX / 4));
    return 0;
}

/* Finds the next word at or after `at`: true, or false where there is none. *failed on errors. */
static bool next_word(struct encoder *e, const unsigned char *text, size_t len, size_t at,
                      size_t *from, size_t *to, int *failed)
{
    int found = pcre2_match(e->tok->split, text, len, at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                            e->match, e->context);
    if (found == PCRE2_ERROR_NOMATCH)
        return false;
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(e->match);
    if (found >= 0 && span[0] >= at && span[1] > span[0] && span[1] <= len) {
        *from = span[0];
        *to = span[1];
        return true;
    }
    char why[128] = "it does not advance";
    if (found < 0)
        pcre2_get_error_message(found, (PCRE2_UCHAR *)why, sizeof why);
    *failed = lade_fail(e->err,
                        "tokenizer: splitting the text failed at byte %zu: %s; give a "
                        "shorter text",
                        at, why);
    return false;
}

/* Words are the matches and, as the tokenizers library has it, whatever lies between them. */
static int encode_words(struct encoder *e, const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0, from, to;
    int failed = open_matcher(e, len);
    while (!failed && at < len && next_word(e, bytes, len, at, &from, &to, &failed)) {
        failed = (from > at && encode_word(e, bytes + at, from - at)) ||
                 encode_word(e, bytes + from, to - from);
        at = to;
    }
    if (!failed && at < len)
        failed = encode_word(e, bytes + at, len - at);
    return failed ? -1 : 0;
}

static bool is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] & 0x80)
            return false;
    return true;
}

/* ---- added tokens ---- */

/* The longest added token at s, or NULL. */
static const struct lade_added_token *added_at(const struct encoder *e, const char *s, size_t left,
                                               bool normalized)
{
    if (!e->tok->starts_added[(unsigned char)*s])
        return NULL;
    for (int i = 0; i < e->tok->n_added; i++) {
        const struct lade_added_token *t = &e->tok->added[i];
        if ((e->which == LADE_ADDED_TAGS && t->special) || t->len > left ||
            t->normalized != normalized)
            continue;
        if (!memcmp(t->match, s, t->len))
            return t;
    }
    return NULL;
}

/* Added tokens become ids, what lies between them goes on to `rest`. */
static int cut_added(struct encoder *e, const char *text, size_t len, bool normalized,
                     int (*rest)(struct encoder *, const char *, size_t))
{
    size_t from = 0;
    for (size_t i = 0; e->which != LADE_ADDED_NONE && i < len;) {
        const struct lade_added_token *t = added_at(e, text + i, len - i, normalized);
        if (!t) {
            i++;
            continue;
        }
        if (rest(e, text + from, i - from) || put(e, t->id))
            return -1;
        i += t->len;
        from = i;
    }
    return rest(e, text + from, len - from);
}

/* Normal text, perhaps with those added tokens that are looked for after normalising. */
static int encode_normal(struct encoder *e, const char *text, size_t len)
{
    return e->tok->any_normalized ? cut_added(e, text, len, true, encode_words)
                                  : encode_words(e, text, len);
}

static int encode_plain(struct encoder *e, const char *text, size_t len)
{
    if (!e->tok->nfc || is_ascii(text, len))
        return encode_normal(e, text, len);
    const char *why = "out of memory";
    char *composed = lade_nfc(text, len, &len, &why);
    if (!composed)
        return lade_fail(e->err, "tokenizer: NFC failed: %s; give a shorter text", why);
    int failed = encode_normal(e, composed, len);
    free(composed);
    return failed;
}

int lade_tokenizer_encode(const struct lade_tokenizer *tok, const char *text, size_t len,
                          enum lade_added which, int32_t **ids, size_t *n, char *err)
{
    struct encoder e = {.tok = tok, .err = err, .which = which};
    size_t valid_len;
    *ids = NULL;
    *n = 0;
    char *valid = lade_utf8_repair(text, len, &valid_len);
    int failed = valid ? cut_added(&e, valid, valid_len, false, encode_plain) : out_of_memory(&e);
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
