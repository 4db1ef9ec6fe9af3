/* ordered_impl.h - products with tiled matrices whose inputs have groups of their own choice
 * (lade_matrix.has_order); part of matmul_impl.h. Each column is made floats with the scales of its
 * group, which is exact, so neither the order of the columns nor the inputs change. */

/* Columns [k0, k1) of a tile as floats: panel[k - k0][ld]. */
static void ordered_panel(float *panel, size_t ld, const struct tile *t,
                          const struct lade_matrix *m, const struct lade_matrix_layout *l, int k0,
                          int k1)
{
    const struct lade_type_info *type = &lade_types[m->type];
    const uint16_t *order = (const uint16_t *)((const char *)m->data + l->order);
    const uint32_t mask = (1u << type->bits) - 1;
    for (int k = k0; k < k1; k++, panel += ld) {
        const uint32_t *word = t->codes + (size_t)(k / type->per_word) * LADE_TILE;
        const size_t at = (size_t)order[k] * LADE_TILE;
        const int shift = k % type->per_word * type->bits;
        UNROLL(4)
        for (int v = 0; v < TILE_VECS; v++) {
            vu c = vu_load(word + v * VL) >> shift & mask;
            vf zero =
                m->has_zeros ? vf_load_u8(t->zeros + at + v * VL) : vf_set1((float)type->zero);
            vf_store(panel + v * VL,
                     (vf_from_int((vi)c) - zero) * vf_load_f16(t->scales + at + v * VL));
        }
    }
}

/* One tile times n <= CPU_DIRECT_N tokens. */
static void ordered_times(float (*out)[LADE_TILE], const struct tile *t,
                          const struct lade_matrix *m, const struct lade_matrix_layout *l,
                          const float *x, size_t ldx, int n)
{
    enum { STEP = 64 }; /* columns that stay in the first cache */
    float panel[STEP * LADE_TILE];
    vf sum[CPU_DIRECT_N * TILE_VECS] = {0};
    for (int k0 = 0; k0 < m->cols; k0 += STEP) {
        const int k1 = cpu_min(m->cols, k0 + STEP);
        ordered_panel(panel, LADE_TILE, t, m, l, k0, k1);
        for (int i = 0; i < n; i++) {
            const float *in = x + (size_t)i * ldx;
            for (int k = k0; k < k1; k++)
                for (int v = 0; v < TILE_VECS; v++)
                    sum[i * TILE_VECS + v] = vf_fma(vf_load(panel + (k - k0) * LADE_TILE + v * VL),
                                                    vf_set1(in[k]), sum[i * TILE_VECS + v]);
        }
    }
    for (int i = 0; i < n; i++)
        for (int v = 0; v < TILE_VECS; v++)
            vf_store(out[i] + v * VL, sum[i * TILE_VECS + v]);
}
