/* Several downloads on one thread: libcurl's multi interface moves the bytes, each chunk is written
 * and hashed as it comes.
 *
 * A part is gone on with by Range alone, without If-Range: the address names a commit, so the
 * content behind it never changes, and the digest over the whole file is what decides. */
#include "engine/hub/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_RESTARTS = 2 };
#define CHECK_STEP   ((size_t)4 << 20)    /* hashed between two looks at the network */
#define FLUSH_STEP   ((uint64_t)32 << 20) /* so that the last fsync finds little to write */
#define REAL_GAIN    ((uint64_t)1 << 20)  /* what makes an attempt count as progress */
#define REFUSAL_TEXT ((size_t)1 << 20)    /* of an error page that we read over */

struct item {
    struct run *run;
    const struct lade_hub_file *file;
    struct lade_fetch_file *shown;
    int fd;     /* of the part; -1 = not open */
    CURL *easy; /* NULL = not running */
    struct lade_digest digest;
    uint64_t done;          /* bytes of the part that are in the digest */
    uint64_t there;         /* bytes of the part found on disk, to be checked */
    uint64_t flushed, best; /* best: most that was ever done, at the last progress */
    int attempts, restarts;
    double not_before; /* the clock, of the next attempt */

    /* of the answer that is coming in */
    bool begun, ranged, misplaced;
    uint64_t range_from;
    size_t refusal;
    char problem[LADE_ERR]; /* what ends the whole download; "" = nothing */
};

struct run {
    struct lade_transfer *t;
    CURLM *multi;
    struct item *items;
    size_t n, n_done;
    unsigned char *buffer; /* CHECK_STEP bytes */
    double last_shown;
    char *err;
};

static const char *repo_of(const struct item *it)
{
    return it->run->t->listing->repo;
}

/* ---- progress -------------------------------------------------------------------------------- */

static void show(struct run *r, const char *note)
{
    struct lade_transfer *t = r->t;
    t->shown->done = 0;
    for (size_t i = 0; i < r->n; i++)
        t->shown->done += t->files[i].done;
    t->shown->note = note;
    if (t->progress)
        t->progress(t->user, t->shown);
    t->shown->note = NULL;
    r->last_shown = lade_now();
}

static void set_state(struct item *it, enum lade_fetch_state state)
{
    it->shown->state = state;
    it->shown->done = it->done;
    show(it->run, NULL);
}

/* ---- the part on disk ------------------------------------------------------------------------ */

static void part_name(const struct item *it, char out[NAME_MAX + 1])
{
    snprintf(out, NAME_MAX + 1, "%s.part", it->file->name);
}

static int disk_problem(struct item *it, const char *verb)
{
    int why = errno;
    snprintf(it->problem, sizeof it->problem, "%s: %s: %s: %s; %s", repo_of(it), it->file->name,
             verb, strerror(why),
             why == ENOSPC || why == EDQUOT
                 ? "make room, then ask again: it goes on where it stopped"
                 : "check the drive and its permissions");
    return -1;
}

static void restart_digest(struct item *it)
{
    lade_digest_start(&it->digest, it->file->kind, it->file->bytes);
    it->done = it->there = it->flushed = 0;
    it->shown->done = 0;
}

/* Forgets what the part holds. */
static int start_over(struct item *it)
{
    restart_digest(it);
    return ftruncate(it->fd, 0) ? disk_problem(it, "cannot be emptied") : 0;
}

