#include "engine/hub/find.h"

#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/json.h"
#include "engine/checkpoint/scan.h"
#include "engine/hub/names.h"

enum { MOST_MODELS = 4096, DEEPEST = 4 };
#define MAX_MANIFEST ((size_t)1 << 20)

struct walk {
    struct lade_found_list *list;
    const char *place;
    bool no_memory;
};

/* ---- the list -------------------------------------------------------------------------------- */

static void clear(struct lade_found *f)
{
    free(f->name);
    free(f->path);
}

void lade_found_free(struct lade_found_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        clear(&list->items[i]);
    free(list->items);
    *list = (struct lade_found_list){0};
}

/* Names come from the file system and go to the terminal. */
static char *clean_name(const char *name)
{
    size_t len = strlen(name);
    char *text = malloc(len + 8);
    if (text)
        lade_printable(text, len + 8, name, len);
    return text;
}

/* Appends a model and returns it, or NULL where the list is full or memory is short. */
static struct lade_found *add(struct walk *w, const char *name, const char *path,
                              const char *format, uint64_t bytes)
{
    struct lade_found_list *l = w->list;
    struct lade_found f = {.place = w->place, .format = format, .bytes = bytes};
    if (w->no_memory || l->n >= MOST_MODELS)
        return NULL;
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 32;
        struct lade_found *grown = realloc(l->items, room * sizeof *grown);
        if (!grown) {
            w->no_memory = true;
            return NULL;
        }
        l->items = grown;
        l->room = room;
    }
    f.name = clean_name(name);
    f.path = strdup(path);
    if (!f.name || !f.path) {
        clear(&f);
        w->no_memory = true;
        return NULL;
    }
    l->items[l->n] = f;
    return &l->items[l->n++];
}

/* ---- directories ----------------------------------------------------------------------------- */

static bool join(char out[PATH_MAX], const char *dir, const char *file)
{
    return snprintf(out, PATH_MAX, "%s/%s", dir, file) < PATH_MAX;
}

/* The bytes of DIR/FILE; false where it is no regular file. Links are followed. */
static bool file_bytes(const char *dir, const char *file, uint64_t *bytes)
{
    char path[PATH_MAX];
    struct stat st;
    if (!join(path, dir, file) || stat(path, &st) || !S_ISREG(st.st_mode))
        return false;
    *bytes = (uint64_t)st.st_size;
    return true;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* Entries of a directory by name, 0 where it cannot be read. */
static int list_directory(const char *dir, struct dirent ***entries)
{
    int n = scandir(dir, entries, visible, alphasort);
    return n < 0 ? 0 : n;
}

static void free_entries(struct dirent **entries, int n)
{
    for (int i = 0; i < n; i++)
        free(entries[i]);
    if (n > 0)
        free(entries);
}

/* A directory with config.json and weights. */
static void add_safetensors(struct walk *w, const char *dir, const char *name,
                            struct dirent *const *entries, int n)
{
    uint64_t bytes = 0, one;
    bool weights = false;
    if (!file_bytes(dir, "config.json", &one))
        return;
    for (int i = 0; i < n; i++) {
        const char *file = entries[i]->d_name;
        weights |= !strcmp(file, "model.safetensors.index.json");
        if (lade_ends_with(file, ".safetensors") && file_bytes(dir, file, &one)) {
            weights = true;
            bytes += one;
        }
    }
    if (weights)
        add(w, name, dir, "safetensors", bytes);
}

/* What an interrupted download of lade left: fetch.c goes on there. */
static void add_unfinished(struct walk *w, const char *dir, const char *name,
                           struct dirent *const *entries, int n)
{
    static const char *const weights[] = {".safetensors", ".safetensors.part", ".gguf",
                                          ".gguf.part"};
    uint64_t bytes = 0, one;
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof weights / sizeof *weights; k++)
            if (lade_ends_with(entries[i]->d_name, weights[k]) &&
                file_bytes(dir, entries[i]->d_name, &one))
                bytes += one;
    struct lade_found *f = add(w, name, dir, strchr(name, ':') ? "gguf" : "safetensors", bytes);
    if (f)
        f->unfinished = true;
}

