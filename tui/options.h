/* options.h - the command line: one table of commands, one of options.
 *
 * The tables generate the usage, the help of each command and the hints after a typing error. A
 * command comes first (`lade run -m MODEL`); without one it is `chat`. Options may stand in any
 * order after it, as `--name VALUE`, `--name=VALUE`, `-n VALUE` or `-nVALUE`; `--` ends them. */
#ifndef LADE_TUI_OPTIONS_H
#define LADE_TUI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/engine.h"

enum command {
    COMMAND_CHAT,
    COMMAND_RUN,
    COMMAND_SERVE,
    COMMAND_LOGITS,
    COMMAND_TOKENIZE,
    COMMAND_DETOKENIZE,
    COMMAND_INSPECT,
    COMMAND_PACK,
    COMMAND_PLAN,
    COMMAND_MODELS,
    COMMAND_PULL,
    COMMAND_BENCH,
    COMMAND_HISTORY,
    COMMAND_DOCTOR,
    COMMAND_HELP,
    COMMAND_VERSION,
    N_COMMANDS
};

/* Exit codes. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

enum options_precision { PRECISION_UNSET, PRECISION_EXACT, PRECISION_FAST };
enum options_help_as { HELP_TEXT, HELP_MAN, HELP_BASH, HELP_ZSH, HELP_FISH };
enum options_think { THINK_UNSET, THINK_YES, THINK_NO };

/* "20" or "24,16": a size for each GPU, or one for all of them. */
struct options_cards {
    double gib[LADE_CARDS];
    int n; /* 0 = not given */
};

/* Strings are those of argv: they live as long as the process. Options that a command does not take
 * keep the value given here. */
struct options {
    enum command command;

    const char *model;    /* as typed, NULL = the default; see model_path.h */
    const char *here;     /* name of an option of a model that runs here; NULL = none given */
    const char *strategy; /* NULL = auto */
    struct options_cards gpu_memory; /* 0 = what the machine has */
    double cpu_memory;               /* GiB, 0 = what the machine has */
    bool cpu, no_lookahead, no_draft;
    int context, threads, batch; /* 0 = default */
    bool kv_q8;
    const char *isa;    /* NULL = best */
    const char *plugin; /* NULL = the one that is installed, if there is one */
    int precision;      /* enum options_precision */

    /* Sampling; NAN and -1 = the model's own. */
    double temperature, top_p, min_p, repetition_penalty;
    int top_k;
    uint64_t seed; /* 0 = from the clock */
    bool greedy;
    struct lade_stop_texts stop;
    int think;          /* enum options_think */
    const char *system; /* NULL = none */

    const char *prompt; /* run: text, "-" = stdin; NULL = none, see question.h */
    int tokens;         /* run: most tokens, 0 = until it stops; bench: tokens to decode */
    bool show_thinking, json;

    const char *host;     /* serve; NULL = the loopback */
    int port;             /* serve: 0 = a free one */
    const char *key_file; /* of the server that -m names, and serve's; NULL = none */

    const char *ids;    /* logits: "1 2 3" */
    bool all;           /* logits: every position; models: other architectures too */
    const char *output; /* -o: NULL = none, "-" = stdout */
    bool special;       /* tokenize: special tokens in the text are tokens */

    bool mirror; /* pack: everything in every directory */

    struct options_cards vram; /* plan; a single 0 = no GPU */
    double ram;                /* plan: GiB, NAN = what this machine has */
    const char *storage;       /* plan: nvme, ssd, hdd, raid0; NULL = nvme */

    int prefill, repeat; /* bench */
    const char *depths;  /* bench: "0,4096" */

    const char *revision; /* pull: NULL = main */
    int connections;      /* pull: files at a time */

    bool resume;       /* chat: go on with a conversation */
    int64_t resume_id; /* 0 = the last */
    const char *theme; /* chat; NULL = the saved one */

    bool markdown; /* history export */
    bool branches; /* history show, export --markdown */
    int limit;     /* history list and search: -1 = all */

    char **args; /* what is left: positional arguments */
    int n_args;

    bool help;   /* --help stands for the command's work */
    int help_as; /* help: enum options_help_as */
};

/* The instruction sets that --isa knows, the best first, NULL at the end. */
extern const char *const options_isas[];

/* Reads the command line. Returns 0, or -1 with a line for the user (exit code EXIT_USAGE); o->json
 * then says whether it asks for an object. */
int options_parse(struct options *o, int argc, char **argv, char *err);

/* Help of one command; COMMAND_HELP: the overview. */
void options_help(FILE *out, enum command command);

/* The manual page (troff), and what shells read to complete. */
void options_man(FILE *out);
void options_bash(FILE *out);
void options_zsh(FILE *out);
void options_fish(FILE *out);

/* The command called `name`, or -1 with what was perhaps meant in err (may be NULL). */
int options_find_command(const char *name, char *err);

/* What the engine is to open: `model` is a directory that outlives the call. Exact arithmetic is
 * used if asked for, or unasked if `exact_default`. */
void options_engine(const struct options *o, const char *model, bool exact_default,
                    struct lade_options *out);

/* The same for a plan: caps, and where the plug-in and measured speeds are. */
void options_caps(const struct options *o, struct lade_plan_caps *out);

/* Puts what the user chose over the model's defaults. */
void options_sampling(const struct options *o, struct lade_sampling *s);

#endif
