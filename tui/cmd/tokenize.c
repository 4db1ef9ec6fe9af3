#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/tokenizer.h"
#include "tui/cmd/cmd.h"
#include "tui/cmd/ids.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

/* A directory that holds only tokenizer.json will do. Opens it and reads all of stdin. */
static int begin(const struct options *o, struct lade_tokenizer **tok, char **text, size_t *len,
                 char *err)
{
    char path[PATH_MAX];
    *tok = NULL;
    *text = NULL;
    if (model_path_resolve(o->model, path, err) || lade_tokenizer_open(tok, path, err))
        return -1;
    *text = output_read("-", OUTPUT_TEXT_MAX, len, err);
    return *text ? 0 : -1;
}

static int end(struct lade_tokenizer *tok, char *text, int rc, const char *err)
{
    lade_tokenizer_close(tok);
    free(text);
    return rc ? report_failed(false, err) : EXIT_DONE;
}

int cmd_tokenize(const struct options *o)
{
    struct lade_tokenizer *tok;
    char *text, err[LADE_ERR];
    size_t len, n = 0;
    int32_t *ids = NULL;
    int rc = begin(o, &tok, &text, &len, err);
    if (rc == 0)
        rc = lade_tokenizer_encode(tok, text, len, o->special, &ids, &n, err);
    for (size_t i = 0; rc == 0 && i < n; i++)
        printf("%s%d", i ? " " : "", ids[i]);
    if (rc == 0)
        putchar('\n');
    free(ids);
    return end(tok, text, rc, err);
}

int cmd_detokenize(const struct options *o)
{
    struct lade_tokenizer *tok;
    char *text, err[LADE_ERR], piece[LADE_DETOK_MAX];
    size_t len, n = 0;
    int32_t *ids = NULL;
    struct lade_detok detok = {0};
    int rc = begin(o, &tok, &text, &len, err);
    if (rc == 0)
        rc = ids_parse(text, "standard input", lade_tokenizer_size(tok), &ids, &n, err);
    for (size_t i = 0; rc == 0 && i <= n; i++) {
        int size = i < n ? lade_detok_push(&detok, tok, ids[i], piece, sizeof(piece))
                         : lade_detok_flush(&detok, piece, sizeof(piece));
        if (size < 0)
            rc = lade_fail(err, "token %d: is longer than %d bytes; the tokenizer is not Qwen's",
                           ids[i], LADE_DETOK_MAX);
        else
            output_text(piece, (size_t)size);
    }
    free(ids);
    return end(tok, text, rc, err);
}
