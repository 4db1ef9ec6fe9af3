/* int16_product.h - products of tiles with many tokens; included by int16_impl.h.
 *
 * CPU_ROW_STEP inputs of a tile are unpacked to a *panel*, integers of codes and floats of scales that
 * stay in the first cache, and one product serves all types. Where a block's groups have integer scales,
 * words have room for codes times those (kind_folds()), and the product needs no scale for each group.
 *
 * Where words of 16 bits are multiplied, two inputs x, y and their codes a, b take one
 * multiplication instead of two (Winograd, "A New Algorithm for Inner Product", 1968):
 *
 *     a x + b y = (a + y) (b + x) - a b - x y
 *
 * Sums of a b are the panel's, sums of x y the input's, both computed once; all of it modulo 2^32,
 * which the result of 32 inputs fits (2^14 for an input, 2^8 for a code), most often together with a b, whose
 * sums are then taken away as floats, once for all blocks of a panel. Additions go to four ports of a
 * core, multiplications to two: so three quads of eight are multiplied as they are where that is one
 * instruction, which keeps all of them busy. NEON has no products of words worth it and multiplies bytes: the
 * inputs' high and low halves. */

#if defined(SIMD_NEON)
enum { PER_QUAD = 1 }; /* vectors that hold four codes a lane */
#else
enum { PER_QUAD = 2 };
#endif

enum { GEMM_VECS = GEMM_TILES * TILE_VECS, GEMM_SUMS = GEMM_VECS * GEMM_TOKENS };

typedef int8_t vs8 __attribute__((vector_size(SIMD_SIZE)));
typedef int16_t vs16 __attribute__((vector_size(SIMD_SIZE)));
typedef uint16_t vus16 __attribute__((vector_size(SIMD_SIZE)));

struct panel {
    _Alignas(64) uint32_t codes[BLOCKS * 8][PER_QUAD][LADE_TILE];
    int32_t minus[2 * BLOCKS][LADE_TILE]; /* full forms: added to products of each part */
    float begin[LADE_TILE];               /* others: what a panel's sums begin with */
    float s[2 * BLOCKS][LADE_TILE], m[2 * BLOCKS][LADE_TILE]; /* of each part; m negative */
};

/* What differs between types of weights. */
struct form {
    bool fine, mins;
    int span;  /* blocks of products summed as integers */
    bool full; /* such sums may need all of their 32 bits (kind_full()) */
};

/* ---- sums of products ------------------------------------------------------------------------ */

#if defined(SIMD_NEON)
struct acc {
    vi high, low;
};

ALWAYS_INLINE struct acc acc_begin(vi minus)
{
    return (struct acc){.low = minus};
}

ALWAYS_INLINE void acc_times(struct acc *a, const vu codes[PER_QUAD], vi first, vi second)
{
    a->high = dot4(a->high, codes[0], first, false);
    a->low = dot4(a->low, codes[0], second, false);
}

#define acc_times_plain acc_times

ALWAYS_INLINE vf acc_sum(struct acc a)
{
    return vf_from_int((a.high << 7) + a.low);
}

/* Four codes without their zero. */
ALWAYS_INLINE void split(vu out[PER_QUAD], const enum kind kind, const struct group *of,
                         const int g, const int i)
{
    const vu q = quad(kind, of, g, i);
    const int zero = kind_zero(kind);
    out[0] = zero < 0 ? q : (vu)((vs8)q - (int8_t)(1 << zero));
}

ALWAYS_INLINE vi codes_times(vi products, const vu codes[PER_QUAD])
{
    (void)codes;
    return products;
}
#else
struct acc {
    vi sum;
};

/* acc + the sum of two products of each lane. */
ALWAYS_INLINE vi dot2(vi acc, vu a, vu b)
{
#if defined(SIMD_AVX512)
    return (vi)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
#elif defined(SIMD_AVXVNNI)
    return (vi)_mm256_dpwssd_avx_epi32((__m256i)acc, (__m256i)a, (__m256i)b);
#else
    vi sum = (vi)_mm256_add_epi32((__m256i)acc, _mm256_madd_epi16((__m256i)a, (__m256i)b));
    KEEP(sum); /* gcc else makes all products first, stores them, and then their sum */
    return sum;
#endif
}

