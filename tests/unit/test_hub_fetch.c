/* Downloads from a hub on loopback that drops, delays, truncates, redirects, refuses and lies; kill
 * and resume; which files are taken; where the token goes. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/hub/digest.h"
#include "engine/hub/fetch.h"
#include "engine/hub/find.h"
#include "engine/hub/listing.h"
#include "tests/support/support_hub.h"

#define SHARD ((size_t)300000)
#define REPO  "Org/Next"
#define TOKEN "hf_thisIsSecret"

static struct support_hub hub;
static char models[128], err[LADE_ERR], path[PATH_MAX];

/* ---- harness --------------------------------------------------------------------------------- */

/* What the callback saw and what it does. */
static struct watch {
    int calls, notes, n_files;
    char last_note[256];
    uint64_t fetched, done, bytes;
    uint64_t cancel_at; /* bytes over the network; 0 = never */
    atomic_bool cancel;
} watch;

static void watch_progress(void *user, const struct lade_fetch_progress *p)
{
    struct watch *w = user;
    w->calls++;
    if (p->note) {
        w->notes++;
        snprintf(w->last_note, sizeof w->last_note, "%s", p->note);
        assert_null(strstr(p->note, TOKEN));
    }
    assert_true(p->done <= p->bytes);
    uint64_t sum = 0;
    for (int i = 0; i < p->n_files; i++) {
        assert_true(p->files[i].done <= p->files[i].bytes);
        assert_true(p->files[i].state != LADE_FETCH_DONE || p->files[i].done == p->files[i].bytes);
        sum += p->files[i].done;
    }
    assert_true(!p->n_files || sum == p->done);
    w->n_files = p->n_files;
    w->fetched = p->fetched;
    w->done = p->done;
    w->bytes = p->bytes;
    if (w->cancel_at && p->fetched >= w->cancel_at)
        atomic_store(&w->cancel, true);
}

static struct lade_fetch_options options_for(const char *what)
{
    return (struct lade_fetch_options){
        .what = what,
        .dir = models,
        .endpoint = hub.endpoint,
        .attempts = 4,
        .backoff_s = 0.02,
    };
}

static int fetch_with(const struct lade_fetch_options *o)
{
    uint64_t cancel_at = watch.cancel_at;
    memset(&watch, 0, sizeof watch);
    watch.cancel_at = cancel_at;
    *err = *path = '\0';
    int rc = lade_fetch(o, watch_progress, &watch, &watch.cancel, path, err);
    assert_null(strstr(err, TOKEN));
    assert_null(strchr(err, '\n'));
    return rc;
}

static int fetch(const char *what)
{
    struct lade_fetch_options o = options_for(what);
    return fetch_with(&o);
}

static void check_fails(const char *what, const char *says)
{
    assert_int_equal(fetch(what), -1);
    if (!strstr(err, says))
        fail_msg("'%s' does not say '%s'", err, says);
}

static const char *local(const char *file)
{
    static char full[2][512];
    static int turn;
    turn ^= 1;
    snprintf(full[turn], sizeof full[turn], "%s/%s", models, file);
    return full[turn];
}

static bool exists(const char *file)
{
    return access(local(file), F_OK) == 0;
}

static int entries(const char *dir)
{
    struct dirent *e;
    DIR *d = opendir(local(dir));
    int n = 0;
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* The file here and at the hub are the same. */
static void check_file(const char *here, const char *there)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", hub.root, there);
    if (!support_same_file(local(here), full))
        fail_msg("%s differs", here);
}

static void check_model(void)
{
    static const char *const files[] = {"config.json", "tokenizer.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    for (size_t i = 0; i < 4; i++) {
        char name[128];
        snprintf(name, sizeof name, REPO "/%s", files[i]);
        check_file(name, name);
    }
    assert_int_equal(entries(REPO), 4);
    assert_false(exists(REPO ".partial"));
}

static void remove_tree(const char *dir)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
    char dir[128];
    if (!hub.pid) {
        print_message("skip: there is no python3\n");
        *state = &hub;
        return 0;
    }
    *state = NULL;
    snprintf(dir, sizeof dir, "%s/Org", hub.root);
    remove_tree(dir);
    snprintf(models, sizeof models, "%s/models", hub.root);
    remove_tree(models);
    watch.cancel_at = 0;
    support_hub_rules(&hub, "[]");
    static const char config[] = "{\"model_type\": \"qwen3_next\"}";
    support_hub_put(&hub, REPO "/config.json", config, sizeof config - 1);
    support_hub_put(&hub, REPO "/tokenizer.json", "{}", 2);
    support_hub_put(&hub, REPO "/README.md", "# Read me", 9);
    support_hub_put(&hub, REPO "/.gitattributes", "* -text", 7);
    support_hub_put(&hub, REPO "/original/model.safetensors", "other", 5);
    support_hub_put(&hub, REPO "/pytorch_model.bin", "pickle", 6);
    support_hub_fill(&hub, REPO "/model-00001-of-00002.safetensors", SHARD, 1);
    support_hub_fill(&hub, REPO "/model-00002-of-00002.safetensors", SHARD, 2);
    return 0;
}

