#include "engine/checkpoint/gguf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/scan.h"

enum { NAME = 160, MAX_NAME = 1024, MAX_ENTRIES = 1 << 16, MAX_DEPTH = 4, SHORT = 1 };
#define MAX_HEADER ((uint64_t)1 << 30)

#define QUOTE(text) lade_printable((char[NAME]){0}, NAME, (text).at, (text).len)

static const uint8_t scalar_bytes[LADE_GGUF_N_TYPES] = {
    [LADE_GGUF_U8] = 1,  [LADE_GGUF_I8] = 1,  [LADE_GGUF_U16] = 2, [LADE_GGUF_I16] = 2,
    [LADE_GGUF_U32] = 4, [LADE_GGUF_I32] = 4, [LADE_GGUF_F32] = 4, [LADE_GGUF_BOOL] = 1,
    [LADE_GGUF_U64] = 8, [LADE_GGUF_I64] = 8, [LADE_GGUF_F64] = 8,
};

/* ggml's numbers of its tensor types. */
static const struct {
    uint32_t id;
    uint8_t dtype;
} ggml_types[] = {
    {0, LADE_DT_F32},      {1, LADE_DT_F16},     {2, LADE_DT_Q4_0},     {3, LADE_DT_Q4_1},
    {6, LADE_DT_Q5_0},     {7, LADE_DT_Q5_1},    {8, LADE_DT_Q8_0},     {10, LADE_DT_Q2_K},
    {11, LADE_DT_Q3_K},    {12, LADE_DT_Q4_K},   {13, LADE_DT_Q5_K},    {14, LADE_DT_Q6_K},
    {16, LADE_DT_IQ2_XXS}, {17, LADE_DT_IQ2_XS}, {18, LADE_DT_IQ3_XXS}, {19, LADE_DT_IQ1_S},
    {20, LADE_DT_IQ4_NL},  {21, LADE_DT_IQ3_S},  {22, LADE_DT_IQ2_S},   {23, LADE_DT_IQ4_XS},
    {26, LADE_DT_I32},     {28, LADE_DT_F64},    {29, LADE_DT_IQ1_M},   {30, LADE_DT_BF16},
    {39, LADE_DT_MXFP4},
};

