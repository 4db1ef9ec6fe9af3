/* A GGUF header; the file goes on for as many bytes as the input's last one says. */
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char err[LADE_ERR] = "";
    struct lade_gguf g;
    if (!size)
        return 0;
    uint64_t file_bytes = size - 1 + (uint64_t)data[size - 1] * 64;
    char *copy = malloc(size);
    if (!copy)
        abort();
    memcpy(copy, data, size - 1);
    int rc = lade_gguf_parse(&g, copy, size - 1, file_bytes, 0, "fuzz", err);
    if (rc < 0 && (!err[0] || strchr(err, '\n')))
        abort();
    for (size_t i = 0; !rc && i < g.n_entries; i++) {
        const struct lade_gguf_entry *e = &g.entries[i];
        struct lade_gguf_text rest = e->value, text;
        int64_t integer, sum = 0;
        double real;
        lade_gguf_int(e, &integer);
        lade_gguf_real(e, &real);
        if (e->type == LADE_GGUF_ARRAY && e->element == LADE_GGUF_STRING)
            while (lade_gguf_next_string(&rest, &text))
                if (text.len && text.at + text.len > copy + size)
                    abort();
        if (e->type == LADE_GGUF_ARRAY && e->element <= LADE_GGUF_I32)
            for (uint64_t k = 0; k < e->count; k++)
                sum += lade_gguf_element(e, k) & 1;
        if (sum < 0)
            abort();
    }
    if (!rc) {
        for (size_t i = 0; i < g.tensors.n; i++)
            if (g.tensors.items[i].offset + g.tensors.items[i].bytes > file_bytes)
                abort();
        lade_gguf_close(&g);
    }
    free(copy);
    return 0;
}
