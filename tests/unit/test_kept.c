/* A timeline on the drive: what the next run reads of it is what this one had, or nothing. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/session/kept.h"
#include "tests/support/plugins.h"
#include "tests/unit/session_common.h"

static char directory[] = "/tmp/lade-kept-XXXXXX", path[PATH_MAX]; /* of the tests' model */

enum { OF = 7 }; /* the number of a conversation */

static int open_all(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    open_with_prompt(MODEL);
    struct lade_session *s = open_session(model);
    char *name = lade_kept_path(s, directory);
    snprintf(path, sizeof path, "%s", name);
    free(name);
    lade_session_close(s);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    lade_model_close(model);
    lade_kept_prune(directory, 0);
    return rmdir(directory);
}

static bool write_kept(struct lade_session *s)
{
    return lade_kept_write(s, path, OF, HUGE_VAL, NULL);
}

/* A session that has read the prompt up to 90 tokens, with a snapshot at 50, and keeps that. */
static struct lade_session *keep(void)
{
    struct lade_session *s = open_session(model);
    sync_to(s, prompt, 90, 50);
    assert_true(write_kept(s));
    return s;
}

/* Tokens that a new session of `m` need not read of ids[0..n), thanks to the file; `same` (may be
 * NULL) reads the same ids itself and must get the same logits, bit by bit. */
static int recalled(struct lade_model *m, const int32_t *ids, int n, struct lade_session *same)
{
    struct lade_session *s = open_session(m);
    lade_kept_read(s, path, ids, n);
    int kept = sync_to(s, ids, n, 0);
    if (same) {
        assert_int_equal(sync_to(same, ids, n, 0), kept);
        assert_memory_equal(lade_session_logits(s), lade_session_logits(same),
                            (size_t)vocab * sizeof(float));
    }
    lade_session_close(s);
    return kept;
}

static void test_goes_on_where_it_was(void **state)
{
    (void)state;
    struct lade_session *s = keep();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(recalled(model, prompt, N, s), 90);
    lade_session_close(s);
}

static void test_snapshot_serves_what_parts_behind_it(void **state)
{
    (void)state;
    struct lade_session *s = keep();
    int32_t fork[N];
    memcpy(fork, prompt, sizeof fork);
    for (int i = 60; i < N; i++)
        fork[i] = (prompt[i] + 1) % vocab;
    assert_int_equal(recalled(model, fork, N, s), 50);
    fork[40] = (fork[40] + 1) % vocab; /* before it: nothing helps */
    assert_int_equal(recalled(model, fork, N, NULL), 0);
    assert_int_equal(recalled(model, prompt, 30, NULL), 0);
    lade_session_close(s);
}

static void test_what_does_not_fit_is_nothing(void **state)
{
    (void)state;
    lade_session_close(keep());
    struct lade_model *other = open_model("tests/fixtures/tiny8-int4-mixed", true);
    struct lade_model *rounded = open_model(MODEL, false);
    assert_int_equal(recalled(other, prompt, N, NULL), 0);
    assert_int_equal(recalled(rounded, prompt, N, NULL), 0);
    lade_model_close(other);
    lade_model_close(rounded);
    assert_int_equal(recalled(model, prompt, N, NULL), 90);
    unlink(path);
    assert_int_equal(recalled(model, prompt, N, NULL), 0);
}

/* Tokens that a new session has from the file. */
static int tokens_read(void)
{
    struct lade_session *s = open_session(model);
    lade_kept_read(s, path, prompt, 100);
    int n = lade_session_length(s);
    lade_session_close(s);
    return n;
}

/* Wherever a byte has changed, or the file ends, the session stays empty and can be used. */
static void test_damage_is_noticed(void **state)
{
    (void)state;
    struct lade_session *s = keep();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    for (off_t at = 0; at < st.st_size; at += at < 64 ? 1 : st.st_size / 40) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        int n = tokens_read();
        if (n)
            fail_msg("byte %lld: %d tokens", (long long)at, n);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_int_equal(tokens_read(), 90);
    assert_int_equal(recalled(model, prompt, N, s), 90);
    for (off_t end = st.st_size - 1; end > 0; end /= 3) {
        assert_int_equal(ftruncate(fd, end), 0);
        assert_int_equal(tokens_read(), 0);
    }
    assert_int_equal(recalled(model, prompt, 100, NULL), 0);
    close(fd);
    lade_session_close(s);
}

