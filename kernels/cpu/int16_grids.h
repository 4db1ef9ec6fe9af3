/* int16_grids.h - ggml's formats in which a code stands for a point of a lattice: 4 or 8 inputs at
 * once (kernels/codebooks.h); included by int16_codes.h.
 *
 * A group of 32 inputs has four codes of 8 to 11 bits, or eight of 8 or 9, and a sign for each input
 * (IQ1: one shift for each 8 inputs, which is treated as their common sign). An input's *index* is its
 * value's number in the lattice's list of values with its sign above that; 16 code bytes, one for each
 * index, are looked up in a register.
 *
 * A point is 16 bits, eight values of two bits or four of three. With byte permutes (VBMI) 64
 * codes are looked up at once in tables that stay in the first cache, the points' low and high bytes
 * in two planes (planes.h); others take one lane's point at a time, AVX2 with its values looked up already. */
#include "kernels/codebooks.h"
#include "kernels/cpu/planes.h"

/* One vector of lanes of a group: its eight quads' indices, a byte for each input; codes, where GRID_CODES. */
struct group {
    const uint32_t *w; /* as for quad(): all that other kinds need */
    vu index[8];
};

ALWAYS_INLINE bool kind_grid(const enum kind k)
{
    return k >= KIND_IQ1_S;
}

/* Values of three bits, points of four inputs. */
ALWAYS_INLINE bool grid_short(const enum kind k)
{
    return k == KIND_IQ3_XXS || k == KIND_IQ3_S;
}

/* Whether a block's groups are a loop: unrolled, they would be code that a core must read as often as it runs. */
ALWAYS_INLINE bool kind_rolls(const enum kind k)
{
#if defined(SIMD_AVX2)
    return kind_grid(k);
#else
    (void)k;
    return false;
#endif
}

/* A code byte for each index. */
ALWAYS_INLINE const uint8_t *grid_values(const enum kind k)
{
    return k == KIND_IQ3_XXS   ? cpu_iq3xxs_values
           : k == KIND_IQ3_S   ? cpu_iq3s_values
           : k >= KIND_IQ2_XXS ? cpu_iq2_values
                               : cpu_iq1_values;
}

/* ---- codes and signs ------------------------------------------------------------------------- */

/* One vector of lanes of a group: four codes (twice four where points are short) as low bytes and what
 * is above them, and the signs, a bit for each input. */
struct picks {
    vu low[2], high[2], signs;
};

/* Fields of 2, 3 and 4 bits to four bytes. */
ALWAYS_INLINE vu spread2(vu x)
{
    x = (x | x << 12) & 0x000f000fu;
    return (x | x << 6) & 0x03030303u;
}

ALWAYS_INLINE vu spread3(vu x)
{
    x = (x | x << 10) & 0x003f003fu;
    return (x | x << 5) & 0x07070707u;
}

ALWAYS_INLINE vu spread4(vu x)
{
    x = (x | x << 8) & 0x00ff00ffu;
    return (x | x << 4) & 0x0f0f0f0fu;
}

/* Bits 4i .. 4i + 3 to the lowest bits of four bytes. */
ALWAYS_INLINE vu spread1(vu x, const int i)
{
    return (x >> 4 * i & 15) * 0x00204081u & 0x01010101u;
}

/* The eighth sign of each byte makes the number of ones even. */
ALWAYS_INLINE vu even_signs(vu seven)
{
    vu x = seven ^ seven >> 4;
    x ^= x >> 2;
    x ^= x >> 1;
    return seven | (x & 0x01010101u) << 7;
}

/* Four sign codes of 7 bits. */
ALWAYS_INLINE vu packed_signs(vu x)
{
    return even_signs((x & 0x7fu) | (x << 1 & 0x7f00u) | (x << 2 & 0x7f0000u) |
                      (x << 3 & 0x7f000000u));
}

/* The even bytes of a and of b. */
ALWAYS_INLINE vu even_bytes(vu a, vu b)
{
    return (a & 0xffu) | (a >> 8 & 0xff00u) | (b & 0xffu) << 16 | (b << 8 & 0xff000000u);
}

