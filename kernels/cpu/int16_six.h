/* int16_six.h - a tile of Q6_K times up to seven tokens without a panel; included by int16_impl.h.
 *
 * As int16_stream.h, with two differences. Nine operations make a quad's codes of six bits and multiply them
 * with their scales, and the processor does not look as far ahead as the next quad: so the next one's
 * operations stand between this one's products. And integers of 32 inputs fill 32 bits (kind_full()), so sums
 * of codes are taken away once for each group. With eight tokens a panel's unpacking is shared by enough. */
#if defined(SIMD_AVX512)

enum { SIX_STEPS = 8, SIX_LINES = 26 }; /* of a quad's operations; of words of half a block */

/* Four groups, half a block: where its words are, and the quad under way. */
struct six {
    const vu *low, *high, *scale; /* low four bits, high two bits, scales */
    struct fold f;
    vu codes[PER_QUAD];
};

/* Goes to a half of a block. */
ALWAYS_INLINE void six_at(struct six *s, const uint32_t *block, int half)
{
    const vu *words = (const vu *)(const void *)block;
    s->low = words + 16 * half;
    s->high = words + 32 + 8 * half;
    s->scale = words + 48 + 2 * half;
}

/* One of the operations of quad n. */
ALWAYS_INLINE void six_step(struct six *s, const int n, const int step)
{
    static const uint32_t low_bits = 0x0f0f0f0f, all_bits = 0x3f3f3f3f;
    const int g = n / 8, i = n % 8, part = n / 4;
    const vu *low = s->low + 8 * (g % 2) + i, *high = s->high + i;
    vu *even = &s->codes[0], *odd = &s->codes[1];
    switch (step) {
    case 0:
        if (n % 4 == 0) {
            const vu bytes = s->scale[part / 4];
            s->f =
                (struct fold){spread(bytes, part % 4, false), spread(bytes, part % 4, true), {0}};
            s->f.zero = bytes_times((vu){0} + (0x01010101u << kind_zero(KIND_Q6_K)), s->f.even);
        }
        if (g < 2)
            __asm__ volatile("vmovdqu32 " OF_MEMORY(w) ", %0" : "=v"(*even) : [w] MEMORY(*low));
        else
            __asm__ volatile("vpsrld $4, " OF_MEMORY(w) ", %0" : "=v"(*even) : [w] MEMORY(*low));
        break;
    case 1:
        if (g == 0)
            __asm__ volatile("vpslld $4, " OF_MEMORY(w) ", %0" : "=v"(*odd) : [w] MEMORY(*high));
        else if (g == 1)
            __asm__ volatile("vpslld $2, " OF_MEMORY(w) ", %0" : "=v"(*odd) : [w] MEMORY(*high));
        else if (g == 2)
            __asm__ volatile("vmovdqu32 " OF_MEMORY(w) ", %0" : "=v"(*odd) : [w] MEMORY(*high));
        else
            __asm__ volatile("vpsrld $2, " OF_MEMORY(w) ", %0" : "=v"(*odd) : [w] MEMORY(*high));
        break;
    case 2: /* bits of `even` where the mask has ones, of `odd` elsewhere */
        __asm__ volatile("vpternlogd $0xe4, " OF_MEMORY(bits) "%{1to16%}, %1, %0"
                         : "+v"(*even)
                         : "v"(*odd), [bits] MEMORY(low_bits));
        break;
    case 3:
        __asm__ volatile("vpandd " OF_MEMORY(bits) "%{1to16%}, %0, %0"
                         : "+v"(*even)
                         : [bits] MEMORY(all_bits));
        break;
    case 4:
        __asm__ volatile("vpmaddubsw %2, %1, %0" : "=v"(*odd) : "v"(*even), "v"(s->f.odd));
        break;
    case 5:
        __asm__ volatile("vpmaddubsw %1, %0, %0" : "+v"(*even) : "v"(s->f.even));
        break;
    case 6:
        __asm__ volatile("vpsubw %1, %0, %0" : "+v"(*odd) : "v"(s->f.zero));
        break;
    default:
        __asm__ volatile("vpsubw %1, %0, %0" : "+v"(*even) : "v"(s->f.zero));
    }
}

