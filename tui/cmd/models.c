/* lade models: what this machine has, wherever it lies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/hub/find.h"
#include "tui/cmd/cmd.h"
#include "tui/meters/units.h"
#include "tui/output.h"
#include "tui/paths.h"
#include "tui/report.h"
#include "tui/view/cells.h"

enum { N_COLUMNS = 6, STATE = 64 };

/* "ready", or in a word or two why not; the whole reason is for --json and for opening it. */
static void state_of(const struct lade_found *f, char out[STATE])
{
    if (f->opens)
        snprintf(out, STATE, "ready");
    else if (f->unfinished && !f->complete)
        snprintf(out, STATE, "download not finished");
    else if (f->missing)
        snprintf(out, STATE, "%d of %d files missing", f->missing, f->files);
    else if (!f->complete)
        snprintf(out, STATE, "damaged");
    else if (f->runs)
        snprintf(out, STATE, "this build cannot open it");
    else
        snprintf(out, STATE, "other architecture: %.32s",
                 *f->architecture ? f->architecture : "unknown");
}

static json_t *model_json(const struct lade_found *f)
{
    json_t *problem = *f->problem ? output_string(f->problem) : json_null();
    return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:I, s:i, s:i, s:b, s:b, s:b, s:o}", "name",
                     output_string(f->name), "path", output_string(f->path), "place", f->place,
                     "format", f->format, "architecture", output_string(f->architecture),
                     "quantization", output_string(f->quant), "bytes", (json_int_t)f->bytes,
                     "files", f->files, "missing", f->missing, "runs", f->runs, "complete",
                     f->complete, "opens", f->opens, "problem", problem);
}

struct line {
    char cells[N_COLUMNS][256];
};

static void print_line(const struct line *line, const int *width)
{
    for (int i = 0; i < N_COLUMNS; i++) {
        const char *text = line->cells[i];
        int pad = width[i] - cells_width(text);
        bool right = i == 3; /* sizes */
        printf("%s%*s", i ? "  " : "", right && pad > 0 ? pad : 0, "");
        output_text(text, strlen(text));
        if (!right && i + 1 < N_COLUMNS)
            printf("%*s", pad > 0 ? pad : 0, "");
    }
    putchar('\n');
}

static int print_table(const struct lade_found_list *list, bool all, char *err)
{
    static const struct line head = {{"name", "format", "bits", "size", "kept by", "state"}};
    struct line *lines = calloc(list->n + 1, sizeof *lines);
    int width[N_COLUMNS] = {0}, n = 1, others = 0;
    if (!lines)
        return lade_fail(err, "models: no memory for the table; close other programs");
    lines[0] = head;
    for (size_t i = 0; i < list->n; i++) {
        const struct lade_found *f = &list->items[i];
        char size[UNITS_MAX], state[STATE];
        if (!f->runs && !all) {
            others++;
            continue;
        }
        state_of(f, state);
        const char *cells[N_COLUMNS] = {f->name,
                                        f->format,
                                        *f->quant ? f->quant : UNITS_UNKNOWN,
                                        units_file(size, (double)f->bytes),
                                        f->place,
                                        state};
        for (int k = 0; k < N_COLUMNS; k++)
            snprintf(lines[n].cells[k], sizeof lines[n].cells[k], "%s", cells[k]);
        n++;
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < N_COLUMNS; k++) {
            int w = cells_width(lines[i].cells[k]);
            width[k] = w > width[k] ? w : width[k];
        }
    for (int i = 0; n > 1 && i < n; i++)
        print_line(&lines[i], width);
    if (n == 1)
        printf("There is no Qwen3-Next model on this machine. lade pull ORG/NAME fetches one.\n");
    if (others)
        printf("%s%d of other architectures; --all lists them.\n", n > 1 ? "\n" : "", others);
    free(lines);
    return 0;
}

int cmd_models(const struct options *o)
{
    struct lade_found_list list;
    char own[PATH_MAX], err[LADE_ERR];
    if (paths_file(PATHS_DATA, "models", own, err) || lade_find_models(&list, own, err))
        return report_failed(o->json, err);
    json_t *models = o->json ? json_array() : NULL;
    for (size_t i = 0; i < list.n; i++) {
        struct lade_found *f = &list.items[i];
        lade_found_probe(f, LADE_PROBE_FILES);
        if (f->runs || o->all)
            lade_found_probe(f, LADE_PROBE_OPEN);
        if (o->json && (f->runs || o->all))
            json_array_append_new(models, model_json(f));
    }
    int rc = o->json ? output_json(json_pack("{s:o}", "models", models), err)
                     : print_table(&list, o->all, err);
    lade_found_free(&list);
    return rc ? report_failed(o->json, err) : EXIT_DONE;
}
