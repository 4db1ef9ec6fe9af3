/* int16_attention.h - flash attention with products of words; included by int16_impl.h.
 *
 * As attend_block() of attention_impl.h, whose lanes it has: scores come out as [key][query], sums over values as
 * [query][column]. But two dimensions, then two positions, take one multiplication of a lane, so
 * that a core does twice as much. What is rounded, and why sums of words fit 32 bits:
 *
 * - a query, and a key, to integers that together have at most the length LADE_CODE_LENGTH, with one
 *   scale each: by the inequality of Cauchy and Schwarz their product is at most its square;
 * - values to integers of at most VALUE_MOST, with one scale for a column of a step's positions;
 * - weights e^(score - largest of the step), times the scale of a value's row if it has one, to integers of
 *   at most WEIGHT_MOST, with one scale for a query, which is so small that together they are at most
 *   WEIGHTS_MOST.
 *
 * Keys and values of a Q16 cache are such integers as they lie. */

#if defined(SIMD_NEON)
#define INT16_ATTEND_BLOCK NULL /* no products of words */
#else
#define VALUE_MOST         16383.0f
#define WEIGHTS_MOST       (131000.0f - WORDS_KEYS) /* each may be half more when it is rounded */

_Static_assert(WORDS_KEYS % NR == 0 && WORDS_ROWS % NR == 0 && WORDS_ROWS % PW == 0 &&
                   CPU_HEAD_MOST % PW == 0 && CPU_HEAD_STEP % (2 * VL) == 0,
               "whole blocks of products");

/* acc[t][v] += panel[i] . x_t[i] over i < n, for NR rows of x and PW columns of the panel. */
ALWAYS_INLINE void words_micro(vi acc[NR * PANEL_VECS], const uint32_t *panel, const uint32_t *x,
                               const size_t row, const size_t step, int n)
{
    for (int i = 0; i < n; i++, panel += PW, x += step) {
        vu p[PANEL_VECS];
        UNROLL(4)
        for (int v = 0; v < PANEL_VECS; v++)
            p[v] = vu_load(panel + v * VL);
        UNROLL(16)
        for (int t = 0; t < NR; t++) {
            const vu b = x[(size_t)t * row] - (vu){0};
            UNROLL(4)
            for (int v = 0; v < PANEL_VECS; v++)
                acc[t * PANEL_VECS + v] = dot2(acc[t * PANEL_VECS + v], p[v], b);
        }
    }
}

/* VL queries from `row` on, of which some may not be there. */
static void words_queries(struct cpu_words *w, const struct cpu_attend_block *a, int row)
{
    _Alignas(64) int16_t codes[VL][CPU_HEAD_MOST];
    uint32_t *to = w->q + (size_t)(row / PW * PW) * (CPU_HEAD_MOST / 2) + row % PW;
    for (int t = 0; t < VL; t++) {
        w->q_scale[row + t] = 0;
        memset(codes[t], 0, sizeof(codes[t]));
        if (row + t < a->rows)
            w->q_scale[row + t] =
                row_words(codes[t], a->q, (size_t)(row + t), a->head_dim, LADE_F32);
    }
    for (int i = 0; i < a->head_dim / 2; i += VL) {
        vf words[VL];
        for (int t = 0; t < VL; t++)
            memcpy(&words[t], codes[t] + 2 * i, sizeof(words[t]));
        vf_transpose(words);
        for (int j = 0; j < VL; j++)
            memcpy(to + (size_t)(i + j) * PW, &words[j], sizeof(words[j]));
    }
}

/* Keys [first, first + n); those behind them score 0. */
ALWAYS_INLINE void words_keys(struct cpu_words *w, const struct cpu_attend_block *a, int first,
                              int n, const enum lade_type type)
{
    int16_t *to = (int16_t *)(void *)w->k;
    for (int j = 0; j < n; j++, to += CPU_HEAD_MOST) {
        if (type == LADE_Q16) {
            const int16_t *codes = code_row(a->k, (size_t)(first + j), a->head_dim);
            memcpy(to, codes, (size_t)a->head_dim * sizeof(*to));
            w->k_scale[j] = code_scale(codes, a->head_dim);
        } else {
            w->k_scale[j] = row_words(to, a->k, (size_t)(first + j), a->head_dim, type);
        }
    }
    memset(to, 0, (size_t)(WORDS_KEYS - n) * CPU_HEAD_MOST * sizeof(*to));
    memset(w->k_scale + n, 0, (size_t)(WORDS_KEYS - n) * sizeof(float));
}

/* Values of the same positions, seen or not, so that scales are the same for all units; those behind
 * them are 0. */
