/* cmd.h - commands without a screen. Each takes the parsed command line, prints its result on
 * stdout and errors on stderr, and returns the exit code. */
#ifndef LADE_TUI_CMD_CMD_H
#define LADE_TUI_CMD_CMD_H

#include "tui/options.h"

int cmd_run(const struct options *o);
int cmd_serve(const struct options *o);
int cmd_logits(const struct options *o);
int cmd_tokenize(const struct options *o);
int cmd_detokenize(const struct options *o);
int cmd_inspect(const struct options *o);
int cmd_pack(const struct options *o);
int cmd_plan(const struct options *o);
int cmd_models(const struct options *o);
int cmd_pull(const struct options *o);
int cmd_bench(const struct options *o);
int cmd_history(const struct options *o);
int cmd_doctor(const struct options *o);
int cmd_help(const struct options *o);
int cmd_version(const struct options *o);

#endif
