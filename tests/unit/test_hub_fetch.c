/* Downloads from a hub on loopback: whole models, kill and resume, updates, which files are taken,
 * where the token goes. What a hub can do wrong: test_hub_faults.c. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "engine/hub/digest.h"
#include "engine/hub/find.h"
#include "engine/hub/listing.h"
#include "tests/unit/hub_common.h"

/* ---- without a server ------------------------------------------------------------------------ */

static void test_digests(void **state)
{
    (void)state;
    struct lade_digest d;
    char text[LADE_DIGEST_TEXT];
    lade_digest_start(&d, LADE_DIGEST_SHA256, 3);
    lade_digest_add(&d, "a", 1);
    lade_digest_add(&d, "bc", 2);
    lade_digest_end(&d, text);
    /* FIPS 180-2, appendix B.1 */
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    lade_digest_start(&d, LADE_DIGEST_GIT, 12);
    lade_digest_add(&d, "hello world\n", 12);
    lade_digest_end(&d, text); /* git hash-object */
    assert_string_equal(text, "3b18e512dba79e4c8300dd08aeb37f8e728b8dad");
    lade_digest_start(&d, LADE_DIGEST_GIT, 0);
    lade_digest_end(&d, text);
    assert_string_equal(text, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    assert_true(lade_digest_valid(LADE_DIGEST_GIT, text));
    assert_false(lade_digest_valid(LADE_DIGEST_SHA256, text));
    assert_false(lade_digest_valid(LADE_DIGEST_GIT, "E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391"));
}

static void test_specs(void **state)
{
    (void)state;
    static const struct {
        const char *what, *repo, *wanted; /* repo NULL: refused */
    } rows[] = {
        {"Qwen/Qwen3-Next", "Qwen/Qwen3-Next", ""},
        {"Qwen/Qwen3-Next:Q4_K_M", "Qwen/Qwen3-Next", "Q4_K_M"},
        {"a/b:dir/file-00001-of-00002.gguf", "a/b", "dir/file-00001-of-00002.gguf"},
        {"https://huggingface.co/a/b/", "a/b", ""},
        {"hf.co/a/b:Q8_0", "a/b", "Q8_0"},
        {"Qwen", NULL, NULL},
        {"", NULL, NULL},
        {"a/b/c", NULL, NULL},
        {"../b", NULL, NULL},
        {"a/..", NULL, NULL},
        {"a/b..c", NULL, NULL},
        {"a/.hidden", NULL, NULL},
        {"/b", NULL, NULL},
        {"a/", NULL, NULL},
        {"a/b:", NULL, NULL},
        {"a b/c", NULL, NULL},
        {"a/b\033[2J", NULL, NULL},
        {"a/b%2e", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char repo[LADE_REPO], wanted[LADE_WANTED];
        int rc = lade_hub_spec(rows[i].what, repo, wanted, err);
        assert_int_equal(rc, rows[i].repo ? 0 : -1);
        if (rows[i].repo) {
            assert_string_equal(repo, rows[i].repo);
            assert_string_equal(wanted, rows[i].wanted);
        } else {
            assert_non_null(strstr(err, "ORG/NAME"));
            assert_null(strchr(err, '\033'));
        }
    }
}

static void test_bad_options(void **state)
{
    (void)state;
    static const char *const endpoints[] = {"huggingface.co", "ftp://x",    "http://",
                                            "file:///etc",    "http://a b", "http://user:pw@host",
                                            "http://h?x"};
    struct lade_fetch_options o = {.what = REPO, .dir = "/nowhere"};
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
        o.endpoint = endpoints[i];
        assert_int_equal(fetch_with(&o), -1);
        assert_non_null(strstr(err, "HF_ENDPOINT"));
    }
    o.endpoint = "http://127.0.0.1:9";
    o.token = "two\nlines";
    assert_int_equal(fetch_with(&o), -1);
    assert_non_null(strstr(err, "HF_TOKEN"));
    assert_null(strstr(err, "lines"));
    o.token = NULL; /* nobody listens there */
    o.attempts = 2;
    o.backoff_s = 0.01;
    assert_int_equal(fetch_with(&o), -1);
    assert_non_null(strstr(err, "check the network"));
}

/* ---- the good case --------------------------------------------------------------------------- */

static void test_whole_model(void **state)
{
    NEEDS_SERVER();
    assert_int_equal(fetch(REPO), 0);
    assert_string_equal(path, local(REPO));
    check_model();
    assert_int_equal(watch.n_files, 4);
    assert_int_equal(watch.notes, 0);
    assert_int_equal(watch.done, watch.bytes);
    assert_int_equal(watch.fetched, watch.bytes);
    assert_true(support_hub_count(&hub, "/tree/", NULL, NULL) > 2); /* pages */

    /* Again: the listing only. */
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    assert_string_equal(path, local(REPO));
    assert_int_equal(support_hub_count(&hub, "/resolve/", NULL, NULL), 0);

    /* And `lade models` sees it. */
    struct lade_found_list list;
    setenv("HOME", "/nonexistent", 1);
    assert_int_equal(lade_find_models(&list, models, err), 0);
    assert_int_equal(list.n, 1);
    assert_string_equal(list.items[0].name, REPO);
    assert_int_equal(list.items[0].bytes, 2 * SHARD);
    lade_found_free(&list);
}

static void test_connections(void **state)
{
    NEEDS_SERVER();
    struct lade_fetch_options o = options_for(REPO);
    o.connections = 1;
    assert_int_equal(fetch_with(&o), 0);
    check_model();
}

static void test_empty_file(void **state)
{
    NEEDS_SERVER();
    support_hub_put(&hub, REPO "/merges.txt", "", 0);
    assert_int_equal(fetch(REPO), 0);
    check_file(REPO "/merges.txt", REPO "/merges.txt");
}

/* ---- stopping and going on ------------------------------------------------------------------- */

static void test_cancel(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-\", \"pace\": 0.2}]");
    watch.cancel_at = 100000;
    check_fails(REPO, "cancelled");
    uint64_t before = watch.fetched;
    assert_true(before >= 100000 && before < 2 * SHARD);
    assert_false(exists(REPO));
    assert_true(exists(REPO ".partial"));
    watch.cancel_at = 0;
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_true(support_hub_count(&hub, "model-", "bytes=", NULL) >= 1);
    assert_int_equal(watch.fetched, watch.bytes - before); /* nothing twice, nothing missing */
    /* Also while it waits and while it lists. */
    remove_tree(models);
    support_hub_rules(&hub, "[{\"match\": \"/revision/\", \"status\": 503}]");
    struct lade_fetch_options o = options_for(REPO);
    o.backoff_s = 20;
    atomic_bool cancel = true;
    assert_int_equal(lade_fetch(&o, NULL, NULL, &cancel, path, err), -1);
    assert_non_null(strstr(err, "cancelled"));
}