ALWAYS_INLINE void words_values(struct cpu_words *w, const struct cpu_attend_block *a, int first,
                                int n, const enum lade_type type)
{
    const int d = a->head_dim;
    for (int c = 0; c < d; c += VL) {
        vf most = {0};
        for (int j = 0; j < n; j++) {
            const vf x = row_load(type, a->v, (size_t)(first + j), d, c);
            most = vf_max((vf)((vi)x & INT32_MAX), most);
        }
        const vf scale = (most + WORDS_LEAST) * (1 / VALUE_MOST), factor = 1.0f / scale;
        vf_store(w->column_scale + c, scale);
        uint32_t *to = w->v + (size_t)(c / PW * PW) * (WORDS_KEYS / 2) + c % PW;
        for (int j = 0; j < WORDS_KEYS; j += 2, to += PW) {
            const size_t row = (size_t)(first + j);
            const vf x = j < n ? row_load(type, a->v, row, d, c) : (vf){0};
            const vf y = j + 1 < n ? row_load(type, a->v, row + 1, d, c) : (vf){0};
            vu_store(to, word_pair(x, factor, y, factor));
        }
    }
    for (int j = 0; j < WORDS_KEYS; j++)
        w->row_scale[j] = 1;
}

/* The same from codes, which are words already. */
static void codes_values(struct cpu_words *w, const struct cpu_attend_block *a, int first, int n)
{
    static const int16_t none[CPU_HEAD_MOST + 2]; /* a row of zeros */
    const int16_t *row[WORDS_KEYS];
    for (int j = 0; j < WORDS_KEYS; j++) {
        row[j] = j < n ? code_row(a->v, (size_t)(first + j), a->head_dim) : none;
        w->row_scale[j] = code_scale(row[j], a->head_dim);
    }
    for (int j = 0; j < WORDS_KEYS; j += 2)
        for (int c = 0; c < a->head_dim; c += WORDS) {
            const vu x = codes_load(row[j] + c), y = codes_load(row[j + 1] + c);
            const vu low = ZIP_LOW(x, y), high = ZIP_HIGH(x, y);
            for (int half = 0; half < 2; half++) {
                const int col = c + half * VL;
                vu_store(w->v + (size_t)(col / PW * PW) * (WORDS_KEYS / 2) + j / 2 * PW + col % PW,
                         half ? SECOND_COLUMNS(low, high) : FIRST_COLUMNS(low, high));
            }
        }
    for (int c = 0; c < CPU_HEAD_MOST; c++)
        w->column_scale[c] = 1;
}

static void words_load(struct cpu_words *w, const struct cpu_attend_block *a, int first, int n)
{
    if (a->cache_type == LADE_F16) {
        words_keys(w, a, first, n, LADE_F16);
        words_values(w, a, first, n, LADE_F16);
    } else if (a->cache_type == LADE_Q16) {
        words_keys(w, a, first, n, LADE_Q16);
        codes_values(w, a, first, n);
    } else {
        words_keys(w, a, first, n, LADE_Q8);
        words_values(w, a, first, n, LADE_Q8);
    }
}

/* Scores of PW queries from `lane` on. */
static void words_scores(struct cpu_words *w, int head_dim, int lane)
{
    const uint32_t *q = w->q + (size_t)lane * (CPU_HEAD_MOST / 2);
    for (int j = 0; j < WORDS_KEYS; j += NR) {
        vi acc[NR * PANEL_VECS] = {0};
        words_micro(acc, q, w->k + (size_t)j * (CPU_HEAD_MOST / 2), CPU_HEAD_MOST / 2, 1,
                    head_dim / 2);
        UNROLL(16)
        for (int t = 0; t < NR; t++)
            for (int v = 0; v < PANEL_VECS; v++)
                vf_store(w->s + (size_t)(j + t) * WORDS_ROWS + lane + v * VL,
                         vf_from_int(acc[t * PANEL_VECS + v]) *
                             vf_load(w->q_scale + lane + v * VL) * w->k_scale[j + t]);
    }
}

/* Scores of VL queries from `lane` on to weights, and what they and the sums before them are to be
 * multiplied with. */
