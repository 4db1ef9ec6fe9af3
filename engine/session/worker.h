/* worker.h - the inside of an engine, shared by the thread (engine.c), what it does for a model on this
 * machine (local.c), for one request (answer.c), for memory that others want (memory.c) and for a GPU
 * that is lost (recover.c). */
#ifndef LADE_SESSION_WORKER_H
#define LADE_SESSION_WORKER_H

#include <pthread.h>

#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/session/draft.h"
#include "engine/session/events.h"
#include "engine/session/model.h"

struct lade_request {
    int number;
    struct lade_message *messages; /* owned, with their strings */
    size_t n;
    struct lade_sampling sampling;
    int max_tokens;
    bool think;
    double asked_at; /* lade_now() */
    struct lade_request *next;
};

/* What the engine's thread does, by where the model runs. */
struct lade_worker {
    /* Until asks are answered: tells MODEL and USABLE, and READY then or later. */
    int (*open)(struct lade_engine *e, char *err);
    /* One request: TEXT and PREFILL events, then one DONE or FAILED. */
    void (*answer)(struct lade_engine *e, const struct lade_request *r);
    /* Between two requests: where another strategy was asked for, and every half a second. NULL: there
     * is nothing to do then, and no other strategy to be had. */
    void (*between)(struct lade_engine *e);
    void (*close)(struct lade_engine *e); /* also after open has failed */
};

extern const struct lade_worker
    lade_worker_local; /* local.c; a model behind a server: engine/remote */

struct lade_engine {
    pthread_t thread;
    const struct lade_worker *worker;
    struct lade_options opt; /* strings owned; read-only after start */

    /* Only the engine thread. */
    struct lade_model *model;
    struct lade_session *session;
    struct lade_watch *watch;
    struct lade_draft draft;    /* what drafts of earlier answers have taught */
    struct lade_remote *remote; /* owned: instead of the three above (engine/remote/remote.c) */
    bool broken;                /* there is no model any more: the thread ends */
    bool recalled;              /* the timeline of an earlier run was looked at */
    double resized;             /* when experts last got another room, by the watch's clock */
    uint64_t free_ram; /* that others had not taken at the last look, experts' not counted */

    atomic_bool cancel_load, cancel_answer;
    atomic_bool forget; /* the timeline, as it is, shall not be kept */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t wake;  /* a request came, or stop */
    bool stop;
    int running;    /* number of the request that is being answered; 0 = none is */
    int64_t of;     /* the caller's number of the last conversation; final when `stop` is set */
    char *strategy; /* owned: asked for and not tried yet, or NULL */
    int last_number;
    struct lade_request *first, *last;
    struct lade_events events;
    struct lade_stats stats;
    double load_started, rate_at; /* lade_now(); rate_at: start of the GB/s window */
    uint64_t rate_done;
    bool ready;      /* READY was told */
    bool load_ended; /* by load_error, if that is not empty */
    char load_error[LADE_ERR];
    bool has_info;
    struct lade_model_info info;
    struct lade_plan plan;
};

/* Appends an event; takes over ev->text. Any thread. */
void lade_worker_emit(struct lade_engine *e, struct lade_event *ev);

/* Copies the numbers of the tiers for the UI thread. Any thread, while the model is open. */
void lade_worker_publish(struct lade_engine *e);

/* Between two tokens, on the engine thread: changes the strategy if that was asked for, and has
 * experts give way where memory is short. */
void lade_worker_between(struct lade_engine *e);

/* The second of these alone, also between two layers of a prompt (memory.c): a lade_between_fn. */
void lade_worker_watch(void *engine);

/* Tells that what computes has changed, with an event: `plan` is that of now. */
void lade_worker_changed(struct lade_engine *e, const struct lade_plan *plan,
                         struct lade_event *ev);

/* A GPU is lost (recover.c): tells so in one line, and goes on without it. The session has no tokens then.
 * On failure there is nothing to go on with, which was told, too (lade_worker_broken). */
int lade_worker_recover(struct lade_engine *e, char *err);
/* There is no model any more, for that reason: tells everyone who waits. */
void lade_worker_broken(struct lade_engine *e, const char *text);
/* That line: `why`, and the strategy of `plan` instead of `was` (NULL: there was none). */
void lade_worker_told(struct lade_engine *e, const char *was, const struct lade_plan *plan,
                      const char *why);

/* lade_worker.answer of a model on this machine. */
void lade_worker_answer(struct lade_engine *e, const struct lade_request *r);

#endif
