#include "engine/hub/listing.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/scan.h"
#include "engine/hub/names.h"

enum { MOST_FILES = 20000, NAME = 200 };

void lade_listing_free(struct lade_listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->files[i].path);
    free(l->files);
    l->files = NULL;
    l->n = l->room = 0;
}

const struct lade_hub_file *lade_listing_find(const struct lade_listing *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->files[i].name, name))
            return &l->files[i];
    return NULL;
}

int lade_hub_file_same(const struct lade_hub_file *a, const struct lade_hub_file *b)
{
    return a && b && a->bytes == b->bytes && a->kind == b->kind && !strcmp(a->digest, b->digest);
}

/* ---- names ----------------------------------------------------------------------------------- */

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* One part of ORG/NAME: the hub's own rule. */
static bool is_repo_part(const char *text, size_t len)
{
    if (!len || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!text[i] || !strchr(LETTERS "0123456789._-", text[i]) ||
            (i && text[i] == '.' && text[i - 1] == '.'))
            return false;
    return true;
}

int lade_hub_spec(const char *what, char repo[LADE_REPO], char wanted[LADE_WANTED], char *err)
{
    static const char *const addresses[] = {"https://", "http://", "huggingface.co/", "hf.co/"};
    char shown[128];
    const char *text = what;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        if (!strncasecmp(text, addresses[i], strlen(addresses[i])))
            text += strlen(addresses[i]);
    size_t len = strcspn(text, ":");
    const char *file = text[len] ? text + len + 1 : "";
    bool names_none = text[len] && !*file;
    while (len && text[len - 1] == '/')
        len--;
    const char *slash = memchr(text, '/', len);
    if (!slash || names_none || len >= LADE_REPO || !is_repo_part(text, (size_t)(slash - text)) ||
        !is_repo_part(slash + 1, len - (size_t)(slash + 1 - text)))
        return lade_fail(err,
                         "%s: is not the name of a repository; give ORG/NAME, ORG/NAME:Q4_K_M or "
                         "ORG/NAME:FILE.gguf",
                         lade_printable(shown, sizeof shown, what, strlen(what)));
    if (strlen(file) >= LADE_WANTED)
        return lade_fail(err, "%.*s: the name of the file is too long; correct it", (int)len, text);
    memcpy(repo, text, len);
    repo[len] = '\0';
    memcpy(wanted, file, strlen(file) + 1);
    return 0;
}

/* A path of the hub's listing: relative, clean, and its last component a plain visible name that
 * does not clash with ours. */
static bool is_safe_path(const char *path)
{
    const char *part = path;
    if (!*path || strlen(path) > 1000 || strlen(lade_path_base(path)) > NAME)
        return false;
    for (const char *p = path;; p++) {
        if ((*p && (unsigned char)*p < ' ') || *p == 0x7F || *p == '\\')
            return false;
        if (*p && *p != '/')
            continue;
        size_t len = (size_t)(p - part);
        if (!len || (len == 1 && part[0] == '.') || (len == 2 && !strncmp(part, "..", 2)))
            return false;
        if (!*p)
            break;
        part = p + 1;
    }
    return true;
}

/* ---- answers of the hub ---------------------------------------------------------------------- */

static json_t *parse(const struct lade_listing *l, const char *what, const char *text, size_t len,
                     char *err)
{
    json_error_t e;
    char why[96];
    json_t *root = json_loadb(text, len, 0, &e);
    if (!root)
        lade_fail(err, "%s: the %s is not valid JSON (line %d: %s); check HF_ENDPOINT", l->repo,
                  what, e.line, lade_printable(why, sizeof why, e.text, strlen(e.text)));
    return root;
}

/* What the hub says that the model is, or NULL. */
static const char *architecture(json_t *root)
{
    const char *type =
        json_string_value(json_object_get(json_object_get(root, "config"), "model_type"));
    return type ? type
                : json_string_value(json_object_get(json_object_get(root, "gguf"), "architecture"));
}

int lade_listing_revision(struct lade_listing *l, const char *text, size_t len, char *err)
{
    json_t *root = parse(l, "answer on the revision", text, len, err);
    if (!root)
        return -1;
    const char *sha = json_string_value(json_object_get(root, "sha"));
    const char *kind = architecture(root);
    int rc = 0;
    char shown[64];
    if (!sha || !lade_digest_valid(LADE_DIGEST_GIT, sha))
        rc = lade_fail(err, "%s: the hub names no commit; check HF_ENDPOINT", l->repo);
    else if (kind && strcmp(kind, "qwen3_next") != 0 && strcmp(kind, "qwen3next") != 0)
        rc =
            lade_fail(err,
                      "%s: its architecture is '%s', but lade runs Qwen3-Next only; choose another "
                      "repository",
                      l->repo, lade_printable(shown, sizeof shown, kind, strlen(kind)));
    else
        memcpy(l->revision, sha, sizeof l->revision);
    json_decref(root);
    return rc;
}

