/* listen.h - the socket that clients connect to. */
#ifndef LADE_TUI_SERVE_LISTEN_H
#define LADE_TUI_SERVE_LISTEN_H

#include <stdbool.h>

#include "kernels/error.h"

struct listener {
    int fd;
    bool loopback; /* only this machine's programs reach it */
    char url[96];  /* "http://127.0.0.1:8080" */
};

/* Listens on a name or an address; port 0 is a free one. The caller closes fd. */
int listen_on(struct listener *l, const char *host, int port, char *err);

#endif
