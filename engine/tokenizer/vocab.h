/* vocab.h - the inside of a tokenizer: what loading fills and encoding reads. */
#ifndef LADE_TOKENIZER_VOCAB_H
#define LADE_TOKENIZER_VOCAB_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/error.h"

/* One id: its bytes lie in lade_tokenizer.text. */
struct lade_piece_text {
    uint32_t at, len;
    bool added, special;
};

/* An added token, matched literally before anything else. */
struct lade_added_token {
    char *text;      /* owned */
    uint32_t len;
    int32_t id;
    bool special;
};

/* A pair of ids that may become one, open addressing; left < 0 marks a free slot. */
struct lade_merge {
    int32_t left, right, merged;
    uint32_t rank;   /* lower merges first */
};

struct lade_tokenizer {
    char *text;                      /* bytes of all pieces */
    size_t text_len, text_cap;
    struct lade_piece_text *pieces;  /* [size] */
    int size;
    struct lade_added_token *added;  /* longest first */
    int n_added;
    bool starts_added[256];          /* first bytes of added tokens */
    struct lade_merge *merges;       /* [merge_mask + 1] */
    uint32_t merge_mask;
    int32_t byte_id[256];            /* the id of each single byte */
    pcre2_code *split;
    bool nfc;
};

/* NULL where the pair does not merge. */
const struct lade_merge *lade_merge_find(const struct lade_tokenizer *tok, int32_t left,
                                         int32_t right);

#endif
