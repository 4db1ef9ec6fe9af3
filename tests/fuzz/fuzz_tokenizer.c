/* tokenizer.json and texts. By the first byte, the input is
 *   a file: whatever is accepted must encode any text to ids it has;
 *   parts: JSON text for the vocabulary, merges, added tokens and the regex inside a sound file;
 *   a model: merges drawn from the bytes, whose ids must be those of the plain algorithm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_JSON = 1 << 16, MAX_TOKENS = 320, MAX_TOKEN = 24, MAX_TEXT = 512 };

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* ---- texts through an accepted tokenizer ---- */

static void decode(const struct lade_tokenizer *tok, const int32_t *ids, size_t n, const char *want,
                   size_t want_len)
{
    struct lade_detok d = {0};
    char out[LADE_DETOK_MAX];
    size_t at = 0;
    for (size_t i = 0; i <= n; i++) {
        int used = i < n ? lade_detok_push(&d, tok, ids[i], out, sizeof out)
                         : lade_detok_flush(&d, out, sizeof out);
        require(used >= 0);
        require(!want || (at + (size_t)used <= want_len && !memcmp(want + at, out, (size_t)used)));
        at += (size_t)used;
    }
    require(!want || at == want_len);
}

static void try_text(const struct lade_tokenizer *tok, const char *text, size_t len)
{
    char err[LADE_ERR] = "";
    for (int which = LADE_ADDED_NONE; which <= LADE_ADDED_TAGS; which++) {
        int32_t *ids;
        size_t n;
        if (lade_tokenizer_encode(tok, text, len, (enum lade_added)which, &ids, &n, err)) {
            require(err[0] && !strchr(err, '\n'));
            continue;
        }
        for (size_t i = 0; i < n; i++)
            require(ids[i] >= 0 && ids[i] < lade_tokenizer_size(tok));
        decode(tok, ids, n, NULL, 0);
        free(ids);
    }
}

static struct lade_tokenizer *parse(const char *json, size_t len)
{
    struct lade_tokenizer *tok;
    char err[LADE_ERR] = "";
    if (!lade_tokenizer_parse(&tok, json, len, "fuzz", err))
        return tok;
    require(!tok && err[0] && !strchr(err, '\n') && strchr(err, ';'));
    return NULL;
}

/* ---- a sound file ---- */

struct json {
    char text[MAX_JSON];
    size_t len;
};

static void add(struct json *j, const void *text, size_t len)
{
    if (len <= sizeof j->text - j->len) {
        memcpy(j->text + j->len, text, len);
        j->len += len;
    }
}

static void add_text(struct json *j, const char *text)
{
    add(j, text, strlen(text));
}

/* The byte-level characters of all bytes, quoted where JSON wants it. */
static char characters[256][4];

