#include "engine/hub/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "engine/checkpoint/scan.h"
#include "engine/curl.h"
#include "engine/text.h"

enum { LONGEST_PAUSE = 30, LONGEST_RETRY_AFTER = 600, MOST_REDIRECTS = 8 };

/* ---- the endpoint ---------------------------------------------------------------------------- */

static bool is_address(const char *endpoint)
{
    const char *host = !strncmp(endpoint, "https://", 8)  ? endpoint + 8
                       : !strncmp(endpoint, "http://", 7) ? endpoint + 7
                                                          : NULL;
    if (!host || !*host || strchr(host, '@'))
        return false;
    for (const char *p = host; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7F || strchr("?#\\\"", *p))
            return false;
    return true;
}

int lade_http_open(struct lade_http *h, const char *endpoint, const char *token, char *err)
{
    lade_curl_init();
    size_t len = strlen(endpoint);
    while (len && endpoint[len - 1] == '/')
        len--;
    h->endpoint = strndup(endpoint, len);
    h->secret = NULL;
    if (!h->endpoint)
        return lade_fail(err, "HF_ENDPOINT: no memory; free some");
    if (!is_address(h->endpoint)) {
        char shown[128];
        lade_fail(err, "HF_ENDPOINT: '%s' is no address like https://huggingface.co; correct it",
                  lade_printable(shown, sizeof shown, endpoint, strlen(endpoint)));
        lade_http_close(h);
        return -1;
    }
    if (!token || !*token)
        return 0;
    for (const char *p = token; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7F) {
            lade_http_close(h);
            return lade_fail(err, "HF_TOKEN: has a character that no token has; copy it again");
        }
    char *header;
    if (asprintf(&header, "Authorization: Bearer %s", token) >= 0) {
        h->secret = curl_slist_append(NULL, header);
        explicit_bzero(header, strlen(header));
        free(header);
    }
    if (!h->secret) {
        lade_http_close(h);
        return lade_fail(err, "HF_TOKEN: no memory; free some");
    }
    return 0;
}

void lade_http_close(struct lade_http *h)
{
    free(h->endpoint);
    curl_slist_free_all(h->secret);
    h->endpoint = NULL;
    h->secret = NULL;
}

static bool at_endpoint(const struct lade_http *h, const char *url)
{
    size_t n = strlen(h->endpoint);
    return !strncmp(url, h->endpoint, n) && url[n] == '/';
}

/* ---- requests -------------------------------------------------------------------------------- */

CURL *lade_http_handle(const struct lade_http *h, const char *url)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        return NULL;
    bool secure = !strncmp(h->endpoint, "https://", 8);
    CURLcode rc = lade_curl_set_up(easy, url, secure, (long)h->stall_s);
    if (h->secret && at_endpoint(h, url))
        rc = rc ? rc : curl_easy_setopt(easy, CURLOPT_HTTPHEADER, h->secret);
    static const struct {
        CURLoption option;
        long value;
    } options[] = {
        {CURLOPT_FOLLOWLOCATION, 1},
        {CURLOPT_MAXREDIRS, MOST_REDIRECTS},
        {CURLOPT_UNRESTRICTED_AUTH, 0},
        {CURLOPT_BUFFERSIZE, 256 << 10},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options && !rc; i++)
        rc = curl_easy_setopt(easy, options[i].option, options[i].value);
    if (rc) {
        curl_easy_cleanup(easy);
        return NULL;
    }
    return easy;
}

struct answer {
    const struct lade_http *http;
    struct lade_text text;
    char *next;
};

static size_t take_text(char *data, size_t size, size_t n, void *user)
{
    struct answer *a = user;
    return lade_text_add(&a->text, data, size * n) ? size * n : 0;
}

/* Link: <ADDRESS>; rel="next" */
static size_t take_header(char *data, size_t size, size_t n, void *user)
{
    struct answer *a = user;
    size_t len = size * n;
    if (len < 5 || strncasecmp(data, "link:", 5) != 0)
        return len;
    char *line = strndup(data, len);
    char *open = line ? strchr(line, '<') : NULL, *close = open ? strchr(open, '>') : NULL;
    if (close && strstr(close, "rel=\"next\"")) {
        free(a->next);
        a->next = strndup(open + 1, (size_t)(close - open - 1));
    }
    free(line);
    return len;
}

static int watch_cancel(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return lade_http_cancelled(user);
}

static void drop(struct answer *a)
{
    free(a->text.at);
    free(a->next);
    a->text = (struct lade_text){.most = a->text.most};
    a->next = NULL;
}

/* False where it was cancelled. */
static bool rest(const struct lade_http *h, double seconds)
{
    double end = lade_now() + seconds;
    while (!lade_http_cancelled(h)) {
        double left = end - lade_now();
        if (left <= 0)
            return true;
        long ns = left < 0.1 ? (long)(left * 1e9) : 100000000;
        nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
    }
    return false;
}

