#include "engine/session/kept.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/checkpoint/file.h"
#include "engine/session/timeline.h"

enum { VERSION = 1 };

/* The file: this, the tokens, the recurrent state after them, that of the snapshot if there is one,
 * the runs of the caches, and a checksum of all of it. Numbers are as the machine has them. */
struct head {
    char magic[8];
    uint64_t model, bytes;             /* model_key(); of the file */
    int32_t version, length, snapshot; /* tokens; snapshot 0 = there is none */
    int32_t zero;
};

/* A file that is written or read, and what it holds so far. */
struct kept {
    FILE *file;
    bool writing;
    XXH3_state_t *sum;
    unsigned char *run; /* work space: one run of the caches */
};

/* What the caches and states are of: the weights, by the files they come from, their shape and the
 * type of the caches. */
static uint64_t model_key(const struct lade_session *s)
{
    const struct lade_catalog *cat = s->model->cat;
    uint64_t key = XXH3_64bits(&cat->shape, sizeof cat->shape) + (uint64_t)s->state.cache_type;
    for (int i = 0; i < cat->n_shards; i++) {
        struct stat st;
        if (stat(cat->shards[i].path, &st) != 0)
            memset(&st, 0, sizeof st);
        const uint64_t file[] = {key,
                                 (uint64_t)st.st_dev,
                                 (uint64_t)st.st_ino,
                                 (uint64_t)st.st_size,
                                 (uint64_t)st.st_mtim.tv_sec,
                                 (uint64_t)st.st_mtim.tv_nsec};
        key = XXH3_64bits(file, sizeof file);
    }
    return key;
}

static struct head head_of(const struct lade_session *s, int length, int snapshot)
{
    const struct lade_shape *shape = &s->model->cat->shape;
    struct head h = {
        .model = model_key(s), .version = VERSION, .length = length, .snapshot = snapshot};
    memcpy(h.magic, "LADETIME", sizeof h.magic);
    h.bytes = sizeof h + (uint64_t)length * sizeof *s->ids +
              s->state.recurrent_bytes * (snapshot ? 2 : 1) +
              (uint64_t)lade_state_runs(shape) * lade_state_run_bytes(&s->state, shape, length) +
              sizeof(uint64_t);
    return h;
}

static bool pass(struct kept *k, void *data, size_t n)
{
    size_t passed;
    if (k->writing)
        passed = fwrite(data, 1, n, k->file);
    else
        passed = fread(data, 1, n, k->file);
    if (passed != n)
        return false;
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

static bool open_kept(struct kept *k, const struct lade_session *s, const char *path, bool writing)
{
    /* Positions of the longest timeline: what a file says is checked before it is believed. */
    size_t most = lade_state_run_bytes(&s->state, &s->model->cat->shape, s->model->context);
    int fd = open(path, writing ? O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC : O_RDONLY | O_CLOEXEC,
                  0600); /* what was said is the user's alone */
    *k = (struct kept){.file = fd < 0 ? NULL : fdopen(fd, writing ? "w" : "r"),
                       .writing = writing,
                       .sum = XXH3_createState(),
                       .run = malloc(most ? most : 1)};
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
    return fstatvfs(fileno(file), &at) == 0 && at.f_bavail * at.f_frsize / 2 >= bytes;
}

/* The latest snapshot that is not the state itself; NULL if there is none. */
static struct lade_snapshot *latest(struct lade_session *s)
{
    struct lade_snapshot *best = NULL;
    for (int i = 0; i < LADE_SNAPSHOTS; i++) {
        struct lade_snapshot *one = &s->snapshots[i];
        if (one->length && one->length < s->state.length && (!best || one->length > best->length))
            best = one;
    }
    return best;
}

static bool write_all(struct kept *k, struct lade_session *s)
{
    struct lade_snapshot *snapshot = latest(s);
    int length = s->state.length;
    struct head h = head_of(s, length, snapshot ? snapshot->length : 0);
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

bool lade_kept_write(struct lade_session *s, const char *path)
{
    struct kept k;
    if (!s->state.layer) /* lost in a change of strategy */
        return false;
    lade_make_parents(path);
    bool done = open_kept(&k, s, path, true) && write_all(&k, s);
    done = close_kept(&k) && done;
    if (!done)
        unlink(path);
    return done;
}

/* ---- reading ---------------------------------------------------------------------------------- */

static bool is_ours(const struct head *h, const struct lade_session *s, FILE *file)
{
    struct stat st;
    if (h->length < 1 || h->length > s->model->context || h->snapshot < 0 ||
        h->snapshot >= h->length)
        return false;
    struct head want = head_of(s, h->length, h->snapshot);
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
    if (open_kept(&k, s, path, false) && !read_all(&k, s, ids, n))
        lade_session_reset(s);
    close_kept(&k);
}
