/* matmul_impl.h - products with matrices of every type; included once by each isa_*.c.
 *
 * Codes become floats (code - zero) in registers, are multiplied with the inputs, and each
 * group's sum is scaled once. All these products are exact, so only additions round. */
#include "kernels/blocks.h"
#include "kernels/cpu/simd.h"

/* How a code becomes a float. With AVX-512 it is masked into the mantissa of 2^23 / 2^position,
 * where its lowest bit weighs 1, and what stands above it is subtracted together with the zero:
 * two instructions that any port takes (shifts and permutes share one). Elsewhere it is shifted
 * to the top of the lane and converted as a signed number; CODE_SCALE, applied with the group's
 * scale, undoes the factor. */
enum { ZERO_TERMS = 4 };

#if defined(SIMD_AVX512)
#define CODE_SCALE(type) 1.0f
#else
#define CODE_SCALE(type) ((type) == LADE_Q4 ? 0x1p-28f : 0x1p-24f)
#endif

/* What code() subtracts, from the zeros of each lane. */
ALWAYS_INLINE void zero_terms(vf z[ZERO_TERMS], vf zero, const enum lade_type type)
{
#if defined(SIMD_AVX512)
    for (int j = 0; j < ZERO_TERMS; j++)
        z[j] =
            zero + (type == LADE_Q4 ? (float)(1 << 23 >> 4 * j) : (float)(1 << 23 >> 8 * (j % 2)));
#else
    z[0] = (zero - (type == LADE_Q4 ? 8.0f : 128.0f)) * (type == LADE_Q4 ? 0x1p28f : 0x1p24f);
#endif
}

/* Makes the words ready for code(). */
ALWAYS_INLINE vu prepare_codes(vu w, const enum lade_type type)
{
#if defined(SIMD_AVX512)
    (void)type;
    return w;
#else
    return w ^ (type == LADE_Q4 ? 0x88888888u : 0x80808080u);
#endif
}

/* (code i of each lane's word - zero) / CODE_SCALE. Without `zeros` the zero is the implied one. */
ALWAYS_INLINE vf code(vu w, const int i, const enum lade_type type, const bool zeros, const vf *z)
{
#if defined(SIMD_AVX512)
    const int bits = type == LADE_Q4 ? 4 : 8, j = i % (16 / bits);
    const uint32_t one = (uint32_t)(127 + 23 - bits * j) << 23; /* 2^23 / 2^position */
    (void)zeros;
    __m512i m = _mm512_ternarylogic_epi32((__m512i)(i * bits < 16 ? w : w >> 16),
                                          _mm512_set1_epi32(((1 << bits) - 1) << bits * j),
                                          _mm512_set1_epi32((int)one), 0xea); /* a & b | c */
    return (vf)m - z[j];
#else
    const int shift = type == LADE_Q4 ? 28 - 4 * i : 24 - 8 * i;
    const uint32_t top = type == LADE_Q4 ? 0xf0000000u : 0xff000000u;
    vu c = w << shift;
    vf f = vf_from_int((vi)(i ? c & top : c));
    return zeros ? f - z[0] : f;
#endif
}

struct tile {
    const uint32_t *codes;
    const uint16_t *scales;
    const uint8_t *zeros; /* NULL: the implied zero */
};

ALWAYS_INLINE struct tile tile_at(const struct lade_matrix *m, const struct lade_matrix_layout *l,
                                  int t)
{
    const char *base = m->data;
    size_t groups = (size_t)t * (size_t)l->groups * LADE_TILE;
    return (struct tile){
        (const uint32_t *)base + (size_t)t * (size_t)l->words * LADE_TILE,
        (const uint16_t *)(base + l->scales) + groups,
        m->has_zeros ? (const uint8_t *)(base + l->zeros) + groups : NULL,
    };
}

/* Multiplies one word of each lane with per_word inputs of N tokens. Accumulators: tokens times
 * A, so that enough independent additions are in flight. */
ALWAYS_INLINE void word_times(vf *acc, const uint32_t *codes, vf z[][ZERO_TERMS], const float *x,
                              size_t ldx, const enum lade_type type, const bool zeros, const int N,
                              const int A)
{
    const int per = type == LADE_Q4 ? 8 : 4;
    vu w[TILE_VECS];
    UNROLL(4)
    for (int v = 0; v < TILE_VECS; v++)
        w[v] = prepare_codes(vu_load(codes + v * VL), type);
    UNROLL(8)
    for (int i = 0; i < per; i++) {
        UNROLL(4)
        for (int v = 0; v < TILE_VECS; v++) {
            vf c = code(w[v], i, type, zeros, z[v]);
            UNROLL(4)
            for (int t = 0; t < N; t++) {
                vf *a = &acc[(t * A + i % A) * TILE_VECS + v];
                *a = vf_fma(c, vf_set1(x[(size_t)t * ldx + (size_t)i]), *a);
            }
        }
    }
}

