/* http.h - inside engine/hub: requests to the hub, over libcurl.
 *
 * The token goes to the endpoint only: libcurl drops the header where a redirect leaves the host,
 * port or scheme, and requests elsewhere never get it. An endpoint with https is never left for
 * http. */
#ifndef LADE_HUB_HTTP_H
#define LADE_HUB_HTTP_H

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/clock.h"
#include "kernels/error.h"

struct lade_http {
    char *endpoint;            /* owned, no slash at its end */
    struct curl_slist *secret; /* the header with the token, or NULL */
    const char *repo;          /* for messages */
    int attempts;
    double backoff_s;
    int stall_s;
    const atomic_bool *cancel; /* may be NULL */
    void (*note)(void *user, const char *text);
    void *user;
};

/* Fails where the endpoint is no address of a server. End with lade_http_close. */
int lade_http_open(struct lade_http *h, const char *endpoint, const char *token, char *err);
void lade_http_close(struct lade_http *h);

static inline bool lade_http_cancelled(const struct lade_http *h)
{
    return h->cancel && atomic_load_explicit(h->cancel, memory_order_relaxed);
}

/* A handle for a GET of an address, or NULL without memory. The caller cleans it up before h. */
CURL *lade_http_handle(const struct lade_http *h, const char *url);

/* GETs a text of at most `limit` bytes, with retries. `what` names it in messages. *text is the
 * caller's, with a zero byte after it. *next (may be NULL) becomes the address of the next page
 * that a Link header gives, the caller's, or NULL. */
int lade_http_text(const struct lade_http *h, const char *url, const char *what, size_t limit,
                   char **text, size_t *len, char **next, char *err);

/* Whether another attempt may help after that result and status (0 = none). */
bool lade_http_transient(CURLcode rc, long status);

/* Seconds to wait before attempt number `attempt` (2 is the first retry): doubled each time, or
 * what the server asks for with Retry-After. -1 where that is too long to wait. */
double lade_http_pause(const struct lade_http *h, CURL *easy, int attempt);

/* Why it failed, in words, for notes: "the connection was cut", "the hub answers 503". */
void lade_http_reason(char *out, size_t size, CURLcode rc, long status);

/* Fails with the error line for that result. `what` is a file of the repository or the listing. */
int lade_http_fail(const struct lade_http *h, const char *what, CURLcode rc, long status,
                   char *err);

/* `text` with everything but [A-Za-z0-9-._~] and, where keep_slash, '/' percent-encoded; the
 * caller frees it; NULL without memory. */
char *lade_http_escape(const char *text, bool keep_slash);

#endif
