/* bandwidth.h - how fast this machine reads memory, asked for again and again.
 *
 * The answer changes within tenths of a second with what other programs and, on a rented machine,
 * other tenants do, so it is of use only next to what it is compared with: a mean of moments in
 * between, not the best of a later one. It is measured in a process of its own, because its memory
 * would count as ours at the peak. */
#ifndef LADE_TUI_CMD_BANDWIDTH_H
#define LADE_TUI_CMD_BANDWIDTH_H

#include "engine/plan/probe.h"

struct bandwidth;

/* Starts the process, which reads with `threads` threads; before other threads are started. NULL
 * if it cannot be had. */
struct bandwidth *bandwidth_open(int threads);

/* Reads a GiB from RAM and adds bytes and seconds of it to `reads`; nothing where there is no memory
 * for it. The first one takes a quarter of a GiB and keeps it. About 30 ms at 35 GB/s; the caches
 * then hold nothing of what they held before. `b` may be NULL. */
void bandwidth_add(struct bandwidth *b, struct lade_reads *reads);

/* Ends the process. `b` may be NULL. */
void bandwidth_close(struct bandwidth *b);

#endif
