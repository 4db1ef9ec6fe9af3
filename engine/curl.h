/* curl.h - what every use of libcurl here begins with. Any thread. */
#ifndef LADE_CURL_H
#define LADE_CURL_H

#include <curl/curl.h>
#include <stdbool.h>

/* Before the first handle: initialises libcurl, once. */
void lade_curl_init(void);

/* Only http and https, or https alone, also where a server redirects to. */
CURLcode lade_curl_schemes(CURL *easy, bool secure);

#endif
