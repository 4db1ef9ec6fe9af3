/* attention_impl.h - softmax attention over the cache; included once by each isa_*.c after
 * vector_impl.h and matmul_impl.h. Both forms keep a running maximum (online softmax, arXiv
 * 1805.02867), so that a long context is read once and in pieces. */
#include "kernels/cpu/simd.h"

/* scores[h * lds] = q_h . key for H heads */
ALWAYS_INLINE void key_times(float *scores, int lds, const float *q, const void *key, size_t at,
                             int head_dim, const enum lade_type type, const int H)
{
    vf acc[4] = {0};
    int i = 0;
    for (; i + VL <= head_dim; i += VL) {
        vf k = vf_load_type(type, key, at + (size_t)i);
        UNROLL(4)
        for (int h = 0; h < H; h++)
            acc[h] = vf_fma(k, vf_load(q + h * head_dim + i), acc[h]);
    }
    float tail[4] = {0};
    for (; i < head_dim; i++)
        for (int h = 0; h < H; h++)
            tail[h] += f_load_type(type, key, at + (size_t)i) * q[h * head_dim + i];
    for (int h = 0; h < H; h++)
        scores[h * lds] = vf_sum(acc[h]) + tail[h];
}

/* acc[h][col ...] = sum of p[h][j] * value_j for H heads and V vectors of columns */
ALWAYS_INLINE void values_times(float *acc, const float *p, int ldp, const void *v, size_t at,
                                int n, int head_dim, const enum lade_type type, const int H,
                                const int V)
{
    vf s[4 * 2] = {0};
    for (int j = 0; j < n; j++, at += (size_t)head_dim) {
        UNROLL(2)
        for (int c = 0; c < V; c++) {
            vf x = vf_load_type(type, v, at + (size_t)(c * VL));
            UNROLL(4)
            for (int h = 0; h < H; h++)
                s[h * V + c] = vf_fma(x, vf_set1(p[h * ldp + j]), s[h * V + c]);
        }
    }
    for (int h = 0; h < H; h++)
        for (int c = 0; c < V; c++)
            vf_store(acc + h * head_dim + c * VL, s[h * V + c]);
}

ALWAYS_INLINE void part_heads(const struct cpu_attend_part *a, int h0, const enum lade_type type,
                              const int H)
{
    int n = a->last - a->first, d = a->head_dim;
    size_t at = (size_t)a->first * (size_t)d;
    float *scores = a->scores + (size_t)h0 * (size_t)n, *acc = a->acc + h0 * d;
    for (int j = 0; j < n; j++)
        key_times(scores + j, n, a->q + h0 * d, a->k, at + (size_t)j * (size_t)d, d, type, H);
    for (int h = 0; h < H; h++) {
        float *s = scores + (size_t)h * (size_t)n, max = -INFINITY;
        for (int j = 0; j < n; j++)
            max = s[j] > max ? s[j] : max;
        a->max[h0 + h] = max;
        a->sum[h0 + h] = exp_sum(s, s, max, n);
    }
    int c = 0;
    for (; c + 2 * VL <= d; c += 2 * VL)
        values_times(acc + c, scores, n, a->v, at + (size_t)c, n, d, type, H, 2);
    for (; c + VL <= d; c += VL)
        values_times(acc + c, scores, n, a->v, at + (size_t)c, n, d, type, H, 1);
    for (; c < d; c++)
        for (int h = 0; h < H; h++) {
            float s = 0;
            for (int j = 0; j < n; j++)
                s += scores[h * n + j] *
                     f_load_type(type, a->v, at + (size_t)j * (size_t)d + (size_t)c);
            acc[h * d + c] = s;
        }
}

static void attend_part(const struct cpu_attend_part *a)
{
    int h = 0;
    for (; h + 4 <= a->heads; h += 4) {
        if (a->cache_type == LADE_F16)
            part_heads(a, h, LADE_F16, 4);
        else
            part_heads(a, h, LADE_F32, 4);
    }
    for (; h < a->heads; h++) {
        if (a->cache_type == LADE_F16)
            part_heads(a, h, LADE_F16, 1);
        else
            part_heads(a, h, LADE_F32, 1);
    }
}

struct block_work {
    int dp;                   /* padded head_dim */
    float *qp;                /* packed queries */
    float *kt;                /* [head_dim][CPU_KEYS] */
    float *v;                 /* [CPU_KEYS][dp] */
    float *p;                 /* [CPU_KEYS][NR] */
    float *scores;            /* [CPU_KEYS] */
    float *o;                 /* [rows][dp] */
    float *max, *sum;         /* [rows] */
};