static int add_file(struct lade_listing *l, const char *path, json_int_t bytes,
                    enum lade_digest_kind kind, const char *digest, char *err)
{
    char shown[128];
    if (!path || !is_safe_path(path))
        return lade_fail(
            err, "%s: the hub lists a file called '%s', which is not safe; report it", l->repo,
            lade_printable(shown, sizeof shown, path ? path : "", path ? strlen(path) : 0));
    if (bytes < 0 || !digest || !lade_digest_valid(kind, digest))
        return lade_fail(err, "%s: the hub gives no size or no digest of %.120s; check HF_ENDPOINT",
                         l->repo, lade_printable(shown, sizeof shown, path, strlen(path)));
    if (l->n >= MOST_FILES)
        return lade_fail(err, "%s: has more than %d files; is this a model?", l->repo, MOST_FILES);
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct lade_hub_file *grown = realloc(l->files, room * sizeof *grown);
        if (!grown)
            return lade_fail(err, "%s: no memory for its list of files; free some", l->repo);
        l->files = grown;
        l->room = room;
    }
    struct lade_hub_file *f = &l->files[l->n];
    *f = (struct lade_hub_file){.bytes = (uint64_t)bytes, .kind = kind, .path = strdup(path)};
    if (!f->path)
        return lade_fail(err, "%s: no memory for its list of files; free some", l->repo);
    f->name = lade_path_base(f->path);
    memcpy(f->digest, digest, strlen(digest) + 1);
    l->n++;
    return 0;
}

int lade_listing_page(struct lade_listing *l, const char *text, size_t len, char *err)
{
    json_t *root = parse(l, "list of files", text, len, err), *entry;
    size_t i;
    int rc = 0;
    if (!root)
        return -1;
    if (!json_is_array(root))
        rc = lade_fail(err, "%s: the list of files is not a list; check HF_ENDPOINT", l->repo);
    json_array_foreach(root, i, entry)
    {
        const char *type = json_string_value(json_object_get(entry, "type"));
        json_t *lfs = json_object_get(entry, "lfs");
        bool large = json_is_object(lfs);
        if (rc || !type || strcmp(type, "file") != 0)
            continue;
        const char *path = json_string_value(json_object_get(entry, "path"));
        json_t *size = json_object_get(large ? lfs : entry, "size");
        rc = add_file(l, path, json_is_integer(size) ? json_integer_value(size) : -1,
                      large ? LADE_DIGEST_SHA256 : LADE_DIGEST_GIT,
                      json_string_value(json_object_get(large ? lfs : entry, "oid")), err);
    }
    json_decref(root);
    return rc;
}

/* ---- which files ----------------------------------------------------------------------------- */

/* Keeps the files for which keep[] is set. */
static void keep_only(struct lade_listing *l, const bool *keep)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        if (keep[i])
            l->files[n++] = l->files[i];
        else
            free(l->files[i].path);
    l->n = n;
}

static bool of_safetensors(const struct lade_hub_file *f)
{
    static const char *const tails[] = {".safetensors", ".json", ".jinja", "merges.txt", "LICENSE"};
    if (strchr(f->path, '/') || f->name[0] == '.')
        return false;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (lade_ends_with(f->name, tails[i]))
            return true;
    return false;
}

/* A GGUF model of the repository: the parts of one split, or one file. */
struct group {
    char stem[LADE_WANTED], label[64]; /* label "" where the name has none */
    size_t first;                      /* file */
    int parts, there;
    uint64_t bytes;
    bool chosen;
};

/* Whether file i is of group g. Parts lie in one directory. */
static bool in_group(const struct lade_listing *l, size_t i, const struct group *g)
{
    char stem[LADE_WANTED];
    int parts;
    const struct lade_hub_file *f = &l->files[i], *first = &l->files[g->first];
    size_t dir = (size_t)(f->name - f->path);
    return lade_gguf_stem(f->name, stem, sizeof stem, NULL, &parts) && parts == g->parts &&
           !strcmp(stem, g->stem) && dir == (size_t)(first->name - first->path) &&
           !strncmp(f->path, first->path, dir);
}

/* The groups in the order of the listing; the caller frees the array. */
static struct group *find_groups(const struct lade_listing *l, size_t *n)
{
    struct group *groups = calloc(l->n ? l->n : 1, sizeof *groups);
    *n = 0;
    for (size_t i = 0; groups && i < l->n; i++) {
        struct group g = {.first = i};
        if (!lade_gguf_stem(l->files[i].name, g.stem, sizeof g.stem, NULL, &g.parts) ||
            l->files[i].name[0] == '.' || !strncasecmp(g.stem, "mmproj", 6) ||
            !strncasecmp(g.stem, "imatrix", 7))
            continue;
        size_t k = 0;
        while (k < *n && !in_group(l, i, &groups[k]))
            k++;
        if (k == *n) {
            lade_quant_label(g.stem, g.label, sizeof g.label);
            groups[(*n)++] = g;
        }
        groups[k].there++;
        groups[k].bytes += l->files[i].bytes;
    }
    return groups;
}

