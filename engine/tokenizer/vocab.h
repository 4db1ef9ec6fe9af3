/* vocab.h - the inside of a tokenizer: what loading fills and encoding reads. */
#ifndef LADE_TOKENIZER_VOCAB_H
#define LADE_TOKENIZER_VOCAB_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>

#include "engine/checkpoint/scan.h"
#include "engine/text.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/error.h"

/* Limits of what a file may ask for; Qwen's has 151,669 ids, 151,387 merges, 128 bytes a token.
 * The last one is what makes LADE_DETOK_MAX always suffice. */
enum {
    LADE_MAX_IDS = 1 << 20,
    LADE_MAX_MERGES = 1 << 21,
    LADE_MAX_ADDED = 1 << 14,
    LADE_MAX_PIECE = 1024,
};

/* One id: its bytes lie in lade_tokenizer.text. len 0: nobody has this id. */
struct lade_piece_text {
    uint32_t at, len;
    bool added, special;
    bool literal; /* while loading: a vocabulary entry that is not in byte-level characters */
};

/* An added token, matched literally before anything else. */
struct lade_added_token {
    char *match; /* owned: what stands in the text; NFC where `normalized` */
    uint32_t len;
    int32_t id;
    bool special;
    bool normalized; /* looked for after NFC rather than before */
};

/* A pair of ids that may become one, open addressing; left < 0 marks a free slot. */
struct lade_merge {
    int32_t left, right, merged;
    uint32_t rank; /* lower merges first */
};

struct lade_tokenizer {
    struct lade_text text;          /* bytes of all pieces */
    struct lade_piece_text *pieces; /* [pieces_cap], the first `size` in use */
    int size, pieces_cap;
    struct lade_added_token *added; /* longest first */
    int n_added;
    bool any_normalized;
    bool starts_added[256];    /* first bytes of added tokens */
    struct lade_merge *merges; /* [merge_mask + 1] */
    uint32_t merge_mask;
    int32_t byte_id[256]; /* the id of each single byte */
    pcre2_code *split;
    bool nfc;
};

/* NULL where the pair does not merge. */
const struct lade_merge *lade_merge_find(const struct lade_tokenizer *tok, int32_t left,
                                         int32_t right);

/* NFC of valid UTF-8, by Unicode 9: malloc'ed, or NULL with `why` set. */
char *lade_nfc(const char *text, size_t len, size_t *out_len, const char **why);

/* ---- loading ---- */

/* What loading carries along. Everything in the file is untrusted. */
struct lade_loader {
    struct lade_tokenizer *tok;
    const char *file; /* its name in errors */
    char *err;
    uint32_t *slots; /* owned: id + 1 by hash of the piece's bytes, 0 free */
    uint32_t slot_mask, n_slots;
    char *scratch; /* owned: the bytes of a merge */
    size_t scratch_cap;
};

/* The ends of error lines that are needed often. */
#define LADE_AGAIN "download the file again"
#define LADE_OWN   "use the model's own tokenizer.json"

/* Each reads one value that starts at s->at and leaves s->at after it. 0, or -1 with err. */
int lade_load_vocab(struct lade_loader *l, struct lade_scan *s);
int lade_load_merges(struct lade_loader *l, struct lade_scan *s); /* after the vocabulary */

/* After vocabulary and normalizer. `added` may be NULL. */
int lade_load_added(struct lade_loader *l, json_t *added);

/* What can only be judged when all is read: every entry of the vocabulary has a meaning. */
int lade_load_finish(struct lade_loader *l);

/* Gives `id` the bytes text[0..len), which nobody may have yet. */
int lade_load_piece(struct lade_loader *l, int32_t id, const char *text, size_t len);

#endif
