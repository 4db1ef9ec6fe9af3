/* model_path.h - from what the user calls a model to where it lies. */
#ifndef LADE_TUI_MODEL_PATH_H
#define LADE_TUI_MODEL_PATH_H

#include <limits.h>
#include <stdbool.h>

#include "kernels/error.h"

/* `name` is the address of a server (engine/remote/address.h), which stays as it is, or a path, or the
 * name of a directory in the data directory's models/ (paths.h), or a name that `lade models` lists
 * (engine/hub/find.h: exact, or the only beginning of one), or NULL for the bundled model. What it finds
 * exists; whether it is a model the engine says. */
int model_path_resolve(const char *name, char out[PATH_MAX], char *err);

/* Makes a path that another run may find from elsewhere; links in it stay, and so do addresses. */
int model_path_absolute(char path[PATH_MAX], char *err);

/* Whether `word` is what somebody calls a model of this machine: such a name, or a path at which a
 * checkpoint seems to be. */
bool model_path_names(const char *word);

#endif
