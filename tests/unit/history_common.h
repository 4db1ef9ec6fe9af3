/* history_common.h - what tests of the history share: a folder of its own for each test, and short
 * ways to fill a database. */
#ifndef LADE_TESTS_HISTORY_COMMON_H
#define LADE_TESTS_HISTORY_COMMON_H

#include "history/history.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

struct place {
    char dir[64], path[128];
};

static char err[HISTORY_ERR];

static inline int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    strcpy(p->dir, "/tmp/lade-history-XXXXXX");
    if (!mkdtemp(p->dir))
        return -1;
    snprintf(p->path, sizeof(p->path), "%s/a/b/history.db", p->dir);
    *state = p;
    return 0;
}

static inline int teardown(void **state)
{
    struct place *p = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", p->dir);
    int rc = system(command);
    free(p);
    return rc;
}

static inline struct history *open_or_die(const struct place *p)
{
    struct history *h = NULL;
    if (history_open(&h, p->path, err))
        fail_msg("%s", err);
    return h;
}

/* A call that must work; its line otherwise. */
#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call)                                                                                  \
            fail_msg("%s", err);                                                                   \
    } while (0)

static inline void assert_line(const char *line, const char *part)
{
    if (!strstr(line, part))
        fail_msg("\"%s\" does not hold \"%s\"", line, part);
    assert_null(strchr(line, '\n'));
    assert_non_null(strchr(line, ';'));
}

/* The whole file, or NULL; malloc'ed. */
static inline char *slurp(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, f), *size);
    data[*size] = '\0';
    fclose(f);
    return data;
}

static inline void spill(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

static inline int64_t new_conversation(struct history *h)
{
    int64_t id = 0;
    struct history_setup s = {"tiny", "/models/tiny", "cpu-standard", "{\"temperature\":0.7}"};
    OK(history_conversation_new(h, "", &s, &id, err));
    return id;
}

static inline int64_t add(struct history *h, int64_t c, enum history_role role, const char *text)
{
    int64_t id = 0;
    OK(history_message_add(h, c, HISTORY_ACTIVE, role, text, &id, err));
    return id;
}

/* A test with a folder of its own. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
