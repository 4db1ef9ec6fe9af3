/* options_table.h - the tables behind options.h: what there is to type. Only the files options*.c
 * read it. */
#ifndef LADE_TUI_OPTIONS_TABLE_H
#define LADE_TUI_OPTIONS_TABLE_H

#include <stddef.h>

#include "tui/options.h"

struct command_row {
    const char *name, *args, *summary;
    int most_args;    /* positional */
    const char *more; /* lines under the options; NULL = none */
};

enum { ANY_ARGS = 1 << 30 };

enum option_kind {
    OPTION_FLAG,          /* bool field becomes true */
    OPTION_SET,           /* int field becomes `value` */
    OPTION_INT,           /* int field */
    OPTION_U64,           /* uint64_t field */
    OPTION_REAL,          /* double field */
    OPTION_CARDS,         /* struct options_cards field: numbers with commas between them */
    OPTION_TEXT,          /* const char * field */
    OPTION_STOP,          /* struct lade_stop_texts field: one more of them */
    OPTION_RESUME,        /* an optional number */
    OPTION_LOAD_STRATEGY, /* the three words of another loader */
    OPTION_IGNORED,       /* accepted, needs nothing */
    OPTION_COMMAND,       /* --version and the like: another command, `value` */
};

enum { MAY_BE_EMPTY = 1 };

/* Beside the commands of an option: it is of a model that runs on this machine. */
#define OPTION_HERE (1U << 31)

struct option_row {
    const char *name;
    char letter; /* 0 = none */
    enum option_kind kind;
    unsigned commands; /* that take it, and OPTION_HERE */
    size_t field;
    const char *arg;  /* of the help; NULL = takes none */
    const char *help; /* NULL = another spelling, listed below the options */
    double low, high; /* of a number */
    double initial;   /* of a number; text and flags begin as NULL and false */
    int value;        /* SET, COMMAND; TEXT: MAY_BE_EMPTY or 0 */
};

extern const struct command_row options_commands[N_COMMANDS];
extern const struct option_row options_rows[];
extern const int options_n_rows;

/* The words of OPTION_LOAD_STRATEGY, then NULL: the first is --cpu, the others leave it to the plan, which
 * uses what GPU there is. */
extern const char *const options_load_words[];

/* True if `command` takes the option. */
static inline bool options_takes(enum command command, const struct option_row *row)
{
    return (row->commands & (1U << command)) != 0;
}

#endif
