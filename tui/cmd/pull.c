/* lade pull: a model from the hub into the models directory. Bars on a terminal, else a line per
 * file; both on stderr. The path of the model goes to stdout. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/hub/listing.h"
#include "tui/cmd/cmd.h"
#include "tui/meters/units.h"
#include "tui/output.h"
#include "tui/pull_bars.h"
#include "tui/pull_job.h"
#include "tui/report.h"
#include "tui/text/width.h"

static atomic_bool interrupted;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&interrupted, true);
}

struct view {
    bool bars, quiet, utf8;
    int drawn;  /* lines of bars on the terminal */
    bool *said; /* files that are reported as done */
    int n_said;
    struct pull_rate rate;
    char repo[256]; /* what the last call said: */
    int n_files;
    uint64_t bytes, fetched;
};

static int columns(void)
{
    const int n = output_columns(STDERR_FILENO);
    return n ? n : 80;
}

static void erase(struct view *v)
{
    if (v->drawn)
        fprintf(stderr, "\033[%dA\r\033[J", v->drawn);
    v->drawn = 0;
}

/* Configurations are smaller than the units of weights. */
static const char *file_size(char out[UNITS_MAX], uint64_t bytes)
{
    if (bytes >= 1000)
        return units_file(out, (double)bytes);
    snprintf(out, UNITS_MAX, "%d B", (int)bytes);
    return out;
}

/* Files that were there before count without a line. */
static void say_done(struct view *v, const struct lade_fetch_progress *p)
{
    char name[PULL_LINE], size[UNITS_MAX];
    bool first = !v->said;
    if (first) {
        v->said = calloc((size_t)p->n_files + 1, sizeof *v->said);
        v->n_said = v->said ? p->n_files : 0;
    }
    for (int i = 0; i < v->n_said; i++) {
        if (v->said[i] || p->files[i].state != LADE_FETCH_DONE)
            continue;
        v->said[i] = true;
        snprintf(name, sizeof name, "%s", p->files[i].name);
        output_clean(name);
        if (!first)
            fprintf(stderr, "%s  %s\n", name, file_size(size, p->files[i].bytes));
    }
    if (first && !v->bars)
        fprintf(stderr, "%s: %d file%s, %s\n", p->repo, p->n_files, units_s(p->n_files),
                file_size(size, p->bytes));
}

static void draw(struct view *v, const struct lade_fetch_progress *p)
{
    char text[PULL_TEXT];
    double rate = pull_rate_add(&v->rate, p->fetched, lade_now());
    v->drawn = pull_lines(text, sizeof text, p, rate, columns() - 1, v->utf8);
    fprintf(stderr, "%s\n", text);
}

static void show(void *user, const struct lade_fetch_progress *p)
{
    struct view *v = user;
    snprintf(v->repo, sizeof v->repo, "%s", p->repo);
    v->n_files = p->n_files;
    v->bytes = p->bytes;
    v->fetched = p->fetched;
    if (v->quiet)
        return;
    erase(v);
    if (p->note) {
        char note[LADE_ERR];
        snprintf(note, sizeof note, "%s", p->note);
        output_clean(note);
        fprintf(stderr, "%s\n", note);
    }
    if (p->files) {
        say_done(v, p);
        if (v->bars)
            draw(v, p);
    }
    fflush(stderr);
}

static int print_result(const struct options *o, const struct view *v, const char *path,
                        double seconds, char *err)
{
    if (!o->json) {
        output_format("%s\n", path);
        return 0;
    }
    return output_json(json_pack("{s:s, s:o, s:i, s:I, s:I, s:f}", "repo", v->repo, "path",
                                 output_string(path), "files", v->n_files, "bytes",
                                 (json_int_t)v->bytes, "fetched", (json_int_t)v->fetched, "seconds",
                                 seconds),
                       err);
}

int cmd_pull(const struct options *o)
{
    struct view v = {.bars = isatty(STDERR_FILENO), .quiet = o->json};
    struct lade_fetch_options fetch;
    char models[PATH_MAX], path[PATH_MAX], err[LADE_ERR], *token;
    char repo[LADE_REPO], wanted[LADE_WANTED];
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    if (o->n_args != 1)
        return report_usage(o->json, "pull: needs a repository; give ORG/NAME, ORG/NAME:Q4_K_M or "
                                     "ORG/NAME:FILE.gguf");
    if (lade_hub_spec(o->args[0], repo, wanted, err))
        return report_usage(o->json, err);
    if (pull_settings(&fetch, models, &token, err))
        return report_failed(o->json, err);
    fetch.what = o->args[0];
    fetch.revision = o->revision;
    fetch.connections = o->connections;
    v.utf8 = width_utf8();
    sigaction(SIGINT, &action, NULL); /* a second one ends the program at once: nothing is lost */
    sigaction(SIGTERM, &action, NULL);
    double start = lade_now();
    int rc = lade_fetch(&fetch, show, &v, &interrupted, path, err);
    if (!v.quiet)
        erase(&v);
    free(token);
    free(v.said);
    if (rc == 0)
        rc = print_result(o, &v, path, lade_now() - start, err);
    if (rc == 0)
        return EXIT_DONE;
    report_failed(o->json, err);
    return atomic_load(&interrupted) ? EXIT_INTERRUPTED : EXIT_FAILED;
}