ALWAYS_INLINE struct acc acc_begin(vi minus)
{
    return (struct acc){minus};
}

ALWAYS_INLINE void acc_times(struct acc *a, const vu codes[PER_QUAD], vi first, vi second)
{
    a->sum = dot2(a->sum, (vu)((vs16)codes[0] + (vs16)second), (vu)((vs16)codes[1] + (vs16)first));
}

/* The same one by one, without sums of a panel. */
ALWAYS_INLINE void acc_times_plain(struct acc *a, const vu codes[PER_QUAD], vi first, vi second)
{
    a->sum = dot2(dot2(a->sum, codes[0], (vu)first), codes[1], (vu)second);
}

ALWAYS_INLINE vf acc_sum(struct acc a)
{
    return vf_from_int(a.sum);
}

/* Four codes without their zero as two vectors of words: of the first and the third, of the others. */
ALWAYS_INLINE void split(vu out[PER_QUAD], const enum kind kind, const struct group *of,
                         const int g, const int i)
{
    vs16 even, odd;
    if (kind == KIND_Q4) { /* with its sign: fewer steps than by way of bytes */
        const vs16 x = (vs16)(vu_load(of->w + i / 2 * LADE_TILE) ^ 0x88888888u);
        even = (vs16)(x << (i % 2 ? 8 : 12)) >> 12;
        odd = i % 2 ? x >> 12 : (vs16)(x << 4) >> 12;
    } else if (kind == KIND_Q4_K) { /* the same */
        const vus16 x = (vus16)vu_load(of->w + (4 + 8 * (g / 2) + i) * LADE_TILE);
        even = (vs16)(g % 2 ? x >> 4 & 15 : x & 15);
        odd = (vs16)(g % 2 ? x >> 12 : x >> 8 & 15);
    } else {
        const vu q = quad(kind, of, g, i);
        const int zero = kind_zero(kind);
        even = SIGNED8 ? (vs16)((vs16)q << 8) >> 8 : (vs16)(q & 0x00ff00ffu);
        odd = SIGNED8 ? (vs16)q >> 8 : (vs16)((vus16)q >> 8);
        if (zero >= 0) {
            even -= (int16_t)(1 << zero);
            odd -= (int16_t)(1 << zero);
        }
    }
    out[0] = (vu)even;
    out[1] = (vu)odd;
}

/* products + those of the codes of one vector with the others'. */
ALWAYS_INLINE vi codes_times(vi products, const vu codes[PER_QUAD])
{
    return dot2(products, codes[0], codes[1]);
}

/* Words of sums of two products: bytes of codes times signed bytes of scales. */
ALWAYS_INLINE vs16 bytes_times(vu codes, vu scales)
{
#if defined(SIMD_AVX512)
    return (vs16)_mm512_maddubs_epi16((__m512i)codes, (__m512i)scales);
#else
    return (vs16)_mm256_maddubs_epi16((__m256i)codes, (__m256i)scales);
#endif
}

/* Byte `byte` of each lane where four codes have the first and the third, or where they have the
 * others. */
ALWAYS_INLINE vu spread(vu bytes, const int byte, const bool odd)
{
    vu index;
    UNROLL(16)
    for (int i = 0; i < VL; i++)
        index[i] = (uint32_t)(4 * (i % 4) + byte) * (odd ? 0x01000100u : 0x00010001u) |
                   (odd ? 0x00800080u : 0x80008000u);
#if defined(SIMD_AVX512)
    return (vu)_mm512_shuffle_epi8((__m512i)bytes, (__m512i)index);
#else
    return (vu)_mm256_shuffle_epi8((__m256i)bytes, (__m256i)index);
#endif
}

/* What codes of group g, part `part`, are multiplied with, and what their zero comes to. */
struct fold {
    vu even, odd;
    vs16 zero;
};

