/* What a found model is: architecture, quantization, and whether all of it is there. */
#include "engine/hub/find.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "engine/checkpoint/catalog.h"
#include "engine/checkpoint/file.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/json.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/scan.h"
#include "engine/hub/names.h"

#define MAX_CONFIG ((size_t)16 << 20)
#define MAX_INDEX  ((size_t)512 << 20)

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

static void copy_text(char *to, size_t size, const char *text)
{
    if (text)
        lade_printable(to, size, text, strlen(text));
}

static bool exists(const char *path)
{
    struct stat st;
    return path && !stat(path, &st) && S_ISREG(st.st_mode);
}

/* ---- a directory of safetensors -------------------------------------------------------------- */

/* Reads DIR/FILE if it is there; what else is wrong goes to f->problem. */
static bool read_member(struct lade_found *f, const char *file, size_t limit, char **text,
                        size_t *len)
{
    char *path = lade_path_join(f->path, file), why[LADE_ERR];
    bool read = path && !lade_file_read(path, limit, text, len, why);
    if (path && !read && errno != ENOENT)
        snprintf(f->problem, sizeof f->problem, "%s", why);
    free(path);
    return read;
}

static json_t *read_object(struct lade_found *f, const char *file)
{
    char *text;
    size_t len;
    json_t *root = NULL;
    if (read_member(f, file, MAX_CONFIG, &text, &len)) {
        root = lade_json_object(text, len, file, f->problem);
        free(text);
    }
    return root;
}

/* "gptq int4 g128" of a quantization_config. */
static void describe_quant(struct lade_found *f, json_t *q)
{
    const char *method = json_string_value(json_object_get(q, "quant_method"));
    json_int_t bits = json_integer_value(json_object_get(q, "bits"));
    json_int_t group = json_integer_value(json_object_get(q, "group_size"));
    char text[96], number[24] = "", groups[24] = "";
    if (bits > 0 && bits <= 64)
        snprintf(number, sizeof number, " int%d", (int)bits);
    if (group > 0 && group <= 1 << 20)
        snprintf(groups, sizeof groups, " g%d", (int)group);
    snprintf(text, sizeof text, "%.24s%s%s", method ? method : "quantized", number, groups);
    copy_text(f->quant, sizeof f->quant, text);
}

static void read_config(struct lade_found *f)
{
    static const char *const others[] = {"quantization_config.json", "quantize_config.json"};
    json_t *config = read_object(f, "config.json");
    if (!config)
        return;
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const char *dtype = json_string_value(json_object_get(config, "torch_dtype"));
    if (!dtype)
        dtype = json_string_value(json_object_get(config, "dtype"));
    json_t *quant = json_incref(json_object_get(config, "quantization_config"));
    for (size_t i = 0; !quant && i < sizeof others / sizeof *others; i++)
        quant = read_object(f, others[i]);
    copy_text(f->architecture, sizeof f->architecture, type);
    if (json_is_object(quant))
        describe_quant(f, quant);
    else
        copy_text(f->quant, sizeof f->quant, dtype);
    f->runs = type && !strcmp(type, "qwen3_next");
    json_decref(quant);
    json_decref(config);
}

static void note_missing(struct lade_found *f, const char *file)
{
    char name[96];
    if (!f->missing++)
        snprintf(f->problem, sizeof f->problem, "%s: is missing; download it again",
                 lade_printable(name, sizeof name, file, strlen(file)));
}

/* Every shard is there and, as its header says, whole. Headers are only read where nobody else
 * will: of a model that is not opened. */
static void check_shards(struct lade_found *f, char *const *files, int n, bool headers)
{
    f->files = n;
    for (int i = 0; i < n; i++) {
        char *path = lade_path_join(f->path, files[i]);
        if (!exists(path)) {
            note_missing(f, files[i]);
        } else if (headers && !*f->problem) {
            struct lade_raws raws = {0};
            char *text = NULL;
            uint64_t bytes;
            lade_safetensors_read(&raws, path, 0, &text, &bytes, f->problem);
            free(text);
            lade_raws_free(&raws);
        }
        free(path);
    }
}

