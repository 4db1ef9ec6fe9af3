/* digest.h - the two digests the hub gives: sha256 of large files, git blob ids of small ones. */
#ifndef LADE_HUB_DIGEST_H
#define LADE_HUB_DIGEST_H

#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <stddef.h>
#include <stdint.h>

enum lade_digest_kind {
    LADE_DIGEST_SHA256, /* 64 hexadecimal digits */
    LADE_DIGEST_GIT,    /* 40: sha1 of "blob SIZE", a zero byte and the content */
};

enum { LADE_DIGEST_TEXT = 65 };

struct lade_digest {
    enum lade_digest_kind kind;
    union {
        struct sha256_ctx sha256;
        struct sha1_ctx sha1;
    };
};

/* `bytes` is the size of the whole content, which a blob id begins with. */
void lade_digest_start(struct lade_digest *d, enum lade_digest_kind kind, uint64_t bytes);
void lade_digest_add(struct lade_digest *d, const void *data, size_t len);
void lade_digest_end(struct lade_digest *d, char text[LADE_DIGEST_TEXT]);

/* How many digits a digest of that kind has, and whether text is one, in small letters. */
size_t lade_digest_digits(enum lade_digest_kind kind);
int lade_digest_valid(enum lade_digest_kind kind, const char *text);

#endif
