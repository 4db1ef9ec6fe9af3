/* Answers as the model may write them: any bytes, in any pieces, at any width. */
#include <stdint.h>
#include <stdlib.h>

#include "tui/text/markdown.h"
#include "tui/text/width.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ready;
    if (!ready++)
        width_locale();
    if (size < 2)
        return 0;
    /* The first two bytes choose the width and how much comes at a time. */
    int width = 1 + data[0] % 120;
    size_t step = 1 + data[1], n = size - 2;
    struct markdown m = {0};
    struct lines l = {0};
    for (size_t at = 0; at < n && n / step < 16; at += step)
        markdown_update(&m, &l, (const char *)data + 2, at, width);
    markdown_update(&m, &l, (const char *)data + 2, n, width);
    for (size_t i = 0; i < l.n; i++)
        if (lines_cols(&l, i) > (width > 12 ? width : 16))
            abort();
    lines_free(&l);
    return 0;
}
