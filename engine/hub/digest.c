#include "engine/hub/digest.h"

#include <inttypes.h>
#include <nettle/version.h>
#include <stdio.h>
#include <string.h>

void lade_digest_start(struct lade_digest *d, enum lade_digest_kind kind, uint64_t bytes)
{
    d->kind = kind;
    if (kind == LADE_DIGEST_SHA256) {
        sha256_init(&d->sha256);
        return;
    }
    char head[32];
    int n = snprintf(head, sizeof head, "blob %" PRIu64, bytes);
    sha1_init(&d->sha1);
    lade_digest_add(d, head, (size_t)n + 1); /* the zero byte belongs to it */
}

void lade_digest_add(struct lade_digest *d, const void *data, size_t len)
{
    if (d->kind == LADE_DIGEST_SHA256)
        sha256_update(&d->sha256, len, data);
    else
        sha1_update(&d->sha1, len, data);
}

/* Version 4 always writes the whole digest and takes no length. */
#if NETTLE_VERSION_MAJOR >= 4
#define FINISH(algorithm, ctx, n, out) ((void)(n), algorithm##_digest(ctx, out))
#else
#define FINISH(algorithm, ctx, n, out) algorithm##_digest(ctx, n, out)
#endif

void lade_digest_end(struct lade_digest *d, char text[LADE_DIGEST_TEXT])
{
    uint8_t bytes[SHA256_DIGEST_SIZE];
    size_t n = lade_digest_digits(d->kind) / 2;
    if (d->kind == LADE_DIGEST_SHA256)
        FINISH(nettle_sha256, &d->sha256, n, bytes);
    else
        FINISH(nettle_sha1, &d->sha1, n, bytes);
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

size_t lade_digest_digits(enum lade_digest_kind kind)
{
    return 2 * (kind == LADE_DIGEST_SHA256 ? SHA256_DIGEST_SIZE : SHA1_DIGEST_SIZE);
}

int lade_digest_valid(enum lade_digest_kind kind, const char *text)
{
    size_t n = lade_digest_digits(kind);
    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}