/* kill -9 in the middle, several times; then what is there counts. */
static void test_kill(void **state)
{
    NEEDS_SERVER();
    off_t last = 0;
    for (int round = 0; round < 3; round++) {
        support_hub_rules(&hub, "[{\"match\": \"model-\", \"pace\": 1}]");
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct lade_fetch_options o = options_for(REPO);
            _exit(lade_fetch(&o, NULL, NULL, NULL, path, err) ? 1 : 0);
        }
        struct stat st = {0};
        for (int i = 0; i < 6000 && st.st_size <= last; i++) {
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            stat(local(REPO ".partial/model-00001-of-00002.safetensors.part"), &st);
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_true(st.st_size > last);
        last = st.st_size;
        assert_false(exists(REPO));
    }
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_true(watch.fetched <= watch.bytes - (uint64_t)last);
    assert_int_equal(support_hub_count(&hub, "model-00001", "bytes=", NULL), 1);
}

/* What lies in a part is not believed. */
static void test_damaged_part(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"drop\": 70000}]");
    check_fails(REPO, "cut");
    const char *part = local(REPO ".partial/model-00001-of-00002.safetensors.part");
    int fd = open(part, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damage", 6, 100), 6);
    close(fd);
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_non_null(strstr(watch.last_note, "sha256"));

    /* Longer than the file, or all of it there already. */
    remove_tree(models);
    watch.cancel_at = 1;
    check_fails(REPO, "cancelled");
    watch.cancel_at = 0;
    char command[512];
    snprintf(command, sizeof command,
             "cd %s/Org/Next.partial && rm -f model* && head -c 400000 /dev/zero >"
             " model-00001-of-00002.safetensors.part && cp %s/Org/Next/model-00002* . && mv"
             " model-00002-of-00002.safetensors model-00002-of-00002.safetensors.part",
             models, hub.root);
    assert_int_equal(system(command), 0);
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_int_equal(support_hub_count(&hub, "model-00002", NULL, NULL), 0);
}

/* Nothing is written through a link that somebody put in the place of a part. */
static void test_link_as_part(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"drop\": 70000}]");
    check_fails(REPO, "cut");
    char part[512], victim[512];
    struct stat st;
    snprintf(part, sizeof part, "%s", local(REPO ".partial/model-00001-of-00002.safetensors.part"));
    snprintf(victim, sizeof victim, "%s", local("victim"));
    assert_int_equal(unlink(part), 0);
    assert_int_equal(symlink(victim, part), 0);
    support_hub_rules(&hub, "[]");
    check_fails(REPO, "cannot be opened");
    assert_int_equal(stat(victim, &st), -1);
}

static void test_two_at_once(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"drop\": 70000}]");
    check_fails(REPO, "cut");
    int fd = open(local(REPO ".partial"), O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    check_fails(REPO, "another lade is fetching it");
    close(fd);
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
}

/* ---- updates --------------------------------------------------------------------------------- */

