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
};

ALWAYS_INLINE struct source source_at(const enum kind kind, const struct lade_matrix *m,
                                      const struct lade_matrix_layout *l, int tile,
                                      const struct stretch *in)
{
    const char *base = m->data;
    const size_t t = (size_t)tile, groups = (size_t)l->groups * LADE_TILE;
    const bool tiled = kind <= KIND_Q8_ZEROS;
    const char *words = cpu_int16_words(m, l, tile);
    const size_t rest = tiled ? sizeof(uint16_t) : (size_t)l->rest;
    const char *ahead = words + words_ahead(kind);
    return (struct source){
        .ahead = in->next && ahead >= in->end ? in->next + (ahead - in->end) : ahead,
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

/* Asks for group g's share of the block that lies ahead, for the first cache or the second. A core waits for
 * few lines of the first at once, and the inputs of several tokens, which the first does not hold, must not
 * stand behind weights that come from memory. The barrier keeps the compiler from asking for a whole block at
 * once, which is more than a core can have under way. */
ALWAYS_INLINE void fetch_ahead(const enum kind kind, const struct source *s, const int g,
                               const bool first)
{
    const int span = kind_span(kind), words = kind_words(kind);
    for (int i = g * words / span; i < (g + 1) * words / span; i++)
        if (first)
            __builtin_prefetch(s->ahead + i * LADE_TILE * 4, 0, 3);
        else
            __builtin_prefetch(s->ahead + i * LADE_TILE * 4, 0, 2);
    if (span > 1)
        __asm__ volatile("" ::: "memory");
}

/* Steps to the scales of the next block. */
ALWAYS_INLINE void next_scales(const enum kind kind, struct source *s, const struct stretch *in)
{
    const char *ahead = s->ahead + kind_words(kind) * LADE_TILE * 4;
    s->ahead =
        s->ahead < in->end && ahead >= in->end && in->next ? in->next + (ahead - in->end) : ahead;
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

/* sum += block b of the inputs times group g of a block. */
ALWAYS_INLINE void group_times(vf *sum, const enum kind kind, const uint32_t *w,
                               const struct head *h, const uint8_t *zeros, const struct row *x,
                               int b, const int g)
{
    const int parts = kind_fine(kind) ? 2 : 1, quads = 8 / parts, zero = kind_zero(kind);
    struct scales sc;
    struct group of[TILE_VECS];
    EACH_VEC of[v] = group_at(kind, w + v * VL, g);
    UNROLL(2)
    for (int p = 0; p < parts; p++) {
        vi high[TILE_VECS] = {0}, low[TILE_VECS];
        EACH_VEC
        {
            low[v] = (vi){0};
            if (zero >= 0)
                low[v] = ((vi){0} + (parts == 2 ? x->half_minus[2 * b + p] : x->minus[b])) << zero;
            read_scale(&sc, kind, h, zeros, g, p, v);
        }
        UNROLL(8)
        for (int j = 0; j < quads; j++) {
            const int i = p * quads + j;
            const int32_t *q = x->q + (b * 8 + i) * 2;
            EACH_VEC
            {
                vu c = quad(kind, &of[v], g, i);
                high[v] = dot4(high[v], c, (vi){0} + q[0], kind_wide(kind));
                low[v] = dot4(low[v], c, (vi){0} + q[1], kind_wide(kind));
            }
        }
        EACH_VEC
        {
            sum[v] = vf_fma(vf_from_int((high[v] << 7) + low[v]), sc.s[p][v], sum[v]);
            if (kind_mins(kind))
                sum[v] = vf_fma(sc.m[p][v],
                                vf_set1(parts == 2 ? -x->half_sum[2 * b + p] : -x->sum[b]), sum[v]);
        }
    }
}

SPECIALIZED void gemv_tile(float *out, const enum kind kind, const struct lade_matrix *m,
                           const struct lade_matrix_layout *l, int tile, const struct stretch *in,
                           const struct row *x)
{
    const int span = kind_span(kind), blocks = (m->cols - 1) / CPU_BLOCK + 1;
    struct source s = source_at(kind, m, l, tile, in);
    vf total[TILE_VECS] = {0};
    uint32_t spare[8 * LADE_TILE];
    for (int b = 0; b < blocks;) {
        const vf scale = vf_set1(x->scale[b / BLOCKS]);
        vf sum[TILE_VECS] = {0};
        for (int last = cpu_min(b + BLOCKS, blocks); b < last; b += span) {
            struct head h;
            const uint32_t *w = next_block(&h, kind, &s, spare);
            UNROLL(8)
            for (int g = 0; g < span; g++) {
                fetch_ahead(kind, &s, g, true);
                group_times(sum, kind, w, &h, s.zeros, x, b + g, g);
            }
            next_scales(kind, &s, in);
        }
        EACH_VEC total[v] = vf_fma(sum[v], scale, total[v]);
    }
    EACH_VEC vf_store(out + v * VL, total[v]);
}
