#include "engine/checkpoint/safetensors.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/scan.h"

enum { NAME = 160 }; /* of a tensor in an error message */

struct reader {
    struct lade_scan scan;
    const char *start, *file;
    uint64_t data_start, file_bytes;
    char *err;
};

#define QUOTE(raw) lade_printable((char[NAME]){0}, NAME, (raw)->name, (raw)->len)

static int bad_json(struct reader *r, const char *where)
{
    return lade_fail(r->err, "%s: %s is not valid JSON near byte %td; download the file again",
                     r->file, where, r->scan.at - r->start);
}

static int bad_tensor(struct reader *r, const struct lade_raw *t, const char *why)
{
    return lade_fail(r->err, "%s: tensor '%s': %s; download the file again", r->file, QUOTE(t),
                     why);
}

static bool text_is(const char *text, size_t len, const char *what)
{
    return len == strlen(what) && !memcmp(text, what, len);
}

static enum lade_dtype dtype_of(const char *text, size_t len)
{
    for (int i = 0; i <= LADE_DT_F8_E5M2; i++)
        if (text_is(text, len, lade_dtypes[i].name))
            return (enum lade_dtype)i;
    return LADE_DT_OTHER;
}

/* Reads "[a, b, ...]". Keeps the first LADE_RAW_DIMS; *count is the number of elements. */
static bool read_shape(struct lade_scan *s, struct lade_raw *t, uint64_t *count, bool *overflow)
{
    int rank = 0;
    *count = 1;
    if (!lade_scan_char(s, '['))
        return false;
    if (!lade_scan_char(s, ']')) {
        do {
            uint64_t dim;
            if (rank == UINT8_MAX || !lade_scan_u64(s, &dim))
                return false;
            if (rank < LADE_RAW_DIMS)
                t->dims[rank] = dim;
            *overflow |= __builtin_mul_overflow(*count, dim, count);
            rank++;
        } while (lade_scan_char(s, ','));
        if (!lade_scan_char(s, ']'))
            return false;
    }
    t->rank = (uint8_t)rank;
    return true;
}

