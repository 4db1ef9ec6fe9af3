/* int16_floats.h - rows of floats, rounded to words, times many tokens in packs; included by int16_impl.h.
 *
 * A weight becomes an integer of at most FLOAT_NORM with a scale for each row and CPU_BLOCK inputs, whose
 * integers together have at most that length. So with inputs of at most LARGEST a sum of two fits
 * 16 bits, and by the inequality of Cauchy and Schwarz products of CPU_BLOCK inputs fit 32:
 * 16,503 * 16,257 * sqrt(32) is below 2^31. Panels are made once for all tokens (struct
 * cpu_int16_floats). */

#if !defined(SIMD_AVX512)
#define INT16_FLOATS NULL /* AVX2 is as fast with floats, NEON has no products of words */
#else
#define FLOAT_NORM   16500.0f
#define FLOAT_LEAST  1e-18f /* what squares that are no normal numbers may leave out of a length */

static size_t floats_bytes(const struct lade_matrix *m)
{
    const size_t steps = ((size_t)m->cols - 1) / CPU_ROW_STEP + 1;
    const size_t groups = ((size_t)m->rows - 1) / (GEMM_TILES * LADE_TILE) + 1;
    return groups * steps * GEMM_TILES * sizeof(struct panel);
}

/* The weights of VL rows from `row` on, of CPU_BLOCK columns, a column each; 0 where there are none. */
ALWAYS_INLINE void float_columns(vf w[CPU_BLOCK], const struct lade_matrix *m, int row, int col)
{
    for (int i = 0; i < CPU_BLOCK; i += VL) {
        const int some = cpu_min(VL, m->cols - col - i);
        for (int r = 0; r < VL; r++) {
            const float *from =
                (const float *)m->data + (size_t)(row + r) * (size_t)m->cols + col + i;
            w[i + r] = row + r >= m->rows || some <= 0 ? (vf){0}
                       : some < VL                     ? vf_load_part(from, some)
                                                       : vf_load(from);
        }
        vf_transpose(w + i);
    }
}

/* Block b of a panel, of VL rows: adds to squares of what rounding moves and of all. */
ALWAYS_INLINE void round_block(struct panel *p, const vf w[CPU_BLOCK], vf *moved, vf *all,
                               const int b, const int v)
{
    vf squares[2] = {0};
    vi products = {0};
    UNROLL(32)
    for (int i = 0; i < CPU_BLOCK; i++)
        squares[i % 2] = vf_fma(w[i], w[i], squares[i % 2]);
    const vf square = squares[0] + squares[1];
    const vf scale = (vf_sqrt(square) + FLOAT_LEAST) * (1 / FLOAT_NORM), inverse = 1.0f / scale;
    UNROLL(8)
    for (int i = 0; i < CPU_BLOCK / 4; i++) {
        vu q[4], words[PER_QUAD];
        UNROLL(4)
        for (int j = 0; j < 4; j++)
            q[j] = (vu)vf_rounded(w[4 * i + j] * inverse);
        UNROLL(2)
        for (int j = 0; j < PER_QUAD; j++) {
            words[j] = (q[j] & 0xffff) | q[j + 2] << 16;
            memcpy(p->codes[b * 8 + i][j] + v * VL, &words[j], sizeof(words[j]));
        }
        if (paired(i))
            products = codes_times(products, words);
    }
    const vu minus = -(vu)products;
    memcpy(p->minus[b] + v * VL, &minus, sizeof(minus));
    vf_store(p->s[b] + v * VL, scale);
    const vf most = scale * 0.51f; /* of one weight: the factor and the product round, too */
    *moved = vf_fma(most * most, vf_set1(CPU_BLOCK), *moved);
    *all += square;
}

static void floats_unpack(void *panels, float *moved, float *length, const struct lade_matrix *m,
                          int tile)
{
    const int steps = (m->cols - 1) / CPU_ROW_STEP + 1;
    struct panel *to = (struct panel *)panels + tile / GEMM_TILES * steps * GEMM_TILES;
    EACH_VEC
    {
        const int row = tile * LADE_TILE + v * VL;
        vf far = {0}, all = {0};
        for (int col = 0; col < steps * CPU_ROW_STEP; col += CPU_BLOCK) {
            vf w[CPU_BLOCK];
            float_columns(w, m, row, col);
            round_block(to + col / CPU_ROW_STEP * GEMM_TILES + tile % GEMM_TILES, w, &far, &all,
                        col / CPU_BLOCK % BLOCKS, v);
        }
        vf_store(moved + row, vf_sqrt(far));
        vf_store(length + row, vf_sqrt(all) + vf_sqrt(far));
    }
}

/* Rows [group * GEMM_TILES * LADE_TILE, ...). */
static void floats_times(float *y, const struct lade_matrix *m, const void *panels, int group,
                         const void *packs, int n)
{
    const int steps = (m->cols - 1) / CPU_ROW_STEP + 1, blocks = (m->cols - 1) / CPU_BLOCK + 1;
    static const struct kind_ops ops = {.products = products_full};
    const int first = group * GEMM_TILES;
    const struct call c = {.to = {.y = y + first * LADE_TILE, .ld = (size_t)m->rows},
                           .m = m,
                           .ops = &ops,
                           .packs = packs,
                           .n = n,
                           .first = first,
                           .last = first + GEMM_TILES};
    const struct panel *w = (const struct panel *)panels + first * steps;
    _Alignas(64) float sums[CPU_MANY * SUMS];
    for (int step = 0; step < steps; step++, w += GEMM_TILES) {
        struct product p = {.w = w, .blocks = cpu_min(BLOCKS, blocks - step * BLOCKS)};
        for (int i = 0; i < GEMM_TILES; i++)
            p.ahead[i] = (const char *)w; /* of which no line is asked for */
        times_panels(&c, &p, step, 0, first, step == steps - 1, sums);
    }
    put_tiles(&c, first, sums);
}

/* Most that rounding moved the inputs of a token, as the length of a vector. */
static float floats_moved(const void *x, size_t step, int k)
{
    double sum = 0;
    for (int b = 0; b < (int)cpu_int16_blocks(k); b += BLOCKS) {
        const struct record *r =
            (const struct record *)(const void *)((const char *)x + (size_t)b * step);
        const double most = 0.51 * (double)r->scale;
        sum += CPU_ROW_STEP * most * most;
    }
    return (float)sqrt(sum);
}

static const struct cpu_int16_floats int16_floats = {.rows = GEMM_TILES * LADE_TILE,
                                                     .bytes = floats_bytes,
                                                     .unpack = floats_unpack,
                                                     .times = floats_times,
                                                     .moved = floats_moved};
#define INT16_FLOATS &int16_floats
#endif