static int open_part(struct item *it)
{
    char name[NAME_MAX + 1];
    struct stat st;
    part_name(it, name);
    it->fd = openat(it->run->t->dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (it->fd < 0 || fstat(it->fd, &st))
        return disk_problem(it, "cannot be opened");
    restart_digest(it);
    if ((uint64_t)st.st_size > it->file->bytes)
        return start_over(it);
    it->there = (uint64_t)st.st_size;
    return 0;
}

static int store(struct item *it, const char *data, size_t len)
{
    for (size_t n = 0; n < len;) {
        ssize_t k = pwrite(it->fd, data + n, len - n, (off_t)(it->done + n));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            errno = k ? errno : ENOSPC;
            return disk_problem(it, "cannot be written");
        }
        n += (size_t)k;
    }
    lade_digest_add(&it->digest, data, len);
    it->done += len;
    it->shown->done = it->done;
    it->run->t->shown->fetched += len;
    if (it->done - it->flushed >= FLUSH_STEP) {
        sync_file_range(it->fd, (off_t)it->flushed, (off_t)(it->done - it->flushed),
                        SYNC_FILE_RANGE_WRITE);
        it->flushed = it->done;
    }
    return 0;
}

/* ---- libcurl's callbacks --------------------------------------------------------------------- */

/* Content-Range: bytes FROM-TO/ALL, of the last answer of a chain of redirects. */
static size_t take_header(char *data, size_t size, size_t n, void *user)
{
    static const char name[] = "content-range: bytes ";
    struct item *it = user;
    size_t len = size * n;
    if (len > 5 && !strncasecmp(data, "HTTP/", 5)) {
        it->ranged = false;
    } else if (len > sizeof name && !strncasecmp(data, name, sizeof name - 1)) {
        char digits[24];
        size_t k = len - (sizeof name - 1);
        k = k < sizeof digits - 1 ? k : sizeof digits - 1;
        memcpy(digits, data + sizeof name - 1, k);
        digits[k] = '\0';
        it->ranged = *digits >= '0' && *digits <= '9';
        it->range_from = strtoull(digits, NULL, 10);
    }
    return len;
}

/* Before the first byte of a body. Returns false where it must not be stored. */
static bool begin_body(struct item *it, long status)
{
    it->begun = true;
    if (status == 206 && (!it->ranged || it->range_from != it->done)) {
        it->misplaced = true;
        return false;
    }
    return status == 206 || it->done == 0 || !start_over(it); /* 200: all of it, once more */
}

static size_t take_body(char *data, size_t size, size_t n, void *user)
{
    struct item *it = user;
    size_t len = size * n;
    long status = 0;
    curl_easy_getinfo(it->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) {
        it->refusal += len;
        return it->refusal > REFUSAL_TEXT ? 0 : len;
    }
    if (!it->begun && !begin_body(it, status))
        return 0;
    if (len > it->file->bytes - it->done) {
        it->misplaced = true;
        return 0;
    }
    return store(it, data, len) ? 0 : len;
}

/* ---- one file -------------------------------------------------------------------------------- */

static int request(struct item *it)
{
    struct run *r = it->run;
    const struct lade_transfer *t = r->t;
    char *path = lade_http_escape(it->file->path, true), *url = NULL, range[32];
    if (path && asprintf(&url, "%s/%s/resolve/%s/%s", t->http->endpoint, t->listing->repo,
                         t->listing->revision, path) >= 0)
        it->easy = lade_http_handle(t->http, url);
    free(path);
    free(url);
    CURL *e = it->easy;
    snprintf(range, sizeof range, "%" PRIu64 "-", it->done);
    if (!e || curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body) ||
        curl_easy_setopt(e, CURLOPT_WRITEDATA, it) ||
        curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header) ||
        curl_easy_setopt(e, CURLOPT_HEADERDATA, it) || curl_easy_setopt(e, CURLOPT_PRIVATE, it) ||
        (it->done && curl_easy_setopt(e, CURLOPT_RANGE, range)) ||
        curl_multi_add_handle(r->multi, e)) {
        curl_easy_cleanup(e);
        it->easy = NULL;
        return lade_fail(it->problem, "%s: no memory for a request; free some", it->file->name);
    }
    it->begun = it->ranged = it->misplaced = false;
    it->refusal = 0;
    it->attempts++;
    set_state(it, LADE_FETCH_RUNNING);
    return 0;
}