ALWAYS_INLINE struct fold fold_at(const enum kind kind, const struct head *h, const int g,
                                  const int part, const int v)
{
    const int n = kind_fine(kind) ? 2 * g + part : g;
    vu bytes = h->scale[n / 4][v];
    if (kind == KIND_Q3_K)
        bytes = (vu)((vs8)bytes - 32);
    struct fold f = {spread(bytes, n % 4, false), spread(bytes, n % 4, true), {0}};
    if (kind_zero(kind) >= 0)
        f.zero = bytes_times((vu){0} + (0x01010101u << kind_zero(kind)), f.even);
    return f;
}

/* As split(), each code times its scale. */
ALWAYS_INLINE void split_folded(vu out[PER_QUAD], const enum kind kind, const struct group *of,
                                const struct fold *f, const int g, const int i)
{
    const vu q = quad(kind, of, g, i);
    out[0] = (vu)(bytes_times(q, f->even) - f->zero);
    out[1] = (vu)(bytes_times(q, f->odd) - f->zero);
}
#endif

/* ---- panels ---------------------------------------------------------------------------------- */

/* What products of codes alone add to part `at`, whose scale is s, is noted down to be taken away, if
 * the part is `used`: it may lie behind the matrix's inputs. */
ALWAYS_INLINE void put_minus(struct panel *p, vf *begin, const enum kind kind, const vi products[2],
                             vf s, bool used, const int at, const int v)
{
    const vu minus = -((vu)products[0] + (vu)products[1]);
    if (kind_full(kind))
        memcpy(p->minus[at] + v * VL, &minus, sizeof(minus));
    else if (used)
        begin[v] = vf_fma(vf_from_int((vi)minus), s, begin[v]);
}

#if !defined(SIMD_NEON)
/* Groups [g, g + kind_folds()) of a block, which begin at group `at` of the panel: codes times their scales. */
ALWAYS_INLINE void unpack_folded(struct panel *p, vf *begin, const enum kind kind,
                                 const uint32_t *w, const struct head *h, bool used, const int at,
                                 const int g, const int v)
{
    const int parts = kind_fine(kind) ? 2 : 1, quads = 8 / parts;
    vi products[2] = {0};
    UNROLL(4)
    for (int k = 0; k < kind_folds(kind); k++) {
        const struct group of = group_at(kind, w + v * VL, g + k);
        UNROLL(2)
        for (int part = 0; part < parts; part++) {
            const struct fold f = fold_at(kind, h, g + k, part, v);
            UNROLL(8)
            for (int i = part * quads; i < (part + 1) * quads; i++) {
                vu c[PER_QUAD];
                split_folded(c, kind, &of, &f, g + k, i);
                if (paired(i))
                    products[i % 2] = codes_times(products[i % 2], c);
                UNROLL(2)
                for (int j = 0; j < PER_QUAD; j++)
                    memcpy(p->codes[(at + k) * 8 + i][j] + v * VL, &c[j], sizeof(c[j]));
            }
        }
        if (kind_mins(kind)) {
            struct scales sc;
            read_scale(&sc, kind, h, NULL, g + k, 0, v);
            vf_store(p->m[at + k] + v * VL, -sc.m[0][v]);
        }
    }
    put_minus(p, begin, kind, products, h->d[v], used, at, v);
    vf_store(p->s[at] + v * VL, h->d[v]);
}
#endif

/* Group g of a block of weights to block b + g of the panel, with those it is folded with; `used`: the matrix has it. */
ALWAYS_INLINE void unpack_group(struct panel *p, vf *begin, const enum kind kind, const uint32_t *w,
                                const struct head *h, const uint8_t *zeros, bool used, const int b,
                                const int g, const int v)
{
    const int parts = kind_fine(kind) ? 2 : 1, quads = 8 / parts;
#if !defined(SIMD_NEON)
    if (kind_folds(kind)) {
        if (g % kind_folds(kind) == 0)
            unpack_folded(p, begin, kind, w, h, used, b + g, g, v);
        return;
    }
#endif
    struct scales sc;
    const struct group of = group_at(kind, w + v * VL, g);
    UNROLL(2)
    for (int part = 0; part < parts; part++) {
        const int at = (b + g) * parts + part;
        vi products[2] = {0};
        read_scale(&sc, kind, h, zeros, g, part, v);
        vf_store(p->s[at] + v * VL, sc.s[part][v]);
        if (kind_mins(kind))
            vf_store(p->m[at] + v * VL, -sc.m[part][v]);
        UNROLL(8)
        for (int i = part * quads; i < (part + 1) * quads; i++) {
            vu c[PER_QUAD];
            split(c, kind, &of, g, i);
            if (paired(i))
                products[i % 2] = codes_times(products[i % 2], c);
            UNROLL(2)
            for (int k = 0; k < PER_QUAD; k++)
                memcpy(p->codes[(b + g) * 8 + i][k] + v * VL, &c[k], sizeof(c[k]));
        }
        put_minus(p, begin, kind, products, sc.s[part][v], used, at, v);
    }
}

