/* int16_tile.h - the walk over a tile's blocks, and its product with one token; included by
 * int16_impl.h. Codes go from memory to registers and into the products. */

enum { REST_AHEAD = 512 };

/* Memory answers so late that what is read must be asked for this many bytes before. Codes of 8 bits
 * are through soonest: asked for as early as the others they read at 0.85 of memory's speed, not
 * 0.97. */
ALWAYS_INLINE size_t words_ahead(const enum kind kind)
{
    return kind == KIND_Q8 || kind == KIND_Q8_ZEROS ? 6 << 10 : 12 << 10;
}

/* Tiles that are read in one go, and what is read after them. */
struct stretch {
    const char *end, *next; /* end of their words; next: NULL if it is not known */
};

/* A tile and the walk over its blocks. */
struct source {
    const uint32_t *words; /* of lane 0 */
    const uint8_t *rest;   /* scales of tiles, rests of blocks */
    const uint8_t *zeros;
    int valid;         /* words of tiles that are there; all of them for blocks */
    int group, until;  /* tiles: inputs of a group, inputs before the next scale */
    size_t rest_step;  /* bytes to the next block's rest */
    const char *ahead; /* what to ask for while the next block is computed */
    const char *far;   /* one token: what to ask the second cache for besides */
};

ALWAYS_INLINE size_t block_bytes(const enum kind kind)
{
    return (size_t)kind_words(kind) * LADE_TILE * sizeof(uint32_t);
}

/* Past the end of a stretch comes the beginning of the next one. */
ALWAYS_INLINE const char *further(const char *from, size_t bytes, const struct stretch *in)
{
    const char *to = from + bytes;
    return from < in->end && to >= in->end && in->next ? in->next + (to - in->end) : to;
}

ALWAYS_INLINE struct source source_at(const enum kind kind, const struct lade_matrix *m,
                                      const struct lade_matrix_layout *l, int tile,
                                      const struct stretch *in)
{
    const char *base = m->data;
    const size_t t = (size_t)tile, groups = (size_t)l->groups * LADE_TILE;
    const bool tiled = kind <= KIND_Q8_ZEROS;
    const char *words = cpu_int16_words(m, l, tile);
    const size_t rest = tiled ? sizeof(uint16_t) : (size_t)l->rest;
    return (struct source){
        .ahead = further(words, words_ahead(kind), in),
        .words = (const uint32_t *)(const void *)words,
        .rest = cpu_int16_rest(m, l, tile),
        .zeros = (const uint8_t *)base + l->zeros + t * groups,
        .valid = tiled ? l->words : INT32_MAX,
        .group = m->group,
        .until = m->group,
        .rest_step = rest * LADE_TILE,
    };
}

/* The words of the next block, from `spare` where the matrix ends inside it. */
ALWAYS_INLINE const uint32_t *next_words(const enum kind kind, struct source *s, uint32_t *spare)
{
    const uint32_t *w = s->words;
    const int n = kind_words(kind);
    if (kind <= KIND_Q8_ZEROS && s->valid < n) {
        memset(spare, 0, (size_t)n * LADE_TILE * sizeof(*spare));
        memcpy(spare, w, (size_t)(s->valid > 0 ? s->valid : 0) * LADE_TILE * sizeof(*spare));
        w = spare;
    }
    s->words += n * LADE_TILE;
    s->valid -= n;
    return w;
}

/* The same, with the heads of its columns in *h; asks for what lies beside the words of later blocks. */
ALWAYS_INLINE const uint32_t *next_block(struct head *h, const enum kind kind, struct source *s,
                                         uint32_t *spare)
{
    const uint32_t *w = next_words(kind, s, spare);
    *h = (struct head){0};
    EACH_VEC read_head(h, kind, w + v * VL, s->rest, v);
    __builtin_prefetch(s->rest + REST_AHEAD);
    return w;
}