SPECIALIZED void tile_times(float (*out)[LADE_TILE], const struct tile t,
                            const struct lade_matrix *m, const struct lade_matrix_layout *l,
                            const float *x, size_t ldx, const enum lade_type type, const bool zeros,
                            const int N, const int A)
{
    const int per = type == LADE_Q4 ? 8 : 4;
    const float implied = type == LADE_Q4 ? 8.0f : 128.0f;
    const int full = m->cols / per, step = m->group / per;
    vf total[CPU_DIRECT_N * TILE_VECS] = {0};
    for (int g = 0, w = 0; g < l->groups; g++) {
        vf acc[4 * TILE_VECS] = {0}, z[TILE_VECS][ZERO_TERMS];
        UNROLL(4)
        for (int v = 0; v < TILE_VECS; v++)
            zero_terms(z[v],
                       zeros ? vf_load_u8(t.zeros + g * LADE_TILE + v * VL) : vf_set1(implied),
                       type);
        int last = l->groups - g > 1 ? (g + 1) * step : l->words;
        for (; w < cpu_min(last, full); w++)
            word_times(acc, t.codes + (size_t)w * LADE_TILE, z, x + (size_t)w * per, ldx, type,
                       zeros, N, A);
        if (w < last) { /* the last word of a row may stand for fewer inputs than it has codes */
            float part[CPU_DIRECT_N][8] = {{0}};
            for (int n = 0; n < N; n++)
                memcpy(part[n], x + (size_t)n * ldx + (size_t)w * per,
                       (size_t)(m->cols - w * per) * sizeof(float));
            word_times(acc, t.codes + (size_t)w * LADE_TILE, z, part[0], 8, type, zeros, N, A);
            w++;
        }
        UNROLL(4)
        for (int v = 0; v < TILE_VECS; v++) {
            vf scale = vf_load_f16(t.scales + g * LADE_TILE + v * VL) * CODE_SCALE(type);
            UNROLL(4)
            for (int n = 0; n < N; n++) {
                vf sum = acc[n * A * TILE_VECS + v];
                UNROLL(4)
                for (int a = 1; a < A; a++)
                    sum += acc[(n * A + a) * TILE_VECS + v];
                total[n * TILE_VECS + v] = vf_fma(sum, scale, total[n * TILE_VECS + v]);
            }
        }
    }
    for (int n = 0; n < N; n++)
        for (int v = 0; v < TILE_VECS; v++)
            vf_store(out[n] + v * VL, total[n * TILE_VECS + v]);
}

#define TILES(name, type, zeros)                                                                   \
    static void name(float(*out)[LADE_TILE], const struct tile t, const struct lade_matrix *m,     \
                     const struct lade_matrix_layout *l, const float *x, size_t ldx, int n)        \
    {                                                                                              \
        if (n == 1)                                                                                \
            tile_times(out, t, m, l, x, ldx, type, zeros, 1, 4);                                   \
        else if (n == 2)                                                                           \
            tile_times(out, t, m, l, x, ldx, type, zeros, 2, 2);                                   \
        else if (n == 3)                                                                           \
            tile_times(out, t, m, l, x, ldx, type, zeros, 3, 1);                                   \
        else                                                                                       \
            tile_times(out, t, m, l, x, ldx, type, zeros, 4, 1);                                   \
    }
TILES(tile_q4, LADE_Q4, false)
TILES(tile_q4_zeros, LADE_Q4, true)
TILES(tile_q8, LADE_Q8, false)
TILES(tile_q8_zeros, LADE_Q8, true)
#undef TILES

#include "kernels/cpu/ordered_impl.h"

#include "kernels/cpu/float8_impl.h"

/* Rows follow each other, so what is asked for beyond the end of one is the next ones. */
enum { ROWS_AHEAD = 4 << 10 };

