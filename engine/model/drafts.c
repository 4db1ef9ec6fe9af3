#include "engine/model/drafts.h"

#include "engine/model/state.h"

static size_t round_up(size_t floats)
{
    const size_t step = LADE_ALIGN / sizeof(float);
    return (floats + step - 1) / step * step;
}

/* Delta-nets before `layer`. */
static size_t nets_before(const struct lade_shape *s, int layer)
{
    size_t n = 0;
    for (int i = 0; i < layer; i++)
        n += !s->full_attention[i];
    return n;
}

static int rows_of(int batch)
{
    return batch < LADE_DRAFT_ROWS ? batch : LADE_DRAFT_ROWS;
}

/* As lay_out() of forward.c: with d == NULL the bytes alone. */
static size_t lay_out(struct lade_drafts *d, float *memory, const struct lade_shape *s, int rows)
{
    const size_t n = (size_t)rows, values = (size_t)s->value_heads * (size_t)s->value_dim;
    const size_t logits = round_up(n * (size_t)s->vocab),
                 state = round_up(lade_state_layer_bytes(s) / sizeof(float)),
                 qkvz = round_up(n * (size_t)lade_shape_qkvz(s)),
                 ba = round_up(n * 2 * (size_t)s->value_heads), z = round_up(n * values);
    if (d) {
        d->logits = memory;
        d->state = memory + logits;
        d->first.qkvz = memory + logits + state;
        d->first.ba = d->first.qkvz + qkvz;
        d->first.z = d->first.ba + ba;
        d->step = qkvz + ba + z;
    }
    return (logits + state + nets_before(s, s->layers) * (qkvz + ba + z)) * sizeof(float);
}

size_t lade_drafts_bytes(const struct lade_shape *shape, int batch)
{
    return lay_out(NULL, NULL, shape, rows_of(batch));
}

int lade_drafts_open(struct lade_drafts *d, const struct lade_shape *shape,
                     const struct lade_device_part *part, int batch, char *err)
{
    *d = (struct lade_drafts){.part = part};
    if (lade_part_alloc(part, &d->memory, lade_drafts_bytes(shape, batch), false, err))
        return -1;
    d->rows = rows_of(batch);
    lay_out(d, d->memory, shape, d->rows);
    return 0;
}

void lade_drafts_close(struct lade_drafts *d)
{
    if (d->memory)
        lade_part_free(d->part, d->memory, false);
    *d = (struct lade_drafts){0};
}

struct lade_delta_rows lade_drafts_layer(const struct lade_drafts *d,
                                         const struct lade_shape *shape, int layer)
{
    const size_t at = nets_before(shape, layer) * d->step;
    return (struct lade_delta_rows){d->first.qkvz + at, d->first.ba + at, d->first.z + at};
}
