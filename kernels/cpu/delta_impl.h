/* delta_impl.h - the gated delta rule, token by token and in chunks; included once by each
 * isa_*.c after vector_impl.h and matmul_impl.h.
 *
 * Per value head, with state S [key_dim][value_dim], log decay g <= 0 and step size beta:
 *     S = e^g S;  d = beta (v - S'k);  S = S + k d';  o = S'q
 *
 * In chunks (gated DeltaNet, arXiv 2412.06464): with G_i the running sum of g, D_ij = e^(G_i-G_j)
 * for i >= j, A_ij = beta_i (k_i.k_j) D_ij for j < i, the vectors d of a chunk solve
 *     (I + A) N = beta (V - e^G K S)
 * and then O = e^G Q S + (QK' * D) N and S = e^(G_C) S + (e^(G_C - G) K)' N. */
#include "kernels/cpu/simd.h"

/* The columns [0, V * VL) of the state. */
ALWAYS_INLINE void step_columns(float *state, float *out, const float *q, const float *k,
                                const float *v, float decay, float beta, float kq, int key_dim,
                                int ld, const int V)
{
    vf m[4] = {0}, o[4] = {0}, d[4];
    for (int i = 0; i < key_dim; i++) {
        UNROLL(4)
        for (int c = 0; c < V; c++) {
            vf s = vf_load(state + (size_t)i * (size_t)ld + c * VL);
            m[c] = vf_fma(s, vf_set1(k[i]), m[c]);
            o[c] = vf_fma(s, vf_set1(q[i]), o[c]);
        }
    }
    UNROLL(4)
    for (int c = 0; c < V; c++) {
        d[c] = (vf_load(v + c * VL) - m[c] * decay) * beta;
        vf_store(out + c * VL, vf_fma(d[c], vf_set1(kq), o[c] * decay));
    }
    for (int i = 0; i < key_dim; i++) {
        UNROLL(4)
        for (int c = 0; c < V; c++) {
            float *s = state + (size_t)i * (size_t)ld + c * VL;
            vf_store(s, vf_fma(d[c], vf_set1(k[i]), vf_load(s) * decay));
        }
    }
}

static void delta_step(float *state, float *out, const float *q, const float *k, const float *v,
                       float decay, float beta, int key_dim, int value_dim)
{
    float kq = dot(k, q, key_dim);
    int c = 0;
    for (; c + 4 * VL <= value_dim; c += 4 * VL)
        step_columns(state + c, out + c, q, k, v + c, decay, beta, kq, key_dim, value_dim, 4);
    for (; c + VL <= value_dim; c += VL)
        step_columns(state + c, out + c, q, k, v + c, decay, beta, kq, key_dim, value_dim, 1);
    for (; c < value_dim; c++) {
        float m = 0, o = 0;
        for (int i = 0; i < key_dim; i++) {
            m += state[(size_t)i * (size_t)value_dim + (size_t)c] * k[i];
            o += state[(size_t)i * (size_t)value_dim + (size_t)c] * q[i];
        }
        float d = beta * (v[c] - m * decay);
        out[c] = o * decay + kq * d;
        for (int i = 0; i < key_dim; i++) {
            float *s = &state[(size_t)i * (size_t)value_dim + (size_t)c];
            *s = *s * decay + k[i] * d;
        }
    }
}

/* Row length of matrices with a column per token: a multiple of every NR and PW above the chunk,
 * because micro() reads whole blocks. */
enum { CHUNK_LD = 48 };
_Static_assert(CHUNK_LD >= (CPU_CHUNK + NR - 1) / NR * NR, "blocks of NR stay in a row");
_Static_assert(CPU_CHUNK % PW == 0, "blocks of PW stay in a row");

struct chunk_work {
    int kp, vp;     /* padded key_dim and value_dim */
    float *kt, *qt; /* [key_dim][CHUNK_LD] */
    float *kd;      /* [CPU_CHUNK][kp]: e^(G_C - G_i) k_i */
    float *a, *p;   /* [CPU_CHUNK][CHUNK_LD]: A; (QK' * D)' */
    float *n, *o;   /* [CPU_CHUNK][vp] */
    float *state;   /* [key_dim][vp], or the caller's own where vp == value_dim */
    float gsum[CHUNK_LD], eg[CHUNK_LD]; /* G and e^G; G of the last token repeats in the padding */
};

