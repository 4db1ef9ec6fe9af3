#include "engine/remote/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/curl.h"
#include "engine/remote/reply.h"

/* How often a running request looks whether it is cancelled. */
enum { LOOK_MS = 50 };

/* Seconds. A server may think as long as it wants, but a peer that is gone shows in the probes of a
 * connection on which nothing comes; one that lives and says nothing for so long is stuck. */
enum { PROBE_AFTER = 30, PROBE_EVERY = 15, SILENCE = 3600, SILENCE_OF_A_LIST = 60 };

static bool add_header(struct lade_remote_http *h, const char *line)
{
    struct curl_slist *more = curl_slist_append(h->headers, line);
    if (more)
        h->headers = more;
    return more;
}

int lade_remote_open(struct lade_remote_http *h, const struct lade_remote_address *address,
                     const char *key, char *err)
{
    lade_curl_init();
    *h = (struct lade_remote_http){.address = *address, .has_key = key != NULL};
    h->multi = curl_multi_init();
    /* "Expect: 100-continue" would make a long prompt wait a second on servers that do not know it. */
    bool made =
        h->multi && add_header(h, "Content-Type: application/json") && add_header(h, "Expect:");
    char *line = NULL;
    if (made && key)
        made = asprintf(&line, "Authorization: Bearer %s", key) >= 0 && add_header(h, line);
    free(line);
    if (made)
        return 0;
    lade_remote_close(h);
    return lade_fail(err, "%s: out of memory; close other programs", address->host);
}

void lade_remote_close(struct lade_remote_http *h)
{
    curl_slist_free_all(h->headers);
    curl_multi_cleanup(h->multi);
    h->headers = NULL;
    h->multi = NULL;
}

/* A call while it runs. */
struct transfer {
    struct lade_remote_call *call;
    CURL *easy;
    bool begun; /* status and type are known */
    bool full;  /* `text` is cut */
};

static void begin(struct transfer *t)
{
    const char *type = NULL;
    t->begun = true;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->call->status);
    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_TYPE, &type);
    t->call->streams = type && !strncasecmp(type, "text/event-stream", 17);
}

static size_t take_bytes(char *data, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    struct lade_remote_call *c = t->call;
    size_t len = size * n;
    if (!t->begun)
        begin(t);
    if (c->take && c->status == 200 && c->streams) {
        c->stopped = !c->take(c->user, data, len);
        return c->stopped ? 0 : len;
    }
    size_t room = LADE_REMOTE_TEXT - c->text.n, kept = len < room ? len : room;
    t->full = kept < len;
    return lade_text_add(&c->text, data, kept) ? kept : 0;
}

static CURLcode set_up(struct transfer *t, const struct lade_remote_http *h, const char *url)
{
    static const struct {
        CURLoption option;
        long value;
    } options[] = {
        {CURLOPT_FOLLOWLOCATION, 0},
        {CURLOPT_TCP_KEEPIDLE, PROBE_AFTER},
        {CURLOPT_TCP_KEEPINTVL, PROBE_EVERY},
#if LIBCURL_VERSION_NUM >= 0x075700
        {CURLOPT_QUICK_EXIT, 1}, /* a cancel does not wait for a name server that is silent */
#endif
    };
    CURLcode rc =
        lade_curl_set_up(t->easy, url, false, t->call->json ? SILENCE : SILENCE_OF_A_LIST);
    rc = rc ? rc : curl_easy_setopt(t->easy, CURLOPT_PROXY, ""); /* it would have the key, too */
    rc = rc ? rc : curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, h->headers);
    for (size_t i = 0; i < sizeof options / sizeof *options && !rc; i++)
        rc = curl_easy_setopt(t->easy, options[i].option, options[i].value);
    if (t->call->json)
        rc = rc ? rc : curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->call->json);
    rc = rc ? rc : curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, take_bytes);
    return rc ? rc : curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
}

static void transfer(struct transfer *t, CURLM *multi)
{
    struct lade_remote_call *c = t->call;
    int running = 1;
    c->rc = CURLE_FAILED_INIT;
    if (curl_multi_add_handle(multi, t->easy))
        return;
    while (running && !c->cancelled) {
        if (curl_multi_perform(multi, &running) ||
            (running && curl_multi_poll(multi, NULL, 0, LOOK_MS, NULL)))
            break;
        c->cancelled = running && atomic_load(c->cancel);
    }
    int left;
    const CURLMsg *m = curl_multi_info_read(multi, &left);
    if (m && m->msg == CURLMSG_DONE)
        c->rc = m->data.result;
    curl_multi_remove_handle(multi, t->easy);
}

