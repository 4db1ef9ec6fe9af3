/* fake_script.h - the script that the fake engine plays: a text file.
 *
 *     name NAME            strategy NAME        device TEXT       thinking
 *     shard NAME BYTES     (one line each)      speed GB/s        context TOKENS
 *     hold FRACTION        the load stops there and waits for ever
 *     usable FRACTION      answers are given from there on, while the load goes on; else at its end
 *     fail TEXT            the load fails with this line when it gets to `hold` or the end
 *     prefill TOKENS SECONDS                    rate TOKENS/S
 *     traffic VRAM RAM DRIVE WAIT COMPUTE       experts a token finds in each tier, and seconds; while
 *                          it loads, more of them are still on the drive and tokens come slower
 *     room VRAM RAM        experts that each memory has room for; they fill with the load
 *     machine VRAM RAM     GiB of the machine that the plan is for
 *     stderr TEXT          printed there while loading, as libraries do
 *     think / answer / error                    blocks of text up to a line "."
 *     pause                (inside a block) waits there until cancelled
 *     gate NAME            (inside a block) waits there until $LADE_HOME/NAME exists, or cancelled
 *
 * Each `answer` or `error` block, with the `think` before it, is one reply; replies repeat from the
 * first when they run out. A token is four bytes or a whole character. */
#ifndef LADE_TESTS_FAKE_SCRIPT_H
#define LADE_TESTS_FAKE_SCRIPT_H

#include "engine/engine.h"

enum { FAKE_REPLIES = 32 };

struct fake_reply {
    char *think, *text;
    bool error;
};

struct fake_script {
    struct lade_model_info info;
    double speed, hold, usable, rate, prefill_s, vram, ram;
    int room[LADE_N_TIERS];  /* experts */
    int found[LADE_N_TIERS]; /* experts of a token in each tier, when all is loaded */
    double wait_s, compute_s;
    int prefill;
    char *fail, *noise;
    struct fake_reply replies[FAKE_REPLIES];
    int n_replies;
};

/* Fills s, which the caller frees with fake_script_free(); -1 with a line in err when the file cannot be
 * read, and then there is nothing to free. */
int fake_script_read(struct fake_script *s, const char *path, char *err);
void fake_script_free(struct fake_script *s);

#endif
