#include "engine/pages.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

static const size_t HUGE_PAGE = 2 << 20, PAGE = 4096;

/* What is mapped for a block: some whole page. */
static size_t whole(size_t bytes)
{
    return bytes ? (bytes + PAGE - 1) / PAGE * PAGE : PAGE;
}

void *lade_pages_take(size_t bytes)
{
    size_t more = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    if (bytes > SIZE_MAX - HUGE_PAGE - PAGE) {
        errno = ENOMEM;
        return NULL;
    }
    const size_t size = whole(bytes);
    unsigned char *map = mmap(NULL, size + more, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    if (!more)
        return map;
    const size_t before = (HUGE_PAGE - (uintptr_t)map % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        munmap(map, before);
    if (before < more)
        munmap(map + before + size, more - before);
    madvise(map + before, size, MADV_HUGEPAGE); /* only advice: without it all is slower */
    return map + before;
}

void lade_pages_give(void *pages, size_t bytes)
{
    if (pages)
        munmap(pages, whole(bytes));
}