static int files(void)
{
    int n = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_what_cannot_be_written_leaves_the_old(void **state)
{
    (void)state;
    struct lade_session *s = keep();
    char nowhere[PATH_MAX + 16];
    snprintf(nowhere, sizeof nowhere, "%s/x/y", path); /* below a file */
    assert_false(lade_kept_write(s, nowhere, OF, HUGE_VAL, NULL));
    assert_int_equal(access(path, F_OK), 0);
    /* As on a full drive: half of it can be written. */
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    struct rlimit was, half;
    getrlimit(RLIMIT_FSIZE, &was);
    half = was;
    half.rlim_cur = (rlim_t)st.st_size / 2;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &half), 0);
    bool written = write_kept(s);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_false(written);
    assert_int_equal(recalled(model, prompt, N, NULL), 90); /* the old one is there */
    assert_int_equal(files(), 1);
    lade_session_close(s);
}

/* Whoever gives up leaves the old file; what a killed writer has left is taken over. */
static void test_writing_is_given_up(void **state)
{
    (void)state;
    struct lade_session *s = keep();
    atomic_bool cancel = true;
    sync_to(s, prompt, N, 100);
    assert_false(lade_kept_write(s, path, OF, 0, NULL));
    assert_false(lade_kept_write(s, path, OF, HUGE_VAL, &cancel));
    assert_int_equal(files(), 1);
    char beside[PATH_MAX + 8];
    snprintf(beside, sizeof beside, "%s.new", path);
    int fd = open(beside, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "junk", 4), 4);
    assert_int_equal(flock(fd, LOCK_EX), 0); /* another writes just now */
    assert_false(write_kept(s));
    assert_int_equal(files(), 2);
    assert_int_equal(recalled(model, prompt, 100, NULL), 90);
    close(fd);
    struct stat st;
    uint64_t bytes = lade_kept_bytes(s);
    assert_true(write_kept(s));
    assert_int_equal(files(), 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal((uint64_t)st.st_size, bytes);
    lade_session_close(s);
}

