/* file.h - small helpers for the files of a checkpoint. */
#ifndef LADE_CHECKPOINT_FILE_H
#define LADE_CHECKPOINT_FILE_H

#include <stddef.h>

#include "kernels/error.h"

/* Reads a whole file of at most `limit` bytes into *text, which the caller frees and which has a
 * zero byte after it. Fails with errno ENOENT where the file does not exist. */
int lade_file_read(const char *path, size_t limit, char **text, size_t *len, char *err);

/* "DIR/FILE" as a new string, or NULL without memory. */
char *lade_path_join(const char *dir, const char *file);

/* Makes the directories that a file's path needs, for the user alone. What fails shows when the file
 * is written. */
void lade_make_parents(const char *path);

/* The part of a path after its last slash. */
const char *lade_path_base(const char *path);

#endif
