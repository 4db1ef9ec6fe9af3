/* The manual page, from the same tables as the help. */
#include <string.h>

#include "tui/options_table.h"

/* Text of troff: a hyphen that is typed is \-, a line never begins with a request. */
static void put_roff(FILE *out, const char *text)
{
    for (bool start = true; *text; text++) {
        if (start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else
            fputc(*text, out);
        start = *text == '\n';
    }
}

static void put_option(FILE *out, const struct option_row *row)
{
    fputs(".TP\n.B ", out);
    if (row->letter)
        fprintf(out, "\\-%c, ", row->letter);
    fputs("\\-\\-", out);
    put_roff(out, row->name);
    if (row->arg) {
        fputs(" \\fR", out);
        put_roff(out, row->arg);
    }
    fputc('\n', out);
    put_roff(out, row->help);
    if (row->kind == OPTION_INT && row->initial > 0)
        fprintf(out, " (%g)", row->initial);
    fputc('\n', out);
}

static void put_command(FILE *out, enum command command)
{
    const struct command_row *c = &options_commands[command];
    fputs(".SS ", out);
    put_roff(out, c->name);
    fputc(' ', out);
    put_roff(out, c->args);
    fputc('\n', out);
    put_roff(out, c->summary);
    fputs(".\n", out);
    for (int i = 0; i < options_n_rows; i++)
        if (options_takes(command, &options_rows[i]) && options_rows[i].help &&
            options_rows[i].letter != 'h')
            put_option(out, &options_rows[i]);
    if (c->more) {
        fputs(".PP\n.nf\n", out);
        put_roff(out, c->more);
        fputs(".fi\n", out);
    }
}

void options_man(FILE *out)
{
    static const char *const head[] = {
        ".TH LADE 1\n.SH NAME\nlade \\- chat with an 80-billion-parameter mixture of experts\n",
        ".SH SYNOPSIS\n.B lade\n[COMMAND] [OPTIONS]\n",
        ".SH DESCRIPTION\n",
        "Lade opens a Qwen3-Next checkpoint, shows it being loaded, and talks with it on the\n",
        "terminal. Without a command it opens the chat;\n.B /help\nthere lists its keys and\n",
        "commands. MODEL is a directory, a GGUF file, or a name that\n.B lade models\nlists.\n",
    };
    static const char *const tail[] = {
        ".SH FILES\nConfiguration, data and cache are in the XDG directories, or all in "
        "LADE_HOME:\n",
        ".I history.db\nthe conversations,\n.I input.history\nthe lines typed,\n.I settings.json\n",
        "what the chat's commands keep,\n.I themes/\ncolours,\n.I models/\nwhat was fetched,\n",
        ".I timelines/\nwhat each model has read of its last conversation,\n",
        ".I lade.log\nwhat libraries print.\n",
        ".SH ENVIRONMENT\nLADE_HOME, XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CACHE_HOME, NO_COLOR, "
        "VISUAL,",
        "\nEDITOR, and for finding and fetching models HF_HOME, HF_HUB_CACHE, HF_ENDPOINT,\n",
        "HF_TOKEN, HF_TOKEN_PATH.\n",
        ".SH EXIT STATUS\n0 done, 1 the work failed, 2 wrong usage, 130 stopped by Ctrl-C.\n",
    };
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        fputs(head[i], out);
    fputs(".SH COMMANDS\n", out);
    for (int i = 0; i < N_COMMANDS; i++)
        put_command(out, (enum command)i);
    for (size_t i = 0; i < sizeof tail / sizeof *tail; i++)
        fputs(tail[i], out);
}