#define NEEDS_SERVER()                                                                             \
    do {                                                                                           \
        if (*state)                                                                                \
            skip();                                                                                \
    } while (0)

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

/* ---- a bad line ------------------------------------------------------------------------------ */

static void test_drops(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"times\": 3, \"drop\": 70000}]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_int_equal(support_hub_count(&hub, "model-00001", NULL, NULL), 4);
    assert_int_equal(support_hub_count(&hub, "model-00001", "bytes=", NULL), 3);
    assert_int_equal(support_hub_count(&hub, "model-00002", NULL, NULL), 1);
    assert_int_equal(watch.notes, 3);
    assert_non_null(strstr(watch.last_note, "cut"));
    assert_int_equal(watch.fetched, watch.bytes); /* nothing twice */
}

static void test_drops_for_ever(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"drop\": 10}]");
    check_fails(REPO, "model-00001-of-00002.safetensors: the connection was cut");
    assert_non_null(strstr(err, "goes on where it stopped"));
    assert_int_equal(support_hub_count(&hub, "model-00001", NULL, NULL), 4);
    assert_false(exists(REPO));
    support_hub_rules(&hub, "[]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_int_equal(support_hub_count(&hub, "model-00001", "bytes=40-", NULL), 1);
}

static void test_truncated_without_length(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00002\", \"times\": 2, \"truncate\": 100000}]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_int_equal(support_hub_count(&hub, "model-00002", "bytes=100000-", NULL), 1);
    assert_int_equal(support_hub_count(&hub, "model-00002", "bytes=200000-", NULL), 1);
}

static void test_silence(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"times\": 1, \"delay\": 4}]");
    struct lade_fetch_options o = options_for(REPO);
    o.stall_s = 1;
    assert_int_equal(fetch_with(&o), 0);
    check_model();
    assert_non_null(strstr(watch.last_note, "silent"));
}

static void test_no_ranges(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"times\": 1, \"drop\": 70000},"
                            " {\"match\": \"model-00001\", \"ignore_range\": true}]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_int_equal(support_hub_count(&hub, "model-00001", "bytes=70000-", NULL), 1);
}

static void test_wrong_range(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"times\": 1, \"drop\": 70000},"
                            " {\"match\": \"model-00001\", \"times\": 1, \"shift\": 5}]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_non_null(strstr(watch.last_note, "other bytes"));
}

static void test_too_many_bytes(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"extra\": 1000}]");
    check_fails(REPO, "other bytes than were asked for");
    struct stat st;
    assert_int_equal(stat(local(REPO ".partial/model-00001-of-00002.safetensors.part"), &st), 0);
    assert_true(st.st_size <= (off_t)SHARD);
}

