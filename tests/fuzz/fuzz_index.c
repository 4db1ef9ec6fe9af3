/* model.safetensors.index.json. */
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size ? size : 1), err[LADE_ERR] = "";
    if (!text)
        abort();
    memcpy(text, data, size);
    struct lade_raws raws = {0};
    char **files;
    int n;
    if (!lade_index_parse(&raws, text, size, &files, &n, "fuzz", err)) {
        for (int i = 0; i < n; i++)
            if (!files[i][0] || files[i][0] == '.' || strchr(files[i], '/'))
                abort();
        for (size_t i = 0; i < raws.n; i++)
            if (raws.items[i].shard >= n)
                abort();
        free(files);
    } else if (!err[0] || strchr(err, '\n')) {
        abort();
    }
    lade_raws_free(&raws);
    free(text);
    return 0;
}