/* True where an earlier entry of the same directory is part of the same split. */
static bool seen_part(struct dirent *const *entries, int before, const char *stem, int parts)
{
    char other[NAME_MAX + 1];
    int n;
    for (int i = 0; i < before; i++)
        if (lade_gguf_stem(entries[i]->d_name, other, sizeof other, NULL, &n) && n == parts &&
            !strcmp(other, stem))
            return true;
    return false;
}

/* The model that begins with this file: its parts count once. */
static void add_gguf(struct walk *w, const char *dir, const char *prefix,
                     struct dirent *const *entries, int n, int at)
{
    char stem[NAME_MAX + 1], other[NAME_MAX + 1], label[64], path[PATH_MAX], *name = NULL;
    uint64_t bytes = 0, one;
    int parts, others;
    if (!lade_gguf_stem(entries[at]->d_name, stem, sizeof stem, NULL, &parts) ||
        !strncasecmp(stem, "mmproj", 6) || !join(path, dir, entries[at]->d_name) ||
        (parts > 1 && seen_part(entries, at, stem, parts)))
        return;
    for (int i = at; i < n; i++)
        if (lade_gguf_stem(entries[i]->d_name, other, sizeof other, NULL, &others) &&
            others == parts && !strcmp(other, stem) && file_bytes(dir, entries[i]->d_name, &one))
            bytes += one;
    if (!*prefix || strchr(prefix, ':'))
        name = strdup(*prefix ? prefix : stem);
    else if (asprintf(&name, "%s:%s", prefix,
                      lade_quant_label(stem, label, sizeof label) ? label : stem) < 0)
        name = NULL;
    if (name)
        add(w, name, path, "gguf", bytes);
    else
        w->no_memory = true;
    free(name);
}

/* Adds what a directory and those below it hold. `prefix` names it; below a fixed one, which is
 * that of a repository, directories do not count for the name. */
static void walk(struct walk *w, const char *dir, const char *prefix, bool fixed, int depth)
{
    struct dirent **entries;
    int n = list_directory(dir, &entries);
    char name[PATH_MAX], below[PATH_MAX], grown[PATH_MAX];
    snprintf(name, sizeof name, "%s", prefix);
    char *at = fixed ? NULL : strrchr(name, '@'); /* fetch.h: NAME@LABEL and NAME.partial */
    if (at)
        *at = ':';
    if (!fixed && lade_ends_with(name, ".partial")) {
        name[strlen(name) - strlen(".partial")] = '\0';
        add_unfinished(w, dir, name, entries, n);
        free_entries(entries, n);
        return;
    }
    if (*name && (!fixed || depth == 0))
        add_safetensors(w, dir, name, entries, n);
    for (int i = 0; i < n; i++) {
        add_gguf(w, dir, name, entries, n, i);
        if (depth + 1 < DEEPEST && join(below, dir, entries[i]->d_name) && is_directory(below) &&
            snprintf(grown, sizeof grown, "%s%s%s", prefix, *prefix ? "/" : "",
                     entries[i]->d_name) < PATH_MAX)
            walk(w, below, fixed ? prefix : grown, fixed, depth + 1);
    }
    free_entries(entries, n);
}

static void walk_tree(struct walk *w, const char *dir)
{
    walk(w, dir, "", false, 0);
}

/* ---- the Hugging Face hub cache -------------------------------------------------------------- */

/* Writes the snapshot that refs/main names, else the newest. */
static bool find_snapshot(const char *repo, char out[PATH_MAX])
{
    char path[PATH_MAX], snapshots[PATH_MAX], *text;
    size_t len;
    if (!join(snapshots, repo, "snapshots") || !join(path, repo, "refs/main"))
        return false;
    if (!lade_file_read(path, 256, &text, &len, NULL)) {
        text[strcspn(text, " \t\r\n/")] = '\0';
        bool there = *text && *text != '.' && join(out, snapshots, text) && is_directory(out);
        free(text);
        if (there)
            return true;
    }
    struct dirent **entries;
    struct stat st;
    struct timespec newest = {0};
    bool found = false;
    int n = list_directory(snapshots, &entries);
    for (int i = 0; i < n; i++)
        if (join(path, snapshots, entries[i]->d_name) && !stat(path, &st) && S_ISDIR(st.st_mode) &&
            (!found || st.st_mtim.tv_sec > newest.tv_sec)) {
            memcpy(out, path, sizeof path);
            newest = st.st_mtim;
            found = true;
        }
    free_entries(entries, n);
    return found;
}

