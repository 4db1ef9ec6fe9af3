#include <stdio.h>

#include "tui/cmd/cmd.h"
#include "tui/report.h"

/* Also stands for any command with --help. */
int cmd_help(const struct options *o)
{
    static void (*const forms[])(FILE * out) = {
        [HELP_MAN] = options_man,
        [HELP_BASH] = options_bash,
        [HELP_ZSH] = options_zsh,
        [HELP_FISH] = options_fish,
    };
    char err[LADE_ERR];
    if (o->help_as != HELP_TEXT) {
        forms[o->help_as](stdout);
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