static void check_tokenizer(struct lade_found *f)
{
    static const char name[] = "tokenizer.json";
    char *path = lade_path_join(f->path, name);
    f->files++;
    if (!exists(path))
        note_missing(f, name);
    free(path);
}

static void probe_directory(struct lade_found *f, bool headers)
{
    char *text, **files;
    size_t len;
    int n;
    read_config(f);
    if (*f->problem)
        return;
    if (read_member(f, index_name, MAX_INDEX, &text, &len)) {
        struct lade_raws raws = {0};
        if (!lade_index_parse(&raws, text, len, &files, &n, index_name, f->problem)) {
            check_shards(f, files, n, headers);
            free(files);
        }
        lade_raws_free(&raws);
        free(text);
    } else if (!*f->problem) {
        char single[sizeof single_name];
        memcpy(single, single_name, sizeof single);
        check_shards(f, (char *[]){single}, 1, headers);
    }
    if (f->runs && !*f->problem)
        check_tokenizer(f);
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* general.file_type: what most of a file's tensors are, as llama.cpp numbers it. */
static const char *const file_types[] = {
    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",       [3] = "Q4_1",    [7] = "Q8_0",
    [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",      [11] = "Q3_K_S", [12] = "Q3_K_M",
    [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M",    [16] = "Q5_K_S", [17] = "Q5_K_M",
    [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS",    [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL",    [26] = "IQ3_S",  [27] = "IQ3_M",
    [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS",    [31] = "IQ1_M",  [32] = "BF16",
    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4_MOE",
};

static void read_metadata(struct lade_found *f, const char *first)
{
    struct lade_gguf g;
    struct lade_gguf_text text;
    int64_t type;
    char stem[NAME_MAX + 1];
    if (lade_gguf_open(&g, first, 0, f->problem))
        return;
    if (lade_gguf_string(lade_gguf_find(&g, "general.architecture"), &text))
        lade_printable(f->architecture, sizeof f->architecture, text.at, text.len);
    if (lade_gguf_int(lade_gguf_find(&g, "general.file_type"), &type) && type >= 0 &&
        type < (int64_t)(sizeof file_types / sizeof *file_types) && file_types[type])
        copy_text(f->quant, sizeof f->quant, file_types[type]);
    lade_gguf_close(&g);
    /* The name knows more than the metadata: UD-Q4_K_XL is no type. */
    if (lade_gguf_stem(first, stem, sizeof stem, NULL, NULL))
        lade_quant_label(stem, f->quant, sizeof f->quant);
    f->runs = !strcmp(f->architecture, "qwen3next");
}

static void probe_gguf(struct lade_found *f, bool headers)
{
    char **parts;
    int n;
    if (lade_gguf_parts(f->path, &parts, &n, f->problem))
        return;
    f->files = n;
    for (int i = 0; i < n; i++)
        if (!exists(parts[i]))
            note_missing(f, lade_path_base(parts[i]));
    if (exists(parts[0])) /* the metadata is in part 1 */
        read_metadata(f, parts[0]);
    for (int i = 1; i < n && headers && !*f->problem; i++) {
        struct lade_gguf g;
        if (!lade_gguf_open(&g, parts[i], i, f->problem))
            lade_gguf_close(&g);
    }
    for (int i = 0; i < n; i++)
        free(parts[i]);
    free(parts);
}

/* ---- both ------------------------------------------------------------------------------------ */

static void probe_files(struct lade_found *f, bool headers)
{
    *f->architecture = *f->quant = *f->problem = '\0';
    f->files = f->missing = 0;
    f->runs = false;
    if (!strcmp(f->format, "gguf"))
        probe_gguf(f, headers);
    else
        probe_directory(f, headers);
    f->complete = f->files > 0 && !f->missing && !*f->problem;
}

static void try_open(struct lade_found *f)
{
    struct lade_catalog *cat;
    char why[LADE_ERR];
    if (lade_catalog_open(&cat, f->path, why)) {
        /* Are its files damaged, or is it a format that this build does not read? */
        probe_files(f, true);
        if (f->complete)
            memcpy(f->problem, why, sizeof f->problem);
        return;
    }
    f->opens = true;
    if (!strcmp(f->format, "safetensors") && *cat->quant)
        snprintf(f->quant, sizeof f->quant, "%s", cat->quant);
    lade_catalog_close(cat);
}

void lade_found_probe(struct lade_found *f, enum lade_probe depth)
{
    f->opens = false;
    if (f->unfinished && lade_ends_with(f->path, ".partial")) {
        *f->architecture = *f->quant = '\0';
        f->files = f->missing = 0;
        f->complete = false;
        f->runs = true; /* lade fetches nothing else */
        snprintf(f->problem, sizeof f->problem,
                 "%.200s: its download is not finished; go on with lade pull %.200s", f->name,
                 f->name);
        return;
    }
    probe_files(f, false);
    if (depth == LADE_PROBE_OPEN && f->complete) {
        if (f->runs)
            try_open(f);
        else
            probe_files(f, true);
    }
}

/* ---- names ----------------------------------------------------------------------------------- */

enum match { NO_MATCH, PREFIX, EXACT };

static enum match match(const char *name, const char *wanted)
{
    size_t len = strlen(wanted);
    if (!strcasecmp(name, wanted))
        return EXACT;
    for (const char *at = name; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (!strncasecmp(at, wanted, len))
            return PREFIX;
    }
    return NO_MATCH;
}

struct candidates {
    struct lade_found *best;   /* the first usable one */
    struct lade_found *broken; /* the first of the right kind, but not usable */
    struct lade_found *other;  /* the first of another architecture */
    int names;                 /* different names of usable ones */
    char list[320];            /* of these names */
};

static void collect(struct lade_found_list *list, const char *wanted, enum match kind,
                    struct candidates *c)
{
    size_t used = 0;
    for (size_t i = 0; i < list->n; i++) {
        struct lade_found *f = &list->items[i];
        if (match(f->name, wanted) != kind)
            continue;
        lade_found_probe(f, LADE_PROBE_FILES);
        bool again = false;
        for (size_t k = 0; k < i && !again; k++)
            again = list->items[k].complete && list->items[k].runs &&
                    !strcasecmp(list->items[k].name, f->name);
        if (f->complete && f->runs) {
            c->best = c->best ? c->best : f;
            if (!again) {
                c->names++;
                int n = snprintf(c->list + used, sizeof c->list - used, "%s%s", used ? ", " : "",
                                 f->name);
                used = used + (size_t)n < sizeof c->list ? used + (size_t)n : sizeof c->list - 1;
            }
        } else if (f->runs) {
            c->broken = c->broken ? c->broken : f;
        } else {
            c->other = c->other ? c->other : f;
        }
    }
}

struct lade_found *lade_found_resolve(struct lade_found_list *list, const char *name, char *err)
{
    struct candidates c = {0};
    char shown[128];
    lade_printable(shown, sizeof shown, name, strlen(name));
    if (*name)
        collect(list, name, EXACT, &c);
    if (*name && !c.best && !c.broken)
        collect(list, name, PREFIX, &c);
    if (c.names == 1)
        return c.best;
    if (c.best)
        lade_fail(err, "%s: is the beginning of several models (%s); give more of the name", shown,
                  c.list);
    else if (c.broken)
        lade_fail(err, "%s: is not complete: %.380s", shown, c.broken->problem);
    else if (c.other && !*c.other->architecture && *c.other->problem)
        lade_fail(err, "%s: %.440s", shown, c.other->problem);
    else if (c.other)
        lade_fail(err,
                  "%s: %.100s has the architecture '%s', but lade runs Qwen3-Next only; see lade "
                  "models",
                  shown, c.other->name, *c.other->architecture ? c.other->architecture : "unknown");
    else
        lade_fail(err,
                  "%s: there is no such file or directory, and no model of this name was found; "
                  "see lade models, or fetch it with lade pull",
                  shown);
    return NULL;
}
