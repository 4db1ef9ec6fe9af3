#include "engine/hub/fetch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/scan.h"
#include "engine/hub/http.h"
#include "engine/hub/listing.h"
#include "engine/hub/names.h"
#include "engine/hub/transfer.h"

#define MAX_ANSWER  ((size_t)64 << 20)
#define MAX_TOKEN   ((size_t)4096)
#define SPARE_BYTES ((uint64_t)256 << 20) /* that a download leaves free on the drive */
enum { MOST_PAGES = 100 };

struct fetch {
    const struct lade_fetch_options *options;
    struct lade_http http;
    struct lade_listing listing;
    struct lade_fetch_progress shown;
    struct lade_fetch_file *files;
    lade_fetch_fn *progress;
    void *user;
    char final[PATH_MAX], partial[PATH_MAX];
    int dirfd; /* of partial, locked; -1 = not open */
    char *err;
};

static void note(void *user, const char *text)
{
    struct fetch *f = user;
    f->shown.note = text;
    if (f->progress)
        f->progress(f->user, &f->shown);
    f->shown.note = NULL;
}

/* ---- what there is at the hub ---------------------------------------------------------------- */

static int get_revision(struct fetch *f)
{
    const char *wanted = f->options->revision ? f->options->revision : "main";
    char *escaped = lade_http_escape(wanted, false), *url = NULL, *text;
    size_t len;
    int rc = -1;
    if (!escaped || asprintf(&url, "%s/api/models/%s/revision/%s", f->http.endpoint,
                             f->listing.repo, escaped) < 0)
        lade_fail(f->err, "%s: no memory; free some", f->listing.repo);
    else if (!lade_http_text(&f->http, url, wanted, MAX_ANSWER, &text, &len, NULL, f->err)) {
        rc = lade_listing_revision(&f->listing, text, len, f->err);
        free(text);
    }
    free(escaped);
    free(url);
    return rc;
}

static int get_tree(struct fetch *f)
{
    char *url = NULL;
    int rc = 0;
    if (asprintf(&url, "%s/api/models/%s/tree/%s?recursive=true", f->http.endpoint, f->listing.repo,
                 f->listing.revision) < 0)
        return lade_fail(f->err, "%s: no memory; free some", f->listing.repo);
    for (int page = 0; url && !rc; page++) {
        char *text, *next;
        size_t len;
        if (page == MOST_PAGES) {
            rc = lade_fail(f->err, "%s: its list of files does not end; check HF_ENDPOINT",
                           f->listing.repo);
            break;
        }
        rc = lade_http_text(&f->http, url, "the list of files", MAX_ANSWER, &text, &len, &next,
                            f->err);
        free(url);
        url = NULL;
        if (rc)
            break;
        rc = lade_listing_page(&f->listing, text, len, f->err);
        free(text);
        url = next;
    }
    free(url);
    return rc;
}

/* ---- directories ----------------------------------------------------------------------------- */

static int set_paths(struct fetch *f)
{
    const struct lade_listing *l = &f->listing;
    int n = snprintf(f->partial, PATH_MAX, "%s/%s%s%s.partial", f->options->dir, l->repo,
                     *l->label ? "@" : "", l->label);
    if (n < 0 || n >= PATH_MAX)
        return lade_fail(f->err, "%s: the path of the models directory is too long; use another",
                         l->repo);
    snprintf(f->final, PATH_MAX, "%.*s", n - (int)strlen(".partial"), f->partial);
    return 0;
}

/* Makes a directory and those above it. */
static int make_directories(const char *path, char *err)
{
    char at[PATH_MAX];
    snprintf(at, sizeof at, "%s", path);
    for (char *p = at + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char cut = *p;
        *p = '\0';
        if (mkdir(at, 0700) && errno != EEXIST)
            return lade_fail(err, "%.300s: %s; check its permissions, or set LADE_HOME", at,
                             strerror(errno));
        if (!cut)
            return 0;
        *p = cut;
    }
}

/* Opens the partial directory and takes its lock. Another process may have finished and renamed it
 * between the two: then the name means another directory. */
