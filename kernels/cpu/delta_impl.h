/* delta_impl.h - the gated delta rule, token by token and in chunks; included once by each
 * isa_*.c after vector_impl.h and matmul_impl.h.
 *
 * Per value head, with state S [key_dim][value_dim], log decay g <= 0 and step size beta:
 *     S = e^g S;  d = beta (v - S'k);  S = S + k d';  o = S'q
 *
 * In chunks (gated DeltaNet, arXiv 2412.06464): with G_i the running sum of g, D_ij = e^(G_i-G_j)
 * for i >= j, A_ij = beta_i (k_i.k_j) D_ij for j < i, the vectors d of a chunk solve
 *     (I + A) N = beta (V - e^G K S)
 * and then O = e^G Q S + (QK' * D) N and S = e^(G_C) S + K' (e^(G_C - G) N). Value heads that share
 * a key head share KK' and QK'. No column of S needs another one: PW of them go through all of
 * this before the next ones, and stay in the first cache. */
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

/* A row for each token j, of them a column i: blocks of columns that are read begin at a multiple of NR
 * and are as long as one of micro()'s. */
_Static_assert(CPU_CHUNK % (NR / 3) == 0, "no block of columns ends behind a row");
_Static_assert(CPU_CHUNK % PW == 0, "blocks of PW stay in a row");

struct chunk_work {
    float *kt, *qt; /* [key_dim][CPU_CHUNK], 0 from token n on */
    float *kk, *qk; /* [CPU_CHUNK][CPU_CHUNK]: k_i.k_j and q_i.k_j where i >= j */
    float *a, *p;   /* the same of one value head: -A_ij; (QK')_ij D_ij, 0 where i < j */
    float *eg;      /* [CPU_CHUNK]: e^G */
    float *to_end;  /* [CPU_CHUNK]: e^(G_C - G) */
    float *n;       /* [CPU_CHUNK][PW] of N */
    float *v, *out; /* [CPU_CHUNK][PW] and */
    float *state;   /* [key_dim][PW]: columns at the end that are fewer than PW */
};

/* PW columns of a value head. */
struct chunk_columns {
    float *state;
    const float *v;
    float *out;
    size_t lds, ldv, ldo; /* from row to row */
};

static struct chunk_work chunk_setup(const struct cpu_delta_chunk *c)
{
    const size_t columns = (size_t)c->key_dim * CPU_CHUNK, square = CPU_CHUNK * CPU_CHUNK;
    struct chunk_work w = {.kt = c->work};
    w.qt = w.kt + columns;
    w.kk = w.qt + columns;
    w.qk = w.kk + square;
    w.a = w.qk + square;
    w.p = w.a + square;
    w.n = w.p + square;
    w.v = w.n + CPU_CHUNK * PW;
    w.out = w.v + CPU_CHUNK * PW;
    w.eg = w.out + CPU_CHUNK * PW;
    w.to_end = w.eg + CPU_CHUNK;
    w.state = w.to_end + CPU_CHUNK;
    return w;
}

/* to[d][i] = from[i][d], 0 from row n on. */
static void chunk_transpose(float *to, const float *from, int n, int dim)
{
    for (int i0 = 0; i0 < CPU_CHUNK; i0 += VL)
        for (int d0 = 0; d0 < dim; d0 += VL) {
            const int some = cpu_min(VL, dim - d0);
            vf r[VL];
            for (int i = 0; i < VL; i++) {
                const float *row = from + (size_t)(i0 + i) * (size_t)dim + d0;
                r[i] = i0 + i >= n ? vf_set1(0)
                       : some < VL ? vf_load_part(row, some)
                                   : vf_load(row);
            }
            vf_transpose(r);
            for (int d = 0; d < some; d++)
                vf_store(to + (size_t)(d0 + d) * CPU_CHUNK + i0, r[d]);
        }
}

/* What the value heads share. */
static void chunk_keys(const struct chunk_work *w, const struct cpu_delta_chunk *c)
{
    chunk_transpose(w->kt, c->k, c->n, c->key_dim);
    chunk_transpose(w->qt, c->q, c->n, c->key_dim);
    float out[NR * PW];
    for (int b = 0; b < c->n; b += NR) {
        const int rows = cpu_min(NR, c->n - b);
        for (int col = b / PW * PW; col < CPU_CHUNK; col += PW) {
            micro(out, w->kt + col, CPU_CHUNK, w->kt + b, CPU_CHUNK, c->key_dim, rows);
            for (int t = 0; t < rows; t++)
                memcpy(w->kk + (b + t) * CPU_CHUNK + col, out + t * PW, PW * sizeof(float));
            micro(out, w->qt + col, CPU_CHUNK, w->kt + b, CPU_CHUNK, c->key_dim, rows);
            for (int t = 0; t < rows; t++)
                memcpy(w->qk + (b + t) * CPU_CHUNK + col, out + t * PW, PW * sizeof(float));
        }
    }
}

