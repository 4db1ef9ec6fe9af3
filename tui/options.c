#include "tui/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/plan/strategies.h"
#include "engine/remote/address.h"
#include "tui/nearest.h"
#include "tui/options_table.h"
#include "tui/paths.h"
#include "tui/stop.h"

/* ---- names ----------------------------------------------------------------------------------- */

int options_find_command(const char *name, char *err)
{
    struct nearest near = NEAREST_TO(name);
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(options_commands[i].name, name) == 0)
            return i;
        nearest_consider(&near, options_commands[i].name);
    }
    return near.name
               ? lade_fail(err, "%s: there is no such command; did you mean %s?", name, near.name)
               : lade_fail(err, "%s: there is no such command; see lade help", name);
}

static int fail_unknown(enum command command, const char *typed, char *err)
{
    const char *elsewhere = NULL;
    struct nearest near = NEAREST_TO(typed);
    for (int i = 0; i < options_n_rows; i++) {
        if (options_takes(command, &options_rows[i]))
            nearest_consider(&near, options_rows[i].name);
        else if (strcmp(typed, options_rows[i].name) == 0)
            elsewhere = options_rows[i].name;
    }
    const char *name = options_commands[command].name;
    if (elsewhere)
        return lade_fail(err, "--%s: is not an option of %s; see lade help %s", typed, name, name);
    if (near.name)
        return lade_fail(err, "--%s: there is no such option; did you mean --%s?", typed,
                         near.name);
    return lade_fail(err, "--%s: there is no such option; see lade help %s", typed, name);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int fail_range(const struct option_row *row, const char *text, char *err)
{
    return lade_fail(err, "--%s %s: is not a %s from %.10g to %.10g; see --help", row->name, text,
                     row->kind == OPTION_INT ? "whole number" : "number", row->low, row->high);
}

static int parse_number(const struct option_row *row, const char *text, double *out, char *err)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    if (end == text || *end || errno || !(*out >= row->low && *out <= row->high) ||
        (row->kind == OPTION_INT && *out != floor(*out)))
        return fail_range(row, text, err);
    return 0;
}

/* One number, or several of which none is 0. */
static int parse_cards(const struct option_row *row, const char *text, struct options_cards *out,
                       char *err)
{
    char one[32];
    out->n = 0;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ",");
        if (out->n == LADE_CARDS || len >= sizeof one)
            return lade_fail(err, "--%s %s: is no list of at most %d numbers; see --help",
                             row->name, text, LADE_CARDS);
        snprintf(one, sizeof one, "%.*s", (int)len, at);
        if (parse_number(row, one, &out->gib[out->n++], err))
            return -1;
        if (out->n > 1 && !(out->gib[out->n - 1] > 0 && out->gib[0] > 0))
            return lade_fail(err, "--%s %s: 0 may only stand alone; leave it out, or see --help",
                             row->name, text);
        at += len;
        if (!*at)
            return 0;
    }
}

static int parse_u64(const struct option_row *row, const char *text, uint64_t *out, char *err)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno)
        return lade_fail(err, "--%s %s: is not a whole number; see --help", row->name, text);
    return 0;
}

static int parse_load_strategy(struct options *o, const char *text, char *err)
{
    const char *const *words = options_load_words;
    int i = 0;
    while (words[i] && strcmp(text, words[i]) != 0)
        i++;
    if (!words[i])
        return lade_fail(err,
                         "--load-strategy %s: is none of %s, %s, %s; use --strategy for others",
                         text, words[0], words[1], words[2]);
    o->cpu |= i == 0;
    o->strategy = NULL;
    return 0;
}

static bool is_number(const char *s)
{
    return s && *s && strspn(s, "0123456789") == strlen(s);
}

static bool takes_value(const struct option_row *row)
{
    return row->kind == OPTION_INT || row->kind == OPTION_U64 || row->kind == OPTION_REAL ||
           row->kind == OPTION_CARDS || row->kind == OPTION_TEXT || row->kind == OPTION_STOP ||
           row->kind == OPTION_LOAD_STRATEGY;
}