/* sum += group g times M tokens' blocks, of which x has the first group's; the last one goes on to the
 * words at `then`. */
ALWAYS_INLINE void six_group(vf *sum, struct six *s, vf d, const struct record *const x[2],
                             const char *ahead, const uint32_t *then, int then_half, const int g,
                             const int M)
{
    vi acc[STREAM_TOKENS], products = {0};
    UNROLL(16)
    for (int j = 0; j < M; j++)
        acc[j] = (vi){0} + stream_record(x, g, j, M)->minus[0];
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        const vu c[PER_QUAD] = {s->codes[0], s->codes[1]};
        const int n = 8 * g + i, lines = SIX_LINES;
        if (paired(i))
            products = codes_times(products, c);
        if (n == 31)
            six_at(s, then, then_half);
        if (n * lines / 32 != (n + 1) * lines / 32)
            __asm__ volatile("prefetcht1 " OF_MEMORY(line)
                             :
                             : [line] MEMORY(ahead[n * lines / 32 * 64]));
        UNROLL(16)
        for (int j = 0; j < M; j++) {
            acc[j] = quad_times(acc[j], c, stream_record(x, g, j, M)->q[i], paired(i));
            UNROLL(4)
            for (int k = j * SIX_STEPS / M; k < (j + 1) * SIX_STEPS / M; k++)
                six_step(s, (n + 1) % 32, k);
        }
    }
    UNROLL(16)
    for (int j = 0; j < M; j++)
        sum[j] = vf_fma(vf_from_int((vi)((vu)acc[j] - (vu)products)), d, sum[j]);
}

/* stream_tile() of Q6_K. */
ALWAYS_INLINE void six_tile(float *out, const enum kind kind, const struct lade_matrix *m,
                            const struct lade_matrix_layout *l, int tile, const struct stretch *in,
                            const struct record *const x[2], const int M)
{
    const int blocks = (m->cols - 1) / CPU_BLOCK + 1;
    const struct record *at[2] = {x[0], x[1]};
    struct source s = source_at(kind, m, l, tile, in);
    struct six six = {0}; /* gcc does not see, without optimisation, that the steps set all of it */
    UNROLL(16)
    for (int j = 0; j < M; j++)
        vf_store(out + j * LADE_TILE, (vf){0});
    six_at(&six, s.words, 0);
    UNROLL(8)
    for (int k = 0; k < SIX_STEPS; k++)
        six_step(&six, 0, k);
    for (int b = 0; b < blocks; b += BLOCKS) {
        const uint32_t *w = next_words(kind, &s, NULL);
        const vf d = vf_load_f16((const uint16_t *)(const void *)s.rest);
        const struct record *first[2] = {at[0], at[1]};
        vf sum[STREAM_TOKENS];
        UNROLL(16)
        for (int j = 0; j < M; j++)
            sum[j] = (vf){0};
        for (int half = 0; half < 2; half++) {
            const char *ahead = s.ahead + half * SIX_LINES * 64;
            const uint32_t *then = half && b + BLOCKS < blocks ? s.words : w;
            UNROLL(4)
            for (int g = 0; g < 4; g++)
                six_group(sum, &six, d, at, ahead, then, !half, g, M);
            at[0] += 4 * stream_first(M);
            at[1] += 4 * (M - stream_first(M));
        }
        __builtin_prefetch(s.rest + REST_AHEAD);
        next_scales(kind, &s, in);
        UNROLL(16)
        for (int j = 0; j < M; j++) {
            float *to = out + j * LADE_TILE;
            vf_store(to,
                     vf_fma(sum[j], vf_set1(stream_record(first, 0, j, M)->scale), vf_load(to)));
        }
    }
}

STREAMS_TO_7(Q6_K, six_tile)
#endif
