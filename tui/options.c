#include "tui/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- commands -------------------------------------------------------------------------------- */

struct command_row {
    const char *name, *args, *summary;
    int most_args;    /* positional */
    const char *more; /* lines under the options; NULL = none */
};

enum { ANY_ARGS = 1 << 30 };

static const struct command_row commands[N_COMMANDS] = {
    [COMMAND_CHAT] = {"chat", "", "talk with a model on the whole screen (the default)", 0, NULL},
    [COMMAND_RUN] = {"run", "-p TEXT|-", "one answer to standard output", 0,
                     "The answer alone goes to standard output. Reasoning is left out unless\n"
                     "--show-thinking; then it comes between <think> and </think>.\n"
                     "Ctrl-C stops the answer and ends with code 130.\n"},
    [COMMAND_LOGITS] = {"logits", "--ids \"1 2 3\"", "float32 logits of the last or of all tokens",
                        0,
                        "With -o: raw little-endian float32, [vocabulary] or with --all\n"
                        "[tokens][vocabulary]. Without: the ten highest, as text.\n"
                        "Arithmetic is exact unless --fast.\n"},
    [COMMAND_TOKENIZE] = {"tokenize", "", "text on standard input to ids", 0, NULL},
    [COMMAND_DETOKENIZE] = {"detokenize", "", "ids on standard input to text", 0, NULL},
    [COMMAND_INSPECT] = {"inspect", "", "what a checkpoint holds, without loading it", 0, NULL},
    [COMMAND_PLAN] = {"plan", "", "which strategy fits a machine, with predicted numbers", 0,
                      "Without -m: the INT4-mixed 80B. Without --vram and --ram: this machine.\n"},
    [COMMAND_MODELS] = {"models", "", "the models that this machine has, by name", 0,
                        "Looks into lade's own models directory, the Hugging Face hub cache, and\n"
                        "those of llama.cpp, LM Studio and ollama. Each name, or a beginning that\n"
                        "only one has, stands for MODEL everywhere.\n"},
    [COMMAND_PULL] =
        {"pull", "ORG/NAME[:QUANT|:FILE]", "fetch a model from the Hugging Face hub", 1,
         "  pull ORG/NAME               safetensors, or the only GGUF model\n"
         "  pull ORG/NAME:Q4_K_M        a GGUF model by its quantization\n"
         "  pull ORG/NAME:FILE.gguf     or by a file (all parts of a split come)\n"
         "Into the models directory; the path goes to standard output. What was interrupted\n"
         "goes on where it stopped; every file is checked. HF_TOKEN opens private and gated\n"
         "repositories, HF_ENDPOINT names another server.\n"},
    [COMMAND_BENCH] = {"bench", "", "measure loading, prefill and decode", 0, NULL},
    [COMMAND_HISTORY] =
        {"history", "list|show|search|rename|export|import|delete [ARGS]", "saved conversations",
         ANY_ARGS,
         "  list [TITLE]        newest first; only those whose title has TITLE in it\n"
         "  show ID             the conversation as text\n"
         "  search WORDS        messages and titles that have all the words\n"
         "  rename ID TITLE\n"
         "  export [ID]         as JSON (or --markdown); all without ID\n"
         "  import FILE|-       an exported JSON file\n"
         "  delete ID...        for good\n"},
    [COMMAND_DOCTOR] = {"doctor", "", "what this machine has and what is missing", 0, NULL},
    [COMMAND_HELP] = {"help", "[COMMAND]", "this text, or that of a command", 1, NULL},
    [COMMAND_VERSION] = {"version", "", "version and build", 0, NULL},
};

/* ---- options --------------------------------------------------------------------------------- */

enum option_kind {
    OPTION_FLAG,          /* bool field becomes true */
    OPTION_SET,           /* int field becomes `value` */
    OPTION_INT,           /* int field */
    OPTION_U64,           /* uint64_t field */
    OPTION_REAL,          /* double field */
    OPTION_TEXT,          /* const char * field */
    OPTION_RESUME,        /* an optional number */
    OPTION_LOAD_STRATEGY, /* the three words of another loader */
    OPTION_IGNORED,       /* accepted, needs nothing */
    OPTION_COMMAND,       /* --version and the like: another command, `value` */
};

