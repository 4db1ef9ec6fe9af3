/* config.json: shape, generation defaults and quantization. Whatever is accepted must keep the
 * promises of shape.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/catalog.h"
#include "engine/checkpoint/quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int rc, const char *err)
{
    if (rc && (!err[0] || strchr(err, '\n')))
        abort();
}

static void quantization(const char *text, size_t size)
{
    static const char module[] = "model.layers.0.mlp.experts.0.gate_proj";
    struct lade_raw raw = {.name = "model.layers.0.mlp.gate.weight", .len = 30, .found = true};
    struct lade_raws raws = {0};
    struct lade_quant *q;
    struct lade_quant_spec spec;
    char err[LADE_ERR] = "";
    int rc = lade_quant_parse(&q, text, size, false, "fuzz", err);
    check(rc, err);
    if (rc || !q)
        return;
    if (lade_raws_add(&raws, &raw, err) || lade_raws_index(&raws, NULL, err))
        abort();
    rc = lade_quant_bind(q, &raws, err);
    check(rc, err);
    if (!rc) {
        rc = lade_quant_module(q, module, sizeof module - 1, &spec, err);
        check(rc, err);
    }
    if (!rc && (spec.bits < 1 || spec.bits > 64 || spec.group < -1 || spec.block_rows < -1 ||
                spec.block_cols < -1))
        abort();
    lade_raws_free(&raws);
    lade_quant_free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size ? size : 1), err[LADE_ERR] = "";
    if (!text)
        abort();
    memcpy(text, data, size);
    static struct lade_shape s;
    struct lade_generation gen;
    int rc = lade_shape_parse(&s, text, size, "fuzz", err);
    check(rc, err);
    for (int role = 0; !rc && role < LADE_N_ROLES; role++) {
        int rows, cols;
        lade_role_dims(&s, role, &rows, &cols);
        if (rows < 1 || cols < 1 || (int64_t)rows * cols > INT32_MAX)
            abort();
    }
    lade_generation_defaults(&gen);
    check(lade_generation_parse(&gen, text, size, "fuzz", err), err);
    if (gen.n_stop < 0 || gen.n_stop > LADE_MAX_STOP)
        abort();
    quantization(text, size);
    free(text);
    return 0;
}
