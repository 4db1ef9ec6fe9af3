/* Which answers are still being written, and by whom.
 *
 * Each handle draws a number and locks the byte at that offset of PATH-lock. The kernel drops the
 * lock when the process ends, however it ends, so a streaming message whose writer's byte is free
 * belongs to the dead. Process ids would not do: they are used again. */
#include "history/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static struct flock byte_lock(int64_t writer)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = writer, .l_len = 1};
}

int history_writer_open(struct history *h, char *err)
{
    char *path;
    if (asprintf(&path, "%s-lock", h->path) < 0)
        return history_fail_memory(err);
    if (h->read_only) { /* who lives can be seen, where there is such a file */
        h->lock_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        free(path);
        return 0;
    }
    uint64_t number;
    int rc = 0;
    h->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (h->lock_fd < 0 || getrandom(&number, sizeof(number), 0) != sizeof(number)) {
        rc = history_fail(err, "%s: %s; make it writable for you", path, strerror(errno));
    } else {
        h->writer = (int64_t)(number >> 2); /* any file offset, never negative */
        struct flock lock = byte_lock(h->writer);
        if (fcntl(h->lock_fd, F_OFD_SETLK, &lock))
            rc = history_fail(err, "%s: cannot lock it: %s; put LADE_HOME on a local disk", path,
                              strerror(errno));
    }
    free(path);
    return rc;
}

bool history_writer_lives(const struct history *h, int64_t writer)
{
    if (writer < 0 || writer == h->writer)
        return writer >= 0;
    struct flock lock = byte_lock(writer);
    return fcntl(h->lock_fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int bury(struct history *h, int64_t writer, char *err)
{
    return history_run(h,
                       "UPDATE messages SET state = 'interrupted', writer = NULL"
                       " WHERE state = 'streaming' AND writer IS ?",
                       BINDS(OPTIONAL(writer)), err);
}

int history_recover(struct history *h, char *err)
{
    if (h->read_only)
        return 0;      /* read_message sees it */
    int64_t last = -1; /* a number below it cannot be; a NULL writer counts as -1 */
    for (;;) {
        bool found;
        int64_t writer;
        if (history_value(h,
                          "SELECT ifnull(writer, -1) AS w FROM messages"
                          " WHERE state = 'streaming' AND w >= ? ORDER BY w LIMIT 1",
                          BINDS(INT(last)), &writer, &found, err))
            return -1;
        if (!found)
            return 0;
        if (!history_writer_lives(h, writer) && bury(h, writer, err))
            return -1;
        last = writer + 1;
    }
}

void history_writer_close(struct history *h)
{
    if (h->lock_fd < 0)
        return;
    if (h->db && h->writer >= 0)
        bury(h, h->writer, NULL);
    close(h->lock_fd);
}
