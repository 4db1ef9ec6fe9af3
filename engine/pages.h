/* pages.h - large blocks of memory in huge pages. Any thread.
 *
 * Zero bytes, that become memory where they are touched; anonymous, not page cache, which the kernel
 * may take. Blocks of 2 MiB and more begin at a huge page and are in huge pages where the system
 * allows: a direct read of megabytes into small pages is many pieces to the drive, and several
 * times as slow on a virtual one (tests/bench/LEDGER.md). */
#ifndef LADE_PAGES_H
#define LADE_PAGES_H

#include <stddef.h>

/* NULL without memory or address space, with errno set. */
void *lade_pages_take(size_t bytes);
/* The bytes that were asked for. NULL is allowed. */
void lade_pages_give(void *pages, size_t bytes);

#endif