/* " Q4_K_M (48.5 GB), Q8_0 (84.8 GB)": what can be asked for. */
static void list_groups(const struct lade_listing *l, const struct group *groups, size_t n,
                        bool chosen_only, char *out, size_t size)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < n; i++) {
        const struct group *g = &groups[i];
        char item[LADE_WANTED + 40], shown[LADE_WANTED + 8];
        if (chosen_only && !g->chosen)
            continue;
        const char *name = *g->label && !chosen_only ? g->label : l->files[g->first].name;
        int len = snprintf(item, sizeof item, "%s%s (%.1f GB)", used ? ", " : "",
                           lade_printable(shown, sizeof shown, name, strlen(name)),
                           (double)g->bytes / 1e9);
        if (len < 0 || used + (size_t)len + 6 > size) {
            snprintf(out + used, size - used, ", ...");
            return;
        }
        memcpy(out + used, item, (size_t)len + 1);
        used += (size_t)len;
    }
}

/* Marks the groups that `wanted` means and returns how many: a file name, else a label that is the
 * group's own, else one that its name ends with. */
static size_t choose(const struct lade_listing *l, struct group *groups, size_t n,
                     const char *wanted)
{
    enum { FILE_NAME, LABEL, TAIL, N_WAYS };
    size_t chosen = 0;
    char stem[LADE_WANTED];
    bool is_file = lade_gguf_stem(wanted, stem, sizeof stem, NULL, NULL);
    for (int way = 0; way < N_WAYS && !chosen; way++)
        for (size_t i = 0; i < n; i++) {
            struct group *g = &groups[i];
            switch (way) {
            case FILE_NAME:
                g->chosen = is_file && !strcmp(stem, g->stem) &&
                            (!strchr(wanted, '/') ||
                             !strncmp(wanted, l->files[g->first].path,
                                      (size_t)(l->files[g->first].name - l->files[g->first].path)));
                break;
            case LABEL:
                g->chosen = !strcasecmp(g->label, wanted);
                break;
            default:
                g->chosen = lade_stem_has_label(g->stem, wanted);
                break;
            }
            chosen += g->chosen;
        }
    return chosen;
}

static int pick_gguf(struct lade_listing *l, struct group *groups, size_t n, const char *wanted,
                     bool *keep, char *err)
{
    char list[300], shown[96];
    size_t at = 0, chosen = choose(l, groups, n, wanted);
    if (!*wanted && n == 1)
        chosen = groups[0].chosen = 1;
    if (!*wanted && n > 1) {
        list_groups(l, groups, n, false, list, sizeof list);
        return lade_fail(err, "%s: has several models; choose one with %s:NAME of: %s", l->repo,
                         l->repo, list);
    }
    if (chosen != 1) {
        list_groups(l, groups, n, chosen > 1, list, sizeof list);
        return lade_fail(err, "%.100s: %s '%s'; choose one of: %s", l->repo,
                         chosen ? "several files are called" : "no GGUF file is called",
                         lade_printable(shown, sizeof shown, wanted, strlen(wanted)),
                         n ? list : "none, it has no GGUF files");
    }
    while (!groups[at].chosen)
        at++;
    const struct group *g = &groups[at];
    if (g->there != g->parts)
        return lade_fail(err, "%s: only %d of %d parts of %.150s are listed; choose another file",
                         l->repo, g->there, g->parts, g->stem);
    bool twin = false;
    for (size_t i = 0; i < n; i++)
        twin |= i != at && !strcasecmp(groups[i].label, g->label);
    snprintf(l->label, sizeof l->label, "%s", *g->label && !twin ? g->label : g->stem);
    for (size_t i = 0; i < l->n; i++)
        keep[i] = in_group(l, i, g);
    return 0;
}

/* Two files that would have the same name here. */
static int check_names(const struct lade_listing *l, char *err)
{
    for (size_t i = 0; i < l->n; i++)
        if (lade_listing_find(l, l->files[i].name) != &l->files[i] ||
            lade_ends_with(l->files[i].name, ".part"))
            return lade_fail(err, "%s: the name %.150s does not tell its files apart; report it",
                             l->repo, l->files[i].name);
    return 0;
}

int lade_listing_pick(struct lade_listing *l, const char *wanted, char *err)
{
    size_t n_groups;
    bool weights = false, config = false, *keep = calloc(l->n ? l->n : 1, 1);
    struct group *groups = find_groups(l, &n_groups);
    int rc = 0;
    *l->label = '\0';
    if (!keep || !groups)
        rc = lade_fail(err, "%s: no memory for its list of files; free some", l->repo);
    for (size_t i = 0; !rc && i < l->n; i++) {
        keep[i] = of_safetensors(&l->files[i]);
        weights |= keep[i] && lade_ends_with(l->files[i].name, ".safetensors");
        config |= keep[i] && !strcmp(l->files[i].name, "config.json");
    }
    if (!rc && (*wanted || !weights || !config)) {
        if (!*wanted && !n_groups)
            rc = lade_fail(err,
                           "%s: has neither safetensors with a config.json nor GGUF files; choose "
                           "another repository",
                           l->repo);
        else
            rc = pick_gguf(l, groups, n_groups, wanted, keep, err);
    }
    if (!rc) {
        keep_only(l, keep);
        rc = check_names(l, err);
    }
    free(groups);
    free(keep);
    return rc;
}
