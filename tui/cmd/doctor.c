/* lade doctor: what this machine has and what is missing. */
#include "tui/cmd/doctor.h"

#include <stdio.h>

#include "tui/cmd/cmd.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

static const char *const marks[] = {"ok", "note", "bad"};

static void print(const char *name, const struct doctor_finding *f)
{
    output_format("%-5s %-12s %s\n", marks[f->state], name, f->value);
    if (*f->advice)
        output_format("%-18s %s\n", "", f->advice);
}

static json_t *to_json(const char *name, struct doctor_finding *f)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:O}", "name", name, "state", marks[f->state], "value",
                     output_string(f->value), "advice", output_string(f->advice), "data", f->data);
}

static int look(const struct doctor *d, const struct doctor_check *checks, int n, json_t *list)
{
    int bad = 0;
    for (int i = 0; i < n; i++) {
        struct doctor_finding f = {.data = json_object()};
        checks[i].look(&f, d);
        bad += f.state == DOCTOR_BAD;
        if (list)
            json_array_append_new(list, to_json(checks[i].name, &f));
        else
            print(checks[i].name, &f);
        json_decref(f.data);
    }
    return bad;
}

/* The model is asked for its drives and its types of weights. */
static void examine(struct doctor *d, const struct options *o)
{
    struct lade_plan_caps caps;
    options_caps(o, &caps);
    if (model_path_resolve(o->model, d->model_path, d->model_error) == 0)
        lade_catalog_open(&d->model, d->model_path, d->model_error);
    lade_machine_probe(&d->machine, &(struct lade_probe_wish){
                                        .catalog = d->model,
                                        .plugin = caps.plugin,
                                        .cache_dir = caps.cache_dir,
                                        .measure = LADE_MEASURE_ALL,
                                    });
}

/* Exit code 1 if something does not work, so that scripts can ask. */
int cmd_doctor(const struct options *o)
{
    static struct doctor d; /* large */
    char err[LADE_ERR];
    json_t *list = o->json ? json_array() : NULL;
    d = (struct doctor){.options = o};
    examine(&d, o);
    int bad = look(&d, doctor_machine_checks, doctor_n_machine_checks, list);
    bad += look(&d, doctor_lade_checks, doctor_n_lade_checks, list);
    lade_catalog_close(d.model);
    if (o->json && output_json(json_pack("{s:b, s:o}", "ok", !bad, "checks", list), err))
        return report_failed(true, err);
    return bad ? EXIT_FAILED : EXIT_DONE;
}