/* Something is wrong with the content: all of it again, but not for ever. */
static int doubt(struct item *it, const char *why)
{
    char note[LADE_ERR];
    if (it->restarts++ >= MOST_RESTARTS)
        return lade_fail(
            it->problem,
            "%s: %.150s: %s, %d times; a proxy or the drive may change it: check them, "
            "then ask again",
            repo_of(it), it->file->name, why, it->restarts);
    if (start_over(it))
        return -1;
    snprintf(note, sizeof note, "%.150s: %s; again from its beginning", it->file->name, why);
    set_state(it, LADE_FETCH_WAITING);
    show(it->run, note);
    return 0;
}

/* The part has all bytes. */
static int finish(struct item *it)
{
    char digest[LADE_DIGEST_TEXT], part[NAME_MAX + 1];
    lade_digest_end(&it->digest, digest);
    if (strcmp(digest, it->file->digest) != 0)
        return doubt(it, it->file->kind == LADE_DIGEST_SHA256 ? "its sha256 is wrong"
                                                              : "its digest is wrong");
    part_name(it, part);
    if (fsync(it->fd))
        return disk_problem(it, "cannot be written");
    close(it->fd);
    it->fd = -1;
    if (renameat(it->run->t->dirfd, part, it->run->t->dirfd, it->file->name))
        return disk_problem(it, "cannot be renamed");
    it->run->n_done++;
    set_state(it, LADE_FETCH_DONE);
    return 0;
}

/* From here an item is checking (and gets its request later), running, or done. */
static int start(struct item *it)
{
    if (it->fd < 0 && open_part(it))
        return -1;
    if (it->done < it->there) {
        set_state(it, LADE_FETCH_CHECKING);
        return 0;
    }
    return it->done == it->file->bytes ? finish(it) : request(it);
}

/* Hashes one more step of what an earlier run left. */
static int check(struct item *it)
{
    uint64_t left = it->there - it->done;
    size_t want = left < CHECK_STEP ? (size_t)left : CHECK_STEP;
    ssize_t n = pread(it->fd, it->run->buffer, want, (off_t)it->done);
    if (n < 0 && errno == EINTR)
        return 0;
    if (n <= 0) {
        errno = n ? errno : EIO;
        return disk_problem(it, "cannot be read");
    }
    lade_digest_add(&it->digest, it->run->buffer, (size_t)n);
    it->done += (uint64_t)n;
    it->shown->done = it->done;
    if (it->done < it->there)
        return 0;
    it->best = it->flushed = it->done;
    return it->done == it->file->bytes ? finish(it) : request(it);
}

/* An answer ended without completing the file. */
static int again_later(struct item *it, CURLcode rc, long status, double pause)
{
    const struct lade_http *h = it->run->t->http;
    bool body = status == 200 || status == 206;
    char reason[128], note[LADE_ERR];
    if (it->done >= it->best + REAL_GAIN) {
        it->best = it->done;
        it->attempts = 1;
        pause = pause > h->backoff_s ? h->backoff_s : pause;
    }
    if (body && !rc)
        rc = CURLE_PARTIAL_FILE; /* it said nothing of its length, and ended early */
    if (!body)
        rc = status >= 400 ? CURLE_OK : rc;
    if (!lade_http_transient(rc, status) || pause < 0 || it->attempts >= h->attempts)
        return lade_http_fail(h, it->file->name, rc, status, it->problem);
    lade_http_reason(reason, sizeof reason, rc, status);
    snprintf(note, sizeof note, "%.150s: %s; again in %.0f s", it->file->name, reason, pause);
    it->not_before = lade_now() + pause;
    set_state(it, LADE_FETCH_WAITING);
    show(it->run, note);
    return 0;
}

