/* slash.h - the commands of the chat: one table, one entry each.
 *
 * The table makes the help, the completions and the parsing. Commands are grouped into files by
 * what they are about; each is a function that gets what follows the name. */
#ifndef LADE_TUI_SLASH_SLASH_H
#define LADE_TUI_SLASH_SLASH_H

#include <stdbool.h>

#include "tui/chat.h"

struct slash_command {
    const char *name, *alias; /* without '/'; alias may be NULL */
    const char *args;         /* for the help: "[NAME]"; "" = takes none */
    const char *help;
    /* Returns -1 with a line for the person in err. `args` has no blanks around it. */
    int (*run)(struct chat *c, const char *args, char *err);
    /* Offers what could stand for the argument typed so far; may be NULL. */
    void (*complete)(struct chat *c, const char *args, struct menu *out);
};

extern const struct slash_command slash_commands[];
extern const int slash_count;

/* A line is a command if its first word is '/' and letters, or '/' alone. "//x" is not, nor is a
 * path like /usr/bin. Only one line. */
bool slash_is_command(const char *line);

/* The command called name[0..n): exactly, by alias, or by a beginning that only one has. NULL with
 * a line in err. */
const struct slash_command *slash_find(const char *name, int n, char *err);

/* Runs a line; errors are said in the transcript. */
void slash_run(struct chat *c, const char *line);

/* Fills `out` with what the typed line could become; it is emptied first. Items hold the text of
 * the word at the end of the line; *from is where that word begins. */
void slash_complete(struct chat *c, const char *line, struct menu *out, int *from);

/* ---- the commands, for the table -------------------------------------------------------------- */

int slash_help(struct chat *c, const char *args, char *err);
int slash_stats(struct chat *c, const char *args, char *err);
int slash_pull(struct chat *c, const char *args, char *err);
int slash_copy(struct chat *c, const char *args, char *err);
int slash_mouse(struct chat *c, const char *args, char *err);
int slash_quit(struct chat *c, const char *args, char *err);

int slash_new(struct chat *c, const char *args, char *err);
int slash_resume(struct chat *c, const char *args, char *err);
int slash_rename(struct chat *c, const char *args, char *err);
int slash_delete(struct chat *c, const char *args, char *err);
int slash_retry(struct chat *c, const char *args, char *err);
int slash_edit(struct chat *c, const char *args, char *err);
int slash_fork(struct chat *c, const char *args, char *err);
int slash_branch(struct chat *c, const char *args, char *err);
void slash_branch_complete(struct chat *c, const char *args, struct menu *out);
int slash_export(struct chat *c, const char *args, char *err);

int slash_theme(struct chat *c, const char *args, char *err);
int slash_think(struct chat *c, const char *args, char *err);
int slash_set(struct chat *c, const char *args, char *err);
void slash_theme_complete(struct chat *c, const char *args, struct menu *out);
void slash_think_complete(struct chat *c, const char *args, struct menu *out);
void slash_set_complete(struct chat *c, const char *args, struct menu *out);
void slash_copy_complete(struct chat *c, const char *args, struct menu *out);
void slash_mouse_complete(struct chat *c, const char *args, struct menu *out);

/* Shows a theme; errors are said in the transcript. Makes the one shown the default. */
void slash_theme_show(struct chat *c, const char *name);
void slash_theme_keep(struct chat *c);

/* Shows how far the download is, if there is one; stops it and takes its notice away. */
void slash_pull_tick(struct chat *c);
void slash_pull_end(struct chat *c);

int slash_plan(struct chat *c, const char *args, char *err);
int slash_strategy(struct chat *c, const char *args, char *err);
int slash_anatomy(struct chat *c, const char *args, char *err);
void slash_strategy_complete(struct chat *c, const char *args, struct menu *out);
void slash_anatomy_complete(struct chat *c, const char *args, struct menu *out);

/* Keys while the panel of /plan is open; see view/strategies.h. */
void slash_strategies_key(struct chat *c, const struct keys_event *ev);

/* Adds text to a cell of a Markdown table, so that it looks as it is written. */
void slash_put_cell(struct buf *b, const char *text);

/* "today 14:03", "yesterday", "12 Nov", "12 Nov 2025". */
void slash_date(char out[PICKER_CELL], int64_t ms);

/* Keys while a picker is open; see picker.h. */
void slash_picker_key(struct chat *c, const struct keys_event *ev, int page);

#endif