ALWAYS_INLINE struct picks picks_of(const enum kind kind, const uint32_t *w, const int g)
{
    struct picks p = {0};
#define W(n) vu_load(w + (n)*LADE_TILE)
    switch (kind) {
    case KIND_IQ1_S: {
        const vu more = W(8 + g / 2) >> 16 * (g % 2);
        p.low[0] = W(g);
        p.high[0] = spread3(more & 0xfffu);
        p.signs = -(more >> 15 & 1);
        break;
    }
    case KIND_IQ1_M: {
        const vu more = spread4(W(8 + g / 2) >> 16 * (g % 2) & 0xffffu);
        p.low[0] = W(g);
        p.high[0] = more & 0x07070707u;
        p.signs = (more >> 3 & 0x01010101u) * 255;
        break;
    }
    case KIND_IQ2_XXS:
        p.low[0] = W(2 * g);
        p.signs = packed_signs(W(2 * g + 1));
        break;
    case KIND_IQ2_XS: {
        const vu more = even_bytes(W(2 * g) >> 8, W(2 * g + 1) >> 8);
        p.low[0] = even_bytes(W(2 * g), W(2 * g + 1));
        p.high[0] = more & 0x01010101u;
        p.signs = even_signs(more >> 1 & 0x7f7f7f7fu);
        break;
    }
    case KIND_IQ2_S:
        p.low[0] = W(g);
        p.high[0] = spread2(W(16 + g / 4) >> 8 * (g % 4) & 0xffu);
        p.signs = W(8 + g);
        break;
    case KIND_IQ3_XXS:
        p.low[0] = W(2 * g);
        p.low[1] = W(2 * g + 1);
        p.signs = packed_signs(W(16 + g));
        break;
    case KIND_IQ3_S:
        p.low[0] = W(2 * g);
        p.low[1] = W(2 * g + 1);
        p.high[0] = spread1(W(16 + g / 4), g % 4 * 2);
        p.high[1] = spread1(W(16 + g / 4), g % 4 * 2 + 1);
        p.signs = W(18 + g);
        break;
    default:
        break;
    }
#undef W
    return p;
}

/* ---- points, lane by lane, as codes -------------------------------------------------------- */

#if defined(SIMD_AVX2)

/* Tables of codes instead of points: a load brings four or eight inputs, and nothing is left to do but signs. A
 * gather takes as long as these loads, and points would have to be spread. */
enum { GRID_CODES = 1 };

ALWAYS_INLINE const uint64_t *grid_codes8(const enum kind k)
{
    switch (k) {
    case KIND_IQ2_XXS:
        return cpu_iq2xxs_codes;
    case KIND_IQ2_XS:
        return cpu_iq2xs_codes;
    case KIND_IQ2_S:
        return cpu_iq2s_codes;
    default:
        return cpu_iq1_codes;
    }
}

/* The quads of one code of each lane: two, or one where points are short. */
ALWAYS_INLINE void codes_at(vu quad[2], const enum kind k, vu code)
{
    uint32_t c[VL];
    memcpy(c, &code, sizeof(c));
    if (grid_short(k)) {
        const uint32_t *book = k == KIND_IQ3_S ? cpu_iq3s_codes : cpu_iq3xxs_codes;
        quad[0] = (vu){book[c[0]], book[c[1]], book[c[2]], book[c[3]],
                       book[c[4]], book[c[5]], book[c[6]], book[c[7]]};
        return;
    }
    const uint64_t *book = grid_codes8(k);
#define FOUR(i, j, k, l)                                                                           \
    (__m256) _mm256_setr_epi64x((long long)book[c[i]], (long long)book[c[j]],                      \
                                (long long)book[c[k]], (long long)book[c[l]])
    const __m256 a = FOUR(0, 1, 4, 5), b = FOUR(2, 3, 6, 7);
#undef FOUR
    quad[0] = (vu)_mm256_shuffle_ps(a, b, 0x88);
    quad[1] = (vu)_mm256_shuffle_ps(a, b, 0xdd);
}

/* Codes of quad i with their signs: 2^(zero + 1) less what they were, or 2 less where a sign is a shift. */
ALWAYS_INLINE vu with_signs(vu codes, const enum kind k, vu signs, const int i)
{
    const vu bits = (vu){0} + (0x08040201u << 4 * (i % 2));
    vu index;
    UNROLL(8)
    for (int l = 0; l < VL; l++)
        index[l] = (uint32_t)(4 * (l % 4) + i / 2) * 0x01010101u;
    const vu of = (vu)_mm256_shuffle_epi8((__m256i)signs, (__m256i)index) & bits;
    const vu set = (vu)_mm256_cmpeq_epi8((__m256i)of, (__m256i)bits);
    const bool shift = k == KIND_IQ1_S || k == KIND_IQ1_M;
    const uint8_t more = shift ? 254 : (uint8_t)((2 << kind_zero(k)) + 1);
    return (vu)_mm256_add_epi8((__m256i)(shift ? codes : codes ^ set),
                               (__m256i)(set & more * 0x01010101u));
}