/* Sets of commands. */
#define IN(c) (1U << COMMAND_##c)
#define EVERY ((1U << N_COMMANDS) - 1)
#define LOADS (IN(CHAT) | IN(RUN) | IN(LOGITS) | IN(BENCH))
#define PLANS (LOADS | IN(PLAN))
#define NAMES (PLANS | IN(TOKENIZE) | IN(DETOKENIZE) | IN(INSPECT))
#define ASKS  (IN(CHAT) | IN(RUN))
#define HAS_JSON                                                                                   \
    (IN(RUN) | IN(LOGITS) | IN(PLAN) | IN(MODELS) | IN(PULL) | IN(INSPECT) | IN(BENCH) |           \
     IN(HISTORY) | IN(DOCTOR))

struct option_row {
    const char *name;
    char letter; /* 0 = none */
    enum option_kind kind;
    unsigned commands; /* that take it */
    size_t field;
    const char *arg;  /* of the help; NULL = takes none */
    const char *help; /* NULL = another spelling, listed below the options */
    double low, high; /* of a number */
    double initial;   /* of a number; text and flags begin as NULL and false */
    int value;        /* SET, COMMAND */
};

#define FIELD(f) offsetof(struct options, f)
#define GIB_MAX  1048576.0

static const struct option_row rows[] = {
    {"model", 'm', OPTION_TEXT, NAMES, FIELD(model), "MODEL",
     "directory or .gguf file, or a name that lade models lists", 0, 0, 0, 0},

    {"prompt", 'p', OPTION_TEXT, IN(RUN), FIELD(prompt), "TEXT|-",
     "what to ask; - reads standard input", 0, 0, 0, 0},
    {"system", 's', OPTION_TEXT, ASKS, FIELD(system), "TEXT", "system message", 0, 0, 0, 0},
    {"tokens", 'n', OPTION_INT, ASKS, FIELD(tokens), "N",
     "at most N tokens an answer; 0 = until it stops by itself", 0, 1e9, 0, 0},
    {"greedy", 0, OPTION_FLAG, ASKS, FIELD(greedy), NULL, "always the likeliest token", 0, 0, 0, 0},
    {"seed", 0, OPTION_U64, ASKS, FIELD(seed), "S", "of the sampling; 0 = from the clock", 0, 0, 0,
     0},
    {"temperature", 't', OPTION_REAL, ASKS, FIELD(temperature), "T",
     "0 = greedy; default the model's own", 0, 100, NAN, 0},
    {"top-k", 0, OPTION_INT, ASKS, FIELD(top_k), "K", "from the K likeliest; 0 = all", 0, 1e9, -1,
     0},
    {"top-p", 0, OPTION_REAL, ASKS, FIELD(top_p), "P", "from the likeliest that make up P", 0, 1,
     NAN, 0},
    {"min-p", 0, OPTION_REAL, ASKS, FIELD(min_p), "P",
     "from those at least P times as likely as the first", 0, 1, NAN, 0},
    {"repetition-penalty", 0, OPTION_REAL, ASKS, FIELD(repetition_penalty), "R",
     "against repeating; 1 = off", 0.1, 10, NAN, 0},
    {"think", 0, OPTION_SET, ASKS, FIELD(think), NULL, "let the model reason first, if it can", 0,
     0, 0, THINK_YES},
    {"no-think", 0, OPTION_SET, ASKS, FIELD(think), NULL, "do not let it reason", 0, 0, 0,
     THINK_NO},
    {"show-thinking", 0, OPTION_FLAG, IN(RUN), FIELD(show_thinking), NULL,
     "print the reasoning too", 0, 0, 0, 0},

    {"ids", 0, OPTION_TEXT, IN(LOGITS), FIELD(ids), "\"1 2 3\"", "token ids", 0, 0, 0, 0},
    {"all", 0, OPTION_FLAG, IN(LOGITS), FIELD(all), NULL, "every position, not only the last", 0, 0,
     0, 0},
    {"all", 0, OPTION_FLAG, IN(MODELS), FIELD(all), NULL, "also those that lade cannot run", 0, 0,
     0, 0},
    {"revision", 0, OPTION_TEXT, IN(PULL), FIELD(revision), "REV",
     "branch, tag or commit; default main", 0, 0, 0, 0},
    {"connections", 0, OPTION_INT, IN(PULL), FIELD(connections), "N", "files at a time", 1, 16, 4,
     0},
    {"special", 0, OPTION_FLAG, IN(TOKENIZE), FIELD(special), NULL,
     "special tokens written in the text are tokens", 0, 0, 0, 0},

    {"vram", 0, OPTION_REAL, IN(PLAN), FIELD(vram), "GiB", "plan for this much VRAM", 0, GIB_MAX,
     NAN, 0},
    {"ram", 0, OPTION_REAL, IN(PLAN), FIELD(ram), "GiB", "plan for this much RAM", 0, GIB_MAX, NAN,
     0},
    {"storage", 0, OPTION_TEXT, IN(PLAN), FIELD(storage), "KIND", "nvme, ssd, hdd or raid0", 0, 0,
     0, 0},

    {"prefill", 'p', OPTION_INT, IN(BENCH), FIELD(prefill), "N", "tokens to prefill; 0 = none", 0,
     1e7, 512, 0},
    {"tokens", 'n', OPTION_INT, IN(BENCH), FIELD(tokens), "N", "tokens to decode; 0 = none", 0, 1e7,
     64, 0},
    {"repeat", 'r', OPTION_INT, IN(BENCH), FIELD(repeat), "R", "repetitions", 1, 1000, 3, 0},
    {"depth", 'd', OPTION_TEXT, IN(BENCH), FIELD(depths), "N[,N...]",
     "tokens on the timeline before each measurement", 0, 0, 0, 0},

    {"resume", 'r', OPTION_RESUME, IN(CHAT), FIELD(resume_id), "[ID]",
     "go on with conversation ID, or with the last", 0, 0, 0, 0},
    {"theme", 0, OPTION_TEXT, IN(CHAT), FIELD(theme), "NAME", "colours", 0, 0, 0, 0},

    {"output", 'o', OPTION_TEXT, IN(LOGITS) | IN(HISTORY), FIELD(output), "FILE|-",
     "write to FILE; - is standard output", 0, 0, 0, 0},
    {"markdown", 0, OPTION_FLAG, IN(HISTORY), FIELD(markdown), NULL, "export for people to read", 0,
     0, 0, 0},
    {"limit", 'l', OPTION_INT, IN(HISTORY), FIELD(limit), "N", "list or find at most N; -1 = all",
     -1, 1e9, 20, 0},
    {"json", 0, OPTION_FLAG, HAS_JSON, FIELD(json), NULL, "print JSON", 0, 0, 0, 0},

    {"strategy", 0, OPTION_TEXT, PLANS, FIELD(strategy), "NAME|auto", "where the weights live", 0,
     0, 0, 0},
    {"gpu-memory", 0, OPTION_REAL, LOADS, FIELD(gpu_memory), "GiB",
     "use at most this much of the GPU's; default all that is free", 0, GIB_MAX, 0, 0},
    {"cpu-memory", 0, OPTION_REAL, LOADS, FIELD(cpu_memory), "GiB",
     "use at most this much RAM; default all that is free", 0, GIB_MAX, 0, 0},
    {"cpu", 0, OPTION_FLAG, LOADS, FIELD(cpu), NULL, "do not use a GPU", 0, 0, 0, 0},
    {"context", 'c', OPTION_INT, PLANS, FIELD(context), "N",
     "tokens a conversation may have; 0 = what model and memory allow", 0, 1e9, 0, 0},
    {"threads", 0, OPTION_INT, LOADS, FIELD(threads), "N", "default: the physical cores", 0, 4096,
     0, 0},
    {"batch", 0, OPTION_INT, LOADS, FIELD(batch), "N", "tokens of a prompt computed at once", 0,
     1e6, 0, 0},
    {"isa", 0, OPTION_TEXT, LOADS, FIELD(isa), "NAME",
     "instruction set: portable, avx2, avx512; default the best", 0, 0, 0, 0},
    {"exact", 0, OPTION_SET, LOADS, FIELD(precision), NULL, "32-bit floats everywhere", 0, 0, 0,
     PRECISION_EXACT},
    {"fast", 0, OPTION_SET, LOADS, FIELD(precision), NULL,
     "rounded activations where that is faster", 0, 0, 0, PRECISION_FAST},
    {"help", 'h', OPTION_FLAG, EVERY, FIELD(help), NULL, "this text", 0, 0, 0, 0},

    /* Other spellings, so that command lines of other programs for this model work. */
    {"max-tokens", 0, OPTION_INT, ASKS, FIELD(tokens), "N", NULL, 0, 1e9, 0, 0},
    {"thinking", 0, OPTION_SET, ASKS, FIELD(think), NULL, NULL, 0, 0, 0, THINK_YES},
    {"load-strategy", 0, OPTION_LOAD_STRATEGY, LOADS, FIELD(strategy), "no-gpu|min-gpu|max-gpu",
     NULL, 0, 0, 0, 0},
    {"use-gptq", 0, OPTION_IGNORED, LOADS, 0, NULL, NULL, 0, 0, 0, 0},
    {"dry-run", 0, OPTION_COMMAND, LOADS, 0, NULL, NULL, 0, 0, 0, COMMAND_PLAN},
    {"check", 0, OPTION_COMMAND, IN(CHAT), 0, NULL, NULL, 0, 0, 0, COMMAND_DOCTOR},
    {"version", 'V', OPTION_COMMAND, IN(CHAT), 0, NULL, NULL, 0, 0, 0, COMMAND_VERSION},
};
enum { N_ROWS = sizeof(rows) / sizeof(*rows) };

