#include "engine/plan/loads.h"

#include <math.h>

enum { OCTAVE = 4, SMALLEST = 20 /* exponent */, NEAR = OCTAVE };

int lade_loads_class(double bytes)
{
    double i = bytes > 0 ? floor(OCTAVE * (log2(bytes) - SMALLEST)) : -1;
    return i < 0 ? -1 : i < LADE_LOADS ? (int)i : LADE_LOADS - 1;
}

double lade_loads_exponent(int i)
{
    return SMALLEST + (double)i / OCTAVE;
}

void lade_loads_note(struct lade_loads *loads, double bytes, double seconds)
{
    int i = lade_loads_class(bytes);
    if (i < 0 || !(seconds > 0))
        return;
    double now = seconds / bytes * 1e9, before = loads->gbps[i];
    loads->gbps[i] = 1 / (before > 0 ? (now + 1 / before) / 2 : now);
}

double lade_loads_speed(const struct lade_loads *loads, double bytes)
{
    int at = lade_loads_class(bytes);
    for (int away = 0; at >= 0 && away <= NEAR; away++) {
        double smaller = at >= away ? loads->gbps[at - away] : 0;
        double larger = at + away < LADE_LOADS ? loads->gbps[at + away] : 0;
        if (smaller > 0 && larger > 0)
            return 2 / (1 / smaller + 1 / larger);
        if (smaller > 0 || larger > 0)
            return smaller > 0 ? smaller : larger;
    }
    return 0;
}