/* Quads `first` and on of a group: those of one code of each lane. */
ALWAYS_INLINE void put_point(struct group *out, const enum kind kind, vu code, vu signs,
                             const int first)
{
    const int each = grid_short(kind) ? 1 : 2; /* quads of a point */
    vu quad[2];
    codes_at(quad, kind, code);
    UNROLL(2)
    for (int i = 0; i < each; i++)
        out->index[first + i] = with_signs(quad[i], kind, signs, first + i);
}
#else
enum { GRID_CODES = 0 };

ALWAYS_INLINE const uint16_t *grid_book(const enum kind k)
{
    switch (k) {
    case KIND_IQ2_XXS:
        return lade_iq2xxs_grid;
    case KIND_IQ2_XS:
        return lade_iq2xs_grid;
    case KIND_IQ2_S:
        return lade_iq2s_grid;
    case KIND_IQ3_XXS:
        return lade_iq3xxs_grid;
    case KIND_IQ3_S:
        return lade_iq3s_grid;
    default:
        return lade_iq1_grid;
    }
}

/* The points of one code of each lane, above them whatever. */
ALWAYS_INLINE vu points_at(const uint16_t *book, vu code)
{
    /* Two points are read at once, so that nothing past the book is. */
#if defined(SIMD_AVX512)
    const vu pairs = (vu)_mm512_i32gather_epi32((__m512i)(code >> 1), book, 4);
    return pairs >> (code << 4 & 16);
#else
    uint32_t c[VL];
    memcpy(c, &code, sizeof(c));
    for (int i = 0; i < VL; i++)
        c[i] = book[c[i]];
    return vu_load(c);
#endif
}

/* As above. */
ALWAYS_INLINE void put_point(struct group *out, const enum kind kind, vu code, vu signs,
                             const int first)
{
    const int each = grid_short(kind) ? 1 : 2; /* quads of a point */
    const vu point = points_at(grid_book(kind), code);
    UNROLL(2)
    for (int i = first; i < first + each; i++) {
        const vu value =
            each == 1 ? spread3(point & 0xfffu) : spread2(point >> 8 * (i % 2) & 0xffu);
        out->index[i] = value | spread1(signs, i) << (each == 1 ? 3 : 2);
    }
}
#endif

ALWAYS_INLINE void lanes_group(struct group *out, const enum kind kind, const struct picks *p)
{
    const int each = grid_short(kind) ? 1 : 2; /* quads of a point */
    UNROLL(8)
    for (int n = 0; n < 8 / each; n++) {
        const int shift = 8 * (n % 4);
        put_point(out, kind, (p->low[n / 4] >> shift & 0xffu) | (p->high[n / 4] >> shift & 7) << 8,
                  p->signs, n * each);
    }
}

/* ---- points, 64 at once ---------------------------------------------------------------------- */

#if defined(SIMD_AVX512)

/* Instructions of VBMI, which a processor with the rest of SIMD_AVX512 may lack: written out, because
 * the compiler does not take them in a file that may use them only in places. */

/* table[byte mod 128] */
ALWAYS_INLINE __m512i permute128(__m512i index, const uint8_t *table)
{
    const __m512i low = _mm512_load_si512(table);
    __asm__("vpermi2b %2, %1, %0" : "+v"(index) : "v"(low), "m"(*(const __m512i *)(table + 64)));
    return index;
}

/* Each byte from 8 bits of its half of the lane pair, rotated: from bit control[byte] on. */
ALWAYS_INLINE __m512i shift_bytes(__m512i control, __m512i x)
{
    __m512i out;
    __asm__("vpmultishiftqb %2, %1, %0" : "=v"(out) : "v"(control), "v"(x));
    return out;
}

