/* bandwidth.h - how fast this machine reads memory. */
#ifndef LADE_TUI_CMD_BANDWIDTH_H
#define LADE_TUI_CMD_BANDWIDTH_H

/* Reads a few hundred MB from RAM with `threads` threads, several times, and returns the best rate
 * in GB/s (10^9 bytes), 0 if there is no memory for it. Takes about a second. */
double bandwidth_measure(int threads);

#endif
