/* lade pack: a packed directory of a model; see engine/checkpoint/packed.h. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/packed.h"
#include "engine/clock.h"
#include "engine/tiers/packer.h"
#include "tui/cmd/cmd.h"
#include "tui/meters/units.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

static atomic_bool interrupted;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&interrupted, true);
}

struct view {
    double began, drawn; /* seconds */
    uint64_t before;     /* bytes that were there already */
    bool any;
};

/* A line that is drawn over, on a terminal. */
static void show(void *user, const struct lade_pack_progress *p)
{
    struct view *v = user;
    double t = lade_now();
    if (!v->any)
        v->before = p->done;
    v->any = true;
    if (!isatty(STDERR_FILENO) || (t - v->drawn < 0.2 && p->done < p->bytes))
        return;
    char done[UNITS_MAX], all[UNITS_MAX], left[UNITS_MAX];
    double rate = (double)(p->done - v->before) / (t - v->began);
    double eta = rate > 0 ? (double)(p->bytes - p->done) / rate : 0;
    fprintf(stderr, "\r\033[Kpacking %s of %s, %.2f GB/s, %s left",
            units_file(done, (double)p->done), units_file(all, (double)p->bytes), rate * 1e-9,
            units_seconds(left, eta));
    fflush(stderr);
    v->drawn = t;
}

static int print_result(const struct options *o, const char *path, double seconds, char *err)
{
    struct lade_catalog *cat;
    char size[UNITS_MAX], time[UNITS_MAX];
    if (lade_catalog_open(&cat, o->output, err))
        return -1;
    uint64_t bytes = 0;
    for (int i = 0; i < cat->n_shards; i++)
        bytes += cat->shards[i].bytes;
    int rc = 0;
    if (o->json)
        rc = output_json(json_pack("{s:o, s:o, s:i, s:I, s:f}", "model", output_string(path),
                                   "packed", output_string(o->output), "files", cat->n_shards,
                                   "bytes", (json_int_t)bytes, "seconds", seconds),
                         err);
    else
        output_format("%s: %d file%s, %s, %s\n", o->output, cat->n_shards, units_s(cat->n_shards),
                      units_file(size, (double)bytes), units_seconds(time, seconds));
    lade_catalog_close(cat);
    return rc;
}

int cmd_pack(const struct options *o)
{
    char path[PATH_MAX], err[LADE_ERR];
    const char *dirs[LADE_PACKED_DRIVES + 1] = {o->output};
    if (!o->output)
        return report_usage(o->json, "pack: needs a place; give -o DIR");
    if (model_path_resolve(o->model, path, err))
        return report_failed(o->json, err);
    for (int i = 0; i < o->n_args; i++)
        dirs[i + 1] = o->args[i];
    struct lade_pack_options opt = {
        .model = path, .dirs = dirs, .n_dirs = o->n_args + 1, .mirror = o->mirror};
    struct view v = {.began = lade_now()};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int rc = lade_pack_model(&opt, show, &v, &interrupted, err);
    if (v.drawn > 0)
        fputs("\r\033[K", stderr);
    if (rc == 0)
        rc = print_result(o, path, lade_now() - v.began, err);
    if (rc == 0)
        return EXIT_DONE;
    int code = report_failed(o->json, err);
    return atomic_load(&interrupted) ? EXIT_INTERRUPTED : code;
}
