/* A Hugging Face directory: config.json, a line end, the header of model.safetensors, and a byte that
 * says what its data are. What opens as a catalog is packed, too, as far as it is small. */
#include <stdbool.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/catalog.h"
#include "engine/checkpoint/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_DATA = 1 << 18 };

static char dir[64];
static int config = -1, weights = -1;

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check(int rc, const char *err)
{
    require(!rc || (err[0] && !strchr(err, '\n') && strstr(err, "; ")));
}

static int create(const char *file)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0);
    return fd;
}

static void clear(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    unlink(path);
    rmdir(dir);
}

static void begin(void)
{
    snprintf(dir, sizeof dir, "%s/lade-fuzz-XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    require(mkdtemp(dir));
    config = create("config.json");
    weights = create("model.safetensors");
    atexit(clear);
}

static void put(int fd, const void *bytes, size_t n, off_t at)
{
    require(pwrite(fd, bytes, n, at) == (ssize_t)n);
}

/* Where the header says that the data end: the largest number in front of a bracket. */
static uint64_t data_end(const char *header, size_t n)
{
    uint64_t end = 0;
    for (size_t i = 1; i < n; i++) {
        size_t from = i;
        while (header[i] == ']' && from && i - from < 12 && header[from - 1] >= '0' &&
               header[from - 1] <= '9')
            from--;
        uint64_t number = from < i ? strtoull(header + from, NULL, 10) : 0;
        end = number > end ? number : end;
    }
    return end;
}

static void write_weights(const char *header, size_t n, unsigned fill)
{
    static unsigned char bytes[MOST_DATA];
    uint64_t len = n, end = data_end(header, n);
    size_t some = end < sizeof bytes ? (size_t)end : sizeof bytes;
    for (size_t i = 0; i < some; i++)
        bytes[i] = (unsigned char)(fill * (i / 7 + 1));
    require(!ftruncate(weights, 0));
    put(weights, &len, 8, 0);
    put(weights, header, n, 8);
    put(weights, bytes, some, (off_t)(8 + n));
    if (ftruncate(weights, (off_t)(8 + n + end))) /* more than the file system has: a cut file */
        require(!ftruncate(weights, (off_t)(8 + n + some)));
}

/* Packs a tensor from buffers of its exact size. */
static void pack(const struct lade_catalog *cat, const struct lade_tensor *t)
{
    char err[LADE_ERR] = "";
    size_t room = (t->bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
    char *packed = aligned_alloc(LADE_ALIGN, room ? room : LADE_ALIGN);
    require(packed);
    memset(packed, 0, room);
    for (int i = 0; i < t->n_parts; i++) {
        char *part = malloc(t->parts[i].bytes + 1);
        require(part);
        require(pread(weights, part, t->parts[i].bytes, (off_t)t->parts[i].offset) ==
                (ssize_t)t->parts[i].bytes);
        int rc = lade_pack(cat, t, i, part, packed, err);
        free(part);
        check(rc, err);
        if (rc)
            break;
    }
    free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char err[LADE_ERR] = "", name[256];
    struct lade_catalog *cat;
    const uint8_t *line = memchr(data, '\n', size);
    if (!line || line + 2 > data + size)
        return 0;
    if (config < 0)
        begin();
    require(!ftruncate(config, 0));
    put(config, data, (size_t)(line - data), 0);
    char *header = strndup((const char *)line + 1, (size_t)(data + size - line - 2));
    require(header);
    write_weights(header, strlen(header), data[size - 1]);
    free(header);
    int rc = lade_catalog_open(&cat, dir, err);
    check(rc, err);
    if (rc)
        return 0;
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        uint64_t bytes = 0;
        require(t->piece >= 0 && t->piece < cat->n_pieces);
        require(t->offset + t->bytes <= cat->pieces[t->piece].bytes);
        for (int part = 0; part < t->n_parts; part++) {
            bytes += t->parts[part].bytes;
            require(t->parts[part].offset + t->parts[part].bytes <= cat->shards[0].bytes);
            lade_catalog_tensor_name(cat, t, part, name, sizeof name);
        }
        if (bytes + t->bytes <= MOST_DATA)
            pack(cat, t);
    }
    lade_catalog_close(cat);
    return 0;
}
