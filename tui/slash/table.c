/* The table of commands, and what is made of it: parsing, completion, help. */
#include "tui/slash/slash.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tui/input.h"
#include "tui/nearest.h"

const struct slash_command slash_commands[] = {
    {"help", "h", "[COMMAND]", "the keys and commands", slash_help, NULL},
    {"new", "clear", "", "begin another conversation", slash_new, NULL},
    {"resume", "r", "[ID]", "go on with a saved conversation", slash_resume, NULL},
    {"rename", NULL, "TITLE", "give this conversation a title", slash_rename, NULL},
    {"delete", NULL, "", "delete this conversation for good", slash_delete, NULL},
    {"retry", "regen", "", "another answer to the last question", slash_retry, NULL},
    {"edit", NULL, "", "take the last question back, to change it", slash_edit, NULL},
    {"branch", "b", "[next|previous|N]", "other versions (2/3) of a question or an answer",
     slash_branch, slash_branch_complete},
    {"fork", NULL, "", "go on in a copy of this conversation", slash_fork, NULL},
    {"set", NULL, "[NAME VALUE]", "sampling, length and system prompt", slash_set,
     slash_set_complete},
    {"think", NULL, "[on|off|fold|show]", "whether the model reasons, and shows it", slash_think,
     slash_think_complete},
    {"plan", NULL, "", "strategies for this machine, predicted", slash_plan, NULL},
    {"strategy", NULL, "[NAME|auto]", "change where the weights live", slash_strategy,
     slash_strategy_complete},
    {"anatomy", NULL, "[on|off]", "where a token's experts were", slash_anatomy,
     slash_anatomy_complete},
    {"stats", NULL, "", "model, machine, last answer in numbers", slash_stats, NULL},
    {"pull", NULL, "ORG/NAME[:QUANT]|stop", "fetch a model while the chat goes on", slash_pull,
     NULL},
    {"copy", NULL, "[answer|code|N|all]", "put an answer on the clipboard", slash_copy,
     slash_copy_complete},
    {"export", NULL, "[FILE]", "write the conversation as Markdown, or JSON (.json)", slash_export,
     NULL},
    {"theme", NULL, "[NAME]", "the colours of the screen", slash_theme, slash_theme_complete},
    {"mouse", NULL, "[on|off]", "wheel scrolling, or the terminal's own selection", slash_mouse,
     slash_mouse_complete},
    {"quit", "q", "", "leave; everything is saved", slash_quit, NULL},
};
const int slash_count = sizeof slash_commands / sizeof *slash_commands;

static int name_length(const char *line)
{
    int n = 1;
    while (isalpha((unsigned char)line[n]))
        n++;
    return n;
}

bool slash_is_command(const char *line)
{
    if (*line != '/' || strchr(line, '\n'))
        return false;
    int n = name_length(line);
    return line[n] == '\0' || line[n] == ' ';
}

const struct slash_command *slash_find(const char *name, int n, char *err)
{
    const struct slash_command *found = NULL;
    char names[256] = "";
    int hits = 0;
    for (int i = 0; i < slash_count; i++) {
        const struct slash_command *s = &slash_commands[i];
        if ((strncasecmp(s->name, name, (size_t)n) == 0 && !s->name[n]) ||
            (s->alias && strncasecmp(s->alias, name, (size_t)n) == 0 && !s->alias[n]))
            return s;
        if (n > 0 && strncasecmp(s->name, name, (size_t)n) == 0) {
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s/%s",
                     hits ? " or " : "", s->name);
            found = s;
            hits++;
        }
    }
    if (hits == 1)
        return found;
    char typed[NEAREST_LETTERS + 2];
    snprintf(typed, sizeof typed, "%.*s", n, name);
    struct nearest near = NEAREST_TO(typed);
    for (int i = 0; i < slash_count; i++)
        nearest_consider(&near, slash_commands[i].name);
    if (hits)
        lade_fail(err, "/%.*s: could be more than one command; choose %s", n, name, names);
    else if (near.name && n)
        lade_fail(err, "/%s: there is no such command; did you mean /%s?", typed, near.name);
    else
        lade_fail(err,
                  "/%.*s: there is no such command; /help lists them, // sends a text that "
                  "begins with /",
                  n, name);
    return NULL;
}

void slash_run(struct chat *c, const char *line)
{
    char err[LADE_ERR];
    int n = name_length(line);
    const struct slash_command *s = slash_find(line + 1, n - 1, err);
    const char *args = line + n + strspn(line + n, " ");
    if (s && !*s->args && *args) {
        lade_fail(err, "/%s: takes nothing after it; leave out '%.40s'", s->name, args);
        s = NULL;
    }
    if (!s || s->run(c, args, err) != 0)
        chat_say(c, ENTRY_ERROR, "%s", err);
    c->dirty = true;
}

void slash_complete(struct chat *c, const char *line, struct menu *out, int *from)
{
    menu_clear(out);
    *from = 0;
    if (!slash_is_command(line))
        return;
    int n = name_length(line);
    if (!line[n]) {
        char text[64];
        for (int i = 0; i < slash_count; i++) {
            snprintf(text, sizeof text, "/%s", slash_commands[i].name);
            menu_offer(out, line, text, slash_commands[i].help);
        }
        return;
    }
    const struct slash_command *s = slash_find(line + 1, n - 1, NULL);
    const char *args = line + n + strspn(line + n, " ");
    if (!s || !s->complete)
        return;
    const char *word = strrchr(args, ' ');
    *from = (int)((word ? word + 1 : args) - line);
    s->complete(c, args, out);
}
