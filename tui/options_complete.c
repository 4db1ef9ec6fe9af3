/* What shells complete, from the same tables as the help. */
#include <string.h>

#include "engine/plan/plan.h"
#include "engine/plan/strategies.h"
#include "tui/options_table.h"
#include "tui/theme_entry.h"

/* ---- values ------------------------------------------------------------------------------------ */

static const char *strategy(int i)
{
    return i == 0 ? "auto" : i <= lade_n_strategies ? lade_strategies[i - 1].name : NULL;
}

static const char *isa(int i)
{
    return options_isas[i];
}

static const char *storage(int i)
{
    return i < LADE_N_STORAGE ? lade_storage_name((enum lade_storage)i) : NULL;
}

static const char *load_strategy(int i)
{
    return options_load_words[i];
}

static const char *theme(int i)
{
    enum { MOST = 32 };
    static struct theme_entry all[MOST];
    static int n = -1;
    if (n < 0)
        n = theme_list(all, MOST);
    return i < n ? all[i].name : NULL;
}

/* Options whose value is one of some words; `word` gives them one by one, then NULL. */
static const struct choice {
    const char *option;
    const char *(*word)(int i);
} choices[] = {
    {"strategy", strategy},           {"isa", isa}, {"storage", storage}, {"theme", theme},
    {"load-strategy", load_strategy},
};
enum { N_CHOICES = sizeof choices / sizeof *choices };

static const struct choice *choice_of(const struct option_row *row)
{
    for (int i = 0; i < N_CHOICES; i++)
        if (!strcmp(row->name, choices[i].option))
            return &choices[i];
    return NULL;
}

static void put_words(FILE *out, const struct choice *c)
{
    const char *word;
    for (int i = 0; (word = c->word(i)); i++)
        fprintf(out, "%s%s", i ? " " : "", word);
}

static bool may_be_file(const struct option_row *row)
{
    return row->kind == OPTION_TEXT;
}

/* ---- bash -------------------------------------------------------------------------------------- */

static void put_names(FILE *out, enum command command)
{
    fprintf(out, "        %s) options='", options_commands[command].name);
    for (int i = 0; i < options_n_rows; i++)
        if (options_takes(command, &options_rows[i]))
            fprintf(out, "--%s ", options_rows[i].name);
    fputs("' ;;\n", out);
}

void options_bash(FILE *out)
{
    fputs("# bash completion for lade, made by lade help --bash\n"
          "_lade() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD-2]}\n"
          "    [[ $word == = ]] && word=\n"
          "    local command=chat options= values=\n"
          "    local commands='",
          out);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "%s ", options_commands[i].name);
    fputs("'\n"
          "    [[ $COMP_CWORD -gt 1 && ${COMP_WORDS[1]} != -* ]] && command=${COMP_WORDS[1]}\n"
          "    case $command in\n",
          out);
    for (int i = 0; i < N_COMMANDS; i++)
        put_names(out, (enum command)i);
    fputs("    esac\n"
          "    case $before in\n",
          out);
    for (int i = 0; i < N_CHOICES; i++) {
        fprintf(out, "        --%s) values='", choices[i].option);
        put_words(out, &choices[i]);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n"
          "    if [[ $word == -* ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
          "    elif [[ -n $values ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$values\" -- \"$word\"))\n"
          "    elif [[ $before == -m || $before == --model ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$(lade models 2>/dev/null |\n"
          "            awk '/ready$/ {print $1}')\" -- \"$word\")\n"
          "            $(compgen -f -- \"$word\"))\n"
          "    elif [[ $COMP_CWORD -eq 1 || $command == help ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$commands\" -- \"$word\"))\n"
          "    else\n"
          "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
          "    fi\n"
          "}\n"
          "complete -o filenames -F _lade lade\n",
          out);
}

/* ---- zsh and fish ------------------------------------------------------------------------------ */

/* Text between single quotes that stand around it already. `also` is escaped by a backslash; a quote as
 * the shell wants it. */
