/* key_file.h - the secret that a server and its clients share, in a file: on a command line everybody
 * could read it. */
#ifndef LADE_TUI_KEY_FILE_H
#define LADE_TUI_KEY_FILE_H

#include "kernels/error.h"

enum { KEY_FILE_MAX = 512 };

/* The first line of a file ("-": standard input): printable ASCII without blanks. */
int key_file_read(const char *path, char out[KEY_FILE_MAX], char *err);

#endif
