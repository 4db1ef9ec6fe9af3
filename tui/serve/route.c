/* route.c - what there is to ask for, and who may. */
#include <string.h>

#include "tui/serve/guard.h"
#include "tui/serve/server.h"

static const char models[] = "/v1/models";

static enum MHD_Result health(struct exchange *x)
{
    struct lade_stats stats;
    lade_engine_stats(x->server->engine, &stats);
    const bool loading = stats.phase == LADE_PHASE_LOADING;
    return exchange_respond(x, loading ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK,
                            reply_health(&stats));
}

static enum MHD_Result list(struct exchange *x, bool alone)
{
    const struct server *s = x->server;
    struct lade_stats stats;
    lade_engine_stats(s->engine, &stats);
    return exchange_respond(x, MHD_HTTP_OK,
                            reply_models(s->info.name, s->created, stats.context_size, alone));
}

static enum MHD_Result list_models(struct exchange *x)
{
    return list(x, false);
}

static enum MHD_Result show_model(struct exchange *x)
{
    if (!strcmp(buf_text(&x->path) + strlen(models) + 1, x->server->info.name))
        return list(x, true);
    serve_refuse(&x->error, MHD_HTTP_NOT_FOUND, "model_not_found", "model",
                 "model: there is none of this name; see %s", models);
    return exchange_refuse(x, &x->error);
}

struct route {
    const char *method, *path;
    bool begins;    /* the path may go on */
    bool free;      /* needs no key */
    bool immediate; /* says what there is, also while the model's headers are not read */
    enum MHD_Result (*go)(struct exchange *x);
};

static const struct route routes[] = {
    {"GET", "/health", false, true, true, health},
    {"GET", models, false, false, false, list_models},
    {"GET", "/v1/models/", true, false, false, show_model},
    {"POST", "/v1/chat/completions", false, false, false, answer_ask},
};

static bool fits(const struct route *r, const char *path)
{
    return r->begins ? !strncmp(path, r->path, strlen(r->path)) : !strcmp(path, r->path);
}

static void find(struct exchange *x, const char *method, const char *path)
{
    const struct route *other = NULL;
    if (!strcmp(method, MHD_HTTP_METHOD_HEAD))
        method = MHD_HTTP_METHOD_GET; /* MHD leaves the body out */
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (fits(&routes[i], path)) {
            other = &routes[i];
            if (!strcmp(method, routes[i].method))
                x->route = &routes[i];
        }
    if (!x->route && other)
        serve_refuse(&x->error, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, NULL,
                     "%s: is asked with %s; send that", other->path, other->method);
    else if (!x->route)
        serve_refuse(&x->error, MHD_HTTP_NOT_FOUND, NULL, NULL,
                     "the path: there is no such one; there are /health, /v1/models and "
                     "/v1/chat/completions");
}

const char *route_header(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

void route_find(struct exchange *x, const char *method, const char *path)
{
    const struct server *s = x->server;
    const char *origin = route_header(x, MHD_HTTP_HEADER_ORIGIN);
    find(x, method, path);
    buf_puts(&x->path, path);
    if (s->listener.loopback && !guard_is_loopback(route_header(x, MHD_HTTP_HEADER_HOST)))
        serve_refuse(&x->error, MHD_HTTP_FORBIDDEN, NULL, NULL,
                     "Host: is not this machine's loopback; ask for %s", s->listener.url);
    else if (s->listener.loopback && origin && !guard_origin_is_loopback(origin))
        serve_refuse(&x->error, MHD_HTTP_FORBIDDEN, NULL, NULL,
                     "Origin: is not of this machine; web pages from elsewhere are not answered");
    else if (s->key && !(x->route && x->route->free) &&
             !guard_key_fits(route_header(x, MHD_HTTP_HEADER_AUTHORIZATION), s->key))
        serve_refuse(&x->error, MHD_HTTP_UNAUTHORIZED, "invalid_api_key", NULL,
                     "Authorization: is not the key of this server; send Bearer KEY");
    else if (s->n_exchanges > SERVE_WAITING && !(x->route && x->route->immediate))
        serve_refuse(&x->error, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL,
                     "the server: has %d requests already; try again later", SERVE_WAITING);
}

enum MHD_Result route_go(struct exchange *x)
{
    struct server *s = x->server;
    if (!x->error.status && s->stopping)
        serve_refuse(&x->error, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL,
                     "the server: is ending; start it again");
    if (x->error.status)
        return exchange_refuse(x, &x->error);
    if (!s->known && !x->route->immediate)
        return exchange_wait(x);
    return x->route->go(x);
}