/* Types that are not read, so that they can be named; from 133 on those of ik_llama.cpp. */
static const struct {
    uint32_t id;
    const char *name;
} other_types[] = {
    {9, "Q8_1"},      {15, "Q8_K"},     {24, "I8"},       {25, "I16"},      {27, "I64"},
    {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {34, "TQ1_0"},    {35, "TQ2_0"},
    {40, "NVFP4"},    {41, "Q1_0"},     {42, "Q2_0"},     {133, "Q6_0"},    {134, "IQ1_BN"},
    {135, "IQ2_BN"},  {137, "IQ2_K"},   {138, "IQ3_K"},   {139, "IQ4_K"},   {140, "IQ5_K"},
    {141, "IQ6_K"},   {144, "IQ4_KS"},  {145, "IQ2_KS"},  {146, "IQ4_KSS"}, {152, "IQ5_KS"},
    {153, "IQ2_KT"},  {154, "IQ3_KT"},  {155, "IQ4_KT"},  {156, "IQ3_KS"},  {157, "IQ2_KL"},
    {158, "IQ1_KT"},
};

/* ---- a cursor over the header ---------------------------------------------------------------- */

/* Sticky: after the first read past the end everything reads as zero. */
struct cursor {
    struct lade_gguf *g;
    const char *buf;
    size_t len, at;
    bool over;
    char *err;
};

static const char *take(struct cursor *c, uint64_t n)
{
    if (c->over || n > c->len - c->at) {
        c->over = true;
        return NULL;
    }
    const char *p = c->buf + c->at;
    c->at += (size_t)n;
    return p;
}

static uint64_t number(const char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | (unsigned char)p[i];
    return v;
}

static uint64_t read_number(struct cursor *c, int bytes)
{
    const char *p = take(c, (uint64_t)bytes);
    return p ? number(p, bytes) : 0;
}

static struct lade_gguf_text read_text(struct cursor *c)
{
    uint64_t n = read_number(c, 8);
    const char *p = take(c, n);
    return p ? (struct lade_gguf_text){p, (size_t)n} : (struct lade_gguf_text){"", 0};
}

/* What a cursor past its end means: the caller should read more, or the file is too short. */
static int ran_out(struct cursor *c)
{
    if (c->len < c->g->file_bytes && c->len < MAX_HEADER)
        return SHORT;
    return lade_fail(c->err,
                     "%s: its header does not end within the file's %" PRIu64
                     " bytes; download the file again",
                     c->g->file, c->g->file_bytes);
}

/* ---- metadata -------------------------------------------------------------------------------- */

/* Skips n values of a type. Returns false where the type is unknown. */
static bool skip_values(struct cursor *c, uint32_t type, uint64_t n, int depth)
{
    uint64_t bytes;
    if (type >= LADE_GGUF_N_TYPES)
        return false;
    if (scalar_bytes[type]) {
        if (__builtin_mul_overflow(n, (uint64_t)scalar_bytes[type], &bytes))
            bytes = UINT64_MAX;
        take(c, bytes);
        return true;
    }
    for (uint64_t i = 0; i < n && !c->over; i++) {
        if (type == LADE_GGUF_STRING) {
            read_text(c);
        } else if (type == LADE_GGUF_ARRAY && depth < MAX_DEPTH) {
            uint32_t element = (uint32_t)read_number(c, 4);
            uint64_t count = read_number(c, 8);
            if (!skip_values(c, element, count, depth + 1))
                return false;
        } else {
            return false; /* nested too deep */
        }
    }
    return true;
}

static int read_entry(struct cursor *c, struct lade_gguf_entry *e)
{
    *e = (struct lade_gguf_entry){.key = read_text(c)};
    uint32_t type = (uint32_t)read_number(c, 4), element = type;
    uint64_t count = 1;
    if (type == LADE_GGUF_ARRAY) {
        element = (uint32_t)read_number(c, 4);
        count = read_number(c, 8);
    }
    const size_t start = c->at;
    bool known = skip_values(c, element, count, 0);
    if (c->over)
        return ran_out(c);
    if (!known)
        return lade_fail(c->err,
                         "%s: key '%s' has a value of type %" PRIu32 ", which cannot be; "
                         "download the file again",
                         c->g->file, QUOTE(e->key), element);
    e->type = (uint8_t)type;
    e->element = (uint8_t)element;
    e->count = count;
    e->value = (struct lade_gguf_text){c->buf + start, c->at - start};
    if (type == LADE_GGUF_STRING) {
        e->value.at += 8;
        e->value.len -= 8;
    }
    return 0;
}

static int read_entries(struct cursor *c, uint64_t n)
{
    struct lade_gguf *g = c->g;
    if (n > MAX_ENTRIES)
        return lade_fail(c->err,
                         "%s: %" PRIu64 " metadata entries, at most %d are possible; "
                         "download the file again",
                         g->file, n, MAX_ENTRIES);
    if (n * 12 > c->len) /* each has a length and a type at least */
        return ran_out(c);
    g->entries = calloc((size_t)n + 1, sizeof *g->entries);
    if (!g->entries)
        return lade_fail(c->err, "%s: no memory for %" PRIu64 " entries; free some", g->file, n);
    for (; g->n_entries < n; g->n_entries++) {
        int rc = read_entry(c, &g->entries[g->n_entries]);
        if (rc)
            return rc;
    }
    return 0;
}

const struct lade_gguf_entry *lade_gguf_find(const struct lade_gguf *g, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < g->n_entries; i++)
        if (g->entries[i].key.len == n && !memcmp(g->entries[i].key.at, key, n))
            return &g->entries[i];
    return NULL;
}

static int64_t integer(uint8_t type, const char *p)
{
    uint64_t v = number(p, scalar_bytes[type]);
    switch (type) {
    case LADE_GGUF_I8:
        return (int8_t)v;
    case LADE_GGUF_I16:
        return (int16_t)v;
    case LADE_GGUF_I32:
        return (int32_t)v;
    default:
        return (int64_t)v;
    }
}