/* One row of a row-major matrix times N tokens. */
SPECIALIZED void row_times(float *y, size_t ldy, const void *row, const float *x, size_t ldx,
                           int cols, const enum lade_type type, const int N, const int A)
{
    vf acc[CPU_DIRECT_N * 4] = {0};
    int i = 0;
    const int bytes = type == LADE_F32 ? 4 : 2;
    for (; i + A * VL <= cols; i += A * VL) {
        for (int at = 0; at < A * VL * bytes; at += LADE_ALIGN)
            __builtin_prefetch((const char *)row + (size_t)i * (size_t)bytes + at + ROWS_AHEAD);
        UNROLL(4)
        for (int a = 0; a < A; a++) {
            vf w = vf_load_type(type, row, (size_t)i + (size_t)a * VL);
            UNROLL(4)
            for (int t = 0; t < N; t++)
                acc[t * A + a] =
                    vf_fma(w, vf_load(x + (size_t)t * ldx + i + a * VL), acc[t * A + a]);
        }
    }
    float tail[CPU_DIRECT_N] = {0};
    for (; i < cols; i++) {
        float w = f_load_type(type, row, (size_t)i);
        for (int t = 0; t < N; t++)
            tail[t] += w * x[(size_t)t * ldx + i];
    }
    for (int t = 0; t < N; t++) {
        vf s = acc[t * A];
        for (int a = 1; a < A; a++)
            s += acc[t * A + a];
        y[(size_t)t * ldy] = vf_sum(s) + tail[t];
    }
}

ALWAYS_INLINE void rows_times(float *y, size_t ldy, const struct lade_matrix *m, const float *x,
                              size_t ldx, int n, int first, int last, const enum lade_type type)
{
    size_t size = (size_t)lade_types[type].bits / 8 * (size_t)m->cols;
    for (int r = first; r < last; r++) {
        const char *row = (const char *)m->data + (size_t)r * size;
        if (n == 1)
            row_times(y + (r - first), ldy, row, x, ldx, m->cols, type, 1, 4);
        else if (n == 2)
            row_times(y + (r - first), ldy, row, x, ldx, m->cols, type, 2, 4);
        else if (n == 3)
            row_times(y + (r - first), ldy, row, x, ldx, m->cols, type, 3, 2);
        else
            row_times(y + (r - first), ldy, row, x, ldx, m->cols, type, 4, 2);
    }
}

/* Columns k0.. of a row of blocks as floats; out has room for LADE_BLOCK_MAX of them. Returns how
 * many of them count. */
static int block_floats(float *out, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                        int row, int k0)
{
    const struct lade_block_info *b = &lade_blocks[m->block];
    int n = cpu_min(LADE_BLOCK_MAX, m->cols - k0);
    for (int k = 0; k < n; k += b->n) {
        uint8_t block[LADE_BLOCK_BYTES];
        lade_blocks_get(m, l, row, (k0 + k) / b->n, block);
        b->dequantize(block, out + k);
    }
    return n;
}

/* Rows of blocks times n tokens, a block at a time. */
static void blocks_times(float *y, size_t ldy, const struct lade_matrix *m,
                         const struct lade_matrix_layout *l, const float *x, size_t ldx, int n,
                         int first, int last)
{
    for (int r = first; r < last; r++) {
        float sum[CPU_DIRECT_N] = {0}, w[LADE_BLOCK_MAX];
        for (int k0 = 0; k0 < m->cols; k0 += LADE_BLOCK_MAX) {
            float part[CPU_DIRECT_N];
            struct lade_matrix row = {.type = LADE_F32, .rows = 1, .data = w};
            row.cols = block_floats(w, m, l, r, k0);
            rows_times(part, 1, &row, x + k0, ldx, n, 0, 1, LADE_F32);
            for (int t = 0; t < n; t++)
                sum[t] += part[t];
        }
        for (int t = 0; t < n; t++)
            y[(size_t)t * ldy + (size_t)(r - first)] = sum[t];
    }
}

static void gemv(float *y, size_t ldy, const struct lade_matrix *m,
                 const struct lade_matrix_layout *l, const float *x, size_t ldx, int n, int first,
                 int last)
{
    const bool float8 = is_float8(m);
    if (!lade_types[m->type].per_word && !float8) {
        int r0 = first * LADE_TILE, r1 = cpu_min(last * LADE_TILE, m->rows);
        if (m->type == LADE_BLOCKS)
            blocks_times(y, ldy, m, l, x, ldx, n, r0, r1);
        else if (m->type == LADE_F32)
            rows_times(y, ldy, m, x, ldx, n, r0, r1, LADE_F32);
        else if (m->type == LADE_F16)
            rows_times(y, ldy, m, x, ldx, n, r0, r1, LADE_F16);
        else
            rows_times(y, ldy, m, x, ldx, n, r0, r1, LADE_BF16);
        return;
    }
    for (int t = first; t < last; t++) {
        float out[CPU_DIRECT_N][LADE_TILE];
        struct tile tile = tile_at(m, l, t);
        if (float8)
            f8_tile(out, m, l, t, x, ldx, n);
        else if (m->has_order)
            ordered_times(out, &tile, m, l, x, ldx, n);
        else if (m->type == LADE_Q4 && !m->has_zeros)
            tile_q4(out, tile, m, l, x, ldx, n);
        else if (m->type == LADE_Q4)
            tile_q4_zeros(out, tile, m, l, x, ldx, n);
        else if (!m->has_zeros)
            tile_q8(out, tile, m, l, x, ldx, n);
        else
            tile_q8_zeros(out, tile, m, l, x, ldx, n);
        int rows = cpu_min(LADE_TILE, m->rows - t * LADE_TILE);
        for (int i = 0; i < n; i++)
            memcpy(y + (size_t)i * ldy + (size_t)(t - first) * LADE_TILE, out[i],
                   (size_t)rows * sizeof(float));
    }
}

