#include "tui/report.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "kernels/error.h"
#include "tui/options.h"
#include "tui/output.h"

static void print(bool json, const char *line)
{
    char clean[LADE_ERR + 64];
    snprintf(clean, sizeof(clean), "%s", line);
    output_clean(clean);
    json_t *object = json ? json_pack("{s:o}", "error", output_string(clean)) : NULL;
    if (object) {
        json_dumpf(object, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        json_decref(object);
    } else {
        fprintf(stderr, "lade: %s\n", clean);
    }
}

int report_failed(bool json, const char *line)
{
    print(json, line);
    return EXIT_FAILED;
}

void report_note(const char *line)
{
    print(false, line);
}

int report_usage(bool json, const char *line)
{
    print(json, line);
    return EXIT_USAGE;
}