bool lade_gguf_int(const struct lade_gguf_entry *e, int64_t *value)
{
    if (!e || !scalar_bytes[e->type] || e->type == LADE_GGUF_F32 || e->type == LADE_GGUF_F64)
        return false;
    *value = integer(e->type, e->value.at);
    return e->type != LADE_GGUF_U64 || *value >= 0;
}

int64_t lade_gguf_element(const struct lade_gguf_entry *e, uint64_t i)
{
    return integer(e->element, e->value.at + i * scalar_bytes[e->element]);
}

bool lade_gguf_real(const struct lade_gguf_entry *e, double *value)
{
    int64_t i;
    if (e && e->type == LADE_GGUF_F32) {
        uint32_t bits = (uint32_t)number(e->value.at, 4);
        float f;
        memcpy(&f, &bits, 4);
        *value = (double)f;
        return true;
    }
    if (e && e->type == LADE_GGUF_F64) {
        uint64_t bits = number(e->value.at, 8);
        memcpy(value, &bits, 8);
        return true;
    }
    if (!lade_gguf_int(e, &i))
        return false;
    *value = (double)i;
    return true;
}

bool lade_gguf_string(const struct lade_gguf_entry *e, struct lade_gguf_text *value)
{
    if (!e || e->type != LADE_GGUF_STRING)
        return false;
    *value = e->value;
    return true;
}

bool lade_gguf_next_string(struct lade_gguf_text *rest, struct lade_gguf_text *value)
{
    if (rest->len < 8)
        return false;
    size_t n = (size_t)number(rest->at, 8);
    *value = (struct lade_gguf_text){rest->at + 8, n};
    rest->at += 8 + n;
    rest->len -= 8 + n;
    return true;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static int bad_tensor(const struct cursor *c, const struct lade_raw *t, const char *why)
{
    return lade_fail(c->err, "%s: tensor '%s': %s; download the file again", c->g->file,
                     lade_printable((char[NAME]){0}, NAME, t->name, t->len), why);
}

static int read_tensor(struct cursor *c, struct lade_raw *t)
{
    struct lade_gguf_text name = read_text(c);
    uint64_t ne[LADE_RAW_DIMS] = {1, 1, 1, 1}, rows, bytes;
    uint32_t rank = (uint32_t)read_number(c, 4);
    if (c->over)
        return ran_out(c);
    *t = (struct lade_raw){.name = name.at,
                           .len = (uint32_t)name.len,
                           .shard = t->shard,
                           .dtype = LADE_DT_OTHER,
                           .found = true};
    if (name.len > MAX_NAME || !name.len)
        return bad_tensor(c, t, "a name has 1 to 1024 bytes");
    if (rank > LADE_RAW_DIMS)
        return bad_tensor(c, t, "it has more than 4 dimensions");
    for (uint32_t i = 0; i < rank; i++)
        ne[i] = t->dims[rank - 1 - i] = read_number(c, 8);
    uint32_t type = (uint32_t)read_number(c, 4);
    t->offset = read_number(c, 8);
    if (c->over)
        return ran_out(c);
    t->rank = (uint8_t)rank;
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++)
        if (ggml_types[i].id == type)
            t->dtype = ggml_types[i].dtype;
    const struct lade_dtype_info *info = &lade_dtypes[t->dtype];
    if (t->dtype == LADE_DT_OTHER) {
        const char *known = "unknown";
        for (size_t i = 0; i < sizeof other_types / sizeof *other_types; i++)
            if (other_types[i].id == type)
                known = other_types[i].name;
        return lade_fail(c->err,
                         "%s: tensor '%s' has ggml type %" PRIu32 " (%s), which is not "
                         "supported; get another quantization of the model",
                         c->g->file, QUOTE(name), type, known);
    }
    if (ne[0] % (uint64_t)info->block)
        return bad_tensor(c, t, "its rows are no multiple of its type's block");
    if (__builtin_mul_overflow(ne[1], ne[2], &rows) || __builtin_mul_overflow(rows, ne[3], &rows) ||
        __builtin_mul_overflow(rows, ne[0] / (uint64_t)info->block, &bytes) ||
        __builtin_mul_overflow(bytes, (uint64_t)info->bytes, &t->bytes))
        return bad_tensor(c, t, "its size does not fit 64 bits");
    return 0;
}

