/* exchange.c - requests and responses over libmicrohttpd. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "engine/clock.h"
#include "tui/serve/server.h"

/* ---- one request ------------------------------------------------------------------------------ */

static struct exchange *open_exchange(struct server *s, struct MHD_Connection *connection,
                                      const char *method, const char *path)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->server = s;
    x->connection = connection;
    x->next = s->exchanges;
    s->exchanges = x;
    s->n_exchanges++;
    route_find(x, method, path);
    return x;
}

static void close_exchange(struct exchange *x)
{
    struct server *s = x->server;
    answer_drop(x);
    for (struct exchange **at = &s->exchanges; *at; at = &(*at)->next)
        if (*at == x) {
            *at = x->next;
            break;
        }
    s->n_exchanges--;
    s->held -= x->held;
    buf_free(&x->path);
    buf_free(&x->body);
    buf_free(&x->text);
    buf_free(&x->reasoning);
    calls_free(&x->calls);
    buf_free(&x->out);
    free(x);
}

static void refuse_long(struct exchange *x)
{
    serve_refuse(&x->error, MHD_HTTP_CONTENT_TOO_LARGE, NULL, NULL,
                 "the body: has more than %d MiB; send less", SERVE_BODY >> 20);
}

/* A client that asks before it sends the body is told at once that it need not. */
static enum MHD_Result take_headers(struct exchange *x)
{
    const char *expects = route_header(x, MHD_HTTP_HEADER_EXPECT);
    const char *length = route_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (!expects || strcasecmp(expects, "100-continue") != 0)
        return MHD_YES;
    if (!x->error.status && length && strtoull(length, NULL, 10) > SERVE_BODY)
        refuse_long(x);
    return x->error.status ? exchange_refuse(x, &x->error) : MHD_YES;
}

/* A refused body is read to its end, so that the client takes the response; not without end. */
static enum MHD_Result take_body(struct exchange *x, const char *data, size_t n)
{
    struct server *s = x->server;
    x->received += n;
    if (x->received > SERVE_HELD)
        return MHD_NO;
    if (x->error.status)
        return MHD_YES;
    if (x->received > SERVE_BODY)
        refuse_long(x);
    else if (s->held + n > SERVE_HELD)
        serve_refuse(&x->error, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL,
                     "the server: holds as many requests as it may; try again later");
    if (x->error.status)
        return MHD_YES;
    buf_add(&x->body, data, n);
    x->held += n;
    s->held += n;
    return MHD_YES;
}

/* ---- responses -------------------------------------------------------------------------------- */

void exchange_wake(struct exchange *x)
{
    if (x->suspended)
        MHD_resume_connection(x->connection);
    x->suspended = false;
}

enum MHD_Result exchange_wait(struct exchange *x)
{
    MHD_suspend_connection(x->connection);
    x->suspended = true;
    return MHD_YES;
}

/* Without memory the connection is closed. */
static enum MHD_Result end_unanswered(struct exchange *x)
{
    x->gone = true;
    exchange_wake(x);
    return MHD_NO;
}

static enum MHD_Result queue(struct exchange *x, int status, struct MHD_Response *response,
                             const char *type)
{
    if (!response)
        return end_unanswered(x);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (x->server->stopping || x->server->n_exchanges > SERVE_WAITING)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result queued = MHD_queue_response(x->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    if (queued == MHD_NO)
        return end_unanswered(x);
    x->responded = true;
    exchange_wake(x);
    return MHD_YES;
}

enum MHD_Result exchange_respond(struct exchange *x, int status, char *json)
{
    if (!json)
        return end_unanswered(x);
    return queue(x, status,
                 MHD_create_response_from_buffer(strlen(json), json, MHD_RESPMEM_MUST_FREE),
                 "application/json");
}

enum MHD_Result exchange_refuse(struct exchange *x, const struct serve_error *e)
{
    return exchange_respond(x, e->status, reply_error(e));
}

/* MHD wants the next bytes of a stream. */
static ssize_t read_stream(void *cls, uint64_t pos, char *to, size_t room)
{
    (void)pos;
    struct exchange *x = cls;
    size_t n = x->out.n - x->out_from;
    if (x->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (!n && x->over)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (!n) {
        exchange_wait(x);
        return 0;
    }
    n = n < room ? n : room;
    memcpy(to, x->out.at + x->out_from, n);
    x->out_from += n;
    if (x->out_from == x->out.n) {
        buf_cut(&x->out, 0);
        x->out_from = 0;
    }
    return (ssize_t)n;
}

/* There is more of a stream to fetch. */
static void stream_on(struct exchange *x)
{
    enum { BLOCK = 16 << 10 };
    x->spoke = lade_now();
    if (!x->responded)
        queue(x, MHD_HTTP_OK,
              MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, x, NULL),
              "text/event-stream");
    exchange_wake(x);
}

void exchange_send(struct exchange *x, char *json)
{
    if (!json) {
        end_unanswered(x);
        return;
    }
    buf_printf(&x->out, "data: %s\n\n", json);
    free(json);
    stream_on(x);
}

void exchange_ping(struct exchange *x)
{
    buf_puts(&x->out, ":\n\n");
    stream_on(x);
}

/* ---- libmicrohttpd ---------------------------------------------------------------------------- */

/* Called with the headers, with each part of the body, at its end, and then after each wait. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **own)
{
    struct exchange *x = *own;
    (void)version;
    if (!x) {
        *own = open_exchange(cls, connection, method, path);
        return *own ? take_headers(*own) : MHD_NO;
    }
    if (*n) {
        enum MHD_Result taken = take_body(x, data, *n);
        *n = 0;
        return taken;
    }
    return x->gone || x->request ? MHD_NO
                                 : route_go(x); /* request: its answer could not be queued */
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **own,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    if (*own)
        close_exchange(*own);
    *own = NULL;
}

int exchange_start(struct server *s, char *err)
{
    s->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                                 on_request, s, MHD_OPTION_LISTEN_SOCKET, s->listener.fd,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVE_CLIENTS,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SERVE_IDLE_S,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
    if (s->daemon)
        return 0;
    close(s->listener.fd);
    return lade_fail(err, "%s: HTTP cannot be started; close other programs", s->listener.url);
}
