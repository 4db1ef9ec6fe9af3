/* int16_stream.h - a tile times up to STREAM_TOKENS tokens without a panel, for the types that experts most
 * often have; included by int16_impl.h.
 *
 * A panel costs two stores and two loads a quad, and tables of scales; an expert's ten tokens of a prompt are
 * too few to share that. Here a quad's codes go from memory to registers and are multiplied with all tokens
 * at once, by the identity of int16_product.h, whose sums of codes alone are taken away at the end. Scales
 * are left to the sums of 32 inputs, also where a panel has words for codes times scales: multiplying codes
 * with them goes to the same ports as the products, and ten tokens' sums cost less.
 *
 * That takes a register for each token, and gcc, left alone, loads inputs so early that it spills them: so
 * the products are steps of int16_steps.h. Only AVX-512 has registers enough. */

typedef void direct_fn(float *out, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                       int tile, const struct stretch *in, const struct record *const x[2]);
typedef direct_fn *const *direct_table;

#if defined(SIMD_AVX512)

/* Two packs: the first M / 2 of M tokens are of one, the others of the next. One, where M fits it. */
enum { STREAM_TOKENS = 2 * GEMM_TOKENS };

/* Groups whose code stands in one piece: that of a block's eight would fill the first cache. */
enum { STREAM_GROUPS = 4 };

ALWAYS_INLINE int stream_first(const int M)
{
    return M > GEMM_TOKENS ? M / 2 : M;
}

/* Token j's block that x points at, or the n-th one after it. */
ALWAYS_INLINE const struct record *stream_record(const struct record *const x[2], const int n,
                                                 const int j, const int M)
{
    const int first = stream_first(M);
    return j < first ? x[0] + n * first + j : x[1] + n * (M - first) + (j - first);
}

/* acc + a quad of codes times four inputs. */
ALWAYS_INLINE vi quad_times(vi acc, const vu codes[PER_QUAD], const int32_t q[2], const bool pair)
{
    if (!pair)
        return step_plain(step_plain(acc, codes[0], &q[0]), codes[1], &q[1]);
    const vu second = step_broadcast(&q[1]), first = step_broadcast(&q[0]);
    return step_pair(acc, codes, first, second);
}

/* sum += group g of a block times M tokens' block n, *begin += what is taken away. */
ALWAYS_INLINE void stream_group(vf *sum, vf *begin, const enum kind kind, const struct group *of,
                                const struct head *h, const struct record *const x[2], const int g,
                                const int n, const int M)
{
    vi acc[STREAM_TOKENS], products = {0};
    struct scales sc;
    UNROLL(16)
    for (int j = 0; j < M; j++)
        acc[j] = (vi){0} + stream_record(x, n, j, M)->minus[0];
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        vu c[PER_QUAD];
        split(c, kind, of, g, i);
        if (paired(i))
            products = codes_times(products, c);
        UNROLL(16)
        for (int j = 0; j < M; j++)
            acc[j] = quad_times(acc[j], c, stream_record(x, n, j, M)->q[i], paired(i));
    }
    read_scale(&sc, kind, h, NULL, g, 0, 0);
    *begin = vf_fma(vf_from_int((vi) - (vu)products), sc.s[0][0], *begin);
    UNROLL(16)
    for (int j = 0; j < M; j++) {
        sum[j] = vf_fma(vf_from_int(acc[j]), sc.s[0][0], sum[j]);
        if (kind_mins(kind))
            sum[j] = vf_fma(-sc.m[0][0], vf_set1(stream_record(x, n, j, M)->sum[0]), sum[j]);
    }
}

/* The head of a block, or of its second half as if that were a block's first one. */
ALWAYS_INLINE struct group stream_part(struct head *h, const enum kind kind, const uint32_t *w,
                                       const uint8_t *rest, bool second)
{
    *h = (struct head){0};
    read_head(h, kind, w, rest, 0);
    if (second) {
        h->scale[0][0] = h->scale[1][0];
        h->mins[0][0] = h->mins[1][0];
        w += STREAM_GROUPS * CPU_BLOCK / 8 * LADE_TILE; /* of four bits */
    }
    return (struct group){.w = w};
}

