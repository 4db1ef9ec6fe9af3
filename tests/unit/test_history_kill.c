/* kill -9 at random moments of a streaming answer: the database opens, is sound, has everything of
 * which an update had returned, and the conversation goes on. How often the chat updates is
 * test_saving.c's matter. */
#include "history/history.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { KILLS = 50, PIECE_MS = 2, LONGEST_MS = 400 };

/* What the writer tells the killer: lives in shared memory, so it is there after the kill. */
struct report {
    atomic_int committed; /* pieces in the last update that returned */
    atomic_int made;      /* pieces in all */
};

static char err[HISTORY_ERR];
static char path[128], dir[64];

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* A piece is recognisable, so that a torn text would be seen: "0000123 語" */
enum { PIECE_BYTES = 12, ANSWER_PIECES = 64 };

static void make_piece(char *out, int i)
{
    snprintf(out, PIECE_BYTES + 1, "%07u 語 ", (unsigned)i % 10000000U);
}

/* The child. Updates every `every` ms, finishes now and then and begins the next answer. */
static void write_until_killed(struct report *r, int64_t conversation, int every)
{
    struct history *h;
    int64_t id;
    char *text = malloc(ANSWER_PIECES * PIECE_BYTES + 1);
    if (!text || history_open(&h, path, err))
        _exit(1);
    for (int start = 0;;) {
        int64_t last = now_ms();
        text[0] = '\0';
        if (history_message_begin(h, conversation, HISTORY_ACTIVE, "m", "{}", &id, err))
            _exit(2);
        for (int n = 0; n < ANSWER_PIECES; n++) {
            int made = atomic_load(&r->made);
            make_piece(text + (size_t)n * PIECE_BYTES, made);
            atomic_store(&r->made, made + 1);
            if (now_ms() - last >= every) {
                if (history_message_update(h, id, text, text, err))
                    _exit(3);
                atomic_store(&r->committed, start + n + 1);
                last = now_ms();
            }
            sleep_ms(PIECE_MS);
        }
        if (history_message_finish(h, id, HISTORY_COMPLETE, text, text, NULL, err))
            _exit(4);
        start += ANSWER_PIECES;
        atomic_store(&r->committed, start);
    }
}

/* Number of pieces the database has of this round, all of them whole and in order. */
static int pieces_found(const struct history_messages *m)
{
    int found = 0;
    for (int i = 0; i < m->n; i++) {
        if (m->items[i].role != HISTORY_ASSISTANT)
            continue;
        assert_true(m->items[i].state != HISTORY_STREAMING);
        size_t n = strlen(m->items[i].content);
        assert_int_equal(n % PIECE_BYTES, 0);
        for (size_t at = 0; at < n; at += PIECE_BYTES) {
            char piece[PIECE_BYTES + 1];
            make_piece(piece, found++);
            assert_memory_equal(m->items[i].content + at, piece, PIECE_BYTES);
        }
        if (n)
            assert_string_equal(m->items[i].content, m->items[i].reasoning);
    }
    return found;
}

static void check_after_kill(struct report *r, int64_t conversation)
{
    struct history *h;
    struct history_facts facts;
    struct history_messages m;
    int64_t id;
    if (history_open(&h, path, err) || history_check(h, &facts, err) ||
        history_messages_path(h, conversation, HISTORY_ACTIVE, &m, err))
        fail_msg("%s", err);
    int found = pieces_found(&m);
    assert_in_range(found, atomic_load(&r->committed), atomic_load(&r->made));
    history_messages_clear(&m);

    if (history_message_add(h, conversation, HISTORY_ACTIVE, HISTORY_USER, "go on", NULL, err) ||
        history_message_begin(h, conversation, HISTORY_ACTIVE, NULL, NULL, &id, err) ||
        history_message_finish(h, id, HISTORY_COMPLETE, "gladly", NULL, NULL, err) ||
        history_messages_path(h, conversation, HISTORY_ACTIVE, &m, err))
        fail_msg("%s", err);
    assert_true(m.n >= 2);
    assert_string_equal(m.items[m.n - 1].content, "gladly");
    history_messages_clear(&m);
    history_close(h);
}

/* However slow the machine is, the kill hits an answer. */
static void wait_until_writing(struct report *r, pid_t child)
{
    int status;
    while (atomic_load(&r->made) == 0) {
        if (waitpid(child, &status, WNOHANG) == child)
            fail_msg("the writer ended by itself with status %d", WEXITSTATUS(status));
        sleep_ms(1);
    }
}

static void test_kill(void **state)
{
    (void)state;
    struct report *r =
        mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(r != MAP_FAILED);
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int k = 0; k < KILLS; k++) {
        struct history *h;
        int64_t conversation = 0;
        memset(r, 0, sizeof(*r));
        if (history_open(&h, path, err) ||
            history_conversation_new(h, "", NULL, &conversation, err) ||
            history_message_add(h, conversation, HISTORY_ACTIVE, HISTORY_USER, "q", NULL, err))
            fail_msg("%s", err);
        history_close(h);
        /* Short intervals kill inside transactions, the longest is what the screen does. */
        int every = k % 3 == 0 ? 0 : k % 3 == 1 ? 20 : 250;
        pid_t child = fork();
        if (child == 0)
            write_until_killed(r, conversation, every);
        wait_until_writing(r, child);
        sleep_ms(rand() % LONGEST_MS);
        int status;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFSIGNALED(status))
            fail_msg("the writer ended by itself with status %d", WEXITSTATUS(status));
        check_after_kill(r, conversation);
    }
    munmap(r, sizeof(*r));
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/lade-kill-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/history.db", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
