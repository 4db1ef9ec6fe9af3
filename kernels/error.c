#include "kernels/error.h"

#include <stdarg.h>
#include <stdio.h>

int lade_fail(char *err, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err, LADE_ERR, fmt, ap);
        va_end(ap);
    }
    return -1;
}