void lade_remote_call(struct lade_remote_http *h, struct lade_remote_call *c)
{
    struct transfer t = {.call = c, .easy = curl_easy_init()};
    char url[LADE_REMOTE_URL + 64];
    const char *to = NULL;
    snprintf(url, sizeof url, "%s%s", c->base, c->path);
    c->rc = t.easy ? set_up(&t, h, url) : CURLE_OUT_OF_MEMORY;
    if (c->rc == CURLE_OK)
        transfer(&t, h->multi);
    if (t.easy && !t.begun)
        begin(&t);
    if (t.easy && !curl_easy_getinfo(t.easy, CURLINFO_REDIRECT_URL, &to) && to)
        snprintf(c->redirect, sizeof c->redirect, "%s", to);
    curl_easy_cleanup(t.easy);
    if (t.full || c->stopped) /* not the connection's fault */
        c->rc = CURLE_OK;
}

void lade_remote_end(struct lade_remote_call *c)
{
    free(c->text.at);
    c->text = (struct lade_text){0};
}

/* ---- why it failed ---------------------------------------------------------------------------- */

/* By result: what it means, and what may help. */
static const struct {
    CURLcode rc;
    const char *why, *todo;
} reasons[] = {
    {CURLE_COULDNT_CONNECT, "nothing answers there", "start the server, or check the address"},
    {CURLE_COULDNT_RESOLVE_HOST, "there is no host of this name", "check the address"},
    {CURLE_URL_MALFORMAT, "is no address", "write http://HOST:PORT/v1"},
    {CURLE_OPERATION_TIMEDOUT, "the server fell silent", "ask again, or look at the server"},
    {CURLE_GOT_NOTHING, "the connection was cut", "ask again, or look at the server"},
    {CURLE_PARTIAL_FILE, "the connection was cut", "ask again, or look at the server"},
    {CURLE_RECV_ERROR, "the connection was cut", "ask again, or look at the server"},
    {CURLE_SEND_ERROR, "the connection was cut", "ask again, or look at the server"},
    {CURLE_UNSUPPORTED_PROTOCOL, "speaks no HTTP", "check the address"},
    {CURLE_HTTP2, "speaks no HTTP that is known here", "check the address"},
    {CURLE_WEIRD_SERVER_REPLY, "speaks no HTTP", "check the port"},
    {CURLE_PEER_FAILED_VERIFICATION, "its certificate is not trusted",
     "have the system trust who signed it, or use http:// where the network is your own"},
    {CURLE_SSL_CONNECT_ERROR, "speaks no TLS that is known here",
     "write http:// if it has none, or check the port"},
    {CURLE_OUT_OF_MEMORY, "out of memory", "close other programs"},
};

static int no_answer(const char *host, CURLcode rc, char *err)
{
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].rc == rc)
            return lade_fail(err, "%.100s: %s; %s", host, reasons[i].why, reasons[i].todo);
    return lade_fail(err, "%.100s: %s; look at the server, or check the address", host,
                     curl_easy_strerror(rc));
}

int lade_remote_failure(const struct lade_remote_http *h, const struct lade_remote_call *c,
                        char *err)
{
    const char *host = h->address.host;
    char said[256];
    if (c->rc)
        return no_answer(host, c->rc, err);
    if (c->status >= 300 && c->status < 400)
        return lade_fail(err, "%.100s: sends on to %.200s; give that address with -m", host,
                         *c->redirect ? c->redirect : "another address");
    lade_reply_failure(c->text.at ? c->text.at : "", c->text.n, said, sizeof said);
    if (c->status == 401 || c->status == 403)
        return lade_fail(err, "%.100s: %s (%ld)%s%s; give %s with --key-file", host,
                         h->has_key ? "does not take the key" : "wants a key", c->status,
                         *said ? ": " : "", said, h->has_key ? "another one" : "it");
    if (c->status == 404 && !*said)
        return lade_fail(err,
                         "%.100s: has no %s (404); is it an OpenAI-compatible server, and its "
                         "address complete?",
                         host, c->path);
    if (c->status != 200)
        return lade_fail(err, "%.100s: answers %ld%s%s; %s", host, c->status, *said ? ": " : "",
                         said,
                         c->status < 500 ? "change what it does not take" : "ask again later");
    return lade_fail(err,
                     "%.100s: does not answer as an OpenAI-compatible server does; check the "
                     "address",
                     host);
}
