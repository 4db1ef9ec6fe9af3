#include "engine/curl.h"

#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void lade_curl_init(void)
{
    pthread_once(&once, init);
}

static CURLcode set_schemes(CURL *easy, bool secure)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    CURLcode rc = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, secure ? "https" : "http,https");
    return rc ? rc
              : curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR,
                                 secure ? "https" : "http,https");
#else
    long set = secure ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS;
    CURLcode rc = curl_easy_setopt(easy, CURLOPT_PROTOCOLS, set);
    return rc ? rc : curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, set);
#endif
}

CURLcode lade_curl_set_up(CURL *easy, const char *url, bool secure, long stall_s)
{
    const struct {
        CURLoption option;
        long value;
    } options[] = {
        {CURLOPT_NOSIGNAL, 1},        {CURLOPT_CONNECTTIMEOUT, 20},
        {CURLOPT_LOW_SPEED_LIMIT, 1}, {CURLOPT_LOW_SPEED_TIME, stall_s},
        {CURLOPT_TCP_KEEPALIVE, 1},   {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
    };
    CURLcode rc = curl_easy_setopt(easy, CURLOPT_URL, url);
    rc = rc ? rc : set_schemes(easy, secure);
    rc = rc ? rc : curl_easy_setopt(easy, CURLOPT_USERAGENT, "lade");
    for (size_t i = 0; i < sizeof options / sizeof *options && !rc; i++)
        rc = curl_easy_setopt(easy, options[i].option, options[i].value);
    return rc;
}
