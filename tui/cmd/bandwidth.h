/* bandwidth.h - how fast this machine reads memory, asked for again and again.
 *
 * The answer changes with what other programs and, on a rented machine, other tenants do, so it is
 * of use only next to what it is compared with. It is measured in a process of its own, because
 * its memory would count as ours at the peak. */
#ifndef LADE_TUI_CMD_BANDWIDTH_H
#define LADE_TUI_CMD_BANDWIDTH_H

struct bandwidth;

/* Starts the process, which reads with `threads` threads; before other threads are started. NULL
 * if it cannot be had. */
struct bandwidth *bandwidth_open(int threads);

/* Reads half a GB from RAM a few times and returns the best rate in GB/s (10^9 bytes), 0 if there
 * is no memory for it. Takes about a tenth of a second. `b` may be NULL. */
double bandwidth_measure(struct bandwidth *b);

/* Ends the process. `b` may be NULL. */
void bandwidth_close(struct bandwidth *b);

#endif
