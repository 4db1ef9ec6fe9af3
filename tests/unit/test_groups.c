/* Control groups, version 2 and 1, as directories that a test made: limits of this group and of those
 * above it, files that are missing, and what a watch sees of them. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "engine/plan/machine.h"
#include "engine/plan/pressure.h"

#define V2      "/sys/fs/cgroup"
#define V1      "/sys/fs/cgroup/memory"
#define MEMINFO "/proc/meminfo", "MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\n"
#define IN_V2   "/proc/self/cgroup", "0::/a/b\n"
#define IN_V1   "/proc/self/cgroup", "9:cpu:/\n4:cpuacct,memory:/a/b\n0::/\n"
enum { FILES = 12, KIB = 1024 };

static char root[] = "/tmp/lade-groups-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void clear(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s && mkdir %s", root, root);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

static const struct {
    const char *what;
    const char *file[FILES][2]; /* name, text */
    uint64_t total, left;       /* KiB */
} cases[] = {
    {"nothing at all", {{NULL, NULL}}, 0, 0},
    {"no groups", {{MEMINFO}}, 8000, 6000},
    {"a group without files", {{MEMINFO}, {IN_V2}}, 8000, 6000},
    {"no limit",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "max\n"},
      {V2 "/a/b/memory.high", "max\n"},
      {V2 "/a/b/memory.current", "1024000\n"}},
     8000,
     6000},
    {"a limit",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "4096000\n"},
      {V2 "/a/b/memory.current", "1024000\n"}},
     4000,
     3000},
    {"pages of files are free",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "4096000\n"},
      {V2 "/a/b/memory.current", "1024000\n"},
      {V2 "/a/b/memory.stat", "anon 5\nactive_file 9\ninactive_file 512000\nslab 7\n"}},
     4000,
     3500},
    {"more of them than are used",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "4096000\n"},
      {V2 "/a/b/memory.current", "100\n"},
      {V2 "/a/b/memory.stat", "inactive_file 512000\n"}},
     4000,
     4000},
    {"a limit above this one is lower",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "4096000\n"},
      {V2 "/a/b/memory.current", "1024000\n"},
      {V2 "/a/memory.max", "2048000\n"},
      {V2 "/a/memory.current", "1536000\n"}},
     2000,
     500},
    {"a limit above this one is higher, but others have used it up",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "2048000\n"},
      {V2 "/a/b/memory.current", "1024000\n"},
      {V2 "/a/memory.max", "4096000\n"},
      {V2 "/a/memory.current", "3993600\n"}},
     2000,
     100},
    {"only one above this has a limit",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "max\n"},
      {V2 "/a/b/memory.current", "5\n"},
      {V2 "/a/memory.max", "2048000\n"},
      {V2 "/a/memory.current", "0\n"}},
     2000,
     2000},
    {"programs wait beyond high",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "4096000\n"},
      {V2 "/a/b/memory.high", "3072000\n"},
      {V2 "/a/b/memory.current", "1024000\n"}},
     3000,
     2000},
    {"high alone",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.high", "3072000\n"},
      {V2 "/a/b/memory.max", "max\n"},
      {V2 "/a/b/memory.current", "1024000\n"}},
     3000,
     2000},
    {"high of a group above",
     {{MEMINFO},
      {IN_V2},
      {V2 "/a/b/memory.max", "4096000\n"},
      {V2 "/a/b/memory.current", "1024000\n"},
      {V2 "/a/memory.high", "2560000\n"},
      {V2 "/a/memory.max", "max\n"},
      {V2 "/a/memory.current", "1024000\n"}},
     2500,
     1500},
    {"used up and more",
     {{MEMINFO}, {IN_V2}, {V2 "/a/b/memory.max", "1024\n"}, {V2 "/a/b/memory.current", "4096\n"}},
     1,
     0},
    {"more than the machine has",
     {{MEMINFO}, {IN_V2}, {V2 "/a/b/memory.max", "99999999\n"}, {V2 "/a/b/memory.current", "9\n"}},
     8000,
     6000},
    {"no number",
     {{MEMINFO}, {IN_V2}, {V2 "/a/b/memory.max", "many\n"}, {V2 "/a/b/memory.current", "9\n"}},
     8000,
     6000},
    {"an empty file",
     {{MEMINFO}, {IN_V2}, {V2 "/a/b/memory.max", ""}, {V2 "/a/b/memory.current", "9\n"}},
     8000,
     6000},
    {"nobody knows how much is used",
     {{MEMINFO}, {IN_V2}, {V2 "/a/b/memory.max", "4096000\n"}},
     8000,
     6000},
    {"the root of a container",
     {{MEMINFO},
      {"/proc/self/cgroup", "0::/\n"},
      {V2 "/memory.max", "4096000\n"},
      {V2 "/memory.current", "1024000\n"}},
     4000,
     3000},
    {"version 1",
     {{MEMINFO},
      {IN_V1},
      {V1 "/a/b/memory.limit_in_bytes", "9223372036854771712\n"},
      {V1 "/a/b/memory.usage_in_bytes", "1024000\n"},
      {V1 "/a/memory.limit_in_bytes", "4096000\n"},
      {V1 "/a/memory.usage_in_bytes", "1024000\n"},
      {V1 "/a/memory.stat", "inactive_file 7\ntotal_inactive_file 512000\n"}},
     4000,
     3500},
    {"lines that are none",
     {{MEMINFO},
      {"/proc/self/cgroup", "\nnonsense\n0:\n0::/a\n"},
      {V2 "/a/memory.max", "4096000\n"},
      {V2 "/a/memory.current", "0\n"}},
     4000,
     4000},
};