static void pack(float *xp, const float *x, size_t ldx, const int32_t *rows, int n, int k)
{
    enum { STEP = 64 }; /* a block of the result that stays in the first cache */
    for (int b = 0; b < n; b += NR, xp += (size_t)k * NR) {
        for (int k0 = 0; k0 < k; k0 += STEP) {
            int k1 = cpu_min(k, k0 + STEP);
            for (int t = 0; t < NR; t++) {
                if (b + t >= n) {
                    for (int i = k0; i < k1; i++)
                        xp[(size_t)i * NR + (size_t)t] = 0;
                    continue;
                }
                const float *row = x + (size_t)(rows ? rows[b + t] : b + t) * ldx;
                for (int i = k0; i < k1; i++)
                    xp[(size_t)i * NR + (size_t)t] = row[i];
            }
        }
    }
}

/* acc[t][r] += sum over i < k of x[i * ldx + t] * panel[i * ldp + r], for M tokens, PW rows. */
ALWAYS_INLINE void micro_add(vf *acc, const float *panel, size_t ldp, const float *x, size_t ldx,
                             int k, const int M)
{
    for (int i = 0; i < k; i++) {
        vf p[PANEL_VECS];
        UNROLL(4)
        for (int v = 0; v < PANEL_VECS; v++)
            p[v] = vf_load(panel + v * VL);
        UNROLL(16)
        for (int t = 0; t < M; t++) {
            vf b = vf_set1(x[t]);
            UNROLL(4)
            for (int v = 0; v < PANEL_VECS; v++)
                acc[t * PANEL_VECS + v] = vf_fma(p[v], b, acc[t * PANEL_VECS + v]);
        }
        panel += ldp;
        x += ldx;
    }
}

/* out[t][r] = that sum. */
SPECIALIZED void micro_fixed(float *out, const float *panel, size_t ldp, const float *x, size_t ldx,
                             int k, const int M)
{
    vf acc[NR * PANEL_VECS] = {0};
    micro_add(acc, panel, ldp, x, ldx, k, M);
    UNROLL(16)
    for (int t = 0; t < M; t++)
        for (int v = 0; v < PANEL_VECS; v++)
            vf_store(out + t * PW + v * VL, acc[t * PANEL_VECS + v]);
}

/* As above for m <= NR tokens; x has NR readable entries in each row, out room for NR rows. */
static void micro(float *out, const float *panel, size_t ldp, const float *x, size_t ldx, int k,
                  int m)
{
    if (m <= NR / 3)
        micro_fixed(out, panel, ldp, x, ldx, k, NR / 3);
    else if (m <= 2 * NR / 3)
        micro_fixed(out, panel, ldp, x, ldx, k, 2 * NR / 3);
    else
        micro_fixed(out, panel, ldp, x, ldx, k, NR);
}

/* Rows of one tile to floats: panel[k][PW], this tile at the given lane. */
SPECIALIZED void tile_panel(float *panel, const struct tile t, const struct lade_matrix *m,
                            const struct lade_matrix_layout *l, const enum lade_type type,
                            const bool zeros)
{
    const int per = type == LADE_Q4 ? 8 : 4, step = m->group / per;
    const float implied = type == LADE_Q4 ? 8.0f : 128.0f;
    for (int g = 0, w = 0; g < l->groups; g++) {
        vf scale[TILE_VECS], z[TILE_VECS][ZERO_TERMS];
        UNROLL(4)
        for (int v = 0; v < TILE_VECS; v++) {
            scale[v] = vf_load_f16(t.scales + g * LADE_TILE + v * VL) * CODE_SCALE(type);
            zero_terms(z[v],
                       zeros ? vf_load_u8(t.zeros + g * LADE_TILE + v * VL) : vf_set1(implied),
                       type);
        }
        for (int last = l->groups - g > 1 ? (g + 1) * step : l->words; w < last; w++) {
            float *to = panel + (size_t)(w * per) * PW;
            int codes = cpu_min(per, m->cols - w * per);
            UNROLL(4)
            for (int v = 0; v < TILE_VECS; v++) {
                vu word = prepare_codes(vu_load(t.codes + (size_t)w * LADE_TILE + v * VL), type);
                UNROLL(8)
                for (int i = 0; i < per; i++)
                    if (i < codes)
                        vf_store(to + i * PW + v * VL, code(word, i, type, zeros, z[v]) * scale[v]);
            }
        }
    }
}

