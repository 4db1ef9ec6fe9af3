/* paths.h - where lade keeps its files.
 *
 *     config   themes, settings      $LADE_HOME, $XDG_CONFIG_HOME/lade, ~/.config/lade
 *     data     history.db, models    $LADE_HOME, $XDG_DATA_HOME/lade,   ~/.local/share/lade
 *     cache    what can be remade    $LADE_HOME/cache, $XDG_CACHE_HOME/lade, ~/.cache/lade
 *
 * Relative XDG directories are ignored, as their specification asks; a relative LADE_HOME counts
 * from the working directory. Nothing is created here. */
#ifndef LADE_TUI_PATHS_H
#define LADE_TUI_PATHS_H

#include <limits.h>
#include <stdbool.h>

#include "kernels/error.h"

enum paths_kind { PATHS_CONFIG, PATHS_DATA, PATHS_CACHE };

/* Writes the directory, without a slash at its end. Fails if there is no home directory or the
 * path is too long. */
int paths_dir(enum paths_kind kind, char out[PATH_MAX], char *err);

/* DIR/NAME. */
int paths_file(enum paths_kind kind, const char *name, char out[PATH_MAX], char *err);

/* The conversations: the data directory's history.db. */
int paths_history(char out[PATH_MAX], char *err);

/* What the engine keeps of each model's last conversation: the cache's timelines. */
int paths_timelines(char out[PATH_MAX], char *err);

/* A path whose first character may be '@', the directory of the running program, or '%', the prefix
 * it was made for: where to look for what is installed. False if it is unknown or too long. */
bool paths_expand(const char *pattern, char out[PATH_MAX]);

/* The GPU plug-in beside the program or installed; false if there is none. */
bool paths_plugin(char out[PATH_MAX]);

/* The user's home directory; NULL if it is not known. Static. */
const char *paths_home(void);

#endif
