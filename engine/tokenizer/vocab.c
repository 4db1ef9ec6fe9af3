/* vocab.c - the vocabulary and the merges of a tokenizer.json, read without a DOM: together they
 * are 300,000 strings. */
#include "engine/tokenizer/vocab.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN = 80 }; /* bytes of a file's string in an error */

/* ---- byte-level characters ---- */

/* The byte a character stands for, or -1. GPT-2's map: printable bytes stand for themselves, the
 * other 68, in order, are U+0100 and up. */
static int byte_of(unsigned c)
{
    static const unsigned char hidden[][2] = {{0, 32}, {127, 160}, {173, 173}};
    if (c < 256)
        return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174 ? (int)c : -1;
    unsigned left = c - 256;
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        unsigned n = hidden[i][1] - hidden[i][0] + 1u;
        if (left < n)
            return (int)(hidden[i][0] + left);
        left -= n;
    }
    return -1;
}

/* Decodes byte-level characters to bytes; `out` holds len bytes. The number of bytes, or -1 where
 * a character stands for none. All that do are U+0021..U+0143, so one or two bytes of UTF-8. */
static int to_bytes(const char *s, size_t len, char *out)
{
    char *start = out;
    for (size_t i = 0; i < len; i++) {
        unsigned c = (unsigned char)s[i];
        if (c >= 0x80) {
            if (c < 0xc2 || c > 0xdf || i + 1 == len || (s[i + 1] & 0xc0) != 0x80)
                return -1;
            c = (c & 0x1f) << 6 | ((unsigned char)s[++i] & 0x3f);
        }
        int byte = byte_of(c);
        if (byte < 0)
            return -1;
        *out++ = (char)byte;
    }
    return (int)(out - start);
}

/* ---- pieces ---- */

static int no_memory(struct lade_loader *l)
{
    return lade_fail(l->err, "%s: out of memory; close other programs", l->file);
}

static int reserve_id(struct lade_loader *l, int32_t id)
{
    struct lade_tokenizer *tok = l->tok;
    if (id >= tok->pieces_cap) {
        int cap = tok->pieces_cap ? tok->pieces_cap : 1024;
        while (cap <= id)
            cap *= 2;
        struct lade_piece_text *grown = realloc(tok->pieces, (size_t)cap * sizeof *grown);
        if (!grown)
            return no_memory(l);
        memset(grown + tok->pieces_cap, 0, (size_t)(cap - tok->pieces_cap) * sizeof *grown);
        tok->pieces = grown;
        tok->pieces_cap = cap;
    }
    if (id >= tok->size)
        tok->size = id + 1;
    return 0;
}

int lade_load_piece(struct lade_loader *l, int32_t id, const char *text, size_t len)
{
    struct lade_tokenizer *tok = l->tok;
    const size_t at = tok->text.n;
    tok->text.most = UINT32_MAX; /* places in it are of that size */
    if (reserve_id(l, id))
        return -1;
    if (!lade_text_add(&tok->text, text, len))
        return no_memory(l);
    tok->pieces[id] = (struct lade_piece_text){.at = (uint32_t)at, .len = (uint32_t)len};
    return 0;
}