/* Rows of a row-major matrix to panel[k][PW]. Columns go in blocks, so that what is written with
 * a stride stays in the first cache. */
static void row_panel(float *panel, const struct lade_matrix *m, int row0)
{
    enum { STEP = 64 };
    size_t size = (size_t)lade_types[m->type].bits / 8 * (size_t)m->cols;
    for (int k0 = 0; k0 < m->cols; k0 += STEP) {
        int k1 = cpu_min(m->cols, k0 + STEP);
        for (int r = 0; r < PW; r++) {
            if (row0 + r >= m->rows) {
                for (int i = k0; i < k1; i++)
                    panel[(size_t)i * PW + (size_t)r] = 0;
                continue;
            }
            const char *row = (const char *)m->data + (size_t)(row0 + r) * size;
            for (int i = k0; i < k1; i++)
                panel[(size_t)i * PW + (size_t)r] = f_load_type(m->type, row, (size_t)i);
        }
    }
}

/* Rows of blocks to panel[k][PW]. */
static void block_panel(float *panel, const struct lade_matrix *m,
                        const struct lade_matrix_layout *l, int row0)
{
    float w[LADE_BLOCK_MAX] = {0};
    for (int k0 = 0; k0 < m->cols; k0 += LADE_BLOCK_MAX) {
        for (int r = 0; r < PW; r++) {
            int n = cpu_min(LADE_BLOCK_MAX, m->cols - k0);
            if (row0 + r < m->rows)
                block_floats(w, m, l, row0 + r, k0);
            for (int i = 0; i < n; i++)
                panel[(size_t)(k0 + i) * PW + (size_t)r] = row0 + r < m->rows ? w[i] : 0;
        }
    }
}

static void fill_panel(float *panel, const struct lade_matrix *m,
                       const struct lade_matrix_layout *l, int row0)
{
    const bool float8 = is_float8(m);
    if (m->type == LADE_BLOCKS && !float8) {
        block_panel(panel, m, l, row0);
        return;
    }
    if (!lade_types[m->type].per_word && !float8) {
        row_panel(panel, m, row0);
        return;
    }
    for (int lane = 0; lane < PW; lane += LADE_TILE, panel += LADE_TILE) {
        int t = (row0 + lane) / LADE_TILE;
        if (t >= l->tiles) {
            for (int i = 0; i < m->cols; i++)
                memset(panel + (size_t)i * PW, 0, LADE_TILE * sizeof(float));
            continue;
        }
        if (float8) {
            f8_panel(panel, m, l, t);
            continue;
        }
        struct tile tile = tile_at(m, l, t);
        if (m->has_order)
            ordered_panel(panel, PW, &tile, m, l, 0, m->cols);
        else if (m->type == LADE_Q4 && !m->has_zeros)
            tile_panel(panel, tile, m, l, LADE_Q4, false);
        else if (m->type == LADE_Q4)
            tile_panel(panel, tile, m, l, LADE_Q4, true);
        else if (!m->has_zeros)
            tile_panel(panel, tile, m, l, LADE_Q8, false);
        else
            tile_panel(panel, tile, m, l, LADE_Q8, true);
    }
}

static void gemm(float *y, size_t ldy, const struct lade_matrix *m,
                 const struct lade_matrix_layout *l, int row0, const float *xp, int n, float *panel)
{
    fill_panel(panel, m, l, row0);
    int rows = cpu_min(PW, m->rows - row0);
    for (int b = 0; b < n; b += NR, xp += (size_t)m->cols * NR) {
        float out[NR * PW];
        int tokens = cpu_min(NR, n - b);
        micro(out, panel, PW, xp, NR, m->cols, tokens);
        for (int t = 0; t < tokens; t++)
            memcpy(y + (size_t)(b + t) * ldy, out + t * PW, (size_t)rows * sizeof(float));
    }
}