/* Unpacks the next `blocks` blocks of inputs. */
SPECIALIZED void unpack(struct panel *p, const enum kind kind, struct source *from, int blocks)
{
    struct source s = *from; /* in registers: what is stored cannot change it */
    const int span = kind_span(kind);
    const struct stretch none = {0};
    uint32_t spare[8 * LADE_TILE];
    vf begin[TILE_VECS] = {0};
    for (int b = 0; b < blocks; b += span) {
        struct head h;
        const uint32_t *w = next_block(&h, kind, &s, spare);
        if (kind_rolls(kind)) {
            for (int g = 0; g < span; g++)
                EACH_VEC unpack_group(p, begin, kind, w, &h, s.zeros, b + g < blocks, b, g, v);
        } else {
            UNROLL(8)
            for (int g = 0; g < span; g++)
                EACH_VEC unpack_group(p, begin, kind, w, &h, s.zeros, b + g < blocks, b, g, v);
        }
        next_scales(kind, &s, &none);
    }
    EACH_VEC vf_store(p->begin + v * VL, begin[v]);
    *from = s;
}

/* ---- products -------------------------------------------------------------------------------- */

/* A product of GEMM_TILES panels with some tokens. */
struct product {
    const struct panel *w;  /* [GEMM_TILES] */
    const struct record *x; /* [blocks][tokens] */
    int blocks;
    const float *before; /* [tokens][GEMM_TILES][LADE_TILE] */
    float *to;           /* `before` + the product, one token's `step` floats after the other's */
    size_t step;
    /* Memory that comes next, fetched meanwhile: so many lines for each block of inputs. */
    const char *ahead[GEMM_TILES];
    int ahead_lines;
};

/* With up to so many tokens gcc would load a panel's codes for each of them, and with more it does not. */
enum { KEEP_TOKENS = 3 };

/* Asks for what comes next, block b's share. In one place of a block: a look at each of its quads costs more
 * than asking for some lines at once. */
ALWAYS_INLINE void fetch_next(const struct product *p, int b)
{
    for (int line = p->ahead_lines * b; line < p->ahead_lines * (b + 1); line++)
        UNROLL(2)
    for (int t = 0; t < GEMM_TILES; t++)
        __builtin_prefetch(p->ahead[t] + (size_t)line * 64, 0, 3);
}

ALWAYS_INLINE vu panel_load(const uint32_t *codes, const int M)
{
    vu c = vu_load(codes);
    if (M <= KEEP_TOKENS)
        KEEP(c);
    return c;
}

#if defined(SIMD_AVX512)
/* acc += quads of part `part` of block b of all panels times those of M tokens. A quad by the identity keeps
 * the ports of additions busy, a plain one those of multiplications: each of the former goes together with
 * half of one of the latter, or two halves. */
