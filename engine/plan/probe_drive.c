/* probe_drive.c - which drive holds a file, and how fast it is. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/clock.h"
#include "engine/pages.h"
#include "engine/plan/probe.h"

/* ---- which drive ---- */

/* The directory of a whole block device in sysfs: of a partition, the drive it is on. */
static bool block_directory(const char *sys, unsigned major, unsigned minor, char out[PATH_MAX])
{
    char link[PATH_MAX], text[16];
    if (snprintf(link, sizeof link, "%s/dev/block/%u:%u", sys, major, minor) >= (int)sizeof link ||
        !realpath(link, out))
        return false;
    if (lade_machine_line(out, "partition", text, sizeof text))
        *strrchr(out, '/') = '\0';
    return true;
}

/* Drives that are read at once below a device: the members of a striped array, of mirrors too,
 * because lade's reads go to any of them; 1 for everything else. */
static int count_disks(const char *directory)
{
    char path[PATH_MAX + 8], level[32];
    if (!lade_machine_line(directory, "md/level", level, sizeof level) ||
        (strncmp(level, "raid", 4) != 0))
        return 1;
    snprintf(path, sizeof path, "%s/slaves", directory);
    DIR *d = opendir(path);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n > 0 ? n : 1;
}

/* The device a mount of this number comes from ("/dev/sda2"), for file systems that have numbers
 * of their own (btrfs). Fields of a line: proc(5). */
static bool mount_source(const char *mounts, unsigned major, unsigned minor, char out[PATH_MAX])
{
    FILE *f = fopen(mounts, "re");
    char *line = NULL;
    size_t cap = 0;
    bool found = false;
    while (f && !found && getline(&line, &cap, f) > 0) {
        unsigned a, b;
        const char *rest = strstr(line, " - ");
        found = rest && sscanf(line, "%*d %*d %u:%u", &a, &b) == 2 && a == major && b == minor &&
                sscanf(rest, " - %*s %4095s", out) == 1 && out[0] == '/';
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}

void lade_probe_drive_of(struct lade_machine_drive *out, const char *sys, const char *mounts,
                         unsigned major, unsigned minor)
{
    char directory[PATH_MAX], source[PATH_MAX], text[16] = "";
    struct stat st;
    *out = (struct lade_machine_drive){.disks = 1};
    snprintf(out->name, sizeof out->name, "%u:%u", major, minor);
    bool found = block_directory(sys, major, minor, directory);
    if (!found && mount_source(mounts, major, minor, source) && !stat(source, &st) &&
        S_ISBLK(st.st_mode))
        found = block_directory(sys, major(st.st_rdev), minor(st.st_rdev), directory);
    if (!found)
        return;
    snprintf(out->name, sizeof out->name, "%.60s", lade_path_base(directory));
    lade_machine_line(directory, "queue/rotational", text, sizeof text);
    /* Virtual disks claim to rotate whatever is below them. */
    bool is_virtual = !strncmp(out->name, "vd", 2) || !strncmp(out->name, "xvd", 3);
    out->rotational = !is_virtual && text[0] == '1';
    out->disks = count_disks(directory);
}

/* ---- how fast ---- */

enum { MOST_THREADS = 8, STEP = 4096 };

static const uint64_t SMALLEST = 64u << 20; /* smaller files lie in some cache */
static const double SECONDS = 0.16;         /* of each of the three measurements */
static const size_t SEQUENTIAL = 4u << 20;  /* bytes of a sequential read */

/* One measurement, shared by its threads. */
struct reading {
    int fd;
    size_t block;    /* bytes of a read, a multiple of STEP */
    uint64_t blocks; /* of the file */
    bool sequential;
    unsigned char *buffers;     /* a block for each thread, of memory that is there already */
    atomic_int threads;         /* so far */
    atomic_uint_fast64_t next;  /* sequential: the block to read */
    atomic_uint_fast64_t bytes; /* read so far */
    double end;
};

static uint64_t random_block(uint64_t *state, uint64_t blocks)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % blocks;
}

static void *read_blocks(void *arg)
{
    struct reading *r = arg;
    void *buffer = r->buffers + (size_t)atomic_fetch_add(&r->threads, 1) * r->block;
    uint64_t state = (uint64_t)(lade_now() * 1e9) ^ (uint64_t)(uintptr_t)&state;
    state |= 1;
    do {
        uint64_t i = r->sequential ? atomic_fetch_add(&r->next, 1) % r->blocks
                                   : random_block(&state, r->blocks);
        ssize_t n = pread(r->fd, buffer, r->block, (off_t)(i * r->block));
        if (n <= 0)
            break;
        atomic_fetch_add(&r->bytes, (uint64_t)n);
    } while (lade_now() < r->end);
    return NULL;
}

/* GB/s; 0 where nothing could be read. */
static double measure(int fd, uint64_t size, size_t block, bool sequential, int threads)
{
    pthread_t thread[MOST_THREADS];
    size_t bytes = block * (size_t)threads;
    struct reading r = {.fd = fd, .block = block, .blocks = size / block, .sequential = sequential};
    r.buffers = r.blocks ? lade_pages_take(bytes) : NULL; /* as a load reads to */
    if (!r.buffers)
        return 0;
    memset(r.buffers, 1, bytes); /* pages that must come into being would count as the drive's */
    double begin = lade_now();
    r.end = begin + SECONDS;
    atomic_init(&r.threads, 0);
    uint64_t state = (uint64_t)(begin * 1e9) | 1;
    atomic_init(&r.next, random_block(&state, r.blocks));
    atomic_init(&r.bytes, 0);
    int started = 0;
    while (started < threads && !pthread_create(&thread[started], NULL, read_blocks, &r))
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    double speed = (double)atomic_load(&r.bytes) / (lade_now() - begin) / 1e9;
    lade_pages_give(r.buffers, bytes);
    return speed;
}

void lade_probe_drive_measure(struct lade_machine_drive *drive, size_t block)
{
    struct stat st;
    int fd = open(drive->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    drive->direct = fd >= 0;
    if (fd < 0 && errno == EINVAL)
        fd = open(drive->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (!fstat(fd, &st) && (uint64_t)st.st_size >= SMALLEST) {
        uint64_t size = (uint64_t)st.st_size;
        block = (block + STEP - 1) / STEP * STEP;
        drive->sequential_gbps = measure(fd, size, SEQUENTIAL, true, 4);
        drive->one_gbps = measure(fd, size, block, false, 1);
        drive->eight_gbps = measure(fd, size, block, false, 8);
    }
    close(fd);
}
