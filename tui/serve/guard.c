#include "tui/serve/guard.h"

#include <arpa/inet.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_port(const char *text)
{
    return !*text || (*text == ':' && text[1] && !text[1 + strspn(text + 1, "0123456789")]);
}

bool guard_is_loopback(const char *host)
{
    char name[64];
    struct in_addr v4;
    struct in6_addr v6;
    if (!host)
        return false;
    const bool bracket = *host == '[';
    const size_t n = strcspn(host + bracket, bracket ? "]" : ":");
    const char *rest = host + bracket + n;
    if (!n || n >= sizeof name || (bracket && *rest++ != ']') || !is_port(rest))
        return false;
    snprintf(name, sizeof name, "%.*s", (int)n, host + bracket);
    if (bracket)
        return inet_pton(AF_INET6, name, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    return !strcasecmp(name, "localhost") ||
           (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

bool guard_origin_is_loopback(const char *origin)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (!strncasecmp(origin, schemes[i], strlen(schemes[i])))
            return guard_is_loopback(origin + strlen(schemes[i]));
    return false;
}

static void digest(const char *text, uint8_t out[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, strlen(text), (const uint8_t *)text);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, out);
}

bool guard_key_fits(const char *authorization, const char *key)
{
    static const char scheme[] = "Bearer ";
    uint8_t given[SHA256_DIGEST_SIZE], wanted[SHA256_DIGEST_SIZE];
    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    /* Digests: neither where two keys part nor how long the right one is shows in the time. */
    digest(authorization + sizeof scheme - 1, given);
    digest(key, wanted);
    return memeql_sec(given, wanted, sizeof given);
}
