#include "engine/checkpoint/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *lade_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *lade_path_join(const char *dir, const char *file)
{
    char *path;
    size_t n = strlen(dir);
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    return asprintf(&path, "%s%s%s", dir, slash, file) < 0 ? NULL : path;
}

/* Whatever it is: a pipe's writer is not waited for. */
static int open_now(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

int lade_file_open(const char *path)
{
    int fd = open_now(path);
    if (fd >= 0) {
        fcntl(fd, F_SETFL, 0); /* reads of files wait for the drive */
        posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    }
    return fd;
}

static int read_all(int fd, char *text, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, text + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) {
            errno = EIO; /* it shrank while we read */
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

int lade_file_read(const char *path, size_t limit, char **text, size_t *len, char *err)
{
    *text = NULL;
    *len = 0;
    int fd = open_now(path);
    if (fd < 0) {
        int saved = errno;
        lade_fail(err, "%s: %s; check the path and its permissions", path, strerror(saved));
        errno = saved;
        return -1;
    }
    struct stat st;
    int rc = -1;
    errno = 0;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        lade_fail(err, "%s: not a regular file; check the path", path);
    } else if ((uint64_t)st.st_size > limit) {
        lade_fail(err, "%s: %lld bytes, but at most %zu are read; this is not such a file", path,
                  (long long)st.st_size, limit);
    } else if (!(*text = malloc((size_t)st.st_size + 1))) {
        lade_fail(err, "%s: no memory for %lld bytes; free some", path, (long long)st.st_size);
    } else if (read_all(fd, *text, (size_t)st.st_size)) {
        lade_fail(err, "%s: %s while reading; check the drive", path, strerror(errno));
        free(*text);
        *text = NULL;
        errno = EIO;
    } else {
        *len = (size_t)st.st_size;
        (*text)[*len] = 0;
        rc = 0;
    }
    close(fd);
    return rc;
}

void lade_make_parents(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *p = copy + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        mkdir(copy, 0700);
        *p = '/';
    }
}

static int write_all(int fd, const char *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, data + done, len - done);
        if (n < 0 && errno != EINTR)
            return -1;
        done += n < 0 ? 0 : (size_t)n;
    }
    return fsync(fd);
}

int lade_file_replace(const char *path, const void *data, size_t len, char *err)
{
    char temporary[PATH_MAX + 16];
    lade_make_parents(path);
    snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int why = fd < 0 || write_all(fd, data, len) ? errno : 0;
    if (fd >= 0 && close(fd) && !why)
        why = errno;
    if (!why && rename(temporary, path))
        why = errno;
    if (!why)
        return 0;
    if (fd >= 0)
        unlink(temporary);
    return lade_fail(err, "%s: %s; make room there, and its directory writable", path,
                     strerror(why));
}