static void load_keys(struct block_work *w, const struct cpu_attend_block *a, int first, int n)
{
    int d = a->head_dim;
    for (int j = 0; j < CPU_KEYS; j++) {
        size_t at = ((size_t)first + (size_t)j) * (size_t)d;
        float *v = w->v + (size_t)j * (size_t)w->dp;
        if (j >= n) {
            for (int i = 0; i < d; i++)
                w->kt[(size_t)i * CPU_KEYS + (size_t)j] = 0;
            memset(v, 0, (size_t)w->dp * sizeof(float));
            continue;
        }
        int i = 0;
        for (; i + VL <= d; i += VL) {
            float t[VL];
            vf_store(t, a->cache_type == LADE_F16 ? vf_load_type(LADE_F16, a->k, at + (size_t)i)
                                                  : vf_load_type(LADE_F32, a->k, at + (size_t)i));
            for (int e = 0; e < VL; e++)
                w->kt[(size_t)(i + e) * CPU_KEYS + (size_t)j] = t[e];
            vf_store(v + i, a->cache_type == LADE_F16
                                ? vf_load_type(LADE_F16, a->v, at + (size_t)i)
                                : vf_load_type(LADE_F32, a->v, at + (size_t)i));
        }
        for (; i < d; i++) {
            w->kt[(size_t)i * CPU_KEYS + (size_t)j] = f_load_type(a->cache_type, a->k, at + (size_t)i);
            v[i] = f_load_type(a->cache_type, a->v, at + (size_t)i);
        }
        for (; i < w->dp; i++)
            v[i] = 0;
    }
}

/* One step for rows [b, b + m): scores, online softmax, values. */
static void block_rows(struct block_work *w, const struct cpu_attend_block *a, int b, int m,
                       int first)
{
    float s[CPU_KEYS / PW][NR * PW], out[NR * PW];
    const float *q = w->qp + (size_t)b * (size_t)a->head_dim;
    for (int c = 0; c < CPU_KEYS / PW; c++)
        micro(s[c], w->kt + c * PW, CPU_KEYS, q, NR, a->head_dim, m);
    memset(w->p, 0, (size_t)CPU_KEYS * NR * sizeof(float));
    for (int t = 0; t < m; t++) {
        int n = cpu_min(CPU_KEYS, a->limit[b + t] - first);
        if (n <= 0)
            continue;
        float max = w->max[b + t];
        for (int j = 0; j < n; j++) {
            w->scores[j] = s[j / PW][t * PW + j % PW];
            max = w->scores[j] > max ? w->scores[j] : max;
        }
        float scale = expf(w->max[b + t] - max);
        w->sum[b + t] = w->sum[b + t] * scale + exp_sum(w->scores, w->scores, max, n);
        w->max[b + t] = max;
        for (int j = 0; j < n; j++)
            w->p[j * NR + t] = w->scores[j];
        if (scale != 1.0f) {
            float *o = w->o + (size_t)(b + t) * (size_t)w->dp;
            for (int i = 0; i < w->dp; i += VL)
                vf_store(o + i, vf_load(o + i) * scale);
        }
    }
    for (int c = 0; c < w->dp; c += PW) {
        micro(out, w->v + c, (size_t)w->dp, w->p, NR, CPU_KEYS, m);
        for (int t = 0; t < m; t++) {
            float *o = w->o + (size_t)(b + t) * (size_t)w->dp + c;
            for (int i = 0; i < PW; i += VL)
                vf_store(o + i, vf_load(o + i) + vf_load(out + t * PW + i));
        }
    }
}

static void attend_block(const struct cpu_attend_block *a)
{
    struct block_work w = {.dp = (a->head_dim + CPU_MAX_PW - 1) / CPU_MAX_PW * CPU_MAX_PW};
    int padded = (a->rows + NR - 1) / NR * NR;
    w.qp = a->work;
    w.kt = w.qp + (size_t)padded * (size_t)a->head_dim;
    w.v = w.kt + (size_t)a->head_dim * CPU_KEYS;
    w.p = w.v + (size_t)CPU_KEYS * (size_t)w.dp;
    w.scores = w.p + (size_t)CPU_KEYS * NR;
    w.max = w.scores + CPU_KEYS;
    w.sum = w.max + padded;
    w.o = w.sum + padded;
    pack(w.qp, a->q, (size_t)a->head_dim, NULL, a->rows, a->head_dim);
    memset(w.o, 0, (size_t)a->rows * (size_t)w.dp * sizeof(float));
    for (int t = 0; t < a->rows; t++) {
        w.max[t] = -INFINITY;
        w.sum[t] = 0;
    }
    for (int first = 0; first < a->limit[a->rows - 1]; first += CPU_KEYS) {
        load_keys(&w, a, first, cpu_min(CPU_KEYS, a->limit[a->rows - 1] - first));
        for (int b = 0; b < a->rows; b += NR) {
            int m = cpu_min(NR, a->rows - b);
            if (a->limit[b + m - 1] > first)
                block_rows(&w, a, b, m, first);
        }
    }
    for (int t = 0; t < a->rows; t++) {
        const float *o = w.o + (size_t)t * (size_t)w.dp;
        float scale = 1.0f / w.sum[t];
        for (int i = 0; i < a->head_dim; i++)
            a->out[(size_t)t * (size_t)a->head_dim + (size_t)i] = o[i] * scale;
    }
}
