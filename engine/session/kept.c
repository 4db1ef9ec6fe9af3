#include "engine/session/kept.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/packed.h"
#include "engine/clock.h"
#include "engine/session/timeline.h"

static const char MAGIC[8] = "LADETIME";
enum { VERSION = 3 };
enum { PART = 4 << 20 }; /* bytes between two looks whether to go on */

/* The file: this, the tokens, the recurrent state after them, that of the snapshot if there is one,
 * the runs of the caches, and a checksum of all of it. Numbers are as the machine has them. */
struct head {
    char magic[8];
    uint64_t model, bytes;             /* model_key(); of the file */
    int64_t of;                        /* conversation; 0 = it has no number */
    int32_t version, length, snapshot; /* tokens; snapshot 0 = there is none */
    int32_t zero;
};

/* A file that is written or read, and what it holds so far. */
struct kept {
    FILE *file;
    bool writing;
    double until; /* of a writer: lade_now() at which it gives up */
    const atomic_bool *cancel;
    XXH3_state_t *sum;
    unsigned char *run; /* work space: one run of the caches */
};

/* What the caches and states are of: the weights, by the files they come from, their shape and the
 * type of the caches. A file is the one it was as long as a packed copy would take it for that, whose
 * look reads of each: once a session. */
static uint64_t model_key(struct lade_session *s)
{
    const struct lade_catalog *cat = s->model->cat;
    if (s->key)
        return s->key;
    uint64_t key = XXH3_64bits(&cat->shape, sizeof cat->shape) + (uint64_t)s->state.cache_type;
    for (int i = 0; i < cat->n_shards; i++) {
        struct lade_packed_source is;
        lade_packed_look(&is, cat->shards[i].path, NULL);
        const uint64_t file[] = {key, is.bytes, (uint64_t)is.time_ns, is.hash};
        key = XXH3_64bits(file, sizeof file);
        free(is.path);
    }
    return s->key = key;
}

char *lade_kept_path(struct lade_session *s, const char *dir)
{
    char name[32];
    snprintf(name, sizeof name, "%016llx", (unsigned long long)model_key(s));
    return lade_path_join(dir, name);
}

static uint64_t bytes_of(const struct lade_session *s, int length, bool snapshot)
{
    const struct lade_shape *shape = &s->model->cat->shape;
    return sizeof(struct head) + (uint64_t)length * sizeof *s->ids +
           s->state.recurrent_bytes * (snapshot ? 2 : 1) +
           (uint64_t)lade_state_runs(shape) * lade_state_run_bytes(&s->state, shape, length) +
           sizeof(uint64_t);
}

static struct head head_of(struct lade_session *s, int64_t of, int length, int snapshot)
{
    struct head h = {.model = model_key(s),
                     .bytes = bytes_of(s, length, snapshot),
                     .of = of,
                     .version = VERSION,
                     .length = length,
                     .snapshot = snapshot};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    return h;
}

static bool may_go_on(const struct kept *k)
{
    return !k->writing || ((!k->cancel || !atomic_load(k->cancel)) && lade_now() < k->until);
}

static bool pass(struct kept *k, void *data, size_t n)
{
    unsigned char *next = data;
    for (size_t left = n, part, passed; left; left -= part, next += part) {
        part = left < PART ? left : PART;
        if (!may_go_on(k))
            return false;
        if (k->writing)
            passed = fwrite(next, 1, part, k->file);
        else
            passed = fread(next, 1, part, k->file);
        if (passed != part)
            return false;
    }
    XXH3_64bits_update(k->sum, data, n);
    return true;
}

static bool pass_runs(struct kept *k, struct lade_session *s, int length)
{
    const struct lade_shape *shape = &s->model->cat->shape;
    size_t bytes = lade_state_run_bytes(&s->state, shape, length);
    for (int run = 0; run < lade_state_runs(shape); run++)
        if ((k->writing && lade_state_save_run(&s->state, shape, run, k->run, length, NULL)) ||
            !pass(k, k->run, bytes) ||
            (!k->writing && lade_state_restore_run(&s->state, shape, run, k->run, length, NULL)))
            return false;
    return true;
}

/* The checksum at the end: written, or whether it is the right one. */
static bool pass_check(struct kept *k)
{
    uint64_t check = XXH3_64bits_digest(k->sum), stored = check;
    return pass(k, &stored, sizeof stored) && stored == check;
}

