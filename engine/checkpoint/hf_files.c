/* The files of a Hugging Face directory: configs, the index, the shards' headers. */
#include "engine/checkpoint/build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/scan.h"

enum { NAME = 256 };
#define MAX_CONFIG ((size_t)16 << 20)
#define MAX_INDEX  ((size_t)512 << 20)

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

/* Reads DIR/FILE. 1: read; 0: there is no such file; -1: failed. */
static int read_member(const char *dir, const char *file, size_t limit, char **text, size_t *len,
                       char *err)
{
    char *path = lade_path_join(dir, file);
    if (!path)
        return lade_fail(err, "%s: no memory; free some", file);
    int rc = lade_file_read(path, limit, text, len, err) ? -1 : 1;
    if (rc < 0 && errno == ENOENT)
        rc = 0;
    free(path);
    return rc;
}

static int read_configs(struct lade_build *b, const char *dir, char *err)
{
    struct lade_catalog *cat = b->cat;
    char *text;
    size_t len;
    int rc = read_member(dir, "config.json", MAX_CONFIG, &text, &len, err);
    if (rc == 0)
        return lade_fail(err,
                         "%s: no config.json there; give the directory of a model "
                         "(config.json and *.safetensors)",
                         dir);
    if (rc < 0)
        return -1;
    lade_generation_defaults(&cat->generation);
    rc = lade_shape_parse(&cat->shape, text, len, "config.json", err) ||
         lade_generation_parse(&cat->generation, text, len, "config.json", err) ||
         lade_quant_parse(&b->quant, text, len, false, "config.json", err);
    free(text);
    if (rc)
        return -1;

    static const char generation[] = "generation_config.json";
    rc = read_member(dir, generation, MAX_CONFIG, &text, &len, err);
    if (rc > 0) {
        rc = lade_generation_parse(&cat->generation, text, len, generation, err);
        free(text);
    }
    if (rc < 0 || b->quant)
        return rc;

    static const char quant[] = "quantization_config.json";
    rc = read_member(dir, quant, MAX_CONFIG, &text, &len, err);
    if (rc > 0) {
        rc = lade_quant_parse(&b->quant, text, len, true, quant, err);
        free(text);
    }
    return rc;
}

/* Sets the shards' paths. */
static int name_shards(struct lade_catalog *cat, const char *dir, char *const *files, int n,
                       char *err)
{
    cat->shards = calloc((size_t)n, sizeof *cat->shards);
    if (!cat->shards)
        return lade_fail(err, "%s: no memory for %d shards; free some", dir, n);
    cat->n_shards = n;
    for (int i = 0; i < n; i++)
        if (!(cat->shards[i].path = lade_path_join(dir, files[i])))
            return lade_fail(err, "%s: no memory for %d shards; free some", dir, n);
    return 0;
}

/* Enters what a shard's header says into the items that the index gave. Tensors the index does
 * not name, or places in another shard, do not count: transformers ignores them, too. */
static int merge_header(struct lade_build *b, const struct lade_raws *header, int shard, char *err)
{
    for (size_t i = 0; i < header->n; i++) {
        const struct lade_raw *from = &header->items[i];
        struct lade_raw *to = lade_raws_find(&b->raws, from->name, from->len);
        if (!to || to->shard != shard)
            continue;
        if (to->found)
            return lade_fail(err, "%s: tensor '%s' occurs twice; download the file again",
                             lade_path_base(b->cat->shards[shard].path),
                             lade_printable((char[NAME]){0}, NAME, from->name, from->len));
        struct lade_raw merged = *from;
        merged.name = to->name; /* the header's text goes away */
        *to = merged;
    }
    return 0;
}

static int read_indexed(struct lade_build *b, const char *dir, char *text, size_t len, char *err)
{
    struct lade_catalog *cat = b->cat;
    char **files;
    int n_files;
    if (lade_index_parse(&b->raws, text, len, &files, &n_files, index_name, err))
        return -1;
    int rc =
        name_shards(cat, dir, files, n_files, err) || lade_check_shards(cat, dir, err) ? -1 : 0;
    free(files);
    const struct lade_raw *twice = NULL;
    if (!rc && (rc = lade_raws_index(&b->raws, &twice, err)) && twice)
        lade_fail(err, "%s: tensor '%s' occurs twice; download the file again", index_name,
                  lade_printable((char[NAME]){0}, NAME, twice->name, twice->len));
    for (int i = 0; !rc && i < cat->n_shards; i++) {
        struct lade_raws header = {0};
        char *header_text;
        rc = lade_safetensors_read(&header, cat->shards[i].path, i, &header_text,
                                   &cat->shards[i].bytes, err);
        if (!rc)
            rc = merge_header(b, &header, i, err);
        free(header_text);
        lade_raws_free(&header);
    }
    for (size_t i = 0; !rc && i < b->raws.n; i++) {
        const struct lade_raw *t = &b->raws.items[i];
        if (!t->found)
            rc = lade_fail(err,
                           "%s: tensor '%s' is not in the file, but %s says so; download both "
                           "again",
                           lade_raw_file(b, t),
                           lade_printable((char[NAME]){0}, NAME, t->name, t->len), index_name);
    }
    return rc;
}

static int read_single(struct lade_build *b, const char *dir, char *err)
{
    struct lade_catalog *cat = b->cat;
    char *const files[] = {(char[]){"model.safetensors"}};
    char *text;
    if (name_shards(cat, dir, files, 1, err) ||
        lade_safetensors_read(&b->raws, cat->shards[0].path, 0, &text, &cat->shards[0].bytes, err))
        return -1;
    if (lade_raws_own(&b->raws, text, err)) {
        free(text);
        return -1;
    }
    const struct lade_raw *twice = NULL;
    int rc = lade_raws_index(&b->raws, &twice, err);
    if (rc && twice)
        lade_fail(err, "%s: tensor '%s' occurs twice; download the file again", single_name,
                  lade_printable((char[NAME]){0}, NAME, twice->name, twice->len));
    return rc;
}

static bool member_exists(const char *dir, const char *file)
{
    struct stat st;
    char *path = lade_path_join(dir, file);
    bool there = path && !stat(path, &st);
    free(path);
    return there;
}

static int read_tensors(struct lade_build *b, const char *dir, char *err)
{
    char *text;
    size_t len;
    int rc = read_member(dir, index_name, MAX_INDEX, &text, &len, err);
    if (rc < 0)
        return -1;
    b->list = strdup(rc ? index_name : single_name);
    if (!b->list) {
        free(text);
        return lade_fail(err, "%s: no memory; free some", dir);
    }
    if (rc) {
        if (lade_raws_own(&b->raws, text, err)) {
            free(text);
            return -1;
        }
        return read_indexed(b, dir, text, len, err);
    }
    if (!member_exists(dir, single_name))
        return lade_fail(err, "%s: neither %s nor %s is there; download the weights", dir,
                         index_name, single_name);
    return read_single(b, dir, err);
}

int lade_hf_read(struct lade_build *b, const char *path, char *err)
{
    if (read_configs(b, path, err) || read_tensors(b, path, err))
        return -1;
    return b->quant ? lade_quant_bind(b->quant, &b->raws, err) : 0;
}
