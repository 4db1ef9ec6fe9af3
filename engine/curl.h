/* curl.h - what every use of libcurl here begins with. Any thread. */
#ifndef LADE_CURL_H
#define LADE_CURL_H

#include <curl/curl.h>
#include <stdbool.h>

/* Before the first handle: initialises libcurl, once. */
void lade_curl_init(void);

/* What every transfer begins with: its address, over http and https, or https alone, also where a server
 * redirects to; HTTP/1.1, so that transfers do not share a connection; 20 seconds to connect; and an end
 * where for stall_s seconds nothing comes. */
CURLcode lade_curl_set_up(CURL *easy, const char *url, bool secure, long stall_s);

#endif