static void chunk_setup(struct chunk_work *w, const struct cpu_delta_chunk *c)
{
    w->kp = (c->key_dim + 47) / 48 * 48;
    w->vp = (c->value_dim + CPU_MAX_PW - 1) / CPU_MAX_PW * CPU_MAX_PW;
    float *at = c->work;
    size_t columns = (size_t)c->key_dim * CHUNK_LD, square = (size_t)CPU_CHUNK * CHUNK_LD;
    w->kt = at;
    w->qt = w->kt + columns;
    w->kd = w->qt + columns;
    w->a = w->kd + (size_t)CPU_CHUNK * (size_t)w->kp;
    w->p = w->a + square;
    w->n = w->p + square;
    w->o = w->n + (size_t)CPU_CHUNK * (size_t)w->vp;
    w->state = w->o + (size_t)CPU_CHUNK * (size_t)w->vp;

    float sum = 0;
    for (int i = 0; i < CHUNK_LD; i++) {
        sum += i < c->n ? c->g[i] : 0;
        w->gsum[i] = sum;
    }
    for (int i = 0; i < CHUNK_LD; i += VL)
        vf_store(w->eg + i, vf_exp(vf_load(w->gsum + i)));
    for (int i = 0; i < CHUNK_LD; i++)
        for (int d = 0; d < c->key_dim; d++) {
            size_t from = (size_t)i * (size_t)c->key_dim + (size_t)d;
            w->kt[(size_t)d * CHUNK_LD + (size_t)i] = i < c->n ? c->k[from] : 0;
            w->qt[(size_t)d * CHUNK_LD + (size_t)i] = i < c->n ? c->q[from] : 0;
        }
    for (int i = 0; i < c->n; i++) {
        float *row = w->kd + (size_t)i * (size_t)w->kp;
        float e = expf(w->gsum[c->n - 1] - w->gsum[i]);
        for (int d = 0; d < w->kp; d++)
            row[d] = d < c->key_dim ? c->k[(size_t)i * (size_t)c->key_dim + (size_t)d] * e : 0;
    }
    if (w->vp == c->value_dim) {
        w->state = c->state;
        return;
    }
    for (int d = 0; d < c->key_dim; d++) {
        float *row = w->state + (size_t)d * (size_t)w->vp;
        memset(row, 0, (size_t)w->vp * sizeof(float));
        memcpy(row, c->state + (size_t)d * (size_t)c->value_dim,
               (size_t)c->value_dim * sizeof(float));
    }
}

/* a[i][j] for j < i, and p[j][i] for i >= j. The exponent is masked before exp: above the
 * diagonal it is positive and may overflow. */
static void chunk_products(struct chunk_work *w, const struct cpu_delta_chunk *c)
{
    float out[NR * PW], gap[PW], decay[PW];
    for (int b = 0; b < c->n; b += NR) {
        int rows = cpu_min(NR, c->n - b);
        for (int col = 0; col < c->n; col += PW) {
            if (col < b + rows) {
                micro(out, w->kt + col, CHUNK_LD, w->kt + b, CHUNK_LD, c->key_dim, rows);
                for (int t = 0; t < rows; t++) {
                    int i = b + t;
                    for (int r = 0; r < PW; r++)
                        gap[r] = col + r < i ? w->gsum[i] - w->gsum[col + r] : -INFINITY;
                    for (int r = 0; r < PW; r += VL) {
                        vf e = vf_exp(vf_load(gap + r)) * c->beta[i];
                        vf_store(w->a + i * CHUNK_LD + col + r, e * vf_load(out + t * PW + r));
                    }
                }
            }
            micro(out, w->qt + col, CHUNK_LD, w->kt + b, CHUNK_LD, c->key_dim, rows);
            for (int t = 0; t < rows; t++) {
                int j = b + t;
                for (int r = 0; r < PW; r++)
                    gap[r] = col + r >= j ? w->gsum[col + r] - w->gsum[j] : -INFINITY;
                for (int r = 0; r < PW; r += VL)
                    vf_store(decay + r, vf_exp(vf_load(gap + r)));
                for (int r = 0; r < PW; r++)
                    w->p[j * CHUNK_LD + col + r] = out[t * PW + r] * decay[r];
            }
        }
        for (int t = 0; t < rows; t++) /* micro() may read the padding of p */
            for (int i = (c->n + PW - 1) / PW * PW; i < CHUNK_LD; i++)
                w->p[(b + t) * CHUNK_LD + i] = 0;
    }
}

