/* A GGUF file: its header; the file goes on for as many bytes as the input's last one says. What the
 * header's parser accepts is opened as a model, too: catalog, tokenizer and template. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/checkpoint/catalog.h"
#include "engine/checkpoint/gguf.h"
#include "engine/tokenizer/model_file.h"
#include "engine/tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check(int rc, const char *err)
{
    require(!rc || (rc < 0 && err[0] && !strchr(err, '\n')));
}

/* Reads every value as what it may be. */
static void walk(const struct lade_gguf *g, const char *buf, size_t len)
{
    for (size_t i = 0; i < g->n_entries; i++) {
        const struct lade_gguf_entry *e = &g->entries[i];
        struct lade_gguf_text rest = e->value, text;
        int64_t integer, sum = 0;
        double real;
        lade_gguf_int(e, &integer);
        lade_gguf_real(e, &real);
        if (e->type == LADE_GGUF_ARRAY && e->element == LADE_GGUF_STRING)
            while (lade_gguf_next_string(&rest, &text))
                require(!text.len || text.at + text.len <= buf + len);
        if (e->type == LADE_GGUF_ARRAY && e->element <= LADE_GGUF_I32)
            for (uint64_t k = 0; k < e->count; k++)
                sum += lade_gguf_element(e, k) & 1;
        require(sum >= 0);
    }
    for (size_t i = 0; i < g->tensors.n; i++)
        require(g->tensors.items[i].offset + g->tensors.items[i].bytes <= g->file_bytes);
}

static void open_model(const char *path, uint64_t file_bytes)
{
    char err[LADE_ERR] = "", *text;
    size_t len;
    struct lade_catalog *cat;
    struct lade_tokenizer *tok;
    int rc = lade_catalog_open(&cat, path, err);
    check(rc, err);
    for (int i = 0; !rc && i < cat->n_tensors; i++)
        for (int part = 0; part < cat->tensors[i].n_parts; part++)
            require(cat->tensors[i].parts[part].offset + cat->tensors[i].parts[part].bytes <=
                    file_bytes);
    if (!rc)
        lade_catalog_close(cat);
    rc = lade_tokenizer_open(&tok, path, err);
    check(rc, err);
    if (!rc)
        lade_tokenizer_close(tok);
    rc = lade_model_file(path, "chat_template.jinja", 1 << 20, &text, &len, err);
    check(rc, err);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    static char path[64];
    char err[LADE_ERR] = "";
    struct lade_gguf g;
    if (!size)
        return 0;
    if (file < 0) {
        file = memfd_create("model.gguf", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    uint64_t file_bytes = size - 1 + (uint64_t)data[size - 1] * 64;
    char *copy = malloc(size);
    require(file >= 0 && copy);
    memcpy(copy, data, size - 1);
    int rc = lade_gguf_parse(&g, copy, size - 1, file_bytes, 0, "fuzz", err);
    require(rc == 0 || rc == 1 || rc == -1);
    check(rc == 1 ? 0 : rc, err);
    if (!rc) {
        walk(&g, copy, size - 1);
        lade_gguf_close(&g);
        require(!ftruncate(file, (off_t)file_bytes));
        require(pwrite(file, data, size - 1, 0) == (ssize_t)size - 1);
        open_model(path, file_bytes);
    }
    free(copy);
    return 0;
}