static int lock_partial(struct fetch *f)
{
    struct stat held, named;
    for (int i = 0; i < 3; i++) {
        if (make_directories(f->partial, f->err))
            return -1;
        f->dirfd = open(f->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (f->dirfd < 0)
            break;
        if (flock(f->dirfd, LOCK_EX | LOCK_NB))
            return lade_fail(f->err, "%s: another lade is fetching it; wait for that one",
                             f->listing.repo);
        if (!fstat(f->dirfd, &held) && !stat(f->partial, &named) && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev)
            return 0;
        close(f->dirfd);
        f->dirfd = -1;
    }
    return lade_fail(f->err, "%.300s: %s; check its permissions", f->partial, strerror(errno));
}

static bool has_bytes(int dirfd, const char *name, uint64_t *bytes)
{
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
        return false;
    *bytes = (uint64_t)st.st_size;
    return true;
}

/* The directory holds exactly what the listing says, by its record and the sizes. */
static bool is_current(const struct lade_listing *l, int dirfd)
{
    struct lade_listing record;
    lade_record_read(&record, dirfd);
    bool current = record.n == l->n && !strcmp(record.repo, l->repo);
    for (size_t i = 0; current && i < l->n; i++) {
        uint64_t bytes;
        current = lade_hub_file_same(lade_listing_find(&record, l->files[i].name), &l->files[i]) &&
                  has_bytes(dirfd, l->files[i].name, &bytes) && bytes == l->files[i].bytes;
    }
    lade_listing_free(&record);
    return current;
}

/* Removes what does not belong to the listing: other files, and other contents of its files. */
static int clean_partial(struct fetch *f)
{
    struct lade_listing record;
    int fd = dup(f->dirfd);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return lade_fail(f->err, "%.300s: %s; check its permissions", f->partial, strerror(errno));
    }
    lade_record_read(&record, f->dirfd);
    for (struct dirent *e; (e = readdir(dir));) {
        char name[NAME_MAX + 1];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, LADE_RECORD))
            continue;
        snprintf(name, sizeof name, "%s", e->d_name);
        if (lade_ends_with(name, ".part"))
            name[strlen(name) - strlen(".part")] = '\0';
        const struct lade_hub_file *file = lade_listing_find(&f->listing, name);
        if (!file || !lade_hub_file_same(lade_listing_find(&record, name), file))
            unlinkat(f->dirfd, e->d_name, 0);
    }
    lade_listing_free(&record);
    closedir(dir);
    return 0;
}

/* An update takes files that did not change from the model it replaces. */
static void link_unchanged(struct fetch *f)
{
    struct lade_listing record;
    int old = open(f->final, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old < 0)
        return;
    lade_record_read(&record, old);
    for (size_t i = 0; i < f->listing.n; i++) {
        const struct lade_hub_file *file = &f->listing.files[i];
        uint64_t bytes;
        if (lade_hub_file_same(lade_listing_find(&record, file->name), file) &&
            has_bytes(old, file->name, &bytes) && bytes == file->bytes)
            linkat(old, file->name, f->dirfd, file->name,
                   0); /* it may be there; else it is fetched */
    }
    lade_listing_free(&record);
    close(old);
}

/* Notes which files are there already, and that the drive has room for the rest. */
static int take_stock(struct fetch *f)
{
    uint64_t need = 0;
    struct statvfs fs;
    f->files = calloc(f->listing.n ? f->listing.n : 1, sizeof *f->files);
    if (!f->files)
        return lade_fail(f->err, "%s: no memory for %zu files; free some", f->listing.repo,
                         f->listing.n);
    for (size_t i = 0; i < f->listing.n; i++) {
        const struct lade_hub_file *file = &f->listing.files[i];
        char part[NAME_MAX + 1];
        uint64_t bytes = 0;
        f->files[i] = (struct lade_fetch_file){.name = file->name, .bytes = file->bytes};
        f->shown.bytes += file->bytes;
        if (has_bytes(f->dirfd, file->name, &bytes) && bytes == file->bytes) {
            f->files[i].state = LADE_FETCH_DONE;
            f->files[i].done = bytes;
            continue;
        }
        snprintf(part, sizeof part, "%s.part", file->name);
        bytes = 0;
        has_bytes(f->dirfd, part, &bytes);
        need += bytes < file->bytes ? file->bytes - bytes : 0;
    }
    f->shown.files = f->files;
    f->shown.n_files = (int)f->listing.n;
    if (fstatvfs(f->dirfd, &fs) || !need)
        return 0;
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room < need || room - need < SPARE_BYTES)
        return lade_fail(
            f->err,
            "%s: needs %.1f GB more and %.1f GB to spare, but %.200s has %.1f GB free; "
            "make room, or set LADE_HOME to another drive",
            f->listing.repo, (double)need / 1e9, (double)SPARE_BYTES / 1e9, f->options->dir,
            (double)room / 1e9);
    return 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void sync_parent(const char *path)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%.*s", (int)(lade_path_base(path) - path), path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

/* Removes a model that an update replaced: plain files in one directory. */
static void remove_replaced(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(path);
}

/* The directory gets its name: from now on it is a whole model. */
static int give_name(struct fetch *f)
{
    struct stat st;
    bool replaces = !lstat(f->final, &st);
    fsync(f->dirfd);
    if (renameat2(AT_FDCWD, f->partial, AT_FDCWD, f->final, replaces ? RENAME_EXCHANGE : 0))
        return lade_fail(f->err, "%.250s: cannot be renamed: %s; move it by hand", f->partial,
                         strerror(errno));
    sync_parent(f->final);
    if (replaces)
        remove_replaced(f->partial);
    return 0;
}

