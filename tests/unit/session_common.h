/* session_common.h - what tests of timelines share: a model, a prompt for it, and sessions that read it. */
#ifndef LADE_TESTS_SESSION_COMMON_H
#define LADE_TESTS_SESSION_COMMON_H

#include "engine/session/model.h"
#include "tests/unit/engine_common.h"
#include "tests/unit/off_by.h"

enum { N = 120, CONTEXT = 256 };

static struct lade_model *model;
static int vocab;
static int32_t prompt[N];

static inline struct lade_model *open_model(const char *name, bool exact)
{
    struct lade_model *m;
    struct lade_options opt = {
        .model = name, .exact = exact, .threads = 2, .context = CONTEXT, .batch = 16};
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    return m;
}

/* Opens `model` and makes a prompt of its tokens; the caller closes it. */
static inline void open_with_prompt(const char *name)
{
    model = open_model(name, true);
    vocab = lade_model_catalog(model)->shape.vocab;
    for (int i = 0; i < N; i++)
        prompt[i] = (i * 7919 + 13) % vocab;
}

static inline struct lade_session *open_session(struct lade_model *m)
{
    struct lade_session *s;
    if (lade_session_open(&s, m, err))
        fail_msg("%s", err);
    return s;
}

/* Returns how many tokens of ids[0..n) were kept. */
static inline int sync_to(struct lade_session *s, const int32_t *ids, int n, int stable)
{
    int kept = -1;
    if (lade_session_sync(s, ids, n, stable, NULL, NULL, NULL, &kept, err))
        fail_msg("%s", err);
    assert_int_equal(lade_session_length(s), n);
    return kept;
}

#endif