static bool has_incomplete(const char *repo)
{
    char blobs[PATH_MAX];
    struct dirent **entries;
    bool found = false;
    int n = join(blobs, repo, "blobs") ? list_directory(blobs, &entries) : 0;
    for (int i = 0; i < n; i++)
        found |= lade_ends_with(entries[i]->d_name, ".incomplete");
    if (n)
        free_entries(entries, n);
    return found;
}

/* models--ORG--NAME/snapshots/COMMIT/ with links into models--ORG--NAME/blobs/. */
static void walk_hub(struct walk *w, const char *dir)
{
    static const char start[] = "models--";
    struct dirent **entries;
    int n = list_directory(dir, &entries);
    for (int i = 0; i < n; i++) {
        char repo[PATH_MAX], snapshot[PATH_MAX], name[NAME_MAX + 1];
        const char *rest = entries[i]->d_name;
        if (strncmp(rest, start, sizeof start - 1) != 0 || !join(repo, dir, rest) ||
            !find_snapshot(repo, snapshot))
            continue;
        rest += sizeof start - 1;
        const char *cut = strstr(rest, "--");
        if (cut)
            snprintf(name, sizeof name, "%.*s/%s", (int)(cut - rest), rest, cut + 2);
        else
            snprintf(name, sizeof name, "%s", rest);
        size_t before = w->list->n;
        walk(w, snapshot, name, true, 0);
        if (w->list->n > before && has_incomplete(repo))
            for (size_t k = before; k < w->list->n; k++)
                w->list->items[k].unfinished = true;
    }
    free_entries(entries, n);
}

/* ---- ollama ---------------------------------------------------------------------------------- */

/* The blob of a manifest's model layer: "sha256:HEX" lies in blobs/sha256-HEX. */
static bool model_layer(const char *text, size_t len, char *blob, size_t size, uint64_t *bytes)
{
    static const char start[] = "sha256:";
    bool found = false;
    json_t *root = json_loadb(text, len, 0, NULL), *layer;
    size_t i;
    json_array_foreach(json_object_get(root, "layers"), i, layer)
    {
        const char *type = json_string_value(json_object_get(layer, "mediaType"));
        const char *digest = json_string_value(json_object_get(layer, "digest"));
        if (found || !type || !digest || strcmp(type, "application/vnd.ollama.image.model") != 0 ||
            strncmp(digest, start, sizeof start - 1) != 0)
            continue;
        const char *hex = digest + sizeof start - 1;
        json_int_t n = json_integer_value(json_object_get(layer, "size"));
        found = strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64 &&
                snprintf(blob, size, "sha256-%s", hex) < (int)size;
        *bytes = n > 0 ? (uint64_t)n : 0;
    }
    json_decref(root);
    return found;
}

/* REGISTRY/OWNER/NAME/TAG; what is the default is left out, as ollama does. */
static void ollama_name(char *out, size_t size, const char *path)
{
    static const char *const defaults[] = {"registry.ollama.ai/", "library/"};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if (!strncmp(path, defaults[i], strlen(defaults[i])))
            path += strlen(defaults[i]);
    snprintf(out, size, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = ':';
}

static void walk_manifests(struct walk *w, const char *root, const char *dir, const char *prefix,
                           int depth)
{
    struct dirent **entries;
    int n = list_directory(dir, &entries);
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX], grown[PATH_MAX], name[PATH_MAX], blob[96], *text;
        size_t len;
        uint64_t bytes, there = 0;
        if (!join(path, dir, entries[i]->d_name) ||
            snprintf(grown, sizeof grown, "%s%s%s", prefix, *prefix ? "/" : "",
                     entries[i]->d_name) >= PATH_MAX)
            continue;
        if (is_directory(path)) {
            if (depth + 1 < DEEPEST)
                walk_manifests(w, root, path, grown, depth + 1);
            continue;
        }
        if (lade_file_read(path, MAX_MANIFEST, &text, &len, NULL))
            continue;
        bool found = model_layer(text, len, blob, sizeof blob, &bytes);
        free(text);
        char blobs[PATH_MAX];
        if (!found || !join(blobs, root, "blobs") || !join(path, blobs, blob))
            continue;
        file_bytes(blobs, blob, &there);
        ollama_name(name, sizeof name, grown);
        struct lade_found *f = add(w, name, path, "gguf", there);
        if (f)
            f->unfinished = there != bytes;
    }
    free_entries(entries, n);
}

