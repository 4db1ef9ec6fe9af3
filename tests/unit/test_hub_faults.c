/* Downloads from a hub on loopback that drops, delays, truncates, redirects, refuses and lies. */
#include <sys/stat.h>
#include <time.h>

#include "tests/unit/hub_common.h"

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
    static const int shifts[] = {5, -5}; /* before what was asked for, and after it */
    for (size_t i = 0; i < 2; i++) {
        char rules[256];
        snprintf(rules, sizeof rules,
                 "[{\"match\": \"model-00001\", \"times\": 1, \"drop\": 70000},"
                 " {\"match\": \"model-00001\", \"times\": 1, \"shift\": %d}]",
                 shifts[i]);
        support_hub_rules(&hub, rules);
        assert_int_equal(fetch(REPO), 0);
        check_model();
        assert_non_null(strstr(watch.last_note, "other bytes"));
        remove_tree(models);
    }
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

/* A page of the listing elsewhere gets no token either, also where its address begins like ours. */
static void test_link_elsewhere(void **state)
{
    NEEDS_SERVER();
    char rules[512], before[2][96];
    struct lade_fetch_options o = options_for(REPO);
    o.token = TOKEN;
    snprintf(before[0], sizeof before[0], "http://");
    snprintf(before[1], sizeof before[1], "%s@", hub.endpoint); /* a user and a password */
    for (int i = 0; i < 2; i++) {
        snprintf(rules, sizeof rules,
                 "[{\"match\": \"/tree/\", \"port\": 0, \"body\": [], \"headers\": {\"Link\": "
                 "\"<%s127.0.0.1:%d/api/models/" REPO "/tree/x?recursive=true>; "
                 "rel=\\\"next\\\"\"}}]",
                 before[i], hub.other);
        support_hub_rules(&hub, rules);
        assert_int_equal(fetch_with(&o), 0);
        check_model();
        assert_true(support_hub_count(&hub, "1 /api/", NULL, NULL) > 1);
        assert_int_equal(support_hub_count(&hub, "1 /", " token", NULL), 0);
        assert_true(support_hub_count(&hub, "0 /", " token", NULL) > 0);
        remove_tree(models);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
