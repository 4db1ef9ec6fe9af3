#include <string.h>

#include "tui/options_table.h"

enum { HELP_COLUMN = 30 };

static void print_row(FILE *out, const struct option_row *row)
{
    char left[80];
    int n = row->letter ? snprintf(left, sizeof(left), "  -%c, --%s", row->letter, row->name)
                        : snprintf(left, sizeof(left), "      --%s", row->name);
    if (row->arg)
        n += snprintf(left + n, sizeof(left) - (size_t)n, " %s", row->arg);
    if (n >= HELP_COLUMN)
        fprintf(out, "%s\n%*s%s", left, HELP_COLUMN, "", row->help);
    else
        fprintf(out, "%-*s%s", HELP_COLUMN, left, row->help);
    if (row->kind == OPTION_INT && row->initial > 0)
        fprintf(out, " (%g)", row->initial);
    fputc('\n', out);
}

static void print_spellings(FILE *out, enum command command)
{
    enum { WIDTH = 80 };
    int column = 0;
    for (int i = 0; i < options_n_rows; i++) {
        const struct option_row *row = &options_rows[i];
        if (!options_takes(command, row) || row->help)
            continue;
        int size = (int)(strlen(row->name) + (row->arg ? strlen(row->arg) + 1 : 0)) + 4;
        if (column == 0)
            column = fprintf(out, "\nalso: ") - 1;
        else if (column + size > WIDTH)
            column = fprintf(out, "\n      ") - 1;
        column +=
            fprintf(out, " --%s%s%s", row->name, row->arg ? " " : "", row->arg ? row->arg : "");
    }
    if (column)
        fputc('\n', out);
}

static void print_overview(FILE *out)
{
    fputs("usage: lade [COMMAND] [OPTIONS]\n\n", out);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-12s%s\n", options_commands[i].name, options_commands[i].summary);
    fputs("\nlade help COMMAND shows its options. Exit codes: 0 done, 1 failed, 2 wrong usage.\n",
          out);
}

void options_help(FILE *out, enum command command)
{
    const struct command_row *c = &options_commands[command];
    if (command == COMMAND_HELP) {
        print_overview(out);
        return;
    }
    fprintf(out, "usage: lade %s%s%s [OPTIONS]\n\n%s\n\n", c->name, *c->args ? " " : "", c->args,
            c->summary);
    for (int i = 0; i < options_n_rows; i++) {
        if (options_takes(command, &options_rows[i]) && options_rows[i].help)
            print_row(out, &options_rows[i]);
    }
    print_spellings(out, command);
    if (c->more)
        fprintf(out, "\n%s", c->more);
}
