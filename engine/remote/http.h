/* http.h - requests to one server, over libcurl: what comes is taken as it comes, and a cancel ends it at
 * once. The key goes to that server only: redirects are not followed. One thread. */
#ifndef LADE_REMOTE_HTTP_H
#define LADE_REMOTE_HTTP_H

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/remote/address.h"
#include "engine/text.h"

struct lade_remote_http {
    CURLM *multi; /* keeps the connection between requests */
    struct curl_slist *headers;
    struct lade_remote_address address;
    bool has_key;
};

/* key NULL = none. Fails without memory. End with lade_remote_close. */
int lade_remote_open(struct lade_remote_http *h, const struct lade_remote_address *address,
                     const char *key, char *err);
void lade_remote_close(struct lade_remote_http *h);

enum { LADE_REMOTE_TEXT = 4 << 20 }; /* bytes of an answer that is taken as a whole */

/* One request and what came of it. */
struct lade_remote_call {
    const char *base, *path; /* of its address */
    const char *json;        /* to POST; NULL = GET */
    const atomic_bool *cancel;
    /* Takes the answer's bytes where its status is 200 and it is a stream of events; false ends the
     * transfer. NULL, and elsewhere: they become `text`. */
    bool (*take)(void *user, const char *data, size_t n);
    void *user;

    /* What came. */
    long status; /* 0 = nothing */
    CURLcode rc;
    bool cancelled, stopped;        /* stopped: take() wanted no more */
    bool streams;                   /* the answer is a stream of events */
    struct lade_text text;          /* cut where it is too long */
    char redirect[LADE_REMOTE_URL]; /* where a status of 300 to 399 points to */
};

/* Always ends; lade_remote_end frees what came. */
void lade_remote_call(struct lade_remote_http *h, struct lade_remote_call *c);
void lade_remote_end(struct lade_remote_call *c);

/* -1 with the line that says why a call did not do what it should: no connection, another status than
 * 200, no stream where one was wanted. */
int lade_remote_failure(const struct lade_remote_http *h, const struct lade_remote_call *c,
                        char *err);

#endif
