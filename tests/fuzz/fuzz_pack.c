/* A packed directory whose index was changed: the input is a list of changes of a good one, each
 * a place (2 bytes), a length and so many bytes; the first byte says whether the checksum is put
 * right, so that the changes are seen, and how much is cut from the end. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/catalog.h"
#include "engine/checkpoint/packed.h"

#define MODEL "tests/fixtures/wide-bf16"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the index: packed.c has what is in front of the body. */
enum { HEAD = 32, AT_BYTES = 16, AT_CHECK = 24, MOST_INDEX = 1 << 16 };

static char dir[64];
static unsigned char good[MOST_INDEX];
static size_t good_bytes;

static void require(bool ok)
{
    if (!ok)
        abort();
}

static const char *in_dir(const char *file)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    return path;
}

static void clear(void)
{
    unlink(in_dir(LADE_PACKED_INDEX));
    unlink(in_dir("all.lade"));
    rmdir(dir);
}

/* Describes a model as `lade pack` does: one file, piece after piece. */
static void describe(struct lade_packed *p, const struct lade_catalog *cat)
{
    *p = (struct lade_packed){.name = strdup(cat->name),
                              .format = strdup(cat->format),
                              .shape = cat->shape,
                              .generation = cat->generation,
                              .drives = {strdup(dir)},
                              .n_drives = 1,
                              .n_files = 1,
                              .n_tensors = cat->n_tensors,
                              .n_pieces = cat->n_pieces};
    p->files = calloc(1, sizeof *p->files);
    p->tensors = calloc((size_t)cat->n_tensors, sizeof *p->tensors);
    p->pieces = calloc((size_t)cat->n_pieces, sizeof *p->pieces);
    require(p->files && p->tensors && p->pieces);
    p->files[0].name = strdup("all.lade");
    for (int i = 0; i < cat->n_tensors; i++)
        p->tensors[i] = cat->tensors[i].packed;
    for (int i = 0; i < cat->n_pieces; i++) {
        size_t bytes = cat->pieces[i].bytes;
        p->pieces[i].offset = p->files[0].bytes;
        p->files[0].bytes +=
            (bytes + LADE_PACKED_ALIGN - 1) / LADE_PACKED_ALIGN * LADE_PACKED_ALIGN;
        p->n_checks += lade_packed_blocks(bytes);
    }
    p->checks = calloc((size_t)p->n_checks, sizeof *p->checks);
    require(p->checks);
}

static void begin(void)
{
    char err[LADE_ERR];
    struct lade_catalog *cat;
    struct lade_packed p;
    snprintf(dir, sizeof dir, "%s/lade-fuzz-XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    require(mkdtemp(dir));
    atexit(clear);
    require(!lade_catalog_open(&cat, MODEL, err));
    describe(&p, cat);
    lade_catalog_close(cat);
    int fd = open(in_dir("all.lade"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0 && !ftruncate(fd, (off_t)p.files[0].bytes));
    close(fd);
    require(!lade_packed_write(&p, dir, err));
    lade_packed_free(&p);
    FILE *f = fopen(in_dir(LADE_PACKED_INDEX), "rb");
    require(f);
    good_bytes = fread(good, 1, sizeof good, f);
    fclose(f);
    require(good_bytes > HEAD && good_bytes < sizeof good);
    require(!lade_catalog_open(&cat, dir, err)); /* it is a good one */
    lade_catalog_close(cat);
}

static void write_changed(const uint8_t *data, size_t size)
{
    static unsigned char index[MOST_INDEX];
    size_t n = good_bytes - (size ? (size_t)(data[0] >> 1) * 8 % (good_bytes - HEAD) : 0);
    memcpy(index, good, n);
    for (size_t i = 1; i + 3 <= size;) {
        size_t at = (data[i] | (size_t)data[i + 1] << 8) % n, len = data[i + 2];
        i += 3;
        len = len < size - i ? len : size - i;
        len = len < n - at ? len : n - at;
        memcpy(index + at, data + i, len);
        i += len;
    }
    if (size && data[0] & 1) {
        uint64_t bytes = n - HEAD, check = lade_packed_check(index + HEAD, n - HEAD);
        memcpy(index + AT_BYTES, &bytes, sizeof bytes);
        memcpy(index + AT_CHECK, &check, sizeof check);
    }
    FILE *f = fopen(in_dir(LADE_PACKED_INDEX), "wb");
    require(f && fwrite(index, 1, n, f) == n && !fclose(f));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char err[LADE_ERR] = "";
    struct lade_catalog *cat;
    if (!good_bytes)
        begin();
    write_changed(data, size);
    if (lade_catalog_open(&cat, dir, err)) {
        require(err[0] && !strchr(err, '\n') && strstr(err, "; "));
        return 0;
    }
    int checks = 0;
    for (int i = 0; i < cat->n_pieces; i++) {
        const struct lade_piece *p = &cat->pieces[i];
        const struct lade_span *s = &cat->tensors[p->first].parts[0];
        require(s->shard >= 0 && s->shard < cat->n_shards && s->offset % LADE_PACKED_ALIGN == 0);
        require(s->offset + p->bytes <= cat->shards[s->shard].bytes);
        require(p->first_check == checks);
        checks += lade_packed_blocks(p->bytes);
    }
    require(checks == cat->n_checks);
    lade_catalog_close(cat);
    return 0;
}
