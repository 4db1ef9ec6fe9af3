/* support_hub.h - a model hub on loopback (hub_server.py) with repositories made by the test. */
#ifndef LADE_TESTS_SUPPORT_HUB_H
#define LADE_TESTS_SUPPORT_HUB_H

#include <stdbool.h>
#include <stddef.h>

struct support_hub {
    char root[64];     /* temporary: repositories and the log */
    char endpoint[64]; /* http://127.0.0.1:PORT */
    int port, other;   /* of the endpoint, and a second one */
    long pid;
    int in, out; /* pipes to and from the server */
};

/* False where there is no python3. Fails the running test where the server does not start. */
bool support_hub_start(struct support_hub *h);
void support_hub_stop(struct support_hub *h);

/* Writes ROOT/PATH, with the directories above it. */
void support_hub_put(const struct support_hub *h, const char *path, const void *data, size_t len);

/* The same with `len` bytes that `seed` determines. */
void support_hub_fill(const struct support_hub *h, const char *path, size_t len, unsigned seed);

/* Sets how the server behaves from here on: a JSON list in one line, see hub_server.py. Forgets the
 * log. */
void support_hub_rules(const struct support_hub *h, const char *json);

/* How many lines of the log contain all of the texts (b and c may be NULL). */
int support_hub_count(const struct support_hub *h, const char *a, const char *b, const char *c);

/* Whether two files have the same bytes. */
bool support_same_file(const char *a, const char *b);

#endif