static void put_quoted(FILE *out, const char *text, const char *also, const char *quote)
{
    for (; *text; text++) {
        if (*text == '\'') {
            fputs(quote, out);
            continue;
        }
        if (strchr(also, *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

static const char *what(const struct option_row *row)
{
    return row->help ? row->help : "another spelling";
}

static void put_zsh(FILE *out, const char *text)
{
    put_quoted(out, text, "[]:\\", "'\\''");
}

static void put_zsh_value(FILE *out, const struct option_row *row)
{
    const struct choice *c = choice_of(row);
    fputc(':', out);
    put_zsh(out, row->arg);
    if (c) {
        fputs(":(", out);
        put_words(out, c);
        fputc(')', out);
    } else {
        fputs(!strcmp(row->name, "model") ? ":_lade_models"
              : may_be_file(row)          ? ":_files"
                                          : ": ",
              out);
    }
}

static void put_zsh_option(FILE *out, const struct option_row *row, const char *dashes,
                           const char *name, const char *glue)
{
    fprintf(out, " \\\n            '%s%s%s%s[", row->kind == OPTION_STOP ? "*" : "", dashes, name,
            row->arg && row->kind != OPTION_RESUME ? glue : "");
    put_zsh(out, what(row));
    fputc(']', out);
    if (row->arg && row->kind != OPTION_RESUME)
        put_zsh_value(out, row);
    fputc('\'', out);
}

void options_zsh(FILE *out)
{
    fputs("#compdef lade\n"
          "# zsh completion for lade, made by lade help --zsh\n"
          "_lade_models() {\n"
          "    local -a found\n"
          "    found=(${(f)\"$(lade models 2>/dev/null | awk '/ready$/ {print $1}')\"})\n"
          "    compadd -a found\n"
          "    _files\n"
          "}\n"
          "_lade() {\n"
          "    local command=chat\n"
          "    local -a commands\n"
          "    commands=(\n",
          out);
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(out, "        '%s:", options_commands[i].name);
        put_zsh(out, options_commands[i].summary);
        fputs("'\n", out);
    }
    fputs("    )\n"
          "    (( CURRENT > 2 )) && [[ $words[2] != -* ]] && command=$words[2]\n"
          "    if [[ $words[CURRENT] != -* ]] && (( CURRENT == 2 || CURRENT == 3 )) &&\n"
          "        [[ $CURRENT == 2 || $command == help ]]; then\n"
          "        _describe command commands\n"
          "        return\n"
          "    fi\n"
          "    case $command in\n",
          out);
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(out, "        %s) _arguments -s", options_commands[i].name);
        for (int k = 0; k < options_n_rows; k++) {
            const struct option_row *row = &options_rows[k];
            const char letter[] = {row->letter, '\0'};
            if (!options_takes((enum command)i, row))
                continue;
            if (row->letter)
                put_zsh_option(out, row, "-", letter, "+");
            put_zsh_option(out, row, "--", row->name, "=");
        }
        fputs(" \\\n            '*:file:_files' ;;\n", out);
    }
    fputs("    esac\n"
          "}\n"
          "if [[ $funcstack[1] == _lade ]]; then _lade \"$@\"; else compdef _lade lade; fi\n",
          out);
}

static void put_fish(FILE *out, const char *text)
{
    put_quoted(out, text, "\\", "\\'");
}

static void put_fish_option(FILE *out, enum command command, const struct option_row *row)
{
    fprintf(out, "complete -c lade -n '%s__fish_seen_subcommand_from %s' -l %s",
            command == COMMAND_CHAT ? "__fish_use_subcommand; or " : "",
            options_commands[command].name, row->name);
    if (row->letter)
        fprintf(out, " -s %c", row->letter);
    const struct choice *c = choice_of(row);
    if (row->arg && row->kind != OPTION_RESUME)
        fputs(c || !may_be_file(row) ? " -x" : " -r", out);
    if (!strcmp(row->name, "model"))
        fputs(" -a '(lade models 2>/dev/null | awk \"/ready\\$/ {print \\$1}\")'", out);
    if (c) {
        fputs(" -a '", out);
        put_words(out, c);
        fputc('\'', out);
    }
    fputs(" -d '", out);
    put_fish(out, what(row));
    fputs("'\n", out);
}

void options_fish(FILE *out)
{
    fputs("# fish completion for lade, made by lade help --fish\n", out);
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(out,
                "complete -c lade -f -n '__fish_use_subcommand; or __fish_seen_subcommand_from "
                "help' -a %s -d '",
                options_commands[i].name);
        put_fish(out, options_commands[i].summary);
        fputs("'\n", out);
    }
    for (int i = 0; i < N_COMMANDS; i++)
        for (int k = 0; k < options_n_rows; k++)
            if (options_takes((enum command)i, &options_rows[k]))
                put_fish_option(out, (enum command)i, &options_rows[k]);
}
