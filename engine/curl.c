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

CURLcode lade_curl_schemes(CURL *easy, bool secure)
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