/* sum += blocks [b, last) times M tokens, of which x has block b. */
ALWAYS_INLINE void stream_blocks(vf *sum, vf *begin, const enum kind kind, struct source *s,
                                 const struct stretch *in, const struct record *const x[2], int b,
                                 int last, const int M)
{
    const int turn = cpu_min(kind_span(kind), STREAM_GROUPS), parts = kind_span(kind) / turn;
    const struct record *at[2] = {x[0], x[1]};
    uint32_t spare[8 * LADE_TILE];
    for (; b < last; b += kind_span(kind)) {
        const uint32_t *w = next_words(kind, s, spare);
        for (int part = 0; part < parts; part++) {
            struct head h;
            const struct group of = stream_part(&h, kind, w, s->rest, part);
            struct source from = *s;
            from.ahead += part * kind_words(kind) / parts * LADE_TILE * (int)sizeof(*w);
            UNROLL(4)
            for (int g = 0; g < turn; g++) {
                fetch_ahead(kind, &from, g, false);
                stream_group(sum, begin, kind, &of, &h, at, g, g, M);
            }
            at[0] = stream_record(at, turn, 0, M);
            at[1] = at[1] + turn * (M - stream_first(M));
        }
        __builtin_prefetch(s->rest + REST_AHEAD);
        next_scales(kind, s, in);
    }
}

/* A tile times M tokens: out[M][LADE_TILE]. */
ALWAYS_INLINE void stream_tile(float *out, const enum kind kind, const struct lade_matrix *m,
                               const struct lade_matrix_layout *l, int tile,
                               const struct stretch *in, const struct record *const x[2],
                               const int M)
{
    const int blocks = (m->cols - 1) / CPU_BLOCK + 1;
    struct source s = source_at(kind, m, l, tile, in);
    UNROLL(16)
    for (int j = 0; j < M; j++) /* memset() becomes a slow loop, whose stores cannot be forwarded */
        vf_store(out + j * LADE_TILE, (vf){0});
    for (int b = 0; b < blocks; b += BLOCKS) {
        const struct record *at[2] = {stream_record(x, b, 0, M), x[1] + b * (M - stream_first(M))};
        vf sum[STREAM_TOKENS], begin = {0};
        UNROLL(16)
        for (int j = 0; j < M; j++)
            sum[j] = (vf){0};
        stream_blocks(sum, &begin, kind, &s, in, at, b, cpu_min(b + BLOCKS, blocks), M);
        UNROLL(16)
        for (int j = 0; j < M; j++) {
            const vf scale = vf_set1(stream_record(at, 0, j, M)->scale);
            float *to = out + j * LADE_TILE;
            vf_store(to, vf_fma(sum[j] + begin, scale, vf_load(to)));
        }
        __asm__ volatile("" : : "r"(out) : "memory"); /* the same of all of it */
    }
}

#define STREAM(name, tile_times, M)                                                                \
    static void stream_##name##_##M(float *out, const struct lade_matrix *m,                       \
                                    const struct lade_matrix_layout *l, int tile,                  \
                                    const struct stretch *in, const struct record *const x[2])     \
    {                                                                                              \
        tile_times(out, KIND_##name, m, l, tile, in, x, M);                                        \
    }
/* Of three tokens and more. */
#define STREAMS_TO_7(name, tile_times)                                                             \
    STREAM(name, tile_times, 3)                                                                    \
    STREAM(name, tile_times, 4)                                                                    \
    STREAM(name, tile_times, 5)                                                                    \
    STREAM(name, tile_times, 6)                                                                    \
    STREAM(name, tile_times, 7)
#define STREAMS_TO_12(name, tile_times)                                                            \
    STREAMS_TO_7(name, tile_times)                                                                 \
    STREAM(name, tile_times, 8)                                                                    \
    STREAM(name, tile_times, 9)                                                                    \
    STREAM(name, tile_times, 10)                                                                   \
    STREAM(name, tile_times, 11)                                                                   \
    STREAM(name, tile_times, 12)
STREAMS_TO_12(Q4, stream_tile)
STREAMS_TO_12(Q8, stream_tile)
STREAMS_TO_12(Q4_K, stream_tile)
#define TABLE_TO_7(name)                                                                           \
    stream_##name##_3, stream_##name##_4, stream_##name##_5, stream_##name##_6, stream_##name##_7
#define TABLE_TO_12(name)                                                                          \
    TABLE_TO_7(name), stream_##name##_8, stream_##name##_9, stream_##name##_10,                    \
        stream_##name##_11, stream_##name##_12
#else
enum { STREAM_TOKENS = DIRECT_TOKENS };
#define TABLE_TO_7(name)
#define TABLE_TO_12(name)
#endif
