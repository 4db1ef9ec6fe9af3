/* question.h - what `lade run` is to ask, put together from the command line and standard input. */
#ifndef LADE_TUI_CMD_QUESTION_H
#define LADE_TUI_CMD_QUESTION_H

#include "tui/options.h"

/* Other programs write `run MODEL "QUESTION"`. Where a word and a text with blanks are all there is, and
 * neither -m nor -p, the word becomes the model; elsewhere a first word that names a model is refused,
 * because it may be a part of the question. So is one that looks like a name or a file of a model, of which
 * there is none: another one's answer is not what was asked for. Returns as question_read does. */
int question_model(struct options *o, char *err);

/* The text of -p and the arguments after it, with blanks between them; "-" is standard input, set off
 * by empty lines. Without either it is standard input, unless that is a terminal. *out is malloc'ed,
 * NULL on failure. Returns EXIT_DONE, or EXIT_USAGE or EXIT_FAILED with a line for the user. */
int question_read(char **out, const struct options *o, char *err);

#endif
