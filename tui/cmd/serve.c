/* lade serve: the model stays, and other programs ask it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tui/cmd/cmd.h"
#include "tui/cmd/interrupt.h"
#include "tui/key_file.h"
#include "tui/model_path.h"
#include "tui/report.h"
#include "tui/serve/server.h"

static void no_memory(void)
{
    report_failed(false, "serve: out of memory; close other programs");
    _exit(EXIT_FAILED);
}

/* The engine begins last: what is wrong with the rest is known before anything is loaded. */
static int start(struct server *s, const char *model, char *err)
{
    struct lade_options opt;
    const struct options *o = s->options;
    if (listen_on(&s->listener, o->host ? o->host : "127.0.0.1", o->port, err))
        return -1;
    if (!s->listener.loopback && !s->key) {
        close(s->listener.fd);
        return lade_fail(err,
                         "--host %s: other machines could use it without a key; give --key-file "
                         "FILE, or leave --host out",
                         o->host);
    }
    options_engine(o, model, false, &opt);
    if (lade_engine_start(&s->engine, &opt, err)) {
        close(s->listener.fd);
        return -1;
    }
    return exchange_start(s, err);
}

int cmd_serve(const struct options *o)
{
    struct server *s = buf_realloc(NULL, 1, sizeof *s);
    char path[PATH_MAX], key[KEY_FILE_MAX], err[LADE_ERR];
    sigset_t open;
    *s = (struct server){.options = o, .created = (int64_t)time(NULL)};
    buf_no_memory = no_memory;
    int rc = o->key_file ? key_file_read(o->key_file, key, err) : 0;
    if (rc == 0)
        rc = model_path_resolve(o->model, path, err);
    if (rc == 0) {
        s->key = o->key_file ? key : NULL;
        signal(SIGPIPE, SIG_IGN); /* a client that goes away is no reason to end */
        interrupt_catch(&open);   /* the engine's thread inherits the blocked ones */
        rc = start(s, path, err);
    }
    if (rc == 0) {
        fprintf(stderr, "listening on %s/v1\n", s->listener.url);
        rc = server_run(s, &open, err);
    }
    progress_clear(&s->progress);
    lade_engine_stop(s->engine);
    free(s);
    return rc ? report_failed(false, err) : EXIT_DONE;
}
