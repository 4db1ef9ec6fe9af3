#include "engine/tokenizer/tokenizer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "engine/tokenizer/model_file.h"
#include "engine/tokenizer/vocab.h"

enum { MAX_FILE = 64 << 20 }; /* Qwen's is 11 MB, the largest public ones 35 MB */

int lade_tokenizer_open(struct lade_tokenizer **out, const char *dir, char *err)
{
    *out = NULL;
    char *path = lade_path_join(dir, "tokenizer.json"), *text;
    size_t len;
    if (!path)
        return lade_fail(err, "tokenizer.json: out of memory; close other programs");
    int rc = lade_model_file(dir, "tokenizer.json", MAX_FILE, &text, &len, err);
    if (rc && errno == ENOENT)
        lade_fail(err, "%.300s: no such file; a model directory needs its tokenizer.json", path);
    if (!rc)
        /* A very long path would push the reason out of the line. */
        rc = lade_tokenizer_parse(out, text, len, strlen(path) <= 200 ? path : lade_path_base(path),
                                  err);
    free(text);
    free(path);
    return rc;
}

void lade_tokenizer_close(struct lade_tokenizer *tok)
{
    if (!tok)
        return;
    for (int i = 0; i < tok->n_added; i++)
        free(tok->added[i].match);
    free(tok->added);
    free(tok->merges);
    free(tok->pieces);
    free(tok->text.at);
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
    return tok->text.at + tok->pieces[id].at;
}

int32_t lade_tokenizer_added(const struct lade_tokenizer *tok, const char *text)
{
    size_t len = strlen(text), n;
    for (int i = 0; i < tok->n_added; i++) {
        const char *piece = lade_tokenizer_piece(tok, tok->added[i].id, &n);
        if (n == len && !memcmp(piece, text, n))
            return tok->added[i].id;
    }
    return -1;
}

bool lade_tokenizer_is_special(const struct lade_tokenizer *tok, int32_t id)
{
    return id >= 0 && id < tok->size && tok->pieces[id].special;
}