/* `text` is "" where there is no value. */
static int store(struct options *o, const struct option_row *row, const char *text, char *err)
{
    void *field = (char *)o + row->field;
    double number = 0;
    if (row->commands & OPTION_HERE)
        o->here = row->name;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return 0;
    case OPTION_SET:
        *(int *)field = row->value;
        return 0;
    case OPTION_COMMAND:
        o->command = (enum command)row->value;
        return 0;
    case OPTION_IGNORED:
        return 0;
    case OPTION_INT:
        if (parse_number(row, text, &number, err))
            return -1;
        *(int *)field = (int)number;
        return 0;
    case OPTION_REAL:
        if (parse_number(row, text, &number, err))
            return -1;
        *(double *)field = number;
        return 0;
    case OPTION_CARDS:
        return parse_cards(row, text, field, err);
    case OPTION_U64:
        return parse_u64(row, text, field, err);
    case OPTION_TEXT:
        if (!*text && row->value != MAY_BE_EMPTY)
            return lade_fail(err, "--%s: is empty; give %s", row->name, row->arg);
        *(const char **)field = text;
        return 0;
    case OPTION_STOP:
        return stop_add(field, "--stop", text, strlen(text), err);
    case OPTION_RESUME:
        o->resume = true;
        return *text ? parse_u64(row, text, (uint64_t *)&o->resume_id, err) : 0;
    case OPTION_LOAD_STRATEGY:
        return parse_load_strategy(o, text, err);
    }
    return 0;
}

/* ---- the line -------------------------------------------------------------------------------- */

static const struct option_row *find_name(enum command command, const char *name, size_t len)
{
    for (int i = 0; i < options_n_rows; i++) {
        if (options_takes(command, &options_rows[i]) &&
            strncmp(options_rows[i].name, name, len) == 0 && !options_rows[i].name[len])
            return &options_rows[i];
    }
    return NULL;
}

static const struct option_row *find_letter(enum command command, char letter)
{
    for (int i = 0; i < options_n_rows; i++) {
        if (options_rows[i].letter == letter && options_takes(command, &options_rows[i]))
            return &options_rows[i];
    }
    return NULL;
}

struct line {
    int argc, at; /* at: the argument being read */
    char **argv;
    enum command command; /* as typed: --version must not change what may follow */
};

/* The value of an option: `attached` (after '=' or the letter), or the next argument. */
static int read_option(struct options *o, struct line *l, const struct option_row *row,
                       const char *attached, char *err)
{
    if (row->kind == OPTION_RESUME) {
        if (!attached && l->at + 1 < l->argc && is_number(l->argv[l->at + 1]))
            attached = l->argv[++l->at];
    } else if (takes_value(row)) {
        if (!attached && l->at + 1 >= l->argc)
            return lade_fail(err, "--%s: needs a value: %s; see lade help %s", row->name, row->arg,
                             options_commands[l->command].name);
        if (!attached)
            attached = l->argv[++l->at];
    } else if (attached) {
        return lade_fail(err, "--%s: takes no value; see lade help %s", row->name,
                         options_commands[l->command].name);
    }
    return store(o, row, attached ? attached : "", err);
}

static int read_long(struct options *o, struct line *l, const char *name, char *err)
{
    size_t len = strcspn(name, "=");
    const struct option_row *row = find_name(l->command, name, len);
    if (row)
        return read_option(o, l, row, name[len] ? name + len + 1 : NULL, err);
    char typed[NEAREST_LETTERS + 2]; /* so that what is cut is not near, either */
    snprintf(typed, sizeof(typed), "%.*s", (int)len, name);
    return fail_unknown(l->command, typed, err);
}

/* -n5, -n 5; flags may be joined: -hV. */
static int read_letters(struct options *o, struct line *l, const char *letters, char *err)
{
    for (const char *p = letters; *p; p++) {
        const struct option_row *row = find_letter(l->command, *p);
        if (!row)
            return lade_fail(err, "-%c: there is no such option; see lade help %s", *p,
                             options_commands[l->command].name);
        bool value = takes_value(row) || row->kind == OPTION_RESUME;
        if (read_option(o, l, row, value && p[1] ? p + 1 : NULL, err))
            return -1;
        if (value)
            return 0;
    }
    return 0;
}