/* The object after a tensor's name. Leaves offset relative to the data. */
static int read_tensor(struct reader *r, struct lade_raw *t)
{
    struct lade_scan *s = &r->scan;
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    unsigned seen = 0;
    uint64_t count = 0, end = 0, bytes;
    bool overflow = false;
    if (!lade_scan_char(s, '{'))
        return bad_tensor(r, t, "its entry is not an object");
    do {
        char *key, *text;
        size_t len, n;
        if (!lade_scan_string(s, &key, &len) || !lade_scan_char(s, ':'))
            return bad_json(r, "the header");
        if (text_is(key, len, "dtype")) {
            if (!lade_scan_string(s, &text, &n))
                return bad_tensor(r, t, "its dtype is not a string");
            t->dtype = (uint8_t)dtype_of(text, n);
            seen |= DTYPE;
        } else if (text_is(key, len, "shape")) {
            if (!read_shape(s, t, &count, &overflow))
                return bad_tensor(r, t, "its shape is not a list of sizes");
            seen |= SHAPE;
        } else if (text_is(key, len, "data_offsets")) {
            if (!lade_scan_char(s, '[') || !lade_scan_u64(s, &t->offset) ||
                !lade_scan_char(s, ',') || !lade_scan_u64(s, &end) || !lade_scan_char(s, ']'))
                return bad_tensor(r, t, "its data_offsets are not two byte positions");
            seen |= OFFSETS;
        } else if (!lade_scan_skip(s)) {
            return bad_json(r, "the header");
        }
    } while (lade_scan_char(s, ','));
    if (!lade_scan_char(s, '}'))
        return bad_json(r, "the header");
    if (seen != (DTYPE | SHAPE | OFFSETS))
        return bad_tensor(r, t, "it lacks dtype, shape or data_offsets");
    if (end < t->offset)
        return bad_tensor(r, t, "it ends before it begins");
    t->bytes = end - t->offset;
    int width = lade_dtypes[t->dtype].bytes;
    if (overflow || __builtin_mul_overflow(count, (uint64_t)width, &bytes))
        return bad_tensor(r, t, "its size does not fit 64 bits");
    if (width && bytes != t->bytes) {
        char dims[96];
        return lade_fail(r->err,
                         "%s: tensor '%s': %s of shape %s takes %" PRIu64
                         " bytes, but data_offsets span %" PRIu64 "; download the file again",
                         r->file, QUOTE(t), lade_dtypes[t->dtype].name,
                         lade_dims_text(dims, sizeof dims, t->dims, t->rank), bytes, t->bytes);
    }
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct lade_raw *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* The tensors of this file, sorted by place, must tile its data. Makes offsets absolute. */
static int check_tiling(struct reader *r, struct lade_raw *items, size_t n)
{
    const struct lade_raw *last = NULL;
    uint64_t data_bytes = r->file_bytes - r->data_start;
    bool sorted = true;
    for (size_t i = 0; items && i < n; i++) {
        sorted &= i == 0 || by_place(&items[i - 1], &items[i]) <= 0;
        if (!last || items[i].offset + items[i].bytes > last->offset + last->bytes)
            last = &items[i];
    }
    uint64_t end = last ? last->offset + last->bytes : 0;
    if (end > data_bytes) {
        uint64_t at;
        if (__builtin_add_overflow(end, r->data_start, &at))
            return bad_tensor(r, last, "its data_offsets do not fit 64 bits");
        return lade_fail(r->err,
                         "%s: tensor '%s' ends at byte %" PRIu64 " but the file has %" PRIu64
                         ": it is truncated; download the file again",
                         r->file, QUOTE(last), at, r->file_bytes);
    }
    if (end < data_bytes)
        return lade_fail(r->err,
                         "%s: the tensors end at byte %" PRIu64 " but the file has %" PRIu64
                         "; download the file again",
                         r->file, end + r->data_start, r->file_bytes);
    if (!sorted)
        qsort(items, n, sizeof *items, by_place);
    uint64_t at = 0;
    for (size_t i = 0; items && i < n; i++) {
        if (items[i].offset != at)
            return lade_fail(r->err, "%s: tensor '%s' %s '%s'; download the file again", r->file,
                             QUOTE(&items[i]),
                             items[i].offset < at ? "overlaps" : "leaves a hole after",
                             i ? QUOTE(&items[i - 1]) : "the header");
        at += items[i].bytes;
        items[i].offset += r->data_start;
    }
    return 0;
}

int lade_safetensors_parse(struct lade_raws *out, char *text, size_t n, uint64_t file_bytes,
                           int shard, const char *file, char *err)
{
    struct reader r = {.scan = {text, text + n},
                       .start = text,
                       .file = file,
                       .data_start = 8 + (uint64_t)n,
                       .file_bytes = file_bytes,
                       .err = err};
    size_t first = out->n;
    if (!lade_scan_char(&r.scan, '{'))
        return bad_json(&r, "the header");
    if (!lade_scan_char(&r.scan, '}')) {
        do {
            char *name;
            size_t len;
            if (!lade_scan_string(&r.scan, &name, &len) || !lade_scan_char(&r.scan, ':'))
                return bad_json(&r, "the header");
            if (text_is(name, len, "__metadata__")) {
                if (!lade_scan_skip(&r.scan))
                    return bad_json(&r, "the header");
                continue;
            }
            struct lade_raw t = {
                .name = name, .len = (uint32_t)len, .shard = (uint16_t)shard, .found = true};
            if (read_tensor(&r, &t) || lade_raws_add(out, &t, err))
                return -1;
        } while (lade_scan_char(&r.scan, ','));
        if (!lade_scan_char(&r.scan, '}'))
            return bad_json(&r, "the header");
    }
    if (lade_scan_peek(&r.scan) || r.scan.at != r.scan.end)
        return bad_json(&r, "the header");
    /* A file without tensors may come before there is an array. */
    return check_tiling(&r, out->items ? out->items + first : NULL, out->n - first);
}

/* Reads the length and the header text. */
static char *read_header(int fd, uint64_t file_bytes, size_t *n, const char *file, char *err)
{
    uint64_t length;
    if (file_bytes < 8 || pread(fd, &length, 8, 0) != 8) {
        lade_fail(err,
                  "%s: %" PRIu64 " bytes are too few for a safetensors file; download it again",
                  file, file_bytes);
        return NULL;
    }
    length = le64toh(length);
    uint64_t most = file_bytes - 8;
    if (most > LADE_SAFETENSORS_MAX_HEADER)
        most = LADE_SAFETENSORS_MAX_HEADER;
    if (length > most) {
        lade_fail(err,
                  "%s: its header claims %" PRIu64 " bytes but only %" PRIu64
                  " are possible in a file of %" PRIu64 "; download the file again",
                  file, length, most, file_bytes);
        return NULL;
    }
    char *text = malloc((size_t)length + 1);
    if (!text) {
        lade_fail(err, "%s: no memory for a header of %" PRIu64 " bytes; free some", file, length);
        return NULL;
    }
    for (size_t done = 0; done < length;) {
        ssize_t got = pread(fd, text + done, (size_t)length - done, (off_t)(8 + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            lade_fail(err, "%s: %s while reading its header; check the drive", file,
                      got ? strerror(errno) : "unexpected end");
            free(text);
            return NULL;
        }
        done += (size_t)got;
    }
    text[length] = 0;
    *n = (size_t)length;
    return text;
}

int lade_safetensors_read(struct lade_raws *out, const char *path, int shard, char **text,
                          uint64_t *file_bytes, char *err)
{
    const char *file = lade_path_base(path);
    struct stat st;
    *text = NULL;
    int fd = lade_file_open(path);
    if (fd < 0) {
        int missing = errno == ENOENT;
        return lade_fail(err, "%s: %s; %s", path, strerror(errno),
                         missing ? "download the missing file" : "check its permissions");
    }
    size_t n = 0;
    int rc = -1;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        lade_fail(err, "%s: not a regular file; check the checkpoint", path);
    } else if ((*text = read_header(fd, (uint64_t)st.st_size, &n, file, err))) {
        *file_bytes = (uint64_t)st.st_size;
        rc = lade_safetensors_parse(out, *text, n, *file_bytes, shard, file, err);
    }
    close(fd);
    if (rc) {
        free(*text);
        *text = NULL;
    }
    return rc;
}

/* ---- the index ------------------------------------------------------------------------------- */

struct files {
    char **names;
    int n, room;
};

/* The number of a shard's file name, appended where it is new; -1 on failure. */
static int shard_number(struct files *f, char *name, size_t len, const char *file, char *err)
{
    /* Neighbours in the index mostly share a shard. */
    for (int i = f->n - 1; i >= 0; i--)
        if (text_is(name, len, f->names[i]))
            return i;
    if (!len || memchr(name, '/', len) || memchr(name, '\\', len) || name[0] == '.' || len > 255)
        return lade_fail(err,
                         "%s: weight_map names the file '%s', which is not in the model's "
                         "own directory; get the model from a trusted place",
                         file, lade_printable((char[NAME]){0}, NAME, name, len));
    static const char suffix[] = ".safetensors";
    if (len < sizeof suffix ||
        memcmp(name + len - (sizeof suffix - 1), suffix, sizeof suffix - 1) != 0)
        return lade_fail(err,
                         "%s: weight_map names '%s', which is no .safetensors file; convert "
                         "the model to safetensors",
                         file, lade_printable((char[NAME]){0}, NAME, name, len));
    if (f->n == LADE_MAX_SHARDS)
        return lade_fail(err, "%s: more than %d shards; the file is damaged", file,
                         LADE_MAX_SHARDS);
    if (f->n == f->room) {
        int room = f->room ? f->room * 2 : 16;
        char **names = realloc(f->names, (size_t)room * sizeof *names);
        if (!names)
            return lade_fail(err, "%s: no memory for %d file names; free some", file, room);
        f->names = names;
        f->room = room;
    }
    name[len] = 0; /* over the closing quote, which is read already */
    f->names[f->n] = name;
    return f->n++;
}

static int read_weight_map(struct reader *r, struct lade_raws *out, struct files *files)
{
    if (!lade_scan_char(&r->scan, '{'))
        return lade_fail(r->err, "%s: weight_map is not an object; download the file again",
                         r->file);
    if (lade_scan_char(&r->scan, '}'))
        return 0;
    do {
        char *name, *shard;
        size_t len, shard_len;
        if (!lade_scan_string(&r->scan, &name, &len) || !lade_scan_char(&r->scan, ':'))
            return bad_json(r, "weight_map");
        struct lade_raw t = {.name = name, .len = (uint32_t)len};
        if (!lade_scan_string(&r->scan, &shard, &shard_len))
            return bad_tensor(r, &t, "weight_map does not give it a file name");
        int number = shard_number(files, shard, shard_len, r->file, r->err);
        if (number < 0)
            return -1;
        t.shard = (uint16_t)number;
        if (lade_raws_add(out, &t, r->err))
            return -1;
    } while (lade_scan_char(&r->scan, ','));
    return lade_scan_char(&r->scan, '}') ? 0 : bad_json(r, "weight_map");
}

static int read_index(struct reader *r, struct lade_raws *out, struct files *files)
{
    bool seen = false;
    if (!lade_scan_char(&r->scan, '{'))
        return bad_json(r, "the index");
    if (!lade_scan_char(&r->scan, '}')) {
        do {
            char *key;
            size_t len;
            if (!lade_scan_string(&r->scan, &key, &len) || !lade_scan_char(&r->scan, ':'))
                return bad_json(r, "the index");
            bool map = !seen && text_is(key, len, "weight_map");
            seen |= map;
            if (map && read_weight_map(r, out, files))
                return -1;
            if (!map && !lade_scan_skip(&r->scan))
                return bad_json(r, "the index");
        } while (lade_scan_char(&r->scan, ','));
        if (!lade_scan_char(&r->scan, '}'))
            return bad_json(r, "the index");
    }
    if (lade_scan_peek(&r->scan) || r->scan.at != r->scan.end)
        return bad_json(r, "the index");
    if (!files->n)
        return lade_fail(r->err, "%s: its weight_map lists no tensors; download the file again",
                         r->file);
    return 0;
}

struct named {
    char *name;
    int was;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Numbers the files by name: an index sorted by tensors names them in any order, and a person who
 * watches them load expects 1, 2, 3. */
static int sort_files(struct files *f, struct lade_raws *out, size_t first, const char *file,
                      char *err)
{
    struct named *sorted = calloc((size_t)f->n, sizeof *sorted);
    uint16_t *now = calloc((size_t)f->n, sizeof *now);
    int rc = 0;
    if (!sorted || !now) {
        rc = lade_fail(err, "%s: no memory for %d file names; free some", file, f->n);
    } else {
        for (int i = 0; i < f->n; i++)
            sorted[i] = (struct named){f->names[i], i};
        qsort(sorted, (size_t)f->n, sizeof *sorted, by_name);
        for (int i = 0; i < f->n; i++) {
            f->names[i] = sorted[i].name;
            now[sorted[i].was] = (uint16_t)i;
        }
        for (size_t i = first; i < out->n; i++)
            out->items[i].shard = now[out->items[i].shard];
    }
    free(sorted);
    free(now);
    return rc;
}

int lade_index_parse(struct lade_raws *out, char *text, size_t n, char ***files, int *n_files,
                     const char *file, char *err)
{
    struct reader r = {.scan = {text, text + n}, .start = text, .file = file, .err = err};
    struct files found = {0};
    size_t first = out->n;
    if (read_index(&r, out, &found) || sort_files(&found, out, first, file, err)) {
        free(found.names);
        return -1;
    }
    *files = found.names;
    *n_files = found.n;
    return 0;
}
