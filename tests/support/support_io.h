/* support_io.h - a way to read files that a test can hold back, or let fail.
 *
 * Reads are those of lade_io_threads. While the gate is shut, reads that `held` chooses wait until it
 * opens; all others pass. So a test says in which order things happen, however slow the machine. */
#ifndef LADE_TESTS_SUPPORT_IO_H
#define LADE_TESTS_SUPPORT_IO_H

#include <stdbool.h>

#include "engine/tiers/io.h"

extern const struct lade_io_ops support_gated_io;

/* Whether a read is held; called from the threads that read. */
typedef bool support_held_fn(const struct lade_read *r);

void support_gate_shut(support_held_fn *held);
void support_gate_open(void);
/* The drive is gone (every read ends with EIO), or back. */
void support_drive_gone(bool gone);
/* The next so many reads that come back have failed with EIO. */
void support_drive_fails(long reads);
/* The drive is gone after so many more reads, until this is called again; LONG_MAX: it stays. */
void support_drive_ends_after(long reads);

#endif