static int add_argument(struct options *o, const struct line *l, char *arg, char *err)
{
    if (!*arg)
        return lade_fail(err, "an argument is empty; see lade help %s",
                         options_commands[l->command].name);
    if (o->n_args >= options_commands[l->command].most_args) {
        if (o->resume && !o->resume_id)
            return lade_fail(err,
                             "--resume %s: is not the number of a conversation; see lade "
                             "history list",
                             arg);
        if (options_find_command(arg, NULL) >= 0)
            return lade_fail(err, "%s: stands after the options; write lade %s first", arg, arg);
        return lade_fail(err, "%s: is one argument too many for %s; see lade help %s", arg,
                         options_commands[l->command].name, options_commands[l->command].name);
    }
    o->args[o->n_args++] = arg;
    return 0;
}

static void set_initial(struct options *o)
{
    *o = (struct options){.temperature = NAN,
                          .top_p = NAN,
                          .min_p = NAN,
                          .repetition_penalty = NAN,
                          .top_k = -1,
                          .ram = NAN,
                          .limit = -1};
}

static void set_defaults(struct options *o)
{
    for (int i = 0; i < options_n_rows; i++) {
        const struct option_row *row = &options_rows[i];
        void *field = (char *)o + row->field;
        if (!options_takes(o->command, row) || !row->help)
            continue;
        if (row->kind == OPTION_INT)
            *(int *)field = (int)row->initial;
        else if (row->kind == OPTION_REAL)
            *(double *)field = row->initial;
    }
}

static int choose_command(struct options *o, struct line *l, char *err)
{
    if (l->argc < 2 || l->argv[1][0] == '-')
        return 0;
    int found = options_find_command(l->argv[1], err);
    if (found < 0)
        return -1;
    l->command = o->command = (enum command)found;
    l->at++;
    return 0;
}

static int check_strategy(const char *name, char *err)
{
    if (!name || !strcmp(name, "auto") || lade_strategy_find(name) >= 0)
        return 0;
    struct nearest near = NEAREST_TO(name);
    for (int i = 0; i < lade_n_strategies; i++)
        nearest_consider(&near, lade_strategies[i].name);
    return near.name
               ? lade_fail(err, "--strategy %s: is not a strategy; did you mean %s?", name,
                           near.name)
               : lade_fail(err, "--strategy %s: is not a strategy; `lade plan` lists them", name);
}

/* Whether this machine has it is the engine's business. */
static int check_isa(const char *name, char *err)
{
    for (const char *const *isa = options_isas; name && *isa; isa++)
        if (!strcmp(name, *isa))
            return 0;
    return name
               ? lade_fail(err, "--isa %s: is not an instruction set; lade doctor lists them", name)
               : 0;
}

/* What is said of a model goes with where it runs: here, or behind a server. */
static int check_place(const struct options *o, char *err)
{
    const bool remote = lade_remote_is(o->model);
    const bool named = o->strategy && !strcmp(o->strategy, "remote");
    struct lade_remote_address address;
    if (!remote && named)
        return lade_fail(err, "--strategy remote: needs the address of a server; give it with "
                              "-m http://HOST:PORT");
    if (!remote && o->key_file && !o->resume && o->command != COMMAND_SERVE)
        return lade_fail(err, "--key-file: is for a server; name it with -m http://HOST:PORT");
    if (!remote)
        return 0;
    if (lade_remote_address(&address, o->model, err))
        return -1;
    if (o->command != COMMAND_CHAT && o->command != COMMAND_RUN && o->command != COMMAND_PLAN)
        return lade_fail(err,
                         "-m %.100s: is a server, and lade %s needs the files of a model; give a "
                         "directory, a .gguf file or a name",
                         o->model, options_commands[o->command].name);
    if (o->here)
        return lade_fail(err,
                         "--%s: is for models that run on this machine, and -m names a server; "
                         "leave it out",
                         o->here);
    return o->strategy && strcmp(o->strategy, "auto") != 0 && !named
               ? lade_fail(err,
                           "--strategy %s: the server that -m names decides that; leave it out",
                           o->strategy)
               : 0;
}

static int check_values(const struct options *o, char *err)
{
    bool exact = o->precision ? o->precision == PRECISION_EXACT : o->command == COMMAND_LOGITS;
    if (o->plugin && access(o->plugin, R_OK))
        return lade_fail(err, "--gpu-plugin %s: %s; give the path of lade-cuda.so", o->plugin,
                         strerror(errno));
    if (o->kv_q8 && exact)
        return lade_fail(err, "--kv-q8: exact arithmetic keeps 32 bits of keys and values; add "
                              "--fast, or leave it out");
    return check_strategy(o->strategy, err) || check_isa(o->isa, err) || check_place(o, err) ? -1
                                                                                             : 0;
}