/* The transfer ended, one way or another. */
static int ended(struct item *it, CURLcode rc)
{
    long status = 0;
    curl_easy_getinfo(it->easy, CURLINFO_RESPONSE_CODE, &status);
    double pause = lade_http_pause(it->run->t->http, it->easy, it->attempts + 1);
    curl_multi_remove_handle(it->run->multi, it->easy);
    curl_easy_cleanup(it->easy);
    it->easy = NULL;
    if (*it->problem)
        return -1;
    if (it->misplaced)
        return doubt(it, "the server sent other bytes than were asked for");
    if (status == 416)
        return doubt(it, "the server knows fewer bytes than the list");
    if (!rc && (status == 200 || status == 206) && it->done == it->file->bytes)
        return finish(it);
    return again_later(it, rc, status, pause);
}

/* ---- all files ------------------------------------------------------------------------------- */

static bool is_busy(const struct item *it)
{
    return it->shown->state == LADE_FETCH_CHECKING || it->shown->state == LADE_FETCH_RUNNING;
}

/* Starts what may start and moves the checks on. Returns how many are checking, or -1. */
static int step(struct run *r)
{
    double now = lade_now();
    int busy = 0, checking = 0;
    for (size_t i = 0; i < r->n; i++)
        busy += is_busy(&r->items[i]);
    for (size_t i = 0; i < r->n; i++) {
        struct item *it = &r->items[i];
        if (it->shown->state == LADE_FETCH_WAITING && busy < r->t->connections &&
            it->not_before <= now) {
            if (start(it))
                return lade_fail(r->err, "%s", it->problem);
            busy += is_busy(it);
        } else if (it->shown->state == LADE_FETCH_CHECKING && check(it)) {
            return lade_fail(r->err, "%s", it->problem);
        }
        checking += it->shown->state == LADE_FETCH_CHECKING;
    }
    return checking;
}

static int collect(struct run *r)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(r->multi, &left))) {
        struct item *it = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode rc = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &it);
        if (ended(it, rc))
            return lade_fail(r->err, "%s", it->problem);
    }
    return 0;
}

static int loop(struct run *r)
{
    while (r->n_done < r->n) {
        int running, checking = step(r);
        if (checking < 0)
            return -1;
        CURLMcode mc = curl_multi_perform(r->multi, &running);
        if (mc)
            return lade_fail(r->err, "%s: %s; check the network", r->t->listing->repo,
                             curl_multi_strerror(mc));
        if (collect(r))
            return -1;
        if (lade_http_cancelled(r->t->http))
            return lade_fail(r->err, "%s: cancelled; ask again to go on where it stopped",
                             r->t->listing->repo);
        if (lade_now() - r->last_shown >= 0.1)
            show(r, NULL);
        if (!checking && r->n_done < r->n)
            curl_multi_poll(r->multi, NULL, 0, 50, NULL);
    }
    return 0;
}

static void close_item(struct run *r, struct item *it)
{
    if (it->easy) {
        curl_multi_remove_handle(r->multi, it->easy);
        curl_easy_cleanup(it->easy);
    }
    if (it->fd >= 0)
        close(it->fd);
}

int lade_transfer_run(struct lade_transfer *t, char *err)
{
    struct run r = {.t = t, .n = t->listing->n, .err = err};
    r.items = calloc(r.n ? r.n : 1, sizeof *r.items);
    r.buffer = malloc(CHECK_STEP);
    r.multi = curl_multi_init();
    int rc = -1;
    if (!r.items || !r.buffer || !r.multi) {
        lade_fail(err, "%s: no memory for %zu downloads; free some", t->listing->repo, r.n);
    } else {
        for (size_t i = 0; i < r.n; i++) {
            r.items[i] = (struct item){
                .run = &r, .file = &t->listing->files[i], .shown = &t->files[i], .fd = -1};
            r.n_done += t->files[i].state == LADE_FETCH_DONE;
        }
        show(&r, NULL);
        rc = loop(&r);
        for (size_t i = 0; i < r.n; i++)
            close_item(&r, &r.items[i]);
    }
    curl_multi_cleanup(r.multi);
    free(r.buffer);
    free(r.items);
    return rc;
}
