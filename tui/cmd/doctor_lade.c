/* What lade itself needs: a terminal, its libraries, the database, a model. */
#include <curses.h>
#include <langinfo.h>
#include <microhttpd.h>
#include <readline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <term.h>
#include <unistd.h>

#include "history/history.h"
#include "tui/cmd/doctor.h"
#include "tui/meters/units.h"
#include "tui/paths.h"
#include "tui/version.h"

#include "engine/engine.h"

static void look_terminal(struct doctor_finding *f, const struct doctor *d)
{
    (void)d;
    const char *term = getenv("TERM"), *codeset = nl_langinfo(CODESET);
    bool utf8 = strcasecmp(codeset, "UTF-8") == 0;
    int status, colours = 0;
    bool known = term && *term && setupterm(term, STDOUT_FILENO, &status) == OK;
    if (known)
        colours = tigetnum("colors");
    snprintf(f->value, sizeof(f->value), "%.60s, %d colours, %.40s", known ? term : "unknown",
             colours < 0 ? 0 : colours, codeset);
    json_object_set_new(f->data, "term", json_string(term ? term : ""));
    json_object_set_new(f->data, "known", json_boolean(known));
    json_object_set_new(f->data, "colours", json_integer(colours < 0 ? 0 : colours));
    json_object_set_new(f->data, "utf8", json_boolean(utf8));
    json_object_set_new(f->data, "is_terminal", json_boolean(isatty(STDOUT_FILENO)));
    if (!known) {
        f->state = DOCTOR_NOTE;
        snprintf(f->advice, sizeof(f->advice),
                 "TERM names no terminal that is known here: the chat cannot draw; try "
                 "TERM=xterm-256color");
    } else if (!utf8) {
        f->state = DOCTOR_NOTE;
        snprintf(f->advice, sizeof(f->advice),
                 "the locale is not UTF-8: bars and scripts are drawn badly; try LC_ALL=C.UTF-8");
    }
}

static void look_libraries(struct doctor_finding *f, const struct doctor *d)
{
    (void)d;
    snprintf(f->value, sizeof(f->value), "lade %s, %s, readline %s, jansson %s, libmicrohttpd %s",
             LADE_VERSION, curses_version(), rl_library_version, JANSSON_VERSION,
             MHD_get_version());
    json_object_set_new(f->data, "lade", json_string(LADE_VERSION));
    json_object_set_new(f->data, "curses", json_string(curses_version()));
    json_object_set_new(f->data, "readline", json_string(rl_library_version));
    json_object_set_new(f->data, "jansson", json_string(JANSSON_VERSION));
    json_object_set_new(f->data, "libmicrohttpd", json_string(MHD_get_version()));
}

/* The GPU's code is a file beside the program. */
static void look_plugin(struct doctor_finding *f, const struct doctor *d)
{
    struct lade_plan_caps caps;
    options_caps(d->options, &caps);
    bool works = caps.plugin && !d->machine.gpu_missing[0];
    snprintf(f->value, sizeof(f->value), "%.200s%s", caps.plugin ? caps.plugin : "none",
             works ? "" : ": the CPU computes");
    json_object_set_new(f->data, "present", json_boolean(caps.plugin != NULL));
    json_object_set_new(f->data, "works", json_boolean(works));
    json_object_set_new(f->data, "path", caps.plugin ? json_string(caps.plugin) : json_null());
}

/* Reads only: a doctor who makes the database would hide that there was none. */
static void look_history(struct doctor_finding *f, const struct doctor *d)
{
    (void)d;
    char path[PATH_MAX], size[UNITS_MAX];
    struct history *h = NULL;
    struct history_facts facts;
    char err[LADE_ERR];
    if (paths_history(path, err)) {
        f->state = DOCTOR_BAD;
        snprintf(f->value, sizeof(f->value), "%.*s", DOCTOR_TEXT - 1, err);
        return;
    }
    json_object_set_new(f->data, "path", json_string(path));
    if (access(path, F_OK)) {
        snprintf(f->value, sizeof(f->value), "no conversations yet");
        return;
    }
    if (history_open(&h, path, err) || history_check(h, &facts, err)) {
        f->state = DOCTOR_BAD;
        snprintf(f->value, sizeof(f->value), "%.*s", DOCTOR_TEXT - 1, err);
    } else {
        snprintf(f->value, sizeof(f->value), "%lld conversation%s, %lld message%s, %s; SQLite %s%s",
                 (long long)facts.conversations, units_s((double)facts.conversations),
                 (long long)facts.messages, units_s((double)facts.messages),
                 units_file(size, (double)facts.bytes), facts.library,
                 facts.indexed ? "" : " without FTS5 (search is slower)");
        json_object_set_new(f->data, "conversations", json_integer(facts.conversations));
        json_object_set_new(f->data, "messages", json_integer(facts.messages));
        json_object_set_new(f->data, "bytes", json_integer(facts.bytes));
        json_object_set_new(f->data, "version", json_integer(facts.version));
        json_object_set_new(f->data, "sqlite", json_string(facts.library));
    }
    history_close(h);
}

static void look_model(struct doctor_finding *f, const struct doctor *d)
{
    char size[UNITS_MAX];
    if (!d->model) {
        f->state = d->options->model ? DOCTOR_BAD : DOCTOR_NOTE;
        snprintf(f->value, sizeof(f->value), "%.*s", DOCTOR_TEXT - 1, d->model_error);
        return;
    }
    snprintf(f->value, sizeof(f->value), "%.80s, %s, %s", d->model->name, d->model->quant,
             units_file(size, (double)d->model->source_bytes));
    json_object_set_new(f->data, "path", json_string(d->model_path));
    json_object_set_new(f->data, "bytes", json_integer((json_int_t)d->model->source_bytes));
}

const struct doctor_check doctor_lade_checks[] = {
    {"terminal", look_terminal}, {"libraries", look_libraries}, {"gpu plug-in", look_plugin},
    {"history", look_history},   {"model", look_model},
};
const int doctor_n_lade_checks = sizeof(doctor_lade_checks) / sizeof(*doctor_lade_checks);