/* n = (I + A)^-1 beta (V - e^G K S) and o = e^G Q S */
static void chunk_solve(struct chunk_work *w, const struct cpu_delta_chunk *c)
{
    float out[NR * PW];
    for (int b = 0; b < c->n; b += NR) {
        int rows = cpu_min(NR, c->n - b);
        for (int col = 0; col < w->vp; col += PW) {
            micro(out, w->state + col, (size_t)w->vp, w->kt + b, CHUNK_LD, c->key_dim, rows);
            for (int t = 0; t < rows; t++) {
                int i = b + t, valid = cpu_min(PW, c->value_dim - col);
                const float *v = c->v + (size_t)i * (size_t)c->value_dim + col;
                float *n = w->n + i * w->vp + col;
                for (int r = 0; r < PW; r++)
                    n[r] = r < valid ? c->beta[i] * (v[r] - w->eg[i] * out[t * PW + r]) : 0;
            }
            micro(out, w->state + col, (size_t)w->vp, w->qt + b, CHUNK_LD, c->key_dim, rows);
            for (int t = 0; t < rows; t++)
                for (int r = 0; r < PW; r++)
                    w->o[(b + t) * w->vp + col + r] = w->eg[b + t] * out[t * PW + r];
        }
    }
    for (int i = 1; i < c->n; i++)
        for (int j = 0; j < i; j++)
            axpy(w->n + i * w->vp, -w->a[i * CHUNK_LD + j], w->n + j * w->vp, w->vp);
}

static void chunk_finish(struct chunk_work *w, const struct cpu_delta_chunk *c)
{
    float out[NR * PW];
    for (int b = 0; b < c->n; b += NR) {
        int rows = cpu_min(NR, c->n - b);
        for (int col = 0; col < w->vp; col += PW) {
            int valid = cpu_min(PW, c->value_dim - col);
            micro(out, w->n + col, (size_t)w->vp, w->p + b, CHUNK_LD, b + rows, rows);
            for (int t = 0; t < rows; t++)
                for (int r = 0; r < valid; r++)
                    c->out[(size_t)(b + t) * (size_t)c->value_dim + (size_t)(col + r)] =
                        w->o[(b + t) * w->vp + col + r] + out[t * PW + r];
        }
    }
    float decay = w->eg[c->n - 1];
    for (int b = 0; b < c->key_dim; b += NR) {
        int rows = cpu_min(NR, c->key_dim - b);
        for (int col = 0; col < w->vp; col += PW) {
            micro(out, w->n + col, (size_t)w->vp, w->kd + b, (size_t)w->kp, c->n, rows);
            for (int t = 0; t < rows; t++) {
                float *s = w->state + (size_t)(b + t) * (size_t)w->vp + col;
                for (int r = 0; r < PW; r += VL)
                    vf_store(s + r,
                             vf_fma(vf_load(s + r), vf_set1(decay), vf_load(out + t * PW + r)));
            }
        }
    }
    if (w->state != c->state)
        for (int d = 0; d < c->key_dim; d++)
            memcpy(c->state + (size_t)d * (size_t)c->value_dim,
                   w->state + (size_t)d * (size_t)w->vp, (size_t)c->value_dim * sizeof(float));
}

static void delta_chunk(const struct cpu_delta_chunk *c)
{
    struct chunk_work w;
    chunk_setup(&w, c);
    chunk_products(&w, c);
    chunk_solve(&w, c);
    chunk_finish(&w, c);
}
