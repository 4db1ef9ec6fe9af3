/* server.h - the process that keeps a model and answers other programs: one thread, one poll loop.
 *
 *     client ──► connection (exchange.c) ──► question ──► engine
 *     client ◄── response, or its pieces ◄── answer.c ◄── events
 *
 * libmicrohttpd speaks HTTP; it is driven from the loop (loop.c), as the engine's events are. A
 * connection whose answer is not there yet is suspended: the loop watches its socket itself, so that a
 * client that goes away ends its request, and no other. */
#ifndef LADE_TUI_SERVE_SERVER_H
#define LADE_TUI_SERVE_SERVER_H

#include <microhttpd.h>
#include <signal.h>

#include "engine/engine.h"
#include "tui/cmd/progress.h"
#include "tui/options.h"
#include "tui/serve/calls.h"
#include "tui/serve/listen.h"
#include "tui/serve/question.h"
#include "tui/serve/reply.h"
#include "tui/text/buf.h"

enum {
    SERVE_BODY = 16 << 20, /* bytes of a request */
    SERVE_HELD = 64 << 20, /* of all that are there */
    SERVE_CLIENTS = 256,   /* connections; others wait until one ends */
    SERVE_WAITING = 240, /* requests at once; the rest of the connections is told to come again, and
                            * asks how the server is */
    SERVE_IDLE_S = 60,   /* a connection may be idle, or stuck */
    SERVE_SILENT_S = 2,  /* a stream is, before something is said that has no meaning */
    SERVE_PATIENCE_S = 2, /* that clients have to take what there is when the server ends */
};

struct server {
    const struct options *options;
    struct lade_engine *engine;
    struct MHD_Daemon *daemon;
    struct listener listener;
    const char *key; /* NULL = none is needed */
    bool known;      /* the model's headers are read: the next two are there */
    struct lade_model_info info;
    struct serve_defaults defaults;
    int64_t created; /* seconds since 1970 */
    struct exchange *exchanges;
    int n_exchanges;
    size_t held; /* bytes of bodies */
    struct progress progress;
    bool stopping;
    char failure[LADE_ERR]; /* there is no model (any more) */
};

struct route;

/* One request of a client, from its headers to the end of the response. */
struct exchange {
    struct server *server;
    struct MHD_Connection *connection;
    struct exchange *next;
    const struct route *route; /* NULL where it is refused */
    struct serve_error error;
    struct buf path, body;
    size_t received, held; /* bytes; held: of the server's */
    bool suspended;        /* until exchange_wake */
    bool responded;        /* MHD has the response, or its beginning */
    bool gone;             /* the client went away */

    int request; /* the engine's number; 0 = it was not asked */
    bool over;   /* of a request: nothing more will come */
    bool stream, usage;
    struct reply_head head;
    struct buf text, reasoning; /* of an answer in one piece */
    struct calls calls;         /* where tools are offered; else it has none */
    size_t told;                /* of these: a stream has them */
    bool one_call;              /* the first one ends the answer */
    struct buf out;             /* of a stream: what MHD has not fetched */
    size_t out_from;
    double spoke; /* lade_now() of the last word to the client */
};

/* exchange.c: requests and responses. */

/* Starts HTTP on the listener, whose socket it takes over. */
int exchange_start(struct server *s, char *err);
/* Lets MHD go on with a suspended one. */
void exchange_wake(struct exchange *x);
/* Responds with JSON, which is taken over (NULL: no memory), or with an error. */
enum MHD_Result exchange_respond(struct exchange *x, int status, char *json);
enum MHD_Result exchange_refuse(struct exchange *x, const struct serve_error *e);
/* Suspends it until the engine says more: from MHD's callbacks only. */
enum MHD_Result exchange_wait(struct exchange *x);
/* Sends a piece of a stream, which is taken over (NULL: no memory), or a comment, which clients skip. */
void exchange_send(struct exchange *x, char *json);
void exchange_ping(struct exchange *x);

/* route.c: what there is to ask for. */

/* Finds the route, and refuses with x->error where there is none or the client must not use it. */
void route_find(struct exchange *x, const char *method, const char *path);
/* The value of one of the request's headers; NULL = it has none. */
const char *route_header(const struct exchange *x, const char *name);
/* The request is here: responds, or waits and is called again. */
enum MHD_Result route_go(struct exchange *x);

/* answer.c: the engine's side. */

/* Asks the engine what the body asks. */
enum MHD_Result answer_ask(struct exchange *x);
void answer_event(struct server *s, struct lade_event *ev);
/* Whether a stream is asked for and has not ended. */
bool answer_is_open(const struct exchange *x);
/* It was silent for long: what stands between may think that the connection is dead. */
void answer_ping(struct exchange *x);
/* The client went away, or its connection ended: the engine need not go on. */
void answer_drop(struct exchange *x);

/* loop.c */

/* Serves until a signal comes, or there is no model: that fails. `open` are the signals to wait with. */
int server_run(struct server *s, const sigset_t *open, char *err);

#endif