/* a, p, eg and to_end of one value head. D's rows from the last one up, each the one below times
 * e^g with a 1 before it: nothing is added up that loses places, and no exponent is positive. */
static void chunk_decays(const struct chunk_work *w, const struct cpu_delta_chunk *c,
                         const float *g, const float *beta)
{
    enum { VECS = CPU_CHUNK / VL };
    float e[CPU_CHUNK], lane[CPU_CHUNK], rest = 1;
    vf row[VECS] = {0};
    for (int i = 0; i < CPU_CHUNK; i++)
        lane[i] = (float)i;
    for (int i = 0; i < CPU_CHUNK; i += VL)
        vf_store(e + i, vf_exp(vf_load(g + i)));
    for (int j = c->n - 1; j >= 0; j--) {
        w->to_end[j] = rest;
        rest *= e[j];
        UNROLL(8)
        for (int v = 0; v < VECS; v++) {
            const int at = j * CPU_CHUNK + v * VL;
            row[v] = vf_select(vf_load(lane + v * VL) == (float)j, vf_set1(1), row[v]);
            vf_store(w->p + at, row[v] * vf_load(w->qk + at));
            vf_store(w->a + at, row[v] * vf_load(w->kk + at) * -vf_load(beta + v * VL));
            row[v] *= e[j];
        }
    }
    for (int v = 0; v < VECS; v++)
        vf_store(w->eg + v * VL, row[v]);
}

/* Rows [b, b + rows) of N, after those before them. */
SPECIALIZED void solve_rows(const struct chunk_work *w, const struct cpu_delta_chunk *c,
                            const struct chunk_columns *s, const float *beta, int b, int rows,
                            const int M)
{
    vf acc[NR * PANEL_VECS] = {0};
    micro_add(acc, s->state, s->lds, w->kt + b, CPU_CHUNK, c->key_dim, M);
    UNROLL(16)
    for (int t = 0; t < M; t++) {
        const float *v = s->v + (size_t)(t < rows ? b + t : b) * s->ldv;
        const vf step = vf_set1(beta[b + t]), old = vf_set1(-w->eg[b + t]);
        UNROLL(4)
        for (int i = 0; i < PANEL_VECS; i++) {
            vf *n = &acc[t * PANEL_VECS + i];
            *n = step * vf_fma(old, *n, vf_load(v + i * VL));
        }
    }
    micro_add(acc, w->n, PW, w->a + b, CPU_CHUNK, b, M);
    UNROLL(16)
    for (int j = 0; j < M; j++) {
        UNROLL(16)
        for (int t = 0; t < M; t++) {
            if (t <= j)
                continue;
            const vf a = vf_set1(w->a[(b + j) * CPU_CHUNK + b + t]);
            UNROLL(4)
            for (int i = 0; i < PANEL_VECS; i++)
                acc[t * PANEL_VECS + i] =
                    vf_fma(acc[j * PANEL_VECS + i], a, acc[t * PANEL_VECS + i]);
        }
    }
    UNROLL(16)
    for (int t = 0; t < M; t++)
        for (int i = 0; i < PANEL_VECS; i++)
            vf_store(w->n + (b + t) * PW + i * VL, acc[t * PANEL_VECS + i]);
}

/* Rows [b, b + rows) of O. */
SPECIALIZED void out_rows(const struct chunk_work *w, const struct cpu_delta_chunk *c,
                          const struct chunk_columns *s, int b, int rows, const int M)
{
    vf acc[NR * PANEL_VECS] = {0};
    micro_add(acc, s->state, s->lds, w->qt + b, CPU_CHUNK, c->key_dim, M);
    UNROLL(16)
    for (int t = 0; t < M; t++)
        for (int i = 0; i < PANEL_VECS; i++)
            acc[t * PANEL_VECS + i] *= w->eg[b + t];
    micro_add(acc, w->n, PW, w->p + b, CPU_CHUNK, b + rows, M);
    UNROLL(16)
    for (int t = 0; t < M; t++)
        for (int i = 0; i < PANEL_VECS && t < rows; i++)
            vf_store(s->out + (size_t)(b + t) * s->ldo + i * VL, acc[t * PANEL_VECS + i]);
}

