/* tokenizer.json from anywhere: whatever is accepted must encode and decode any text. The first
 * half of the input is the file, the rest a text. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/tokenizer.h"
#include "kernels/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lade_tokenizer *tok;
    char err[LADE_ERR] = "", out[LADE_DETOK_MAX];
    size_t half = size - size / 8, n;
    int32_t *ids;
    if (lade_tokenizer_parse(&tok, (const char *)data, half, "fuzz", err)) {
        if (!err[0] || strchr(err, '\n'))
            abort();
        return 0;
    }
    if (!lade_tokenizer_encode(tok, (const char *)data + half, size - half, LADE_ADDED_ALL, &ids,
                               &n, err)) {
        struct lade_detok d = {0};
        for (size_t i = 0; i < n; i++) {
            if (ids[i] < 0 || ids[i] >= lade_tokenizer_size(tok))
                abort();
            lade_detok_push(&d, tok, ids[i], out, sizeof out);
        }
        lade_detok_flush(&d, out, sizeof out);
        free(ids);
    }
    lade_tokenizer_close(tok);
    return 0;
}