static void test_wrong_bytes(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(&hub, "[{\"match\": \"model-00002\", \"times\": 1, \"flip\": 1234}]");
    assert_int_equal(fetch(REPO), 0);
    check_model();
    assert_non_null(strstr(watch.last_note, "sha256"));
    remove_tree(models);
    support_hub_rules(&hub, "[{\"match\": \"model-00002\", \"flip\": 1234}]");
    check_fails(REPO, "model-00002-of-00002.safetensors: its sha256 is wrong, 3 times");
    assert_false(exists(REPO));
    assert_false(exists(REPO ".partial/model-00002-of-00002.safetensors"));
    remove_tree(models);
    support_hub_rules(&hub, "[{\"match\": \"config.json\", \"flip\": 3}]");
    check_fails(REPO, "config.json: its digest is wrong");
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    NEEDS_SERVER();
    static const struct {
        const char *match;
        int status;
        const char *token, *says;
    } rows[] = {
        {"/revision/", 401, NULL, "set HF_TOKEN"},
        {"/revision/", 401, TOKEN, "HF_TOKEN is not valid"},
        {"/revision/", 403, TOKEN, "accept its terms at http://127.0.0.1:"},
        {"/revision/", 404, NULL, "no such repository"},
        {"/tree/", 404, NULL, "the list of files"},
        {"/resolve/", 401, NULL, "set HF_TOKEN"},
        {"model-00001", 403, TOKEN, "model-00001-of-00002.safetensors"},
        {"model-00001", 404, NULL, "404"},
        {"model-00001", 418, NULL, "the hub answers 418"},
        {"model-00001", 204, NULL, "the hub answers 204"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char rules[128];
        struct lade_fetch_options o = options_for(REPO);
        o.token = rows[i].token;
        snprintf(rules, sizeof rules, "[{\"match\": \"%s\", \"status\": %d}]", rows[i].match,
                 rows[i].status);
        support_hub_rules(&hub, rules);
        assert_int_equal(fetch_with(&o), -1);
        assert_true(!strncmp(err, REPO ": ", strlen(REPO ": ")));
        if (!strstr(err, rows[i].says))
            fail_msg("'%s' does not say '%s'", err, rows[i].says);
        assert_true(support_hub_count(&hub, rows[i].match, NULL, NULL) <= 4); /* no retries */
        assert_int_equal(watch.notes, 0);
        assert_false(exists(REPO));
    }
}

static void test_busy(void **state)
{
    NEEDS_SERVER();
    struct timespec a, b;
    support_hub_rules(
        &hub,
        "[{\"match\": \"model-00001\", \"times\": 1, \"status\": 429, \"headers\": "
        "{\"Retry-After\": \"1\"}}, {\"match\": \"/revision/\", \"times\": 1, \"status\": 503},"
        " {\"match\": \"tokenizer\", \"times\": 2, \"status\": 500}]");
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(fetch(REPO), 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    check_model();
    double took = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    assert_true(took >= 1.0);
    assert_int_equal(watch.notes, 4);
    remove_tree(models);
    support_hub_rules(&hub, "[{\"match\": \"/revision/\", \"status\": 429, \"headers\": "
                            "{\"Retry-After\": \"3600\"}}]");
    check_fails(REPO, "429");
    assert_int_equal(support_hub_count(&hub, "/", NULL, NULL), 1); /* an hour is not waited for */
    support_hub_rules(&hub, "[{\"match\": \"model-00002\", \"status\": 502}]");
    check_fails(REPO, "the hub answers 502");
    assert_int_equal(support_hub_count(&hub, "model-00002", NULL, NULL), 4);
}

/* ---- redirects and the token ----------------------------------------------------------------- */

static void test_redirects(void **state)
{
    NEEDS_SERVER();
    static const char *const where[] = {"port", "host"};
    for (size_t i = 0; i < 2; i++) {
        char rules[256];
        struct lade_fetch_options o = options_for(REPO);
        o.token = TOKEN;
        snprintf(rules, sizeof rules,
                 "[{\"match\": \"safetensors\", \"port\": 1, \"times\": 1, \"drop\": 70000},"
                 " {\"match\": \"/resolve/\", \"port\": 0, \"redirect\": \"%s\"}]",
                 where[i]);
        support_hub_rules(&hub, rules);
        assert_int_equal(fetch_with(&o), 0);
        check_model();
        assert_int_equal(watch.fetched, watch.bytes);
        /* Ranges survive the redirect, the token stays at home. */
        assert_int_equal(support_hub_count(&hub, "1 /", "bytes=70000-", NULL), 1);
        assert_int_equal(support_hub_count(&hub, "1 /", " token", NULL), 0);
        assert_int_equal(support_hub_count(&hub, "1 /", NULL, NULL), 5);
        assert_int_equal(support_hub_count(&hub, "0 /", " token", NULL),
                         support_hub_count(&hub, "0 /", NULL, NULL));
        remove_tree(models);
    }
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"redirect\": \"loop\"}]");
    check_fails(REPO, "redirects do not end");
    support_hub_rules(&hub, "[{\"match\": \"model-00001\", \"redirect\": \"file\"}]");
    check_fails(REPO, "redirects do not end");
}

/* A page of the listing elsewhere gets no token either. */
static void test_link_elsewhere(void **state)
{
    NEEDS_SERVER();
    char rules[512];
    struct lade_fetch_options o = options_for(REPO);
    o.token = TOKEN;
    snprintf(rules, sizeof rules,
             "[{\"match\": \"/tree/\", \"port\": 0, \"body\": [], \"headers\": {\"Link\": "
             "\"<http://127.0.0.1:%d/api/models/" REPO "/tree/x?recursive=true>; "
             "rel=\\\"next\\\"\"}}]",
             hub.other);
    support_hub_rules(&hub, rules);
    assert_int_equal(fetch_with(&o), 0);
    check_model();
    assert_true(support_hub_count(&hub, "1 /api/", NULL, NULL) > 1);
    assert_int_equal(support_hub_count(&hub, "1 /", " token", NULL), 0);
}

/* ---- hostile listings ------------------------------------------------------------------------ */

static void test_hostile_listings(void **state)
{
    NEEDS_SERVER();
#define OID             "\"oid\": \"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\""
#define ONE(path, rest) "[{\"type\": \"file\", \"path\": \"" path "\", " rest "}]"
    static const char *const rows[][2] = {
        {ONE("../evil.json", OID ", \"size\": 1"), "not safe"},
        {ONE("/etc/passwd", OID ", \"size\": 1"), "not safe"},
        {ONE("a/../../b.json", OID ", \"size\": 1"), "not safe"},
        {ONE("a//b.json", OID ", \"size\": 1"), "not safe"},
        {ONE("a/./b.json", OID ", \"size\": 1"), "not safe"},
        {ONE("a\\\\b.json", OID ", \"size\": 1"), "not safe"},
        {ONE("a\\u001bb.json", OID ", \"size\": 1"), "not safe"},
        {ONE("", OID ", \"size\": 1"), "not safe"},
        {ONE("a.json", OID ", \"size\": -1"), "no size or no digest"},
        {ONE("a.json", OID ", \"size\": 1e30"), "no size or no digest"},
        {ONE("a.json", OID), "no size or no digest"},
        {ONE("a.json", "\"oid\": \"xyz\", \"size\": 1"), "no size or no digest"},
        {ONE("a.json", OID ", \"size\": 1, \"lfs\": {\"oid\": \"00\", \"size\": 1}"),
         "no size or no digest"},
        {"{\"error\": \"no\"}", "not a list"},
        {"\"[{\"", "not valid JSON"},
        {"[]", "neither safetensors"},
        {ONE("notes.txt", OID ", \"size\": 1"), "neither safetensors"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char rules[512];
        snprintf(rules, sizeof rules, "[{\"match\": \"/tree/\", \"body\": %s}]", rows[i][0]);
        support_hub_rules(&hub, rules);
        check_fails(REPO, rows[i][1]);
        assert_null(strchr(err, '\033'));
        assert_int_equal(access(models, F_OK), -1); /* nothing was made */
    }
    support_hub_rules(&hub, "[{\"match\": \"/revision/\", \"body\": {\"sha\": \"../../x\"}}]");
    check_fails(REPO, "no commit");
    support_hub_rules(&hub, "[{\"match\": \"/revision/\", \"body\": \"<html>\"}]");
    check_fails(REPO, "not valid JSON");
}

static void test_other_architecture(void **state)
{
    NEEDS_SERVER();
    static const char about[] = "{\"config\": {\"model_type\": \"llama\"}}";
    support_hub_put(&hub, REPO "/.about.json", about, sizeof about - 1);
    check_fails(REPO, "architecture is 'llama'");
    static const char gguf[] = "{\"gguf\": {\"architecture\": \"qwen3next\"}}";
    support_hub_put(&hub, REPO "/.about.json", gguf, sizeof gguf - 1);
    assert_int_equal(fetch(REPO), 0);
}

static void test_no_room(void **state)
{
    NEEDS_SERVER();
    support_hub_rules(
        &hub,
        "[{\"match\": \"/tree/\", \"body\": [" /* 4 exabytes */
        "{\"type\": \"file\", \"path\": \"config.json\", " OID ", \"size\": 0},"
        "{\"type\": \"file\", \"path\": \"model.safetensors\", " OID ", \"size\": 1, \"lfs\": "
        "{\"oid\": \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\", "
        "\"size\": 4000000000000000000}}]}]");
    check_fails(REPO, "make room");
    assert_int_equal(support_hub_count(&hub, "/resolve/", NULL, NULL), 0);
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

static int start_server(void **state)
{
    (void)state;
    if (!support_hub_start(&hub))
        hub.pid = 0;
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    if (hub.pid)
        support_hub_stop(&hub);
    return 0;
}

int main(void)
{
#define AT_HUB(test) cmocka_unit_test_setup(test, setup)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_specs),
        cmocka_unit_test(test_bad_options),
        AT_HUB(test_whole_model),
        AT_HUB(test_connections),
        AT_HUB(test_empty_file),
        AT_HUB(test_drops),
        AT_HUB(test_drops_for_ever),
        AT_HUB(test_truncated_without_length),
        AT_HUB(test_silence),
        AT_HUB(test_no_ranges),
        AT_HUB(test_wrong_range),
        AT_HUB(test_too_many_bytes),
        AT_HUB(test_wrong_bytes),
        AT_HUB(test_refusals),
        AT_HUB(test_busy),
        AT_HUB(test_redirects),
        AT_HUB(test_link_elsewhere),
        AT_HUB(test_hostile_listings),
        AT_HUB(test_other_architecture),
        AT_HUB(test_no_room),
        AT_HUB(test_cancel),
        AT_HUB(test_kill),
        AT_HUB(test_damaged_part),
        AT_HUB(test_two_at_once),
        AT_HUB(test_update),
        AT_HUB(test_gguf),
        AT_HUB(test_token),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