/* Rows [b, b + rows) of S, from n times to_end. */
SPECIALIZED void state_rows(const struct chunk_work *w, const struct cpu_delta_chunk *c,
                            const struct chunk_columns *s, int b, int rows, const int M)
{
    const float decay = w->eg[c->n - 1];
    vf acc[NR * PANEL_VECS];
    UNROLL(16)
    for (int t = 0; t < M; t++) {
        const float *row = s->state + (size_t)(t < rows ? b + t : b) * s->lds;
        UNROLL(4)
        for (int i = 0; i < PANEL_VECS; i++)
            acc[t * PANEL_VECS + i] = vf_load(row + i * VL) * decay;
    }
    micro_add(acc, w->n, PW, c->k + b, (size_t)c->key_dim, c->n, M);
    UNROLL(16)
    for (int t = 0; t < M; t++)
        for (int i = 0; i < PANEL_VECS && t < rows; i++)
            vf_store(s->state + (size_t)(b + t) * s->lds + i * VL, acc[t * PANEL_VECS + i]);
}

/* Calls f with blocks of NR rows, the last of one, two or three thirds. */
#define BY_ROWS(f, count, ...)                                                                     \
    for (int b = 0, rows; b < (count); b += NR) {                                                  \
        rows = cpu_min(NR, (count)-b);                                                             \
        if (rows <= NR / 3)                                                                        \
            f(__VA_ARGS__, b, rows, NR / 3);                                                       \
        else if (rows <= 2 * NR / 3)                                                               \
            f(__VA_ARGS__, b, rows, 2 * NR / 3);                                                   \
        else                                                                                       \
            f(__VA_ARGS__, b, rows, NR);                                                           \
    }

static void chunk_block(const struct chunk_work *w, const struct cpu_delta_chunk *c,
                        const struct chunk_columns *s, const float *beta)
{
    BY_ROWS(solve_rows, c->n, w, c, s, beta)
    BY_ROWS(out_rows, c->n, w, c, s)
    for (int j = 0; j < c->n; j++)
        for (int i = 0; i < PW; i += VL)
            vf_store(w->n + j * PW + i, vf_load(w->n + j * PW + i) * w->to_end[j]);
    BY_ROWS(state_rows, c->key_dim, w, c, s)
}
#undef BY_ROWS

static void copy_columns(float *to, size_t ldt, const float *from, size_t ldf, int rows, int n)
{
    for (int i = 0; i < rows; i++)
        memcpy(to + (size_t)i * ldt, from + (size_t)i * ldf, (size_t)n * sizeof(float));
}

static void delta_chunk(const struct cpu_delta_chunk *c)
{
    const struct chunk_work w = chunk_setup(c);
    const size_t values = (size_t)c->value_dim, state = (size_t)c->key_dim * values;
    chunk_keys(&w, c);
    for (int h = 0; h < c->heads; h++) {
        const float *beta = c->beta + h * CPU_CHUNK;
        chunk_decays(&w, c, c->g + h * CPU_CHUNK, beta);
        for (int col = 0; col < c->value_dim; col += PW) {
            const size_t at = (size_t)h * values + (size_t)col;
            struct chunk_columns s = {
                c->state + (size_t)h * state + col, c->v + at, c->out + at, values, c->ldv,
                (size_t)c->heads * values};
            const int some = c->value_dim - col;
            if (some >= PW) {
                chunk_block(&w, c, &s, beta);
                continue;
            }
            const struct chunk_columns part = {w.state, w.v, w.out, PW, PW, PW};
            memset(w.v, 0, CPU_CHUNK * PW * sizeof(float));
            memset(w.state, 0, (size_t)c->key_dim * PW * sizeof(float));
            copy_columns(w.v, PW, s.v, s.ldv, c->n, some);
            copy_columns(w.state, PW, s.state, s.lds, c->key_dim, some);
            chunk_block(&w, c, &part, beta);
            copy_columns(s.out, s.ldo, w.out, PW, c->n, some);
            copy_columns(s.state, s.lds, w.state, PW, c->key_dim, some);
        }
    }
}
