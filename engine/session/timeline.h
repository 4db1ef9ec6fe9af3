/* timeline.h - the inside of a session, shared by what runs it (session.c) and what keeps it on the
 * drive (kept.c). */
#ifndef LADE_SESSION_TIMELINE_H
#define LADE_SESSION_TIMELINE_H

#include "engine/session/model.h"

/* Whom to tell how far a prompt has been read. */
struct lade_reading {
    lade_prefill_fn *progress; /* NULL: nobody */
    void *user;
    int from, total; /* tokens on the timeline before it, and wanted */
    long layers;     /* of each token of the run that goes on, those it has been through */
    double told;     /* when */
};

/* Snapshots kept of the recurrent state. A conversation needs the last one; the others serve
 * going back (a regenerated answer, an edited message). 75.5 MB each for the 80B model. */
enum { LADE_SNAPSHOTS = 4 };

struct lade_snapshot {
    int length; /* tokens before it; 0 = free */
    unsigned char *data;
};

struct lade_session {
    struct lade_model *model;
    struct lade_state state;
    struct lade_pipeline pipeline;
    int32_t *ids;     /* [context] the timeline */
    float *logits;    /* [vocab], or the `wanted` largest; of the last token */
    int32_t *top_ids; /* [LADE_TOPK_MAX] of these */
    bool has_logits;  /* the device has those of the last token */
    int drafted;      /* rows of the last pass, if that was one over drafts; else 0 */
    int taken; /* of these, on the timeline; the recurrent state knows none of them yet. The others
                    follow the timeline in `ids` */
    lade_between_fn *between; /* see lade_session_between */
    void *between_user;
    struct lade_reading reading;
    int wanted, fetched; /* how many are wanted, and were fetched; 0 = all; fetched -1 = none */
    struct lade_snapshot snapshots[LADE_SNAPSHOTS];
    int expected; /* tokens that others are expected to begin with: that snapshot stays; 0 = none are */
    int fork;     /* more, that several conversations began with: this one, too; 0 = none did */
    uint64_t key; /* of what is kept (kept.c); 0 = nobody asked yet */
};

/* Brings the recurrent state behind the timeline's last token: before anything else uses it. On failure the
 * timeline is back at a snapshot. */
int lade_session_settle(struct lade_session *s, char *err);

#endif