/* plane[code], codes of 8 bits and what is above. */
ALWAYS_INLINE __m512i plane_at(const uint8_t *plane, const int entries, __m512i low, __m512i high)
{
    __m512i part[16];
    const int parts = entries / 128;
    UNROLL(16)
    for (int i = 0; i < parts; i++)
        part[i] = permute128(low, plane + 128 * i);
    UNROLL(4)
    for (int bit = 0; 1 << bit < parts; bit++) {
        const __mmask64 odd =
            bit ? _mm512_test_epi8_mask(high, _mm512_set1_epi8((char)(1 << (bit - 1))))
                : _mm512_movepi8_mask(low);
        UNROLL(8)
        for (int i = 0; i < parts >> (bit + 1); i++)
            part[i] = _mm512_mask_blend_epi8(odd, part[2 * i], part[2 * i + 1]);
    }
    return part[0];
}

/* Four fields of `bits` for each 32-bit lane, from bit `at` on; in the upper lane of a pair from bit
 * at + step on. */
ALWAYS_INLINE __m512i fields(const int at, const int bits, const int step)
{
    uint64_t control = 0;
    for (int j = 0; j < 8; j++)
        control |= (uint64_t)((at + bits * (j % 4) + step * (j / 4)) & 63) << 8 * j;
    return _mm512_set1_epi64((long long)control);
}

struct planes {
    const uint8_t *bytes;
    int entries;
};

ALWAYS_INLINE struct planes grid_planes(const enum kind k)
{
    switch (k) {
    case KIND_IQ2_XXS:
        return (struct planes){cpu_iq2xxs_planes, 256};
    case KIND_IQ2_XS:
        return (struct planes){cpu_iq2xs_planes, 512};
    case KIND_IQ2_S:
        return (struct planes){cpu_iq2s_planes, 1024};
    case KIND_IQ3_XXS:
        return (struct planes){cpu_iq3xxs_planes, 256};
    case KIND_IQ3_S:
        return (struct planes){cpu_iq3s_planes, 512};
    default:
        return (struct planes){cpu_iq1_planes, 2048};
    }
}

ALWAYS_INLINE void permute_group(struct group *out, const enum kind kind, const struct picks *p)
{
    const struct planes planes = grid_planes(kind);
    const int bits = grid_short(kind) ? 3 : 2, codes = bits - 1;
    const __m512i value = _mm512_set1_epi8((char)((1 << bits) - 1)), nibble = _mm512_set1_epi8(15);
    __m512i
        point[8]; /* in the bytes of quad i's lanes: from bit 8 * (i / 2) on, or in all of them */
    UNROLL(2)
    for (int n = 0; n < codes; n++) {
        const __m512i low = (__m512i)p->low[n], high = (__m512i)p->high[n];
        const __m512i first = plane_at(planes.bytes, planes.entries, low, high);
        const __m512i second = plane_at(planes.bytes + planes.entries, planes.entries, low, high);
        if (bits == 2) {
            UNROLL(8)
            for (int i = 0; i < 8; i++)
                point[i] = shift_bytes(fields(8 * (i / 2), 2, 32), i % 2 ? second : first);
            continue;
        }
        /* Points of 16 bits: two lanes have those of one lane, so two quads come out beside each
         * other. */
        const __m512i a = _mm512_unpacklo_epi8(first, second);
        const __m512i b = _mm512_unpackhi_epi8(first, second);
        UNROLL(2)
        for (int i = 0; i < 4; i += 2) {
            const __m512i at = fields(16 * i, 3, 16);
            const __m512 x = (__m512)shift_bytes(at, a), y = (__m512)shift_bytes(at, b);
            point[4 * n + i] = (__m512i)_mm512_shuffle_ps(x, y, 0x88);
            point[4 * n + i + 1] = (__m512i)_mm512_shuffle_ps(x, y, 0xdd);
        }
    }
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        const __m512i sign = shift_bytes(fields(4 * i - bits, 1, 32), (__m512i)p->signs);
        const __m512i both = _mm512_ternarylogic_epi32(value, point[i], sign, 0xca);
        out->index[i] = (vu)_mm512_and_si512(both, nibble);
    }
}
#endif

/* Group g of a block; w as for quad(). */
ALWAYS_INLINE struct group group_at(const enum kind kind, const uint32_t *w, const int g)
{
    struct group out;
    out.w = w;
    if (!kind_grid(kind))
        return out;
    const struct picks p = picks_of(kind, w, g);
#if defined(SIMD_AVX512)
    if (__builtin_cpu_supports("avx512vbmi")) {
        permute_group(&out, kind, &p);
        return out;
    }
#endif
    lanes_group(&out, kind, &p);
    return out;
}
