#include "tui/key_file.h"

#include <stdlib.h>
#include <string.h>

#include "tui/output.h"

int key_file_read(const char *path, char out[KEY_FILE_MAX], char *err)
{
    enum { FILE_MAX = 64 << 10 };
    size_t len;
    char *text = output_read(path, FILE_MAX, &len, err);
    if (!text)
        return -1;
    const size_t n = strcspn(text, "\r\n");
    bool usable = n > 0 && n < KEY_FILE_MAX;
    for (size_t i = 0; usable && i < n; i++)
        usable = text[i] > ' ' && text[i] <= '~';
    if (usable) {
        memcpy(out, text, n);
        out[n] = '\0';
    }
    free(text);
    return usable
               ? 0
               : lade_fail(err,
                           "--key-file %s: its first line is no key; write one there, of letters "
                           "and digits, at most %d",
                           path, KEY_FILE_MAX - 1);
}
