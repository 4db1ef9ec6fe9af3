/* int16_direct.h - a tile of any type times one or two tokens without a panel; included by int16_impl.h. */

/* Most tokens of a product of any type without a panel, which pays for itself from the next one on. */
enum { DIRECT_TOKENS = 2 };

/* sum += group g of a block of weights times block b of M tokens. */
ALWAYS_INLINE void direct_times(vf *sum, const enum kind kind, const uint32_t *w,
                                const struct head *h, const uint8_t *zeros, const struct record *x,
                                const int g, const int M)
{
    const int parts = kind_fine(kind) ? 2 : 1, quads = 8 / parts;
    struct group of[TILE_VECS];
    EACH_VEC of[v] = group_at(kind, w + v * VL, g);
    UNROLL(2)
    for (int part = 0; part < parts; part++)
        EACH_VEC
        {
            struct acc acc[DIRECT_TOKENS];
            struct scales sc;
            UNROLL(2)
            for (int j = 0; j < M; j++)
                acc[j] = acc_begin((vi){0});
            UNROLL(8)
            for (int i = part * quads; i < (part + 1) * quads; i++) {
                vu c[PER_QUAD];
                split(c, kind, &of[v], g, i);
                UNROLL(2)
                for (int j = 0; j < M; j++)
                    acc_times_plain(&acc[j], c, (vi){0} + x[j].q[i][0], (vi){0} + x[j].q[i][1]);
            }
            read_scale(&sc, kind, h, zeros, g, part, v);
            UNROLL(2)
            for (int j = 0; j < M; j++) {
                vf *to = &sum[j * TILE_VECS + v];
                *to = vf_fma(acc_sum(acc[j]), sc.s[part][v], *to);
                if (kind_mins(kind))
                    *to = vf_fma(sc.m[part][v], vf_set1(-x[j].sum[parts == 2 ? 1 + part : 0]), *to);
            }
        }
}

/* The same, while what comes later is fetched. */
ALWAYS_INLINE void direct_group(vf *sum, const enum kind kind, const uint32_t *w,
                                const struct head *h, const struct source *s,
                                const struct record *x, const int g, const int M)
{
    fetch_ahead(kind, s, g, M == 1);
    direct_times(sum, kind, w, h, s->zeros, x, g, M);
}

/* A tile times a pack of M tokens: out[M][LADE_TILE]. */
SPECIALIZED void direct_tile(float *out, const enum kind kind, const struct lade_matrix *m,
                             const struct lade_matrix_layout *l, int tile, const struct stretch *in,
                             const struct record *x, const int M)
{
    const int span = kind_span(kind), blocks = (m->cols - 1) / CPU_BLOCK + 1;
    struct source s = source_at(kind, m, l, tile, in);
    vf total[DIRECT_TOKENS * TILE_VECS] = {0};
    uint32_t spare[8 * LADE_TILE];
    for (int b = 0; b < blocks;) {
        const struct record *step = x + (size_t)b * (size_t)M;
        vf sum[DIRECT_TOKENS * TILE_VECS] = {0};
        for (int last = cpu_min(b + BLOCKS, blocks); b < last; b += span) {
            struct head h;
            const uint32_t *w = next_block(&h, kind, &s, spare);
            if (kind_rolls(kind)) {
                for (int g = 0; g < span; g++)
                    direct_group(sum, kind, w, &h, &s, x + (b + g) * M, g, M);
            } else {
                UNROLL(8)
                for (int g = 0; g < span; g++)
                    direct_group(sum, kind, w, &h, &s, x + (b + g) * M, g, M);
            }
            next_scales(kind, &s, in);
        }
        UNROLL(2)
        for (int j = 0; j < M; j++)
            EACH_VEC total[j * TILE_VECS + v] =
                vf_fma(sum[j * TILE_VECS + v], vf_set1(step[j].scale), total[j * TILE_VECS + v]);
    }
    UNROLL(8)
    for (int i = 0; i < M * TILE_VECS; i++)
        vf_store(out + i * VL, total[i]);
}