static int parse(struct options *o, int argc, char **argv, char *err)
{
    struct line l = {.argc = argc, .at = 1, .argv = argv, .command = COMMAND_CHAT};
    set_initial(o);
    if (choose_command(o, &l, err))
        return -1;
    set_defaults(o);
    o->args = argv; /* positional arguments move to the front; they never pass the reader */
    bool open = true;
    for (; l.at < argc; l.at++) {
        char *arg = argv[l.at];
        int rc;
        if (open && strcmp(arg, "--") == 0) {
            open = false;
            continue;
        }
        if (open && strncmp(arg, "--", 2) == 0)
            rc = read_long(o, &l, arg + 2, err);
        else if (open && arg[0] == '-' && arg[1])
            rc = read_letters(o, &l, arg + 1, err);
        else
            rc = add_argument(o, &l, arg, err);
        if (rc)
            return -1;
    }
    if (check_values(o, err))
        return -1;
    if (o->command == COMMAND_PLAN && l.command != COMMAND_PLAN && !o->model)
        o->model = "bundled"; /* --dry-run: what would be opened */
    if (o->help && l.command == COMMAND_CHAT && (argc < 2 || strcmp(argv[1], "chat") != 0))
        o->command = COMMAND_HELP; /* lade --help: the overview */
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, char *err)
{
    if (parse(o, argc, argv, err) == 0)
        return 0;
    /* The error is an object too where --json stands after it. */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        o->json |= strcmp(argv[i], "--json") == 0;
    return -1;
}

/* ---- for the engine -------------------------------------------------------------------------- */

static const double gib = 1024.0 * 1024 * 1024;

/* Neither changes while the program runs. */
static const char *plugin_path(const struct options *o)
{
    static char path[PATH_MAX];
    return o->plugin ? o->plugin : paths_plugin(path) ? path : NULL;
}

static const char *cache_path(void)
{
    static char path[PATH_MAX];
    return paths_dir(PATHS_CACHE, path, NULL) == 0 ? path : NULL;
}

static void card_bytes(uint64_t out[LADE_CARDS], const struct options_cards *list)
{
    for (int i = 0; i < list->n; i++)
        out[i] = (uint64_t)(list->gib[i] * gib);
}

void options_caps(const struct options *o, struct lade_plan_caps *out)
{
    *out = (struct lade_plan_caps){
        .ram = (uint64_t)(o->cpu_memory * gib),
        .cpu_only = o->cpu,
        .strategy = o->strategy,
        .context = o->context,
        .batch = o->batch,
        .exact = o->precision == PRECISION_EXACT,
        .kv_q8 = o->kv_q8,
        .no_draft = o->no_draft || o->precision == PRECISION_EXACT,
        .threads = o->threads,
        .isa = o->isa,
        .plugin = plugin_path(o),
        .cache_dir = cache_path(),
    };
    card_bytes(out->vram, &o->gpu_memory);
}

void options_engine(const struct options *o, const char *model, bool exact_default,
                    struct lade_options *out)
{
    *out = (struct lade_options){
        .model = model,
        .strategy = o->strategy,
        .ram_cap = (size_t)(o->cpu_memory * gib),
        .cpu_only = o->cpu,
        .exact = o->precision ? o->precision == PRECISION_EXACT : exact_default,
        .kv_q8 = o->kv_q8,
        .threads = o->threads,
        .context = o->context,
        .isa = o->isa,
        .batch = o->batch,
        .no_lookahead = o->no_lookahead,
        .no_draft = o->no_draft,
        .plugin = plugin_path(o),
        .cache_dir = cache_path(),
    };
    card_bytes(out->vram_cap, &o->gpu_memory);
}

void options_sampling(const struct options *o, struct lade_sampling *s)
{
    if (!isnan(o->temperature))
        s->temperature = (float)o->temperature;
    if (!isnan(o->top_p))
        s->top_p = (float)o->top_p;
    if (!isnan(o->min_p))
        s->min_p = (float)o->min_p;
    if (!isnan(o->repetition_penalty))
        s->repetition_penalty = (float)o->repetition_penalty;
    if (o->top_k >= 0)
        s->top_k = o->top_k;
    if (o->greedy)
        s->temperature = 0;
    if (o->seed)
        s->seed = o->seed;
    s->stop = o->stop;
}