/* ---- hints ----------------------------------------------------------------------------------- */

enum { NAME_MAX_LEN = 32 };

/* Edits (insert, delete, replace, swap of neighbours) from a to b. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b);
    int d[NAME_MAX_LEN + 1][NAME_MAX_LEN + 1];
    if (n > NAME_MAX_LEN || m > NAME_MAX_LEN)
        return NAME_MAX_LEN;
    for (int i = 0; i <= n; i++) {
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

/* Keeps the nearer of two names; a third of the letters may be wrong. */
static void consider(const char *typed, const char *name, const char **nearest, int *best)
{
    int d = distance(typed, name);
    if (strncmp(typed, name, strlen(typed)) == 0 && strlen(typed) > 1)
        d = 1; /* cut short */
    if (d < *best && d <= (int)strlen(name) / 3 + 1) {
        *best = d;
        *nearest = name;
    }
}

const char *options_command_name(enum command command)
{
    return commands[command].name;
}

int options_find_command(const char *name, const char **nearest)
{
    const char *near = NULL;
    int best = NAME_MAX_LEN;
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return i;
        consider(name, commands[i].name, &near, &best);
    }
    if (nearest)
        *nearest = near;
    return -1;
}

static int fail_unknown(enum command command, const char *typed, char *err)
{
    const char *near = NULL, *elsewhere = NULL;
    int best = NAME_MAX_LEN;
    for (int i = 0; i < N_ROWS; i++) {
        if (rows[i].commands & (1U << command))
            consider(typed, rows[i].name, &near, &best);
        else if (strcmp(typed, rows[i].name) == 0)
            elsewhere = rows[i].name;
    }
    const char *name = commands[command].name;
    if (elsewhere)
        return lade_fail(err, "--%s: is not an option of %s; see lade help %s", typed, name, name);
    if (near)
        return lade_fail(err, "--%s: there is no such option; did you mean --%s?", typed, near);
    return lade_fail(err, "--%s: there is no such option; see lade help %s", typed, name);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int fail_range(const struct option_row *row, const char *text, char *err)
{
    return lade_fail(err, "--%s %s: is not a number from %g to %g; see --help", row->name, text,
                     row->low, row->high);
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

static int parse_u64(const struct option_row *row, const char *text, uint64_t *out, char *err)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno)
        return lade_fail(err, "--%s %s: is not a whole number; see --help", row->name, text);
    return 0;
}