static int by_place(const void *a, const void *b, void *items)
{
    const struct lade_raw *t = items;
    uint64_t x = t[*(const uint32_t *)a].offset, y = t[*(const uint32_t *)b].offset;
    return x < y ? -1 : x > y;
}

/* Makes offsets absolute; each tensor must lie in the file, aligned, and none in another. */
static int check_places(struct cursor *c)
{
    struct lade_gguf *g = c->g;
    struct lade_raws *r = &g->tensors;
    uint32_t *order = calloc(r->n + 1, sizeof *order);
    if (!order)
        return lade_fail(c->err, "%s: no memory for %zu tensors; free some", g->file, r->n);
    int rc = 0;
    for (size_t i = 0; i < r->n && !rc; i++) {
        struct lade_raw *t = &r->items[i];
        uint64_t end;
        order[i] = (uint32_t)i;
        if (t->offset % g->alignment)
            rc = bad_tensor(c, t, "its offset is not aligned");
        else if (__builtin_add_overflow(t->offset, g->data, &t->offset) ||
                 __builtin_add_overflow(t->offset, t->bytes, &end))
            rc = bad_tensor(c, t, "its offset does not fit 64 bits");
        else if (end > g->file_bytes)
            rc = lade_fail(c->err,
                           "%s: tensor '%s' ends at byte %" PRIu64 " but the file has %" PRIu64
                           ": it is truncated; download the file again",
                           g->file, lade_printable((char[NAME]){0}, NAME, t->name, t->len), end,
                           g->file_bytes);
    }
    if (!rc)
        qsort_r(order, r->n, sizeof *order, by_place, r->items);
    for (size_t i = 1; i < r->n && !rc; i++) {
        const struct lade_raw *t = &r->items[order[i]], *before = &r->items[order[i - 1]];
        if (before->offset + before->bytes > t->offset)
            rc = bad_tensor(c, t, "it overlaps another");
    }
    free(order);
    return rc;
}

static int read_tensors(struct cursor *c, uint64_t n, int shard)
{
    struct lade_gguf *g = c->g;
    for (uint64_t i = 0; i < n; i++) {
        struct lade_raw t = {.shard = (uint16_t)shard};
        int rc = read_tensor(c, &t);
        if (rc || (rc = lade_raws_add(&g->tensors, &t, c->err)))
            return rc;
    }
    int64_t alignment = 32;
    const struct lade_gguf_entry *e = lade_gguf_find(g, "general.alignment");
    if (e && (!lade_gguf_int(e, &alignment) || alignment < 1 || alignment > 1 << 20 ||
              (alignment & (alignment - 1))))
        return lade_fail(c->err,
                         "%s: general.alignment is not a power of two up to 2^20; download "
                         "the file again",
                         g->file);
    g->alignment = (uint64_t)alignment;
    g->data = (c->at + g->alignment - 1) & ~(g->alignment - 1);
    return check_places(c);
}

/* ---- files ----------------------------------------------------------------------------------- */

static int parse(struct cursor *c, int shard)
{
    struct lade_gguf *g = c->g;
    const char *magic = take(c, 4);
    g->version = (uint32_t)read_number(c, 4);
    uint64_t n_tensors = read_number(c, 8), n_entries = read_number(c, 8);
    if (magic && memcmp(magic, "GGUF", 4) != 0)
        return lade_fail(c->err,
                         "%s: not a GGUF file; give a .gguf file or the directory of a "
                         "model",
                         g->file);
    if (c->over)
        return ran_out(c);
    if (g->version && !(g->version & 0xFFFF))
        return lade_fail(c->err, "%s: a big-endian GGUF file; get a little-endian one", g->file);
    if (g->version < 2 || g->version > 3)
        return lade_fail(c->err,
                         "%s: GGUF version %" PRIu32 " is not supported, only 2 and 3; "
                         "get a newer file of the model",
                         g->file, g->version);
    int rc = read_entries(c, n_entries);
    return rc ? rc : read_tensors(c, n_tensors, shard);
}

