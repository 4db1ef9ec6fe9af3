/* address.h - a model behind a server, as the user names it: http://HOST:PORT[/v1][#NAME]. Pure. */
#ifndef LADE_REMOTE_ADDRESS_H
#define LADE_REMOTE_ADDRESS_H

#include <stdbool.h>

#include "kernels/error.h"

enum { LADE_REMOTE_URL = 768, LADE_REMOTE_NAME = 256 };

struct lade_remote_address {
    char base[LADE_REMOTE_URL];  /* "http://HOST:PORT/v1", no slash at its end */
    char root[LADE_REMOTE_URL];  /* the same without /v1: where /health is */
    char host[LADE_REMOTE_URL];  /* "HOST:PORT" */
    char name[LADE_REMOTE_NAME]; /* of the model; "" = the server's only one */
};

/* Whether that is the address of a server and not a path or a name. */
bool lade_remote_is(const char *model);

int lade_remote_address(struct lade_remote_address *out, const char *model, char *err);

#endif