/* Asks for part i of `parts` of the block at `at`, for the first cache or the second. */
ALWAYS_INLINE void fetch_part(const enum kind kind, const char *at, const int i, const int parts,
                              const bool first)
{
    const int words = kind_words(kind);
    for (int n = i * words / parts; n < (i + 1) * words / parts; n++)
        if (first)
            __builtin_prefetch(at + n * LADE_TILE * 4, 0, 3);
        else
            __builtin_prefetch(at + n * LADE_TILE * 4, 0, 2);
}

/* Asks for group g's share of the block that lies ahead, for the first cache or the second. A core waits for
 * few lines of the first at once, and the inputs of several tokens, which the first does not hold, must not
 * stand behind weights that come from memory. The barrier keeps the compiler from asking for a whole block at
 * once, which is more than a core can have under way. */
ALWAYS_INLINE void fetch_ahead(const enum kind kind, const struct source *s, const int g,
                               const bool first)
{
    const int span = kind_span(kind);
    fetch_part(kind, s->ahead, g, span, first);
    if (span > 1)
        __asm__ volatile("" ::: "memory");
}

/* Steps to the scales of the next block. */
ALWAYS_INLINE void next_scales(const enum kind kind, struct source *s, const struct stretch *in)
{
    s->ahead = further(s->ahead, block_bytes(kind), in);
    if (kind > KIND_Q8_ZEROS) {
        s->rest += s->rest_step;
        return;
    }
    s->until -= CPU_BLOCK;
    if (s->until <= 0 && s->valid > 0) {
        s->until = s->group;
        s->rest += s->rest_step;
        s->zeros += LADE_TILE;
    }
}

/* ---- one token ------------------------------------------------------------------------------- */

/* Lines are asked for one by one, NEAR bytes before they are read, while codes are multiplied: a core waits for
 * few lines of the first cache at once, and the second one's own reading ahead follows them as long as they
 * come in order. Blocks of 6 bits are not read in order (the end first, then three parts in turns): there the
 * second cache is asked for what comes FAR bytes later, which experts of tiles of 4 bits gain by, too. */
enum { NEAR = 4 << 10, FAR = 48 << 10 };

ALWAYS_INLINE bool kind_far(const enum kind k)
{
    return k == KIND_Q4 || k == KIND_Q4_ZEROS || k == KIND_Q6_K;
}

/* acc + codes times their inputs. */
ALWAYS_INLINE vi quad_by(vi acc, vu codes, const int32_t *x, const enum kind kind)
{
#if defined(SIMD_AVX512)
    (void)kind;
    return step_bytes(acc, codes, x);
#else
    acc = dot4(acc, codes, (vi){0} + *x, kind_wide(kind));
    KEEP(acc); /* gcc else makes all products first, then their sum */
    return acc;
#endif
}

/* What groups add up to, in blocks of 256 before the block's scale and minimum. Of a turn's groups the second
 * one's sums are sixteen times as large. */
struct block_sum {
    vf sum[MOST_TURN][TILE_VECS];
    vf less[TILE_VECS];
};

