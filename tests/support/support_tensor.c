#include "tests/support/support_tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/checkpoint/pack.h"
#include "kernels/error.h"
#include "kernels/matrix.h"

unsigned char *support_tensor_part(const struct lade_catalog *cat, const struct lade_tensor *t,
                                   int part)
{
    const struct lade_span *span = &t->parts[part];
    unsigned char *bytes = malloc(span->bytes + 1);
    FILE *f = fopen(cat->shards[span->shard].path, "rb");
    assert_non_null(bytes);
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)span->offset, SEEK_SET), 0);
    assert_int_equal(fread(bytes, 1, span->bytes, f), span->bytes);
    fclose(f);
    return bytes;
}

unsigned char *support_tensor_room(const struct lade_tensor *t)
{
    size_t bytes = (t->bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
    unsigned char *room = aligned_alloc(LADE_ALIGN, bytes);
    assert_non_null(room);
    return memset(room, 0, bytes);
}

unsigned char *support_tensor_packed(struct support_checkpoint *c, const struct lade_catalog *cat,
                                     const struct lade_tensor *t)
{
    unsigned char *packed = support_tensor_room(t);
    char err[LADE_ERR] = "", name[256];
    for (int part = 0; part < t->n_parts; part++) {
        lade_catalog_tensor_name(cat, t, part, name, sizeof name);
        if (lade_pack(cat, t, part, support_find(c, name)->data, packed, err))
            fail_msg("%s", err);
    }
    return packed;
}
