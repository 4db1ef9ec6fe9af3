/* ggml's block formats, against what llama.cpp's Python package makes of the same bytes
 * (tests/reference/make_blocks.py). */
#include "kernels/blocks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VALUES = 2048 }; /* of each fixture */

static void read_fixture(const char *name, const char *suffix, void *to, size_t len)
{
    char path[128], extra;
    snprintf(path, sizeof path, "tests/fixtures/ggml-blocks/%s.%s", name, suffix);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s is missing", path);
    assert_int_equal(fread(to, 1, len, f), len);
    assert_int_equal(fread(&extra, 1, 1, f), 0);
    fclose(f);
}

static void every_format_is_exact(void **state)
{
    (void)state;
    static uint8_t bytes[VALUES * 2];
    static float want[VALUES], have[VALUES];
    for (int type = 0; type < LADE_N_BLOCKS; type++) {
        const struct lade_block_info *info = &lade_blocks[type];
        const size_t n = VALUES / (size_t)info->n;
        read_fixture(info->name, "blocks", bytes, n * (size_t)info->bytes);
        read_fixture(info->name, "f32", want, sizeof want);
        for (size_t i = 0; i < n; i++)
            info->dequantize(bytes + i * (size_t)info->bytes, have + i * (size_t)info->n);
        for (int i = 0; i < VALUES; i++)
            if (have[i] != want[i])
                fail_msg("%s[%d] is %.9g, expected %.9g", info->name, i, (double)have[i],
                         (double)want[i]);
    }
}

/* A block is read to its end and no further, a result written likewise, whatever it holds. */
static void blocks_stay_in_their_bytes(void **state)
{
    (void)state;
    for (int type = 0; type < LADE_N_BLOCKS; type++) {
        const struct lade_block_info *info = &lade_blocks[type];
        uint8_t *block = malloc((size_t)info->bytes);
        float *out = malloc((size_t)info->n * sizeof *out);
        assert_non_null(block);
        assert_non_null(out);
        for (int fill = 0; fill < 256; fill++) {
            memset(block, fill, (size_t)info->bytes);
            info->dequantize(block, out);
        }
        free(block);
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_is_exact),
        cmocka_unit_test(blocks_stay_in_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