static void words_softmax(struct cpu_words *w, int lane, int first)
{
    vi limit;
    memcpy(&limit, w->limit + lane, sizeof(limit));
    limit -= first; /* keys j < limit are seen */
    const bool all = !vi_bits(limit < WORDS_KEYS);
    float *s = w->s + lane;
    vf here = vf_set1(-1e30f); /* a step may have no key that a query sees */
    for (int j = 0; j < WORDS_KEYS; j++) {
        vf x = vf_load(s + (size_t)j * WORDS_ROWS);
        if (!all) {
            x = vf_select(limit > j, x, vf_set1(-INFINITY));
            vf_store(s + (size_t)j * WORDS_ROWS, x);
        }
        here = vf_max(x, here);
    }
    vf sum = {0}, total = {0}, largest = {0};
    for (int j = 0; j < WORDS_KEYS; j++) {
        const vf e = vf_exp(vf_load(s + (size_t)j * WORDS_ROWS) - here);
        const vf weight = e * w->row_scale[j];
        vf_store(s + (size_t)j * WORDS_ROWS, weight);
        sum += e;
        total += weight;
        largest = vf_max(weight, largest);
    }
    const vf factor = weight_factor(total, largest, WEIGHTS_MOST);
    uint32_t *p = w->p + lane;
    for (int j = 0; j < WORDS_KEYS; j += 2, p += WORDS_ROWS)
        vu_store(p, word_pair(vf_load(s + (size_t)j * WORDS_ROWS), factor,
                              vf_load(s + (size_t)(j + 1) * WORDS_ROWS), factor));
    const vf old = vf_load(w->max + lane), max = vf_max(here, old);
    const vf keep = vf_exp(old - max), gain = vf_exp(here - max);
    vf_store(w->max + lane, max);
    vf_store(w->keep + lane, keep);
    vf_store(w->gain + lane, gain / factor);
    vf_store(w->sum + lane, vf_fma(vf_load(w->sum + lane), keep, sum * gain));
}

/* Sums over the values of PW columns from `col` on, of NR queries from `row` on. */
static void words_sums(struct cpu_words *w, int row, int col)
{
    vi acc[NR * PANEL_VECS] = {0};
    words_micro(acc, w->v + (size_t)col * (WORDS_KEYS / 2), w->p + row, 1, WORDS_ROWS,
                WORDS_KEYS / 2);
    UNROLL(16)
    for (int t = 0; t < NR; t++)
        for (int v = 0; v < PANEL_VECS; v++) {
            float *o = w->o + (size_t)(row + t) * CPU_HEAD_MOST + col + v * VL;
            const vf more = vf_from_int(acc[t * PANEL_VECS + v]) *
                            (vf_load(w->column_scale + col + v * VL) * w->gain[row + t]);
            vf_store(o, vf_fma(vf_load(o), vf_set1(w->keep[row + t]), more));
        }
}

static void words_setup(struct cpu_words *w, const struct cpu_attend_block *a)
{
    const size_t rows = ((size_t)a->rows + NR - 1) / NR * NR;
    memset(w->o, 0, rows * CPU_HEAD_MOST * sizeof(*w->o));
    /* What blocks of products have beyond the columns and the rows. */
    memset(w->v, 0, sizeof(w->v));
    memset(w->column_scale, 0, sizeof(w->column_scale));
    memset(w->p, 0, sizeof(w->p));
    memset(w->keep, 0, sizeof(w->keep));
    memset(w->gain, 0, sizeof(w->gain));
    for (int t = 0; t < WORDS_ROWS; t++) {
        /* Rows of the padding see the first key, so that they stay finite. */
        w->limit[t] = t < a->rows ? a->limit[t] : 1;
        w->max[t] = -INFINITY;
        w->sum[t] = 0;
    }
    for (int lane = 0; lane < a->rows; lane += PW)
        for (int v = 0; v < PW; v += VL)
            words_queries(w, a, lane + v);
}

static void attend_words(const struct cpu_attend_block *a)
{
    struct cpu_words *w = (struct cpu_words *)(void *)a->work;
    words_setup(w, a);
    const int end = a->limit[a->rows - 1];
    for (int first = 0; first < end; first += WORDS_KEYS) {
        words_load(w, a, first, cpu_min(WORDS_KEYS, a->filled - first));
        for (int lane = 0; lane < a->rows; lane += PW) {
            words_scores(w, a->head_dim, lane);
            for (int v = 0; v < PW; v += VL)
                words_softmax(w, lane + v, first);
        }
        for (int col = 0; col < a->head_dim; col += PW)
            for (int row = 0; row < a->rows; row += NR)
                words_sums(w, row, col);
    }
    for (int t = 0; t < a->rows; t++)
        for (int i = 0; i < a->head_dim; i += VL)
            vf_store(a->out + (size_t)t * (size_t)a->head_dim + i,
                     vf_load(w->o + (size_t)t * CPU_HEAD_MOST + i) / w->sum[t]);
}
#define INT16_ATTEND_BLOCK attend_words
#endif