/* The three words: no-gpu is --cpu; the others leave it to the plan, which uses what GPU there is. */
static int parse_load_strategy(struct options *o, const char *text, char *err)
{
    if (strcmp(text, "no-gpu") == 0)
        o->cpu = true;
    else if (strcmp(text, "min-gpu") != 0 && strcmp(text, "max-gpu") != 0)
        return lade_fail(err,
                         "--load-strategy %s: is none of no-gpu, min-gpu, max-gpu; use "
                         "--strategy for others",
                         text);
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
           row->kind == OPTION_TEXT || row->kind == OPTION_LOAD_STRATEGY;
}

/* `text` is "" where there is no value. */
static int store(struct options *o, const struct option_row *row, const char *text, char *err)
{
    void *field = (char *)o + row->field;
    double number = 0;
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
    case OPTION_U64:
        return parse_u64(row, text, field, err);
    case OPTION_TEXT:
        *(const char **)field = text;
        return 0;
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
    for (int i = 0; i < N_ROWS; i++) {
        if ((rows[i].commands & (1U << command)) && strncmp(rows[i].name, name, len) == 0 &&
            !rows[i].name[len])
            return &rows[i];
    }
    return NULL;
}

static const struct option_row *find_letter(enum command command, char letter)
{
    for (int i = 0; i < N_ROWS; i++) {
        if (rows[i].letter == letter && (rows[i].commands & (1U << command)))
            return &rows[i];
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
                             commands[l->command].name);
        if (!attached)
            attached = l->argv[++l->at];
    } else if (attached) {
        return lade_fail(err, "--%s: takes no value; see lade help %s", row->name,
                         commands[l->command].name);
    }
    return store(o, row, attached ? attached : "", err);
}