static void walk_ollama(struct walk *w, const char *dir)
{
    char manifests[PATH_MAX];
    if (join(manifests, dir, "manifests"))
        walk_manifests(w, dir, manifests, "", 0);
}

/* ---- places ---------------------------------------------------------------------------------- */

/* Directories below an environment variable's, or below HOME where env is NULL. Of the rows of one
 * group only the first whose variable is set counts. */
static const struct place {
    const char *name;
    int group;
    const char *env, *below;
    void (*walk)(struct walk *w, const char *dir);
} places[] = {
    {"huggingface", 1, "HF_HUB_CACHE", "", walk_hub},
    {"huggingface", 1, "HF_HOME", "/hub", walk_hub},
    {"huggingface", 1, "XDG_CACHE_HOME", "/huggingface/hub", walk_hub},
    {"huggingface", 1, NULL, "/.cache/huggingface/hub", walk_hub},
    {"llama.cpp", 2, "XDG_CACHE_HOME", "/llama.cpp", walk_tree},
    {"llama.cpp", 2, NULL, "/.cache/llama.cpp", walk_tree},
    {"lmstudio", 3, NULL, "/.lmstudio/models", walk_tree},
    {"lmstudio", 4, NULL, "/.cache/lm-studio/models", walk_tree},
    {"ollama", 5, NULL, "/.ollama/models", walk_ollama},
};
/* Where its Linux installer lets ollama run as a service. */
static const char ollama_service[] = "/usr/share/ollama/.ollama/models";

/* The file's own name in place of its label. */
static void spell_out(struct walk *w, struct lade_found *f)
{
    char stem[NAME_MAX + 1], *name;
    if (!lade_gguf_stem(f->path, stem, sizeof stem, NULL, NULL))
        return;
    if (asprintf(&name, "%.*s:%s", (int)strcspn(f->name, ":"), f->name, stem) < 0) {
        w->no_memory = true;
        return;
    }
    free(f->name);
    f->name = name;
}

/* Two files of one repository with the same label: their own names tell them apart. */
static void part_twins(struct walk *w)
{
    struct lade_found_list *l = w->list;
    for (size_t i = 0; i < l->n; i++) {
        bool twin = false;
        for (size_t k = i + 1; k < l->n; k++)
            if (l->items[k].place == l->items[i].place &&
                !strcmp(l->items[k].name, l->items[i].name)) {
                twin = true;
                spell_out(w, &l->items[k]);
            }
        if (twin)
            spell_out(w, &l->items[i]);
    }
}

int lade_find_models(struct lade_found_list *out, const char *own, char *err)
{
    struct walk w = {.list = out, .place = "lade"};
    char dir[PATH_MAX];
    int done = 0; /* the group that has its directory */
    *out = (struct lade_found_list){0};
    if (own)
        walk_tree(&w, own);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const struct place *p = &places[i];
        const char *base = getenv(p->env ? p->env : "HOME");
        if (p->group == done || !base || *base != '/')
            continue;
        done = p->group;
        w.place = p->name;
        if (snprintf(dir, sizeof dir, "%s%s", base, p->below) < PATH_MAX)
            p->walk(&w, dir);
    }
    walk_ollama(&w, ollama_service);
    part_twins(&w);
    if (w.no_memory) {
        lade_found_free(out);
        return lade_fail(err, "models: no memory for the list; free some");
    }
    return 0;
}