static void test_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lade_memory m;
        clear();
        for (int j = 0; j < FILES && cases[i].file[j][0]; j++)
            put(cases[i].file[j][0], cases[i].file[j][1]);
        lade_machine_memory_at(&m, root);
        if (m.total != cases[i].total * KIB || m.available != cases[i].left * KIB)
            fail_msg("%s: %llu KiB, %llu left", cases[i].what, (unsigned long long)m.total / KIB,
                     (unsigned long long)m.available / KIB);
    }
}

/* Looks until there is something to see: they are 20 ms apart. */
static struct lade_pressure look(struct lade_watch *w)
{
    struct lade_pressure p;
    while (!lade_watch_look(w, &p))
        ;
    return p;
}

/* A group whose count of events is in `file`: what was before does not stall, one more does. */
static void check_counts(const char *file, const char *before, const char *after)
{
    put(MEMINFO);
    put(file, before);
    struct lade_watch *w = lade_watch_open_at(root);
    assert_false(look(w).stalled);
    put(file, after);
    struct lade_pressure p = look(w);
    assert_true(p.stalled);
    assert_int_equal(p.ram_left, 6000 * KIB);
    lade_watch_close(w);
}

static void test_watch(void **state)
{
    (void)state;
    char path[PATH_MAX], text[64] = "";
    const char *events = "low 0\nhigh %d\nmax %d\noom 0\noom_kill 0\n";
    clear();
    put(MEMINFO);
    put(IN_V2);
    put(V2 "/a/b/memory.max", "4096000\n");
    put(V2 "/a/b/memory.current", "1024000\n");
    put(V2 "/a/b/memory.pressure", "");
    snprintf(text, sizeof text, events, 3, 5);
    put(V2 "/a/b/memory.events.local", text);
    struct lade_watch *w = lade_watch_open_at(root);
    assert_non_null(w);
    struct lade_pressure p = look(w);
    assert_int_equal(p.ram_total, 4096000);
    assert_int_equal(p.ram_left, 3072000);
    assert_false(p.stalled); /* what was before does not count */
    /* The group's own trigger was asked for, in the kernel's words: stalls of 150 ms within 2 s. */
    snprintf(path, sizeof path, "%s" V2 "/a/b/memory.pressure", root);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    fclose(f);
    assert_string_equal(text, "some 150000 2000000");

    snprintf(text, sizeof text, events, 4, 5);
    put(V2 "/a/b/memory.events.local", text);
    put(V2 "/a/b/memory.current", "4000000\n");
    p = look(w);
    assert_true(p.stalled);
    assert_int_equal(p.ram_left, 96000);
    assert_false(look(w).stalled); /* it is told once */
    snprintf(text, sizeof text, events, 4, 6);
    put(V2 "/a/b/memory.events.local", text);
    assert_true(look(w).stalled);
    put(V2 "/a/memory.events.local", "low 0\nhigh 0\nmax 2\n"); /* it was not there before */
    assert_true(look(w).stalled);
    assert_false(look(w).stalled);
    put(V2 "/a/memory.events.local", "low 9\nhigh 1\nmax 2\n");
    assert_true(look(w).stalled);
    put(V2 "/a/memory.events.local", "low 10\nhigh 1\nmax 2\noom 5\n");
    assert_false(look(w).stalled);
    lade_watch_close(w);

    clear(); /* an older kernel */
    put(IN_V2);
    check_counts(V2 "/a/b/memory.events", "high 1\nmax 1\n", "high 1\nmax 2\n");
    clear(); /* version 1 counts in one number; nothing else is there */
    put(IN_V1);
    check_counts(V1 "/a/b/memory.failcnt", "7\n", "8\n");

    clear(); /* no memory known: nothing to see */
    w = lade_watch_open_at(root);
    for (int i = 0; i < 1000; i++)
        assert_false(lade_watch_look(w, &p));
    lade_watch_close(w);
}

static int make_root(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    clear();
    return remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_watch),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
