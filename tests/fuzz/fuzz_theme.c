/* Theme files from anywhere: any bytes are a theme or a message. */
#include <stdlib.h>
#include <string.h>

#include "tui/theme_file.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct theme_file f;
    char err[LADE_ERR] = "";
    if (theme_parse(&f, "fuzz.theme", (const char *)data, size, err) != 0 && !*err)
        abort();
    if (strchr(err, '\n'))
        abort();
    return 0;
}
