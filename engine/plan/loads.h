/* loads.h - how fast the loads before this one were.
 *
 * What a load waits for cannot all be measured beforehand: beside the drive and the packing it is memory
 * that is touched for the first time, which on a virtual machine the hypervisor may have to find, at a
 * tenth of memory's speed or not at all, as it has been given before; and the opening of the files. So the
 * speeds of loads from the same drive, of the same kind of weights, are kept by their size: small loads
 * wait longer for the opening, large ones reach memory that nobody has touched. */
#ifndef LADE_PLAN_LOADS_H
#define LADE_PLAN_LOADS_H

enum { LADE_LOADS = 96 }; /* sizes, four to an octave, from 1 MiB on */

struct lade_loads {
    double gbps
        [LADE_LOADS]; /* bytes of files over seconds until everything was home; 0 = none was seen */
};

/* The class of a load of so many bytes; -1 of one that is too small to tell anything. */
int lade_loads_class(double bytes);

/* The smallest load of a class, as an exponent of two. */
double lade_loads_exponent(int i);

/* Notes that a load took so long. Of several of one size the later ones count more. */
void lade_loads_note(struct lade_loads *loads, double bytes, double seconds);

/* GB/s that a load of so many bytes may reach, as those nearest in size have, at most twice as large or
 * half as large; 0 where there were none. Pure. */
double lade_loads_speed(const struct lade_loads *loads, double bytes);

#endif
