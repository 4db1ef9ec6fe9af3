#include "tui/meters/units.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

static bool known(double v)
{
    return isfinite(v) && v >= 0;
}

static char *unknown(char *out)
{
    snprintf(out, UNITS_MAX, "%s", UNITS_UNKNOWN);
    return out;
}

/* Three significant digits, so that a column of numbers keeps its width: 4.80, 43.2, 512. */
static int digits(double v)
{
    return v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
}

struct scale {
    const char *unit;
    double size;
    double from; /* first value shown in this unit */
};

static const struct scale MEMORY[] = {
    {"TiB", 0x1p40, 0x1p40}, {"GiB", 0x1p30, 0x1p30}, {"MiB", 0x1p20, 0x1p20}, {"KiB", 0x1p10, 0}};
static const struct scale FILES[] = {
    {"TB", 1e12, 0.9995e12}, {"GB", 1e9, 0.9995e9}, {"MB", 1e6, 0.9995e6}, {"kB", 1e3, 0}};

static const struct scale *pick(const struct scale *s, double v)
{
    while (v < s->from)
        s++;
    return s;
}

static char *sized(char *out, const struct scale *table, double bytes, int big)
{
    if (!known(bytes))
        return unknown(out);
    const struct scale *s = pick(table, bytes);
    /* Below the second unit of the table fractions are noise. */
    int d = s - table < 2 ? digits(bytes / s->size) : 0;
    snprintf(out, UNITS_MAX, "%.*f %s", d < big ? d : big, bytes / s->size, s->unit);
    return out;
}

char *units_memory(char out[UNITS_MAX], double bytes)
{
    return sized(out, MEMORY, bytes, 1);
}

char *units_file(char out[UNITS_MAX], double bytes)
{
    return sized(out, FILES, bytes, 2);
}

char *units_rate(char out[UNITS_MAX], double gbps)
{
    if (!known(gbps))
        return unknown(out);
    if (gbps >= 0.0995)
        snprintf(out, UNITS_MAX, "%.*f GB/s", digits(gbps), gbps);
    else
        snprintf(out, UNITS_MAX, "%.*f MB/s", gbps > 0 && gbps < 0.00995, gbps * 1e3);
    return out;
}

char *units_duration(char out[UNITS_MAX], double seconds)
{
    if (!known(seconds) || seconds > 3e9)
        return unknown(out);
    long s = lround(seconds);
    if (s < 3600)
        snprintf(out, UNITS_MAX, "%ld:%02ld", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, UNITS_MAX, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, UNITS_MAX, "%ldd %02ldh", s / 86400, s / 3600 % 24);
    return out;
}

char *units_seconds(char out[UNITS_MAX], double seconds)
{
    if (!known(seconds))
        return unknown(out);
    if (seconds < 0.9995)
        snprintf(out, UNITS_MAX, "%.*f ms", seconds > 0 && seconds < 0.00095, seconds * 1e3);
    else if (seconds < 59.95)
        snprintf(out, UNITS_MAX, "%.1f s", seconds);
    else if (seconds < 599.5)
        snprintf(out, UNITS_MAX, "%.0f s", seconds);
    else
        units_duration(out, seconds);
    return out;
}

char *units_speed(char out[UNITS_MAX], double tps)
{
    if (!known(tps))
        return unknown(out);
    if (tps < 9999.5)
        snprintf(out, UNITS_MAX, "%.*f", digits(tps), tps);
    else
        snprintf(out, UNITS_MAX, "%.0fk", tps / 1e3);
    return out;
}

char *units_count(char out[UNITS_MAX], double n)
{
    if (!known(n))
        return unknown(out);
    if (n < 99999.5)
        snprintf(out, UNITS_MAX, "%.0f", n);
    else if (n < 999500)
        snprintf(out, UNITS_MAX, "%.0fk", n / 1e3);
    else
        snprintf(out, UNITS_MAX, "%.1fM", n / 1e6);
    return out;
}

char *units_percent(char out[UNITS_MAX], double fraction)
{
    if (!known(fraction))
        return unknown(out);
    /* Rounding up to 100 would promise what is not so; 0.29 * 100 is a little less than 29. */
    double p = fraction >= 1 ? 100 : floor(fraction * 100 + 1e-9);
    snprintf(out, UNITS_MAX, "%.0f%%", p);
    return out;
}

const char *units_s(double n)
{
    return n == 1 ? "" : "s";
}

char *units_memory_of(char out[UNITS_MAX], double used, double total)
{
    if (!known(total))
        return units_memory(out, used);
    const struct scale *s = pick(MEMORY, total);
    int d = s - MEMORY < 2 ? 1 : 0;
    if (known(used))
        snprintf(out, UNITS_MAX, "%.*f/%.*f %s", d, used / s->size, d, total / s->size, s->unit);
    else
        snprintf(out, UNITS_MAX, "%s/%.*f %s", UNITS_UNKNOWN, d, total / s->size, s->unit);
    return out;
}

char *units_file_of(char out[UNITS_MAX], double done, double all)
{
    if (!known(all) || !known(done))
        return units_file(out, done);
    const struct scale *s = pick(FILES, all);
    int d = s - FILES < 2;
    snprintf(out, UNITS_MAX, "%.*f of %.*f %s", d ? digits(done / s->size) : 0, done / s->size,
             d ? digits(all / s->size) : 0, all / s->size, s->unit);
    return out;
}