/* What follows the tokens; `state` and `snapshot` have room for the recurrent state each, and hold it
 * when it is written. `snapshot` may be NULL. */
static bool pass_rest(struct kept *k, struct lade_session *s, int length, unsigned char *state,
                      unsigned char *snapshot)
{
    return pass(k, state, s->state.recurrent_bytes) &&
           (!snapshot || pass(k, snapshot, s->state.recurrent_bytes)) && pass_runs(k, s, length) &&
           pass_check(k);
}

/* `fd` (-1: there is none) is closed with it, or here. */
static bool open_kept(struct kept *k, const struct lade_session *s, int fd, bool writing)
{
    /* Positions of the longest timeline: what a file says is checked before it is believed. */
    size_t most = lade_state_run_bytes(&s->state, &s->model->cat->shape, s->model->context);
    *k = (struct kept){.file = fd < 0 ? NULL : fdopen(fd, writing ? "w" : "r"),
                       .writing = writing,
                       .sum = XXH3_createState(),
                       .run = malloc(most ? most : 1)};
    if (fd >= 0 && !k->file)
        close(fd);
    return k->file && k->sum && k->run && XXH3_64bits_reset(k->sum) == XXH_OK;
}

/* False where what was written may not be in the file. */
static bool close_kept(struct kept *k)
{
    bool whole = !k->file || fclose(k->file) == 0;
    XXH3_freeState(k->sum);
    free(k->run);
    return whole;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static bool has_room(FILE *file, uint64_t bytes)
{
    struct statvfs at;
    return bytes <= LADE_KEPT_MOST && fstatvfs(fileno(file), &at) == 0 &&
           at.f_bavail * at.f_frsize / 2 >= bytes;
}

/* The latest snapshot that is not the state itself; NULL if there is none. */
static const struct lade_snapshot *latest(const struct lade_session *s)
{
    const struct lade_snapshot *best = NULL;
    for (int i = 0; i < LADE_SNAPSHOTS; i++) {
        const struct lade_snapshot *one = &s->snapshots[i];
        if (one->length && one->length < s->state.length && (!best || one->length > best->length))
            best = one;
    }
    return best;
}

uint64_t lade_kept_bytes(const struct lade_session *s)
{
    return bytes_of(s, s->state.length, latest(s));
}

static bool write_all(struct kept *k, struct lade_session *s, int64_t of)
{
    const struct lade_snapshot *snapshot = latest(s);
    int length = s->state.length;
    struct head h = head_of(s, of, length, snapshot ? snapshot->length : 0);
    size_t bytes = s->state.recurrent_bytes;
    unsigned char *state = malloc(bytes ? bytes : 1);
    bool done = state && has_room(k->file, h.bytes) &&
                !lade_devices_sync(&s->model->devices, NULL) &&
                !lade_state_save(&s->state, state, NULL) && pass(k, &h, sizeof h) &&
                pass(k, s->ids, (size_t)length * sizeof *s->ids) &&
                pass_rest(k, s, length, state, snapshot ? snapshot->data : NULL);
    free(state);
    return done;
}

/* Opens the file beside the one that it will replace, for one writer at a time: who comes second gives up,
 * and so does who has opened what the first has just put in place. */
static int open_beside(const char *beside)
{
    struct stat held, named;
    int fd =
        open(beside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* what was said is the user's alone */
    if (fd >= 0 && (flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &held) || stat(beside, &named) ||
                    held.st_ino != named.st_ino || ftruncate(fd, 0))) {
        close(fd);
        return -1;
    }
    return fd;
}

bool lade_kept_write(struct lade_session *s, const char *path, int64_t of, double seconds,
                     const atomic_bool *cancel)
{
    struct kept k;
    char beside[PATH_MAX];
    if (lade_session_settle(s, NULL) || !s->state.layer || /* lost in a change of strategy */
        snprintf(beside, sizeof beside, "%s.new", path) >= PATH_MAX)
        return false;
    lade_make_parents(path);
    int fd = open_beside(beside);
    if (fd < 0)
        return false;
    bool done = open_kept(&k, s, fd, true);
    k.until = lade_now() + seconds;
    k.cancel = cancel;
    done = done && write_all(&k, s, of) && fflush(k.file) == 0 && may_go_on(&k) &&
           rename(beside, path) == 0;
    if (!done)
        unlink(beside);
    return close_kept(&k) && done;
}

/* ---- removing --------------------------------------------------------------------------------- */

struct file {
    char path[PATH_MAX];
    uint64_t bytes;
    struct timespec written;
};

/* The next regular file that the directory lists; false at its end, or where there is none. */
static bool next_file(DIR *d, const char *dir, struct file *out)
{
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        struct stat st;
        if (snprintf(out->path, sizeof out->path, "%s/%s", dir, entry->d_name) >= PATH_MAX ||
            lstat(out->path, &st) || !S_ISREG(st.st_mode))
            continue;
        out->bytes = (uint64_t)st.st_size;
        out->written = st.st_mtim;
        return true;
    }
    if (d)
        closedir(d);
    return false;
}

