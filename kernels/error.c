#include "kernels/error.h"

#include <stdarg.h>
#include <stdio.h>

void lade_set_error(char *err, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err, LADE_ERR, fmt, ap);
        va_end(ap);
        for (char *p = err; *p; p++)
            if ((unsigned char)*p < ' ' || *p == 127)
                *p = '?';
    }
}
