/* file.h - small helpers for the files of a checkpoint. */
#ifndef LADE_CHECKPOINT_FILE_H
#define LADE_CHECKPOINT_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/error.h"

/* Reads a whole file of at most `limit` bytes into *text, which the caller frees and which has a
 * zero byte after it. Fails with errno ENOENT where the file does not exist. */
int lade_file_read(const char *path, size_t limit, char **text, size_t *len, char *err);

/* Opens a file of weights to read some of it: a descriptor, or -1 with errno. Nothing beyond what is
 * read comes to the page cache. Else a load finds there what read-ahead has brought, takes it, with
 * which it asks for more, and so on: at the page cache's speed, not at the drive's. */
int lade_file_open(const char *path);

/* "DIR/FILE" as a new string, or NULL without memory. */
char *lade_path_join(const char *dir, const char *file);

/* Makes the directories that a file needs (its path shorter than PATH_MAX), for the user alone. What
 * cannot be made shows when the file is opened. */
void lade_make_parents(const char *path);

/* Makes `path` (shorter than PATH_MAX) a file of that content, and the directories that it needs, for
 * the user alone. Whoever else writes and whenever the power goes, a whole file takes the place of a
 * whole file; where this fails, the old one stays. */
int lade_file_replace(const char *path, const void *data, size_t len, char *err);

/* The part of a path after its last slash. */
const char *lade_path_base(const char *path);

#endif
