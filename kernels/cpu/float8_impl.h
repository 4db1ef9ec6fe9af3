/* float8_impl.h - products with 8-bit floats (blocks.h, F8_E4M3); included once by matmul_impl.h.
 *
 * A block's words are its scale and 32 words of four codes, each word beside those of the tile's other
 * rows (matrix.h). A code's exponent and mantissa, moved to where a float has its own, make a float
 * 2^120 times too small, exactly, subnormal ones too. */

enum { F8_INPUTS = 128, F8_WORDS = 1 + F8_INPUTS / 4 };

static bool is_float8(const struct lade_matrix *m)
{
    return m->type == LADE_BLOCKS && m->block == LADE_BLOCK_F8_E4M3;
}

/* Code i of each lane. */
ALWAYS_INLINE vf f8_code(vu w, const int i)
{
    const vi top = (vi)(w << (24 - 8 * i)) >> 4; /* with copies of the sign */
    return (vf)((vu)top & 0x87f00000u) * 0x1p120f;
}

ALWAYS_INLINE const uint32_t *f8_block(const struct lade_matrix *m,
                                       const struct lade_matrix_layout *l, int tile, int block)
{
    const size_t at = (size_t)tile * (size_t)l->groups + (size_t)block;
    return (const uint32_t *)m->data + at * F8_WORDS * LADE_TILE;
}

/* A tile times N tokens. */
SPECIALIZED void f8_times(float (*out)[LADE_TILE], const struct lade_matrix *m,
                          const struct lade_matrix_layout *l, int tile, const float *x, size_t ldx,
                          const int N)
{
    vf total[CPU_DIRECT_N * TILE_VECS] = {0};
    for (int k0 = 0; k0 < m->cols; k0 += F8_INPUTS) {
        const uint32_t *block = f8_block(m, l, tile, k0 / F8_INPUTS), *w = block + LADE_TILE;
        const int n = cpu_min(F8_INPUTS, m->cols - k0);
        const float *at = x + k0;
        float part[CPU_DIRECT_N][F8_INPUTS];
        size_t step = ldx;
        if (n % 4) { /* the last word of a row has codes for more inputs than there are */
            memset(part, 0, sizeof(part));
            for (int t = 0; t < N; t++)
                memcpy(part[t], at + (size_t)t * ldx, (size_t)n * sizeof(float));
            at = part[0];
            step = F8_INPUTS;
        }
        vf acc[2 * CPU_DIRECT_N * TILE_VECS] = {
            0}; /* two for each sum: additions take their time */
        for (int i = 0; i < n; i += 4, w += LADE_TILE) {
            __builtin_prefetch(w + (size_t)LADE_TILE * 2 * F8_WORDS);
            UNROLL(4)
            for (int j = 0; j < 4; j++)
                UNROLL(4)
            for (int v = 0; v < TILE_VECS; v++) {
                const vf code = f8_code(vu_load(w + v * VL), j);
                UNROLL(4)
                for (int t = 0; t < N; t++) {
                    vf *a = &acc[(2 * t + j % 2) * TILE_VECS + v];
                    *a = vf_fma(code, vf_set1(at[(size_t)t * step + (size_t)(i + j)]), *a);
                }
            }
        }
        UNROLL(4)
        for (int t = 0; t < N; t++)
            UNROLL(4)
        for (int v = 0; v < TILE_VECS; v++) {
            const vf *a = &acc[2 * t * TILE_VECS + v];
            vf *to = &total[t * TILE_VECS + v];
            *to = vf_fma(a[0] + a[TILE_VECS], vf_load((const float *)block + v * VL), *to);
        }
    }
    for (int t = 0; t < N; t++)
        for (int v = 0; v < TILE_VECS; v++)
            vf_store(out[t] + v * VL, total[t * TILE_VECS + v]);
}

/* A tile times n <= CPU_DIRECT_N tokens. */
static void f8_tile(float (*out)[LADE_TILE], const struct lade_matrix *m,
                    const struct lade_matrix_layout *l, int tile, const float *x, size_t ldx, int n)
{
    if (n == 1)
        f8_times(out, m, l, tile, x, ldx, 1);
    else if (n == 2)
        f8_times(out, m, l, tile, x, ldx, 2);
    else if (n == 3)
        f8_times(out, m, l, tile, x, ldx, 3);
    else
        f8_times(out, m, l, tile, x, ldx, 4);
}

/* Rows of one tile to floats: panel[k][PW], this tile at the given lane. */
static void f8_panel(float *panel, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                     int tile)
{
    for (int k0 = 0; k0 < m->cols; k0 += F8_INPUTS) {
        const uint32_t *block = f8_block(m, l, tile, k0 / F8_INPUTS), *w = block + LADE_TILE;
        const int n = cpu_min(F8_INPUTS, m->cols - k0);
        UNROLL(4)
        for (int v = 0; v < TILE_VECS; v++) {
            const vf scale = vf_load((const float *)block + v * VL);
            for (int i = 0; i < n; i += 4) {
                const vu word = vu_load(w + i / 4 * LADE_TILE + v * VL);
                float *to = panel + (size_t)(k0 + i) * PW + v * VL;
                UNROLL(4)
                for (int j = 0; j < 4; j++)
                    if (i + j < n)
                        vf_store(to + (size_t)j * PW, f8_code(word, j) * scale);
            }
        }
    }
}