int lade_gguf_parse(struct lade_gguf *g, const char *buf, size_t len, uint64_t file_bytes,
                    int shard, const char *file, char *err)
{
    *g = (struct lade_gguf){.file = file, .file_bytes = file_bytes};
    struct cursor c = {.g = g, .buf = buf, .len = len, .err = err};
    int rc = parse(&c, shard);
    if (rc)
        lade_gguf_close(g);
    return rc;
}

void lade_gguf_close(struct lade_gguf *g)
{
    free(g->entries);
    lade_raws_free(&g->tensors);
    free(g->buffer);
    *g = (struct lade_gguf){0};
}

/* Reads the first `len` bytes in addition to the `have` that are there. */
static int read_more(int fd, char *buf, size_t have, size_t len)
{
    while (have < len) {
        ssize_t n = pread(fd, buf + have, len - have, (off_t)have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : EIO;
            return -1;
        }
        have += (size_t)n;
    }
    return 0;
}

/* Headers hold the tokenizer and are 6 to 12 MB; nothing in front says how long they are. */
static int read_header(int fd, struct lade_gguf *g, uint64_t file_bytes, int shard,
                       const char *file, char *err)
{
    char *buf = NULL;
    size_t have = 0;
    for (uint64_t want = (uint64_t)8 << 20;; want *= 4) {
        size_t len = (size_t)(want < file_bytes ? want : file_bytes);
        char *grown = realloc(buf, len + 1);
        if (!grown || read_more(fd, grown, have, len)) {
            lade_fail(err, "%s: %s while reading its header; check memory and drive", file,
                      strerror(errno));
            free(grown ? grown : buf);
            return -1;
        }
        buf = grown;
        have = len;
        int rc = lade_gguf_parse(g, buf, len, file_bytes, shard, file, err);
        if (rc == SHORT)
            continue;
        if (rc)
            free(buf);
        else
            g->buffer = buf;
        return rc;
    }
}

int lade_gguf_open(struct lade_gguf *g, const char *path, int shard, char *err)
{
    struct stat st;
    int fd = lade_file_open(path), rc = -1;
    *g = (struct lade_gguf){0};
    if (fd < 0) {
        bool missing = errno == ENOENT;
        return lade_fail(err, "%s: %s; %s", path, strerror(errno),
                         missing ? "download the missing file" : "check its permissions");
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        lade_fail(err, "%s: not a regular file; give a .gguf file", path);
    else
        rc = read_header(fd, g, (uint64_t)st.st_size, shard, lade_path_base(path), err);
    close(fd);
    return rc;
}

int lade_gguf_parts(const char *path, char ***paths, int *n, char *err)
{
    static const char model[] = "-00001-of-00001.gguf";
    const size_t len = strlen(path), tail = sizeof model - 1;
    int part = 0, count = 0, used = 0;
    bool split =
        len > tail && sscanf(path + len - tail, "-%5d-of-%5d.gguf%n", &part, &count, &used) == 2 &&
        used == (int)tail && count >= 1 && part >= 1 && part <= count && count <= LADE_MAX_SHARDS;
    *n = split ? count : 1;
    *paths = calloc((size_t)*n, sizeof **paths);
    for (int i = 0; *paths && i < *n; i++) {
        char **to = &(*paths)[i];
        if (split
                ? asprintf(to, "%.*s-%05d-of-%05d.gguf", (int)(len - tail), path, i + 1, count) < 0
                : !(*to = strdup(path))) {
            *to = NULL;
            while (i-- > 0)
                free((*paths)[i]);
            free(*paths);
            *paths = NULL;
        }
    }
    return *paths ? 0 : lade_fail(err, "%s: no memory for %d file names; free some", path, *n);
}
