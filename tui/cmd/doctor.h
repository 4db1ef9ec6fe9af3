/* doctor.h - the findings of lade doctor. */
#ifndef LADE_TUI_CMD_DOCTOR_H
#define LADE_TUI_CMD_DOCTOR_H

#include <jansson.h>
#include <limits.h>

#include "engine/plan/probe.h"
#include "tui/options.h"

enum doctor_state {
    DOCTOR_GOOD,
    DOCTOR_NOTE, /* works, but something could be better */
    DOCTOR_BAD,  /* something lade needs does not work */
};

enum { DOCTOR_TEXT = 256 };

struct doctor_finding {
    enum doctor_state state;
    char value[DOCTOR_TEXT];
    char advice[DOCTOR_TEXT]; /* "" = none */
    json_t *data;             /* object with the numbers; owned by who asked */
};

/* What the checks look at. */
struct doctor {
    const struct options *options;
    struct lade_catalog *model; /* NULL where it cannot be opened */
    char model_error[LADE_ERR]; /* why */
    char model_path[PATH_MAX];
    struct lade_machine machine; /* measured */
};

/* One thing to look at: what is asked for first comes first. Each fills a zeroed finding whose data
 * is an empty object. */
struct doctor_check {
    const char *name;
    void (*look)(struct doctor_finding *f, const struct doctor *d);
};

extern const struct doctor_check doctor_machine_checks[]; /* doctor_machine.c */
extern const int doctor_n_machine_checks;
extern const struct doctor_check doctor_lade_checks[]; /* doctor_lade.c */
extern const int doctor_n_lade_checks;

#endif