/* Adds blocks [b, b + turn) of the inputs times groups [g, g + turn) of a block. */
ALWAYS_INLINE void turn_times(struct block_sum *to, const enum kind kind, const uint32_t *w,
                              const struct head *h, const struct source *s, const struct row *x,
                              int b, const int g)
{
    const int parts = kind_fine(kind) ? 2 : 1, turn = kind_turn(kind), quads = 8 / parts;
    const int zero = kind_zero(kind);
    const int32_t *q = x->q + (size_t)b * CPU_BLOCK / 2;
    const int32_t *minus = parts == 2 ? x->half_minus + 2 * b : x->minus + b;
    const float *all = parts == 2 ? x->half_sum + 2 * b : x->sum + b;
    struct group of[TILE_VECS];
    EACH_VEC of[v] = group_at(kind, w + v * VL, g);
    UNROLL(2)
    for (int p = 0; p < parts; p++) {
        vi high[MOST_TURN][TILE_VECS], low[MOST_TURN][TILE_VECS];
        UNROLL(2)
        for (int k = 0; k < turn; k++)
            EACH_VEC
            {
                high[k][v] = (vi){0};
                low[k][v] = zero < 0 ? (vi){0} : ((vi){0} + minus[k * parts + p]) << zero;
            }
        UNROLL(8)
        for (int i = p * quads; i < (p + 1) * quads; i++) {
            const int part = g / turn * 8 + i, of_block = kind_span(kind) / turn * 8;
            if (kind_far(kind))
                fetch_part(kind, s->far, part, of_block, false);
            if (!kind_rolls(kind))
                fetch_part(kind, s->ahead, part, of_block, true);
            else if (i == 0) /* one loop instead of eight, whose bounds are not constant */
                fetch_part(kind, s->ahead, g, kind_span(kind), true);
            __asm__ volatile("" ::: "memory"); /* or the compiler gathers them */
            EACH_VEC
            {
                vu c[MOST_TURN];
                turn_quads(c, kind, &of[v], g, i);
                UNROLL(2)
                for (int k = 0; k < turn; k++) {
                    high[k][v] = quad_by(high[k][v], c[k], q + 2 * (8 * k + i), kind);
                    low[k][v] = quad_by(low[k][v], c[k], q + 2 * (8 * k + i) + 1, kind);
                }
            }
        }
        UNROLL(2)
        for (int k = 0; k < turn; k++)
            EACH_VEC
            {
                struct scales sc;
                vf *sum = &to->sum[k][v];
                read_scale(&sc, kind, h, s->zeros, g + k, p, v);
                *sum = vf_fma(vf_from_int((high[k][v] << 7) + low[k][v]), sc.s[p][v], *sum);
                if (kind_mins(kind))
                    to->less[v] = vf_fma(sc.m[p][v], vf_set1(all[k * parts + p]), to->less[v]);
            }
    }
}

/* A block's scale and minimum, which its groups then leave out. */
ALWAYS_INLINE void take_scale(vf *d, vf *min, struct head *h)
{
    EACH_VEC
    {
        d[v] = h->d[v];
        min[v] = h->min[v];
        h->d[v] = h->min[v] = vf_set1(1);
    }
}

SPECIALIZED void gemv_tile(float *out, const enum kind kind, const struct lade_matrix *m,
                           const struct lade_matrix_layout *l, int tile, const struct stretch *in,
                           const struct row *x)
{
    const int span = kind_span(kind), blocks = (m->cols - 1) / CPU_BLOCK + 1;
    struct source s = source_at(kind, m, l, tile, in);
    s.ahead = further((const char *)s.words, NEAR, in);
    s.far = further((const char *)s.words, FAR, in);
    vf total[TILE_VECS] = {0};
    uint32_t spare[8 * LADE_TILE];
    for (int b = 0; b < blocks;) {
        const vf scale = vf_set1(x->scale[b / BLOCKS]);
        struct block_sum sum = {0};
        vf d[TILE_VECS], min[TILE_VECS];
        EACH_VEC d[v] = min[v] = vf_set1(1);
        for (int last = cpu_min(b + BLOCKS, blocks); b < last; b += span) {
            struct head h;
            const uint32_t *w = next_block(&h, kind, &s, spare);
            if (span > 1)
                take_scale(d, min, &h);
            if (kind_rolls(kind)) {
                for (int g = 0; g < span; g++)
                    turn_times(&sum, kind, w, &h, &s, x, b + g, g);
            } else {
                UNROLL(8)
                for (int g = 0; g < span; g += kind_turn(kind))
                    turn_times(&sum, kind, w, &h, &s, x, b + g, g);
            }
            next_scales(kind, &s, in);
            s.far = further(s.far, block_bytes(kind), in);
        }
        EACH_VEC
        {
            vf of = sum.sum[0][v];
            if (kind_turn(kind) == 2)
                of = vf_fma(sum.sum[1][v], vf_set1(1.0f / 16), of);
            of *= d[v];
            if (kind_mins(kind))
                of = vf_fma(-sum.less[v], min[v], of);
            total[v] = vf_fma(of, scale, total[v]);
        }
    }
    EACH_VEC vf_store(out + v * VL, total[v]);
}