static uint32_t hash_bytes(const char *s, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u ^ len;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

/* The slot of these bytes: taken by their id, or the free one where they belong. */
static uint32_t *find_slot(const struct lade_loader *l, const char *s, size_t len)
{
    for (uint32_t i = hash_bytes(s, len) & l->slot_mask;; i = (i + 1) & l->slot_mask) {
        if (!l->slots[i])
            return &l->slots[i];
        const struct lade_piece_text *p = &l->tok->pieces[l->slots[i] - 1];
        if (p->len == len && !memcmp(l->tok->text.at + p->at, s, len))
            return &l->slots[i];
    }
}

static int32_t find_id(const struct lade_loader *l, const char *s, size_t len)
{
    return (int32_t)*find_slot(l, s, len) - 1;
}

/* Keeps at least half of the slots free. */
static int reserve_slot(struct lade_loader *l)
{
    if (l->slots && 2 * (l->n_slots + 1) <= l->slot_mask + 1)
        return 0;
    uint32_t n = l->slots ? 2 * (l->slot_mask + 1) : 1 << 12, old_n = l->slot_mask + 1;
    uint32_t *old = l->slots, *grown = calloc(n, sizeof *grown);
    if (!grown)
        return no_memory(l);
    l->slots = grown;
    l->slot_mask = n - 1;
    for (uint32_t i = 0; old && i < old_n; i++) {
        if (!old[i])
            continue;
        const struct lade_piece_text *p = &l->tok->pieces[old[i] - 1];
        *find_slot(l, l->tok->text.at + p->at, p->len) = old[i];
    }
    free(old);
    return 0;
}

/* ---- vocabulary ---- */

static int add_entry(struct lade_loader *l, const char *key, size_t len, uint64_t id)
{
    struct lade_tokenizer *tok = l->tok;
    char shown[SHOWN], bytes[LADE_MAX_PIECE * 2];
    lade_printable(shown, sizeof shown, key, len);
    if (id >= LADE_MAX_IDS)
        return lade_fail(l->err, "%s: model.vocab['%s'] is not an id below %d; " LADE_AGAIN,
                         l->file, shown, LADE_MAX_IDS);
    int n = len <= sizeof bytes ? to_bytes(key, len, bytes) : -1;
    if (len == 0 || len > sizeof bytes || n > LADE_MAX_PIECE || (n < 0 && len > LADE_MAX_PIECE))
        return lade_fail(l->err,
                         "%s: model.vocab['%s'] is a token of %zu bytes, not 1 to %d; " LADE_AGAIN,
                         l->file, shown, len, LADE_MAX_PIECE);
    if ((int)id < tok->size && tok->pieces[id].len)
        return lade_fail(l->err,
                         "%s: model.vocab gives id %d to '%s' and to another token; " LADE_AGAIN,
                         l->file, (int)id, shown);
    if (n < 0) { /* some files repeat added tokens here; lade_load_finish looks */
        if (lade_load_piece(l, (int32_t)id, key, len))
            return -1;
        tok->pieces[id].literal = true;
        return 0;
    }
    if (reserve_slot(l))
        return -1;
    uint32_t *slot = find_slot(l, bytes, (size_t)n);
    if (*slot)
        return lade_fail(l->err, "%s: model.vocab has '%s' twice; " LADE_AGAIN, l->file, shown);
    *slot = (uint32_t)id + 1;
    l->n_slots++;
    if (n == 1)
        tok->byte_id[(unsigned char)*bytes] = (int32_t)id;
    return lade_load_piece(l, (int32_t)id, bytes, (size_t)n);
}

static int check_bytes(const struct lade_loader *l)
{
    for (int b = 0; b < 256; b++)
        if (l->tok->byte_id[b] < 0)
            return lade_fail(l->err, "%s: model.vocab has no token for byte %d; " LADE_OWN, l->file,
                             b);
    return 0;
}

int lade_load_vocab(struct lade_loader *l, struct lade_scan *s)
{
    if (!lade_scan_char(s, '{'))
        return lade_fail(l->err, "%s: model.vocab is not an object; " LADE_AGAIN, l->file);
    if (lade_scan_char(s, '}'))
        return lade_fail(l->err, "%s: model.vocab is empty; " LADE_AGAIN, l->file);
    size_t n = 0;
    do {
        char *key, shown[SHOWN];
        size_t len;
        uint64_t id;
        if (!lade_scan_string(s, &key, &len) || !lade_scan_char(s, ':'))
            return lade_fail(l->err,
                             "%s: model.vocab is not valid JSON after %zu tokens; " LADE_AGAIN,
                             l->file, n);
        if (!lade_scan_u64(s, &id))
            return lade_fail(l->err, "%s: model.vocab['%s'] is not an id; " LADE_AGAIN, l->file,
                             lade_printable(shown, sizeof shown, key, len));
        if (add_entry(l, key, len, id))
            return -1;
        n++;
    } while (lade_scan_char(s, ','));
    if (!lade_scan_char(s, '}'))
        return lade_fail(l->err, "%s: model.vocab is not valid JSON after %zu tokens; " LADE_AGAIN,
                         l->file, n);
    return check_bytes(l);
}

/* ---- merges ---- */

static uint32_t hash_pair(int32_t left, int32_t right)
{
    uint64_t x = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    x *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32);
}

static struct lade_merge *merge_slot(const struct lade_tokenizer *tok, int32_t left, int32_t right)
{
    for (uint32_t i = hash_pair(left, right) & tok->merge_mask;; i = (i + 1) & tok->merge_mask) {
        struct lade_merge *m = &tok->merges[i];
        if (m->left < 0 || (m->left == left && m->right == right))
            return m;
    }
}

const struct lade_merge *lade_merge_find(const struct lade_tokenizer *tok, int32_t left,
                                         int32_t right)
{
    const struct lade_merge *m = merge_slot(tok, left, right);
    return m->left < 0 ? NULL : m;
}

/* Room for n merges, half of the slots free. */
static int reserve_merges(struct lade_loader *l, size_t n)
{
    struct lade_tokenizer *tok = l->tok;
    size_t old_n = tok->merges ? (size_t)tok->merge_mask + 1 : 0, slots = old_n ? old_n : 1 << 10;
    while (slots < 2 * n)
        slots *= 2;
    if (slots == old_n)
        return 0;
    struct lade_merge *old = tok->merges, *grown = malloc(slots * sizeof *grown);
    if (!grown)
        return no_memory(l);
    memset(grown, 0xff, slots * sizeof *grown); /* left is -1 */
    tok->merges = grown;
    tok->merge_mask = (uint32_t)(slots - 1);
    for (size_t i = 0; i < old_n; i++)
        if (old[i].left >= 0)
            *merge_slot(tok, old[i].left, old[i].right) = old[i];
    free(old);
    return 0;
}

