/* hub_common.h - what tests of downloads share: a hub on loopback with one model, downloads with a
 * callback that checks what it is told, and looks at what arrived. */
#ifndef LADE_TESTS_HUB_COMMON_H
#define LADE_TESTS_HUB_COMMON_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/hub/fetch.h"
#include "tests/support/support_hub.h"

#define SHARD ((size_t)300000)
#define REPO  "Org/Next"
#define TOKEN "hf_thisIsSecret"

static struct support_hub hub;
static char models[128], err[LADE_ERR], path[PATH_MAX];

/* What the callback saw and what it does. */
static struct watch {
    int calls, notes, n_files;
    char last_note[256];
    uint64_t fetched, done, bytes;
    uint64_t cancel_at; /* bytes over the network; 0 = never */
    atomic_bool cancel;
} watch;

static inline void watch_progress(void *user, const struct lade_fetch_progress *p)
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

static inline struct lade_fetch_options options_for(const char *what)
{
    return (struct lade_fetch_options){
        .what = what,
        .dir = models,
        .endpoint = hub.endpoint,
        .attempts = 4,
        .backoff_s = 0.02,
    };
}

static inline int fetch_with(const struct lade_fetch_options *o)
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

static inline int fetch(const char *what)
{
    struct lade_fetch_options o = options_for(what);
    return fetch_with(&o);
}

static inline void check_fails(const char *what, const char *says)
{
    assert_int_equal(fetch(what), -1);
    if (!strstr(err, says))
        fail_msg("'%s' does not say '%s'", err, says);
}

static inline const char *local(const char *file)
{
    static char full[2][512];
    static int turn;
    turn ^= 1;
    snprintf(full[turn], sizeof full[turn], "%s/%s", models, file);
    return full[turn];
}

static inline bool exists(const char *file)
{
    return access(local(file), F_OK) == 0;
}

static inline int entries(const char *dir)
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
static inline void check_file(const char *here, const char *there)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", hub.root, there);
    if (!support_same_file(local(here), full))
        fail_msg("%s differs", here);
}

static inline void check_model(void)
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

static inline void remove_tree(const char *dir)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static inline int setup(void **state)
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

static inline int start_server(void **state)
{
    (void)state;
    if (!support_hub_start(&hub))
        hub.pid = 0;
    return 0;
}

static inline int stop_server(void **state)
{
    (void)state;
    if (hub.pid)
        support_hub_stop(&hub);
    return 0;
}

#define AT_HUB(test) cmocka_unit_test_setup(test, setup)

#endif
