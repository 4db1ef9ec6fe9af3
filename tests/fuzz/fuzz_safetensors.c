/* A safetensors header: the input is the header's text, its last two bytes the size of the data. */
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t n = size - 2;
    uint64_t bytes = data[n] | (uint64_t)data[n + 1] << 8;
    char *text = malloc(n ? n : 1), err[LADE_ERR] = "";
    if (!text)
        abort();
    memcpy(text, data, n);
    struct lade_raws raws = {0};
    if (!lade_safetensors_parse(&raws, text, n, 8 + n + bytes, 0, "fuzz", err)) {
        uint64_t end = 8 + n;
        for (size_t i = 0; i < raws.n; i++) { /* sorted by place, they tile the data */
            if (raws.items[i].offset != end)
                abort();
            end += raws.items[i].bytes;
        }
        if (end != 8 + n + bytes)
            abort();
        if (!lade_raws_index(&raws, NULL, err))
            for (size_t i = 0; i < raws.n; i++)
                if (lade_raws_find(&raws, raws.items[i].name, raws.items[i].len) != &raws.items[i])
                    abort();
    } else if (!err[0] || strlen(err) >= LADE_ERR || strchr(err, '\n')) {
        abort();
    }
    lade_raws_free(&raws);
    free(text);
    return 0;
}
