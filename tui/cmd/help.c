#include <stdio.h>

#include "tui/cmd/cmd.h"
#include "tui/report.h"

/* Also stands for any command with --help. */
int cmd_help(const struct options *o)
{
    char err[LADE_ERR];
    if (o->help_as != HELP_TEXT) {
        (o->help_as == HELP_MAN ? options_man : options_bash)(stdout);
        return EXIT_DONE;
    }
    if (o->command != COMMAND_HELP || o->n_args == 0) {
        /* `lade --help` asks for the overview, `lade chat --help` for the chat. */
        options_help(stdout, o->command);
        return EXIT_DONE;
    }
    int command = options_find_command(o->args[0], err);
    if (command < 0)
        return report_usage(false, err);
    options_help(stdout, (enum command)command);
    return EXIT_DONE;
}
