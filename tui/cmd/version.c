#include <stdio.h>

#include "tui/cmd/cmd.h"
#include "tui/version.h"

int cmd_version(const struct options *o)
{
    (void)o;
    printf("lade %s\n", LADE_VERSION);
    return EXIT_DONE;
}