/* The file of `dir` that was written first, and what all have together. */
static bool oldest(const char *dir, struct file *out, uint64_t *all)
{
    DIR *d = opendir(dir);
    struct file f;
    bool any = false;
    *all = 0;
    while (next_file(d, dir, &f)) {
        *all += f.bytes;
        if (!any || f.written.tv_sec < out->written.tv_sec ||
            (f.written.tv_sec == out->written.tv_sec && f.written.tv_nsec < out->written.tv_nsec))
            *out = f;
        any = true;
    }
    return any;
}

void lade_kept_prune(const char *dir, uint64_t most)
{
    struct file first;
    uint64_t all;
    while (oldest(dir, &first, &all) && all > most)
        if (unlink(first.path))
            return;
}

/* Whether the file says that its timeline is of another conversation. */
static bool is_of_another(const char *path, int64_t of)
{
    struct head h;
    FILE *f = fopen(path, "re");
    bool is = f && fread(&h, sizeof h, 1, f) == 1 && !memcmp(h.magic, MAGIC, sizeof h.magic) &&
              h.version == VERSION && h.of && h.of != of;
    if (f)
        fclose(f);
    return is;
}

void lade_kept_forget(const char *dir, int64_t of)
{
    DIR *d = opendir(dir);
    struct file f;
    while (next_file(d, dir, &f))
        if (!is_of_another(f.path, of))
            unlink(f.path);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static bool is_ours(const struct head *h, struct lade_session *s, FILE *file)
{
    struct stat st;
    if (h->length < 1 || h->length > s->model->context || h->snapshot < 0 ||
        h->snapshot >= h->length)
        return false;
    struct head want = head_of(s, h->of, h->length, h->snapshot);
    return memcmp(h, &want, sizeof want) == 0 && fstat(fileno(file), &st) == 0 &&
           (uint64_t)st.st_size == h->bytes;
}

/* Whether a state of the file is one of ids[0..n) before its last token, which must be evaluated. */
static bool helps(const struct head *h, const struct lade_session *s, const int32_t *ids, int n)
{
    int common = 0;
    while (common < h->length && common < n - 1 && s->ids[common] == ids[common])
        common++;
    return common >= (h->snapshot ? h->snapshot : h->length);
}

static bool read_all(struct kept *k, struct lade_session *s, const int32_t *ids, int n)
{
    struct lade_snapshot *slot = &s->snapshots[0];
    size_t bytes = s->state.recurrent_bytes;
    struct head h;
    if (!pass(k, &h, sizeof h) || !is_ours(&h, s, k->file) ||
        !pass(k, s->ids, (size_t)h.length * sizeof *s->ids) || !helps(&h, s, ids, n))
        return false;
    if (h.snapshot && !slot->data)
        slot->data = malloc(bytes ? bytes : 1);
    unsigned char *state = malloc(bytes ? bytes : 1);
    bool done = state && (slot->data || !h.snapshot) &&
                pass_rest(k, s, h.length, state, h.snapshot ? slot->data : NULL) &&
                !lade_state_restore(&s->state, state, h.length, NULL);
    slot->length = done ? h.snapshot : 0;
    free(state);
    return done;
}

void lade_kept_read(struct lade_session *s, const char *path, const int32_t *ids, int n)
{
    struct kept k;
    if (open_kept(&k, s, open(path, O_RDONLY | O_CLOEXEC), false) && !read_all(&k, s, ids, n))
        lade_session_reset(s);
    close_kept(&k);
}