/* What to open: GGUF by its first file, which the listing may have anywhere. */
static int model_path(const struct fetch *f, char path[PATH_MAX])
{
    const char *first = "";
    for (size_t i = 0; *f->listing.label && i < f->listing.n; i++)
        if (!*first || strcmp(f->listing.files[i].name, first) < 0)
            first = f->listing.files[i].name;
    int n = snprintf(path, PATH_MAX, "%s%s%s", f->final, *first ? "/" : "", first);
    return n < PATH_MAX ? 0 : lade_fail(f->err, "%s: the path is too long", f->listing.repo);
}

/* A directory of that name that is no download of ours stays as it is. */
static int check_final(struct fetch *f, bool *current)
{
    struct lade_listing record;
    int fd = open(f->final, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *current = false;
    if (fd < 0)
        return errno == ENOENT ? 0
                               : lade_fail(f->err, "%.300s: %s; check its permissions", f->final,
                                           strerror(errno));
    lade_record_read(&record, fd);
    bool ours = !strcmp(record.repo, f->listing.repo);
    lade_listing_free(&record);
    *current = is_current(&f->listing, fd);
    close(fd);
    return ours ? 0
                : lade_fail(f->err, "%.300s: is there and was not fetched by lade; move it away",
                            f->final);
}

static int fetch_files(struct fetch *f)
{
    struct lade_transfer t = {
        .http = &f->http,
        .listing = &f->listing,
        .connections = f->options->connections > 0 ? f->options->connections : 4,
        .shown = &f->shown,
        .progress = f->progress,
        .user = f->user,
    };
    if (lock_partial(f) || clean_partial(f) || lade_record_write(&f->listing, f->dirfd, f->err))
        return -1;
    link_unchanged(f);
    if (take_stock(f))
        return -1;
    t.files = f->files;
    t.dirfd = f->dirfd;
    return lade_transfer_run(&t, f->err) || give_name(f) ? -1 : 0;
}

static int run(struct fetch *f, char path[PATH_MAX])
{
    char wanted[LADE_WANTED];
    bool current;
    if (lade_hub_spec(f->options->what, f->listing.repo, wanted, f->err))
        return -1;
    f->http.repo = f->shown.repo = f->listing.repo;
    note(f, NULL);
    if (get_revision(f) || get_tree(f) || lade_listing_pick(&f->listing, wanted, f->err) ||
        set_paths(f) || check_final(f, &current))
        return -1;
    if (!current && fetch_files(f))
        return -1;
    return model_path(f, path);
}

int lade_fetch(const struct lade_fetch_options *o, lade_fetch_fn *progress, void *user,
               const atomic_bool *cancel, char path[PATH_MAX], char *err)
{
    struct fetch f = {.options = o, .progress = progress, .user = user, .dirfd = -1, .err = err};
    if (lade_http_open(&f.http, o->endpoint ? o->endpoint : LADE_HUB_ENDPOINT, o->token, err))
        return -1;
    f.http.attempts = o->attempts > 0 ? o->attempts : 6;
    f.http.backoff_s = o->backoff_s > 0 ? o->backoff_s : 1;
    f.http.stall_s = o->stall_s > 0 ? o->stall_s : 30;
    f.http.cancel = cancel;
    f.http.note = note;
    f.http.user = &f;
    int rc = run(&f, path);
    if (f.dirfd >= 0)
        close(f.dirfd);
    free(f.files);
    lade_listing_free(&f.listing);
    lade_http_close(&f.http);
    return rc;
}

/* ---- the token ------------------------------------------------------------------------------- */

char *lade_hub_token(void)
{
    static const struct {
        const char *env, *below;
    } places[] = {
        {"HF_TOKEN_PATH", ""},
        {"HF_HOME", "/token"},
        {"XDG_CACHE_HOME", "/huggingface/token"},
        {"HOME", "/.cache/huggingface/token"},
    };
    const char *token = getenv("HF_TOKEN");
    char path[PATH_MAX], *text;
    size_t len;
    if (token && *token)
        return strdup(token);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *base = getenv(places[i].env);
        if (!base || !*base)
            continue;
        if (snprintf(path, sizeof path, "%s%s", base, places[i].below) >= PATH_MAX ||
            lade_file_read(path, MAX_TOKEN, &text, &len, NULL))
            return NULL; /* the first that is set decides, as for the hub's own tools */
        text[strcspn(text, " \t\r\n")] = '\0';
        if (*text)
            return text;
        free(text);
        return NULL;
    }
    return NULL;
}