static void test_update(void **state)
{
    NEEDS_SERVER();
    assert_int_equal(fetch(REPO), 0);
    support_hub_put(&hub, REPO "/tokenizer.json", "{ }", 3);
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_int_equal(support_hub_count(&hub, "/resolve/", NULL, NULL), 1);
    assert_int_equal(watch.fetched, 3);

    /* The hub changed in the middle of a download: parts of the old commit do not count. */
    remove_tree(models);
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"drop\": 70000}]");
    check_fails(REPO, "cut");
    support_hub_fill(&hub, REPO "/model-00001-of-00002.safetensors", SHARD, 7);
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_int_equal(support_hub_count(&hub, "model-00001", "bytes=", NULL), 0);

    /* What somebody else put there stays. */
    remove_tree(models);
    assert_int_equal(fetch(REPO), 0);
    assert_int_equal(unlink(local(REPO "/.lade.json")), 0);
    check_fails(REPO, "was not fetched by lade");
    assert_true(exists(REPO "/config.json"));
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

static void test_gguf(void **state)
{
    NEEDS_SERVER();
#define GGUF "Org/Next-GGUF"
    support_hub_fill(&hub, GGUF "/Q8_0/Next-Q8_0-00001-of-00002.gguf", 5000, 1);
    support_hub_fill(&hub, GGUF "/Q8_0/Next-Q8_0-00002-of-00002.gguf", 70000, 2);
    support_hub_fill(&hub, GGUF "/Next-Q4_K_M.gguf", 6000, 3);
    support_hub_fill(&hub, GGUF "/Next-UD-Q4_K_M.gguf", 6100, 4);
    support_hub_fill(&hub, GGUF "/Next-Q2_K-00001-of-00003.gguf", 10, 5);
    support_hub_fill(&hub, GGUF "/mmproj-F16.gguf", 10, 6);
    check_fails(GGUF, "choose one with " GGUF ":NAME of: Q2_K");
    assert_non_null(strstr(err, "UD-Q4_K_M"));
    assert_null(strstr(err, "mmproj"));
    check_fails(GGUF ":Q5_K_M", "no GGUF file is called 'Q5_K_M'");
    check_fails(GGUF ":Q2_K", "only 1 of 3 parts");
    check_fails(REPO ":Q4_K_M", "it has no GGUF files");

    assert_int_equal(fetch(GGUF ":q8_0"), 0);
    assert_string_equal(path, local(GGUF "@Q8_0/Next-Q8_0-00001-of-00002.gguf"));
    check_file(GGUF "@Q8_0/Next-Q8_0-00002-of-00002.gguf",
               GGUF "/Q8_0/Next-Q8_0-00002-of-00002.gguf");
    assert_int_equal(entries(GGUF "@Q8_0"), 2);
    assert_int_equal(fetch(GGUF ":Q4_K_M"), 0);
    assert_string_equal(path, local(GGUF "@Q4_K_M/Next-Q4_K_M.gguf"));
    assert_int_equal(fetch(GGUF ":Next-UD-Q4_K_M.gguf"), 0);
    assert_string_equal(path, local(GGUF "@UD-Q4_K_M/Next-UD-Q4_K_M.gguf"));
    assert_int_equal(fetch(GGUF ":Q8_0/Next-Q8_0-00002-of-00002.gguf"), 0); /* any part */

    struct lade_found_list list;
    setenv("HOME", "/nonexistent", 1);
    assert_int_equal(lade_find_models(&list, models, err), 0);
    assert_int_equal(list.n, 3);
    assert_string_equal(list.items[0].name, GGUF ":Q4_K_M");
    lade_found_free(&list);
}

/* ---- the token's places ---------------------------------------------------------------------- */

static void test_token(void **state)
{
    NEEDS_SERVER();
    char dir[128], file[160];
    snprintf(dir, sizeof dir, "%s/hf", hub.root);
    snprintf(file, sizeof file, "%s/token", dir);
    support_hub_put(&hub, "hf/token", TOKEN "\n", sizeof TOKEN);
    unsetenv("HF_TOKEN");
    unsetenv("HF_TOKEN_PATH");
    unsetenv("XDG_CACHE_HOME");
    setenv("HF_HOME", dir, 1);
    char *token = lade_hub_token();
    assert_string_equal(token, TOKEN);
    free(token);
    setenv("HF_HOME", "/nonexistent", 1);
    assert_null(lade_hub_token());
    setenv("HF_TOKEN_PATH", file, 1);
    token = lade_hub_token();
    assert_string_equal(token, TOKEN);
    free(token);
    setenv("HF_TOKEN", "other", 1);
    token = lade_hub_token();
    assert_string_equal(token, "other");
    free(token);
    unsetenv("HF_TOKEN");
    unsetenv("HF_TOKEN_PATH");
    unsetenv("HF_HOME");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_specs),
        cmocka_unit_test(test_bad_options),
        AT_HUB(test_whole_model),
        AT_HUB(test_connections),
        AT_HUB(test_empty_file),
        AT_HUB(test_cancel),
        AT_HUB(test_kill),
        AT_HUB(test_damaged_part),
        AT_HUB(test_link_as_part),
        AT_HUB(test_two_at_once),
        AT_HUB(test_update),
        AT_HUB(test_gguf),
        AT_HUB(test_token),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