ALWAYS_INLINE void quads_times(struct acc *acc, const struct product *p, const struct record *x,
                               const int quads, int b, const int part, const int M)
{
    /* as PLAIN_QUADS has them */
    static const int pairs[] = {0, 2, 3, 5, 6}, plain[] = {1, 4, 7};
    const int first = part ? 3 : 0, n = quads == 8 ? 5 : part ? 2 : 3; /* of pairs */
    const int half0 = part ? 2 : 0, halves = quads == 8 ? 6 : part ? 4 : 2;
    UNROLL(8)
    for (int i = 0; i < n; i++) {
        const int q = pairs[first + i], from = half0 + i * halves / n,
                  to = half0 + (i + 1) * halves / n;
        vu c[GEMM_VECS][PER_QUAD], alone[GEMM_VECS][2];
        UNROLL(2)
        for (int t = 0; t < GEMM_VECS; t++) {
            const uint32_t(*codes)[PER_QUAD][LADE_TILE] = p->w[t].codes + (size_t)b * 8;
            UNROLL(2)
            for (int k = 0; k < PER_QUAD; k++)
                c[t][k] = panel_load(codes[q][k], M);
            UNROLL(2)
            for (int h = from; h < to; h++)
                alone[t][h - from] = panel_load(codes[plain[h / 2]][h % 2], M);
        }
        UNROLL(16)
        for (int j = 0; j < M; j++) {
            struct acc *a = acc + j * GEMM_VECS;
            const vu even = step_broadcast(&x[j].q[q][0]), odd = step_broadcast(&x[j].q[q][1]);
            UNROLL(2)
            for (int t = 0; t < GEMM_VECS; t++)
                a[t].sum = step_pair(a[t].sum, c[t], even, odd);
            UNROLL(4)
            for (int k = 0; k < (to - from) * GEMM_VECS; k++) {
                const int t = k % GEMM_VECS, h = k / GEMM_VECS;
                const int32_t *in = &x[j].q[plain[(from + h) / 2]][(from + h) % 2];
                a[t].sum = step_plain(a[t].sum, alone[t][h], in);
            }
        }
    }
}
#else
/* acc += quads of part `part` of block b of all panels times those of M tokens. */
ALWAYS_INLINE void quads_times(struct acc *acc, const struct product *p, const struct record *x,
                               const int quads, int b, const int part, const int M)
{
    const struct panel *w = p->w;
    UNROLL(8)
    for (int i = part * quads; i < (part + 1) * quads; i++) {
        vu c[GEMM_VECS][PER_QUAD];
        UNROLL(4)
        for (int t = 0; t < GEMM_VECS; t++)
            UNROLL(2)
        for (int k = 0; k < PER_QUAD; k++) {
            c[t][k] = panel_load(w[t / TILE_VECS].codes[b * 8 + i][k] + t % TILE_VECS * VL, M);
        }
        UNROLL(16)
        for (int j = 0; j < M; j++) {
            const vi first = (vi){0} + x[j].q[i][0], second = (vi){0} + x[j].q[i][1];
            UNROLL(4)
            for (int t = 0; t < GEMM_VECS; t++)
                if (paired(i))
                    acc_times(&acc[j * GEMM_VECS + t], c[t], first, second);
                else
                    acc_times_plain(&acc[j * GEMM_VECS + t], c[t], first, second);
        }
    }
}
#endif

/* sum += part `part` of blocks [b, b + f.span) of all panels and M tokens, where x has block b; the lines
 * that `ahead` names are fetched. */
ALWAYS_INLINE void panels_times(float *sum, const struct product *p, const struct record *x,
                                const struct form f, int b, const int part, const int M)
{
    const struct panel *w = p->w;
    const int parts = f.fine ? 2 : 1, at = b * parts + part, mins = f.mins ? f.span : 0;
    struct acc acc[GEMM_SUMS];
    UNROLL(16)
    for (int j = 0; j < M; j++) {
        const vi minus =
            (vi){0} + (f.span > 1 ? x[j].minus_span : x[j].minus[f.fine ? 1 + part : 0]);
        UNROLL(4)
        for (int t = 0; t < GEMM_VECS; t++) {
            const int32_t *of = w[t / TILE_VECS].minus[at] + t % TILE_VECS * VL;
            acc[j * GEMM_VECS + t] =
                acc_begin(f.full ? (vi)(vu_load((const uint32_t *)of) + (vu)minus) : minus);
        }
    }
    for (int k = 0; k < f.span; k++) {
        if (part == 0)
            fetch_next(p, b + k);
        quads_times(acc, p, x + k * M, 8 / parts, b + k, part, M);
    }
    UNROLL(4)
    for (int t = 0; t < GEMM_VECS; t++) {
        const vf s = vf_load(w[t / TILE_VECS].s[at] + t % TILE_VECS * VL);
        vf m[FOLD_SPAN];
        UNROLL(4)
        for (int k = 0; k < mins; k++)
            m[k] = vf_load(w[t / TILE_VECS].m[at + k] + t % TILE_VECS * VL);
        UNROLL(16)
        for (int j = 0; j < M; j++) {
            float *to = sum + (j * GEMM_VECS + t) * VL;
            vf y = vf_fma(acc_sum(acc[j * GEMM_VECS + t]), s, vf_load(to));
            UNROLL(4)
            for (int k = 0; k < mins; k++)
                y = vf_fma(m[k], vf_set1(x[k * M + j].sum[f.fine ? 1 + part : 0]), y);
            vf_store(to, y);
        }
    }
    if (f.span > 1) /* sums stay in memory, and the registers to integers */
        __asm__ volatile("" : : "r"(sum) : "memory");
}

