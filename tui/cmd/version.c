#include <stdio.h>

#include "tui/cmd/cmd.h"
#include "tui/version.h"

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

int cmd_version(const struct options *o)
{
    (void)o;
    printf("lade %s, built with %s for %s\n", LADE_VERSION, COMPILER, LADE_PREFIX);
    return EXIT_DONE;
}
