#include "tui/pull_job.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "tui/output.h"
#include "tui/paths.h"
#include "tui/pull_bars.h"

struct pull_job {
    pthread_t thread;
    atomic_bool cancel, utf8;
    atomic_int width;
    struct lade_fetch_options options;
    char *what, *token, models[PATH_MAX];
    struct pull_rate rate; /* thread */
    char note[LADE_ERR];   /* thread: the last one */

    pthread_mutex_t lock; /* of what follows */
    enum pull_state state;
    char text[PULL_TEXT];
};

int pull_settings(struct lade_fetch_options *o, char models[PATH_MAX], char **token, char *err)
{
    const char *endpoint = getenv("HF_ENDPOINT");
    if (paths_file(PATHS_DATA, "models", models, err))
        return -1;
    *token = lade_hub_token();
    *o = (struct lade_fetch_options){
        .dir = models,
        .endpoint = endpoint && *endpoint ? endpoint : NULL,
        .token = *token,
    };
    return 0;
}

static void set_text(struct pull_job *j, enum pull_state state, const char *text)
{
    pthread_mutex_lock(&j->lock);
    j->state = state;
    snprintf(j->text, sizeof j->text, "%s", text);
    pthread_mutex_unlock(&j->lock);
}

static void show(void *user, const struct lade_fetch_progress *p)
{
    struct pull_job *j = user;
    char text[PULL_TEXT];
    if (p->note) {
        snprintf(j->note, sizeof j->note, "%s", p->note);
        output_clean(j->note);
    }
    double rate = pull_rate_add(&j->rate, p->fetched, lade_now());
    if (p->files)
        pull_lines(text, sizeof text - sizeof j->note - 1, p, rate, atomic_load(&j->width),
                   atomic_load(&j->utf8));
    else
        snprintf(text, sizeof text, "asking for the files of %s", p->repo);
    if (*j->note) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "\n%s", j->note);
    }
    set_text(j, PULL_RUNS, text);
}

static void *work(void *user)
{
    struct pull_job *j = user;
    char path[PATH_MAX], err[LADE_ERR];
    int rc = lade_fetch(&j->options, show, j, &j->cancel, path, err);
    set_text(j, rc ? PULL_FAILED : PULL_DONE, rc ? err : path);
    return NULL;
}

static void free_job(struct pull_job *j)
{
    if (j->token)
        explicit_bzero(j->token, strlen(j->token));
    free(j->token);
    free(j->what);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

int pull_job_start(struct pull_job **out, const char *what, char *err)
{
    struct pull_job *j = calloc(1, sizeof *j);
    sigset_t all, old;
    *out = NULL;
    if (!j)
        return lade_fail(err, "pull: out of memory; close other programs");
    pthread_mutex_init(&j->lock, NULL);
    atomic_store(&j->width, 78);
    j->what = strdup(what);
    if (!j->what || pull_settings(&j->options, j->models, &j->token, err)) {
        if (!j->what)
            lade_fail(err, "pull: out of memory; close other programs");
        free_job(j);
        return -1;
    }
    j->options.what = j->what;
    sigfillset(&all); /* signals are the screen's */
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&j->thread, NULL, work, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        free_job(j);
        return lade_fail(err, "pull: no thread: %s; close other programs", strerror(rc));
    }
    *out = j;
    return 0;
}

enum pull_state pull_job_look(struct pull_job *j, int width, bool utf8, char text[PULL_TEXT])
{
    atomic_store(&j->width, width);
    atomic_store(&j->utf8, utf8);
    pthread_mutex_lock(&j->lock);
    enum pull_state state = j->state;
    memcpy(text, j->text, sizeof j->text);
    pthread_mutex_unlock(&j->lock);
    return state;
}

void pull_job_cancel(struct pull_job *j)
{
    atomic_store(&j->cancel, true);
}

void pull_job_end(struct pull_job *j)
{
    if (!j)
        return;
    pull_job_cancel(j);
    pthread_join(j->thread, NULL);
    free_job(j);
}