static int read_long(struct options *o, struct line *l, const char *name, char *err)
{
    size_t len = strcspn(name, "=");
    const struct option_row *row = find_name(l->command, name, len);
    if (row)
        return read_option(o, l, row, name[len] ? name + len + 1 : NULL, err);
    char typed[NAME_MAX_LEN + 1];
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
                             commands[l->command].name);
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
    if (o->n_args >= commands[l->command].most_args) {
        if (options_find_command(arg, NULL) >= 0)
            return lade_fail(err, "%s: stands after the options; write lade %s first", arg, arg);
        return lade_fail(err, "%s: is one argument too many for %s; see lade help %s", arg,
                         commands[l->command].name, commands[l->command].name);
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
                          .vram = NAN,
                          .ram = NAN,
                          .limit = -1};
}

static void set_defaults(struct options *o)
{
    for (int i = 0; i < N_ROWS; i++) {
        const struct option_row *row = &rows[i];
        void *field = (char *)o + row->field;
        if (!(row->commands & (1U << o->command)) || !row->help)
            continue;
        if (row->kind == OPTION_INT)
            *(int *)field = (int)row->initial;
        else if (row->kind == OPTION_REAL)
            *(double *)field = row->initial;
    }
}

static int choose_command(struct options *o, struct line *l, char *err)
{
    const char *near = NULL;
    if (l->argc < 2 || l->argv[1][0] == '-')
        return 0;
    int found = options_find_command(l->argv[1], &near);
    if (found < 0 && near)
        return lade_fail(err, "%s: there is no such command; did you mean %s?", l->argv[1], near);
    if (found < 0)
        return lade_fail(err, "%s: there is no such command; see lade help", l->argv[1]);
    l->command = o->command = (enum command)found;
    l->at++;
    return 0;
}

int options_parse(struct options *o, int argc, char **argv, char *err)
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
    if (o->help && l.command == COMMAND_CHAT && (argc < 2 || strcmp(argv[1], "chat") != 0))
        o->command = COMMAND_HELP; /* lade --help: the overview */
    return 0;
}

/* ---- help ------------------------------------------------------------------------------------ */

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
    for (int i = 0; i < N_ROWS; i++) {
        const struct option_row *row = &rows[i];
        if (!(row->commands & (1U << command)) || row->help)
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
        fprintf(out, "  %-12s%s\n", commands[i].name, commands[i].summary);
    fputs("\nlade help COMMAND shows its options. Exit codes: 0 done, 1 failed, 2 wrong usage.\n",
          out);
}

void options_help(FILE *out, enum command command)
{
    const struct command_row *c = &commands[command];
    if (command == COMMAND_HELP) {
        print_overview(out);
        return;
    }
    fprintf(out, "usage: lade %s%s%s [OPTIONS]\n\n%s\n\n", c->name, *c->args ? " " : "", c->args,
            c->summary);
    for (int i = 0; i < N_ROWS; i++) {
        if ((rows[i].commands & (1U << command)) && rows[i].help)
            print_row(out, &rows[i]);
    }
    print_spellings(out, command);
    if (c->more)
        fprintf(out, "\n%s", c->more);
}

/* ---- for the engine -------------------------------------------------------------------------- */

void options_engine(const struct options *o, const char *model, bool exact_default,
                    struct lade_options *out)
{
    const double gib = 1024.0 * 1024 * 1024;
    *out = (struct lade_options){
        .model = model,
        .strategy = o->strategy,
        .vram_cap = (size_t)(o->gpu_memory * gib),
        .ram_cap = (size_t)(o->cpu_memory * gib),
        .cpu_only = o->cpu,
        .exact = o->precision ? o->precision == PRECISION_EXACT : exact_default,
        .threads = o->threads,
        .context = o->context,
        .isa = o->isa,
        .batch = o->batch,
    };
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
}