static int attempt(struct answer *a, const char *url, const char *what, int number, bool *again,
                   char *err)
{
    const struct lade_http *h = a->http;
    long status = 0;
    CURL *easy = lade_http_handle(h, url);
    *again = false;
    if (!easy)
        return lade_fail(err, "%s: no memory for a request; free some", what);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_text);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, a);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, watch_cancel);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, (void *)h);
    CURLcode rc = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    double pause = lade_http_pause(h, easy, number + 1);
    curl_easy_cleanup(easy);
    if (!rc && status == 200)
        return 0;
    const bool too_long = a->text.too_long;
    drop(a);
    if (lade_http_cancelled(h))
        return lade_fail(err, "%s: cancelled; ask again to go on", h->repo);
    if (too_long)
        return lade_fail(err, "%s: %s is longer than %zu bytes; is this a model?", h->repo, what,
                         a->text.most);
    if (number < h->attempts && pause >= 0 && lade_http_transient(rc, status)) {
        char reason[128], note[512];
        lade_http_reason(reason, sizeof reason, rc, status);
        snprintf(note, sizeof note, "%.120s at %.120s: %s; again in %.0f s", h->repo, h->endpoint,
                 reason, pause);
        h->note(h->user, note);
        *again = rest(h, pause);
        if (!*again)
            return lade_fail(err, "%s: cancelled; ask again to go on", h->repo);
    }
    return lade_http_fail(h, what, rc, status, err);
}

int lade_http_text(const struct lade_http *h, const char *url, const char *what, size_t limit,
                   char **text, size_t *len, char **next, char *err)
{
    struct answer a = {.http = h, .text.most = limit};
    bool again = true;
    int rc = -1;
    for (int i = 1; rc && again; i++)
        rc = attempt(&a, url, what, i, &again, err);
    if (!rc && !lade_text_puts(&a.text, "")) /* of an answer without bytes */
        rc = lade_fail(err, "%s: no memory; free some", what);
    if (rc) {
        drop(&a);
        return -1;
    }
    *text = a.text.at;
    *len = a.text.n;
    if (next)
        *next = a.next;
    else
        free(a.next);
    return 0;
}

/* ---- results --------------------------------------------------------------------------------- */

bool lade_http_transient(CURLcode rc, long status)
{
    switch (rc) {
    case CURLE_OK:
        return status == 408 || status == 416 || status == 429 || status >= 500;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

double lade_http_pause(const struct lade_http *h, CURL *easy, int attempt_number)
{
    curl_off_t asked = 0;
    double pause = h->backoff_s;
    for (int i = 2; i < attempt_number && pause < LONGEST_PAUSE; i++)
        pause *= 2;
    if (pause > LONGEST_PAUSE)
        pause = LONGEST_PAUSE;
    if (easy && !curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &asked) && asked > 0) {
        if (asked > LONGEST_RETRY_AFTER)
            return -1;
        pause = asked > pause ? (double)asked : pause;
    }
    return pause;
}

void lade_http_reason(char *out, size_t size, CURLcode rc, long status)
{
    if (rc == CURLE_PARTIAL_FILE || rc == CURLE_RECV_ERROR || rc == CURLE_GOT_NOTHING)
        snprintf(out, size, "the connection was cut");
    else if (rc == CURLE_OPERATION_TIMEDOUT)
        snprintf(out, size, "the server fell silent");
    else if (rc)
        snprintf(out, size, "%s", curl_easy_strerror(rc));
    else if (status == 429)
        snprintf(out, size, "the hub answers 429, too many requests");
    else
        snprintf(out, size, "the hub answers %ld", status);
}

int lade_http_fail(const struct lade_http *h, const char *what, CURLcode rc, long status, char *err)
{
    char reason[128];
    if (rc == CURLE_TOO_MANY_REDIRECTS || rc == CURLE_UNSUPPORTED_PROTOCOL)
        return lade_fail(err,
                         "%s: %.120s: the redirects do not end at a file (%s); check HF_ENDPOINT",
                         h->repo, what, curl_easy_strerror(rc));
    lade_http_reason(reason, sizeof reason, rc, status);
    if (rc)
        return lade_fail(err,
                         "%s: %.120s: %s, from %.120s; check the network, then ask again: it goes "
                         "on where it stopped",
                         h->repo, what, reason, h->endpoint);
    if (status == 401 && h->secret)
        return lade_fail(err,
                         "%s: %.120s: the hub answers 401: it does not exist, or HF_TOKEN is not "
                         "valid for it; check the name, or make a new token",
                         h->repo, what);
    if (status == 401)
        return lade_fail(err,
                         "%s: %.120s: the hub answers 401: it does not exist, or is private or "
                         "gated; check the name, or set HF_TOKEN to a token that may read it",
                         h->repo, what);
    if (status == 403)
        return lade_fail(err,
                         "%s: %.120s: the hub answers 403: access is not granted; accept its terms "
                         "at %.120s/%s and set HF_TOKEN to a token that may read it",
                         h->repo, what, h->endpoint, h->repo);
    if (status == 404)
        return lade_fail(err,
                         "%s: %.120s: the hub answers 404: it has no such repository, revision or "
                         "file; check the name",
                         h->repo, what);
    return lade_fail(err, "%s: %.120s: %s; ask again later: it goes on where it stopped", h->repo,
                     what, reason);
}

char *lade_http_escape(const char *text, bool keep_slash)
{
    char *out = malloc(3 * strlen(text) + 1), *to = out;
    if (!out)
        return NULL;
    for (const char *p = text; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("-._~", *p) || (*p == '/' && keep_slash);
        if (plain)
            *to++ = *p;
        else
            to += sprintf(to, "%%%02X", (unsigned char)*p);
    }
    *to = '\0';
    return out;
}