static void spell_bytes(void)
{
    int hidden = 0;
    for (int b = 0; b < 256; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        int c = plain ? b : 256 + hidden++;
        if (c < 0x80)
            snprintf(characters[b], 4, c == '"' || c == '\\' ? "\\%c" : "%c", c);
        else
            snprintf(characters[b], 4, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
    }
}

static void add_bytes(struct json *j, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_text(j, characters[bytes[i]]);
}

/* Every file has a token for each byte. */
static void begin(struct json *j)
{
    static struct json head;
    if (!head.len) {
        spell_bytes();
        add_text(&head, "{\"model\": {\"type\": \"BPE\", \"vocab\": {");
        for (int b = 0; b < 256; b++) {
            char entry[32];
            snprintf(entry, sizeof entry, "%s\"%s\": %d", b ? ", " : "", characters[b], b);
            add_text(&head, entry);
        }
    }
    memcpy(j->text, head.text, j->len = head.len);
}

static void end(struct json *j, const char *normalizer)
{
    add_text(j, "\"}, \"behavior\": \"Isolated\"}, {\"type\": \"ByteLevel\", "
                "\"add_prefix_space\": false, \"use_regex\": false}]}, \"normalizer\": ");
    add_text(j, normalizer);
    add_text(j, "}");
}

static const char split[] =
    "], \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
    "\"pattern\": {\"Regex\": \"";

/* ---- parts: five fields ended by newlines ---- */

static void try_parts(const char *data, size_t size)
{
    static const char *const before[] = {"", "}, \"merges\": [", "]}, \"added_tokens\": [", split};
    static struct json j;
    begin(&j);
    for (int field = 0; field < 4; field++) {
        const char *stop = memchr(data, '\n', size);
        size_t len = stop ? (size_t)(stop - data) : size;
        add_text(&j, before[field]);
        add(&j, data, len);
        data += stop ? len + 1 : len;
        size -= stop ? len + 1 : len;
    }
    end(&j, "{\"type\": \"NFC\"}");
    struct lade_tokenizer *tok = parse(j.text, j.len);
    if (tok)
        try_text(tok, data, size);
    lade_tokenizer_close(tok);
}

/* ---- a model and the plain algorithm ---- */

struct token {
    unsigned char bytes[MAX_TOKEN];
    size_t len;
};

struct model {
    struct token tokens[MAX_TOKENS];
    int left[MAX_TOKENS], right[MAX_TOKENS]; /* what a token from 256 on is made of */
    int n;
};

/* A token of two others, unless it exists. */
static void join(struct model *m, int left, int right)
{
    struct token t = m->tokens[left];
    const struct token *r = &m->tokens[right];
    if (m->n == MAX_TOKENS || t.len + r->len > MAX_TOKEN)
        return;
    memcpy(t.bytes + t.len, r->bytes, r->len);
    t.len += r->len;
    for (int i = 0; i < m->n; i++)
        if (m->tokens[i].len == t.len && !memcmp(m->tokens[i].bytes, t.bytes, t.len))
            return;
    m->left[m->n] = left;
    m->right[m->n] = right;
    m->tokens[m->n++] = t;
}

/* Merges the first of the earliest pairs until there is none. */
static size_t plain_bpe(const struct model *m, const unsigned char *text, size_t len, int32_t *ids)
{
    size_t n = len;
    for (size_t i = 0; i < n; i++)
        ids[i] = text[i];
    for (;;) {
        int best = m->n;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int t = 256; t < best; t++)
                if (m->left[t] == ids[i] && m->right[t] == ids[i + 1]) {
                    best = t;
                    at = i;
                }
        if (best == m->n)
            return n;
        ids[at] = best;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static size_t plain_words(const struct model *m, const unsigned char *text, size_t len,
                          int32_t *ids)
{
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        const unsigned char *stop = memchr(text + at, '\n', len - at);
        size_t word = !stop ? len - at : stop == text + at ? 1 : (size_t)(stop - text) - at;
        n += plain_bpe(m, text + at, word, ids + n);
        at += word;
    }
    return n;
}

static void add_model(struct json *j, const struct model *m)
{
    begin(j);
    for (int t = 256; t < m->n; t++) {
        char id[32];
        add_text(j, ", \"");
        add_bytes(j, m->tokens[t].bytes, m->tokens[t].len);
        snprintf(id, sizeof id, "\": %d", t);
        add_text(j, id);
    }
    add_text(j, "}, \"merges\": [");
    for (int t = 256; t < m->n; t++) {
        const struct token *l = &m->tokens[m->left[t]], *r = &m->tokens[m->right[t]];
        add_text(j, t > 256 ? ", \"" : "\"");
        add_bytes(j, l->bytes, l->len);
        add_text(j, " ");
        add_bytes(j, r->bytes, r->len);
        add_text(j, "\"");
    }
    add_text(j, "]}, \"added_tokens\": [");
    add_text(j, split);
    add_text(j, "\\n");
    end(j, "null");
}

static void try_model(const uint8_t *data, size_t size)
{
    static struct model m;
    static struct json j;
    m.n = 256;
    for (int b = 0; b < 256; b++)
        m.tokens[b] = (struct token){{(unsigned char)b}, 1};
    size_t pairs = size / 4 < MAX_TOKENS - 256 ? size / 4 : MAX_TOKENS - 256;
    for (size_t i = 0; i < pairs; i++, data += 2, size -= 2) /* new tokens more often than others */
        join(&m, data[0] < 128 ? data[0] : m.n - 1 - (data[0] - 128) % (m.n - 255),
             data[1] < 128 ? data[1] : m.n - 1 - (data[1] - 128) % (m.n - 255));
    add_model(&j, &m);
    struct lade_tokenizer *tok = parse(j.text, j.len);
    require(tok && lade_tokenizer_size(tok) == m.n);

    if (size > MAX_TEXT)
        size = MAX_TEXT;
    size_t len, n = 0;
    char err[LADE_ERR], *text = lade_utf8_repair((const char *)data, size, &len);
    int32_t *ids = NULL, want[3 * MAX_TEXT];
    require(text != NULL);
    require(!lade_tokenizer_encode(tok, (const char *)data, size, LADE_ADDED_ALL, &ids, &n, err));
    require(n == plain_words(&m, (const unsigned char *)text, len, want));
    require(!memcmp(ids, want, n * sizeof *ids));
    decode(tok, ids, n, text, len);
    free(ids);
    free(text);
    lade_tokenizer_close(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (*data % 3 == 0) {
        size_t file = size - size / 8; /* the rest is a text */
        struct lade_tokenizer *tok = parse((const char *)data + 1, file - 1);
        if (tok)
            try_text(tok, (const char *)data + file, size - file);
        lade_tokenizer_close(tok);
    } else if (*data % 3 == 1) {
        try_parts((const char *)data + 1, size - 1);
    } else {
        try_model(data + 1, size - 1);
    }
    return 0;
}