/* Each model has its own file, and the oldest go first. */
static void test_one_for_each_model(void **state)
{
    (void)state;
    lade_session_close(keep());
    struct lade_model *rounded = open_model(MODEL, false);
    struct lade_session *s = open_session(rounded);
    char *other = lade_kept_path(s, directory);
    assert_string_not_equal(other, path);
    sync_to(s, prompt, 90, 50);
    assert_true(lade_kept_write(s, other, OF, HUGE_VAL, NULL));
    uint64_t bytes = lade_kept_bytes(s);
    lade_session_close(s);
    assert_int_equal(files(), 2);
    assert_int_equal(recalled(model, prompt, N, NULL), 90);
    const struct timespec old[2] = {{1, 0}, {1, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    lade_kept_prune(directory, UINT64_MAX);
    assert_int_equal(files(), 2);
    lade_kept_prune(directory, bytes);
    assert_int_equal(files(), 1);
    assert_int_equal(access(other, F_OK), 0);
    lade_kept_prune(directory, 0);
    assert_int_equal(files(), 0);
    free(other);
    lade_model_close(rounded);
}

/* A conversation that is deleted takes along what is kept of it, and what may be. */
static void test_one_conversation_is_forgotten(void **state)
{
    (void)state;
    struct lade_session *s = keep();
    lade_kept_forget(directory, OF + 1);
    assert_int_equal(recalled(model, prompt, N, NULL), 90);
    lade_kept_forget(directory, OF);
    assert_int_equal(files(), 0);
    assert_true(lade_kept_write(s, path, 0, HUGE_VAL, NULL)); /* nobody knows of which */
    lade_kept_forget(directory, OF + 1);
    assert_int_equal(files(), 0);
    assert_true(write_kept(s));
    assert_int_equal(truncate(path, 20), 0);
    lade_kept_forget(directory, OF + 1);
    assert_int_equal(files(), 0);
    lade_session_close(s);
}

/* ---- an engine that is left and started again ------------------------------------------------- */

static struct lade_engine *start_keeping(const char *plugin, const char *strategy)
{
    struct lade_engine *e;
    struct lade_options opt = {.model = MODEL,
                               .threads = 2,
                               .context = 2048,
                               .exact = true,
                               .plugin = plugin,
                               .strategy = strategy,
                               .timelines = directory};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    return e;
}

/* One turn, then a second in what `again` makes of the engine: what that said, and how many tokens it
 * had not to read. */
struct second {
    char text[1 << 16];
    struct lade_result result;
};

static int second_turn(struct lade_engine *e, struct lade_engine *(*again)(struct lade_engine *),
                       struct second *out)
{
    static char question[2000];
    static struct seen s;
    s = (struct seen){0};
    for (size_t i = 0; i + 8 < sizeof question; i += 8)
        snprintf(question + i, 9, "word%03zu ", i / 8);
    struct lade_message turns[3] = {{LADE_USER, question, NULL, NULL}};
    lade_engine_ask(e, turns, 1, &greedy, 16, true, err);
    wait_for(e, &s, &s.done);
    turns[1] = (struct lade_message){LADE_ASSISTANT, strdup(s.text), NULL, NULL};
    turns[2] = (struct lade_message){LADE_USER, "and then?", NULL, NULL};
    e = again(e);
    s = (struct seen){0};
    lade_engine_ask(e, turns, 3, &greedy, 16, true, err);
    wait_for(e, &s, &s.done);
    memcpy(out->text, s.text, sizeof out->text);
    out->result = s.result;
    free((char *)turns[1].content);
    lade_engine_stop(e);
    return s.result.kept_tokens;
}

static struct lade_engine *the_same(struct lade_engine *e)
{
    return e;
}

static struct lade_engine *another(struct lade_engine *e)
{
    lade_engine_stop(e);
    return start_keeping(NULL, NULL);
}

static struct lade_engine *one_that_forgot(struct lade_engine *e)
{
    lade_engine_forget(e);
    return another(e);
}

static struct lade_engine *one_of_a_conversation(struct lade_engine *e)
{
    lade_engine_end(e, OF);
    lade_engine_stop(e);
    lade_kept_forget(directory, OF + 1);
    return start_keeping(NULL, NULL);
}

static void test_engine_goes_on_in_another_run(void **state)
{
    (void)state;
    static struct second here, there;
    unlink(path);
    int kept = second_turn(start_keeping(NULL, NULL), the_same, &here);
    assert_true(kept > 256);
    unlink(path);
    assert_int_equal(second_turn(start_keeping(NULL, NULL), another, &there), kept);
    assert_int_equal(there.result.prompt_tokens, here.result.prompt_tokens);
    assert_string_equal(there.text, here.text);
    /* From a GPU's memory to the CPU's. */
    unlink(path);
    assert_int_equal(
        second_turn(start_keeping(test_plugin_path("lade-sim.so"), "full-gpu"), another, &there),
        kept);
    assert_string_equal(there.text, here.text);
}

static void test_engine_forgets(void **state)
{
    (void)state;
    static struct second there;
    unlink(path);
    assert_int_equal(second_turn(start_keeping(NULL, NULL), one_that_forgot, &there), 0);
    assert_int_equal(files(), 1);        /* what came afterwards is kept */
    lade_kept_forget(directory, OF + 1); /* and as nobody's */
    assert_int_equal(files(), 0);
    assert_true(second_turn(start_keeping(NULL, NULL), one_of_a_conversation, &there) > 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on_where_it_was),
        cmocka_unit_test(test_snapshot_serves_what_parts_behind_it),
        cmocka_unit_test(test_what_does_not_fit_is_nothing),
        cmocka_unit_test(test_damage_is_noticed),
        cmocka_unit_test(test_what_cannot_be_written_leaves_the_old),
        cmocka_unit_test(test_writing_is_given_up),
        cmocka_unit_test(test_one_for_each_model),
        cmocka_unit_test(test_one_conversation_is_forgotten),
        cmocka_unit_test(test_engine_goes_on_in_another_run),
        cmocka_unit_test(test_engine_forgets),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