SPECIALIZED void product_of(const struct product *p, const struct form f, const int M)
{
    const struct record *x = p->x;
    _Alignas(64) float sum[GEMM_SUMS * VL];
    UNROLL(32)
    for (int i = 0; i < M * GEMM_VECS; i++) {
        const float *begin = p->w[i % GEMM_VECS / TILE_VECS].begin + i % TILE_VECS * VL;
        vf_store(sum + i * VL, f.full ? (vf){0} : vf_load(begin));
    }
    for (int b = 0; b < p->blocks; b += f.span, x += f.span * M) {
        panels_times(sum, p, x, f, b, 0, M);
        if (f.fine)
            panels_times(sum, p, x, f, b, 1, M);
    }
    UNROLL(16)
    for (int j = 0; j < M; j++) {
        const vf scale = vf_set1(p->x[j].scale);
        UNROLL(4)
        for (int t = 0; t < GEMM_VECS; t++) {
            const int i = (j * GEMM_VECS + t) * VL;
            const vf y = vf_fma(vf_load(sum + i), scale, vf_load(p->before + i));
            vf_store(p->to + (size_t)j * p->step + t * VL, y);
        }
    }
}

typedef void product_fn(const struct product *p);
typedef product_fn *const *product_table; /* of 1, 2, 3 ... tokens */

#define PRODUCT(name, M, ...)                                                                      \
    static void name##_##M(const struct product *p)                                                \
    {                                                                                              \
        product_of(p, (struct form){__VA_ARGS__}, M);                                              \
    }
#if defined(SIMD_AVX512)
#define PRODUCTS(name, ...)                                                                        \
    PRODUCT(name, 1, __VA_ARGS__)                                                                  \
    PRODUCT(name, 2, __VA_ARGS__)                                                                  \
    PRODUCT(name, 3, __VA_ARGS__)                                                                  \
    PRODUCT(name, 4, __VA_ARGS__)                                                                  \
    PRODUCT(name, 5, __VA_ARGS__)                                                                  \
    PRODUCT(name, 6, __VA_ARGS__)                                                                  \
    static product_fn *const name[] = {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6};
#elif defined(SIMD_AVX2)
#define PRODUCTS(name, ...)                                                                        \
    PRODUCT(name, 1, __VA_ARGS__)                                                                  \
    PRODUCT(name, 2, __VA_ARGS__)                                                                  \
    PRODUCT(name, 3, __VA_ARGS__)                                                                  \
    PRODUCT(name, 4, __VA_ARGS__)                                                                  \
    static product_fn *const name[] = {name##_1, name##_2, name##_3, name##_4};
#else
#define PRODUCTS(name, ...)                                                                        \
    PRODUCT(name, 1, __VA_ARGS__)                                                                  \
    PRODUCT(name, 2, __VA_ARGS__)                                                                  \
    static product_fn *const name[] = {name##_1, name##_2};
#endif
/* fine, mins, span, full */
PRODUCTS(products_plain, false, false, 1, false)
PRODUCTS(products_mins, false, true, 1, false)
PRODUCTS(products_fine, true, false, 1, false)
PRODUCTS(products_fine_mins, true, true, 1, false)
#if !defined(SIMD_NEON)
PRODUCTS(products_full, false, false, 1, true)
PRODUCTS(products_folded, false, true, FOLD_SPAN, false)
#endif