struct span {
    char *text;
    size_t len;
};

/* Reads "left right" or ["left", "right"]. */
static bool read_pair(struct lade_scan *s, struct span *left, struct span *right)
{
    if (lade_scan_peek(s) == '[')
        return lade_scan_char(s, '[') && lade_scan_string(s, &left->text, &left->len) &&
               lade_scan_char(s, ',') && lade_scan_string(s, &right->text, &right->len) &&
               lade_scan_char(s, ']');
    if (!lade_scan_string(s, &left->text, &left->len))
        return false;
    char *space = memchr(left->text, ' ', left->len);
    if (!space)
        return false;
    right->text = space + 1;
    right->len = left->len - (size_t)(right->text - left->text);
    left->len = (size_t)(space - left->text);
    return true;
}

static int unknown_token(struct lade_loader *l, size_t i, const struct span *t)
{
    char shown[SHOWN];
    return lade_fail(l->err,
                     "%s: model.merges[%zu] needs token '%s', which model.vocab lacks; " LADE_AGAIN,
                     l->file, i, lade_printable(shown, sizeof shown, t->text, t->len));
}

static int add_merge(struct lade_loader *l, size_t i, const struct span *left,
                     const struct span *right)
{
    if (left->len + right->len > l->scratch_cap) {
        size_t cap = 2 * (left->len + right->len);
        char *grown = realloc(l->scratch, cap);
        if (!grown)
            return no_memory(l);
        l->scratch = grown;
        l->scratch_cap = cap;
    }
    int n = to_bytes(left->text, left->len, l->scratch);
    int32_t a = n > 0 ? find_id(l, l->scratch, (size_t)n) : -1;
    if (a < 0)
        return unknown_token(l, i, left);
    int m = to_bytes(right->text, right->len, l->scratch + n);
    int32_t b = m > 0 ? find_id(l, l->scratch + n, (size_t)m) : -1;
    if (b < 0)
        return unknown_token(l, i, right);
    int32_t c = find_id(l, l->scratch, (size_t)n + (size_t)m);
    if (c < 0) {
        char x[SHOWN / 2], y[SHOWN / 2];
        return lade_fail(
            l->err, "%s: model.merges[%zu] makes '%s' + '%s', which model.vocab lacks; " LADE_AGAIN,
            l->file, i, lade_printable(x, sizeof x, left->text, left->len),
            lade_printable(y, sizeof y, right->text, right->len));
    }
    if (reserve_merges(l, i + 1))
        return -1;
    /* A repeated pair has its last rank, as in the tokenizers library. */
    *merge_slot(l->tok, a, b) = (struct lade_merge){a, b, c, (uint32_t)i};
    return 0;
}

int lade_load_merges(struct lade_loader *l, struct lade_scan *s)
{
    if (!lade_scan_char(s, '['))
        return lade_fail(l->err, "%s: model.merges is not an array; " LADE_AGAIN, l->file);
    if (reserve_merges(l, 1))
        return -1;
    if (lade_scan_char(s, ']'))
        return 0;
    size_t i = 0;
    do {
        struct span left, right;
        if (i == LADE_MAX_MERGES)
            return lade_fail(l->err, "%s: model.merges has more than %d entries; " LADE_AGAIN,
                             l->file, LADE_MAX_MERGES);
        if (!read_pair(s, &left, &right))
            return lade_fail(l->err, "%s: model.merges[%zu] is not a pair of tokens; " LADE_AGAIN,
                             l->file, i);
        if (add_merge(l, i, &left, &right))
            return -1;
        i++;
    } while (lade_scan_char(s, ','));
    if (!lade_scan_char(s, ']'))
        return lade_fail(l->err, "%s: model.merges is not valid JSON after %zu merges; " LADE_AGAIN,
                         l->file, i);
    return 0;
}

/* ---- the end ---- */

int lade_load_finish(struct lade_loader *l)
{
    const struct lade_tokenizer *tok = l->tok;
    for (int i = 0; i < tok->size; i++) {
        char shown[SHOWN];
        const struct lade_piece_text *p = &tok->pieces[i];
        if (p->literal)
            return lade_fail(l->err,
                             "%s: model.vocab['%s'] has a character that no byte stands "
                             "for; " LADE_OWN,
                             l->file,
                             lade_printable(shown, sizeof shown, tok->text.at + p->at, p->len));
    }
    return 0;
}
