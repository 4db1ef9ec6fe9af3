/* engine.h - the only header of the engine that the screen needs.
 *
 * It is narrow on purpose. An *engine* is a background thread that owns one model and one
 * session; the caller sends it commands and takes events. Two threads meet here and nowhere else:
 *
 *     UI thread      lade_engine_start, _stop, and all between: _ask, _cancel, _next, _stats ...
 *     engine thread  opens, loads, prefills, decodes; appends events, writes one byte to a pipe
 *
 * so the UI waits in one poll() on the terminal and lade_engine_fd(). Nothing here prints.
 *
 * Below it, for tools and tests that want no second thread, a *model* can be opened and evaluated
 * directly (lade_model_*, lade_session_*). All sizes are bytes unless a name says tokens. */
#ifndef LADE_ENGINE_ENGINE_H
#define LADE_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/checkpoint/catalog.h"
#include "engine/plan/plan.h"
#include "engine/plan/pressure.h"
#include "engine/tokenizer/chat.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/error.h"

struct lade_io_ops; /* engine/tiers/io.h */

/* ---- what to open ---- */

struct lade_options {
    /* Directory, or a .gguf file, or the address of an OpenAI-compatible server (engine/remote/address.h),
     * beside which only the key matters; copied. */
    const char *model;
    const char *key;               /* of a server, printable; copied; NULL = none */
    const char *strategy;          /* "auto" or a name of the strategy table; copied; NULL = auto */
    uint64_t vram_cap[LADE_CARDS]; /* of each GPU (see lade_vram_cap); 0 = what it has free */
    size_t ram_cap;                /* 0 = what the machine has free */
    bool cpu_only;
    bool exact;        /* fp32 activations and cache everywhere; see kernels.h */
    bool kv_q8;        /* KV caches of 8 bits with a scale per 32 values; on the CPU, not exact */
    int threads;       /* 0 = physical cores */
    int context;       /* tokens; 0 = the model's own, at most what memory allows */
    const char *isa;   /* "portable", "avx2", ...; NULL = best; for tests and bench */
    int batch;         /* tokens of a prefill batch; 0 = the plan's choice */
    bool no_lookahead; /* never read experts from the drive before they are asked for */
    bool no_draft; /* never evaluate guesses of the next tokens (model/drafts.h); an engine that is
                          exact does not either */
    const char *plugin;    /* path of the GPU plug-in; copied; NULL = no GPU */
    const char *cache_dir; /* for measured speeds and statistics; copied; NULL = none are kept */
    /* An engine's: directory that keeps what was read and said when it stops, for the next one to go on
     * with (session/kept.h); copied; NULL = none does. */
    const char *timelines;
    const struct lade_placement *place; /* for tests and bench: instead of what a plan says */
    const struct lade_io_ops *io;       /* for tests and bench: how files are read; NULL = best */
    lade_pressure_fn *pressure; /* for tests: where free memory is seen; NULL = the system */
    void *pressure_user;
};

/* Progress of a load: of the first, and of those that follow where pieces get other homes. Called from
 * loader threads, never concurrently; must be quick. */
struct lade_load_progress {
    int shard, n_shards;
    const char *path; /* of the shard; valid during the call */
    uint64_t shard_done, shard_bytes;
    uint64_t done, bytes; /* of all shards */
    bool usable;          /* what every token needs is there */
    bool ended;           /* the load is over: its last call */
    const char *error;    /* ended by this; valid during the call */
};
typedef void lade_load_fn(void *user, const struct lade_load_progress *p);

/* ---- model and session: one thread, blocking ---- */

struct lade_model;

/* Opens a model and loads all that has room. `cancel` (may be NULL) is read often; setting it makes
 * the call fail with "cancelled". On success *out is owned by the caller. */
int lade_model_open(struct lade_model **out, const struct lade_options *opt, lade_load_fn *progress,
                    void *user, const atomic_bool *cancel, char *err);
void lade_model_close(struct lade_model *m);

/* Borrowed from the model, valid until it closes. */
const struct lade_catalog *lade_model_catalog(const struct lade_model *m);
const struct lade_tokenizer *lade_model_tokenizer(const struct lade_model *m);
const char *lade_model_device(const struct lade_model *m);   /* "cpu: AVX-512, 2 threads" */
const char *lade_model_strategy(const struct lade_model *m); /* the chosen row's name */
int lade_model_context(const struct lade_model *m);          /* tokens */
/* Why the plan does without a GPU that it was first made for, in one line: it could not be opened. NULL
 * where that is not so. */
const char *lade_model_notice(const struct lade_model *m);

/* Where the experts of evaluated tokens were when they were asked for, and what that cost: sums
 * since the model was opened, so that the difference of two is an interval. A visit is one routed
 * expert of one layer in one batch, however many tokens of the batch use it. */
struct lade_traffic {
    uint64_t tokens;                            /* evaluated, prompts included */
    uint64_t vram_hits, ram_hits, disk_reads;   /* visits, by where the expert was */
    uint64_t vram_bytes, ram_bytes, disk_bytes; /* packed bytes of these experts */
    uint64_t link_bytes;                        /* carried over the link for them */
    /* experts of disk_reads that were being read before they were asked for, from a guess */
    uint64_t ahead_right;
    uint64_t ahead, ahead_wasted, ahead_wasted_bytes; /* guesses read; given up unasked */
    bool ahead_on; /* at the end of it: experts are read ahead, where there is one to read */
    double wait_s, compute_s; /* waiting for experts; all other time of the forward pass */
};

/* What came between two sums. Pure. */
struct lade_traffic lade_traffic_between(const struct lade_traffic *from,
                                         const struct lade_traffic *to);

/* Plain reads of memory. */
struct lade_reads {
    double bytes, seconds;
};
/* Reads the model's head from RAM, again and again up to `least` bytes or somewhat more, with the threads that
 * compute and as plainly as can be, and adds that to `reads`: the speed that a token's weights are
 * read with at most. Adds nothing where the head is on a GPU or so small that caches may hold it.
 * About 30 ms for a GiB at 35 GB/s; caches then hold nothing of what they held before. Of the thread that uses
 * the model. */
void lade_model_read(const struct lade_model *m, uint64_t least, struct lade_reads *reads);

/* Routed experts in one memory. */
struct lade_residence {
    uint64_t experts, room; /* there now; how many the plan gives room for */
    uint64_t bytes;         /* memory that room takes */
};

/* Of the thread that uses the model. */
void lade_model_traffic(const struct lade_model *m, struct lade_traffic *out);
/* Most bytes this process held on each GPU so far, added up; 0 without one. *own (may be NULL): those
 * of them that are no part of a plan, the drivers' contexts and code. */
uint64_t lade_model_vram_peak(const struct lade_model *m, uint64_t *own);

/* A GPU that the model is on. Bytes. */
struct lade_card_memory {
    int gpu;              /* its number, as the plug-in lists it */
    int first, layers;    /* its layers */
    uint64_t total, free; /* of the card, all programs counted */
    uint64_t used, peak;  /* held by this process now, and at most so far */
    uint64_t own;         /* of these, no part of a plan: the driver's context and code */
};

/* Fills out[], returns how many there are; a card that does not answer has zeros. */
int lade_model_cards(const struct lade_model *m, struct lade_card_memory out[LADE_CARDS]);

/* The plan that chose the strategy; borrowed, valid until the model closes or changes strategy. */
const struct lade_plan *lade_model_plan(const struct lade_model *m);

/* One mutable timeline of tokens with its caches and recurrent state. */
struct lade_session;

int lade_session_open(struct lade_session **out, struct lade_model *m, char *err);
void lade_session_close(struct lade_session *s);

/* Makes the session's timeline equal ids[0..n): what it already holds is kept, the rest is
 * evaluated in batches. A recurrent state cannot be cut at will, so where the timelines part the
 * session returns to its latest snapshot before that point. `stable` (tokens, 0 = none) asks for a
 * snapshot there, because later prompts will repeat that prefix; where it has to read again what it had
 * it takes one, too. `progress` is called after each batch, and within it now and then, with tokens done
 * and wanted (of the new part). *kept (may be NULL) is the number of tokens reused. The logits of the last
 * token are then in lade_session_logits. */
typedef void lade_prefill_fn(void *user, int done, int total);
int lade_session_sync(struct lade_session *s, const int32_t *ids, int n, int stable,
                      lade_prefill_fn *progress, void *user, const atomic_bool *cancel, int *kept,
                      char *err);

/* Others are expected to begin with the first n tokens of what is synced from now on: a snapshot of them
 * stays. 0 = none are. */
void lade_session_expect(struct lade_session *s, int n);

/* Appends one token. */
int lade_session_push(struct lade_session *s, int32_t id, char *err);

/* Appends one token, too, and evaluates with it, in one pass, n guesses of those after it: while what is
 * pushed next is the next guess, it is appended at no cost. The state is that of the timeline either way.
 * Guesses that there is no room for are left out; most_drafts: how many there may be, 0 with a GPU
 * or no_draft. */
int lade_session_push_drafts(struct lade_session *s, int32_t id, const int32_t *drafts, int n,
                             char *err);
int lade_session_most_drafts(const struct lade_session *s);
/* Whether pushing the token would cost nothing. */
bool lade_session_foreseen(const struct lade_session *s, int32_t id);

/* Logits of the last token: [vocab] floats, valid until the next call on s. */
const float *lade_session_logits(const struct lade_session *s);
/* From the next sync or push on only the k largest logits are brought from the device; all of them,
 * as at first, where k is 0, more than 1024 or not below the vocabulary. */
void lade_session_want(struct lade_session *s, int k);
/* The k largest of the last token, largest first, of equal ones the lower id; returns k, or 0 where
 * lade_session_logits has all of them. Valid until the next call on s. */
int lade_session_top(const struct lade_session *s, const float **values, const int32_t **ids);
int lade_session_length(const struct lade_session *s);         /* tokens on the timeline */
const int32_t *lade_session_ids(const struct lade_session *s); /* valid until the next call on s */
void lade_session_reset(struct lade_session *s);

/* Evaluates ids on an empty session and writes the logits of every position to out
 * ([n][vocab], caller's memory). For checks against a reference. */
int lade_session_all_logits(struct lade_session *s, const int32_t *ids, int n, float *out,
                            char *err);

/* ---- sampling ---- */

/* Texts (UTF-8, not empty) that end an answer: the first that comes, and what follows, is no part of it.
 * Its reasoning may have them. */
enum { LADE_STOPS = 8, LADE_STOP_SIZE = 64 };
struct lade_stop_texts {
    char text[LADE_STOPS][LADE_STOP_SIZE]; /* terminated */
    int n;
};

/* Of a model behind a server, NAN and -1 are the server's own values. */
struct lade_sampling {
    float temperature;        /* <= 0: greedy */
    int top_k;                /* 0 = all */
    float top_p, min_p;       /* 1 and 0 = off */
    float repetition_penalty; /* 1 = off; over the last 256 tokens of the timeline */
    uint64_t seed;            /* 0 = from the clock */
    struct lade_stop_texts stop;
};

/* The model's own defaults (generation_config.json). */
void lade_sampling_defaults(struct lade_sampling *s, const struct lade_catalog *cat);

/* ---- the engine: a thread, commands in, events out ---- */

struct lade_engine;

enum lade_phase {
    LADE_PHASE_LOADING, /* until asks can be answered (USABLE) */
    LADE_PHASE_IDLE,
    LADE_PHASE_PREFILL,
    LADE_PHASE_DECODE,
    LADE_PHASE_FAILED, /* no model: the load failed or was cancelled; ask fails */
};

enum lade_stop {
    LADE_STOP_END,
    LADE_STOP_TEXT, /* one of the sampling's stop texts came */
    LADE_STOP_LENGTH,
    LADE_STOP_CONTEXT,
    LADE_STOP_CANCELLED,
    LADE_STOP_ERROR
};

enum lade_event_kind {
    LADE_EV_MODEL,    /* headers are read: shards and sizes are known (lade_engine_model_info) */
    LADE_EV_WAITING,  /* before MODEL, of a server that is not ready: text says for what */
    LADE_EV_SHARD,    /* progress of one shard */
    LADE_EV_USABLE,   /* asks are answered from now on, while the load goes on; seconds */
    LADE_EV_READY,    /* the load is over; seconds. text: NULL, or why it ended early (what is not
                          home is then read when it is needed). Once more for each load after a
                          change of strategy that ends early */
    LADE_EV_STRATEGY, /* lade_engine_strategy took effect (text NULL) or failed (text: the line) */
    LADE_EV_GPU_LOST, /* a GPU is lost, or could not be opened, and lade goes on without it: an answer
                          that was cut off goes on where it was, once the conversation has been read
                          again (PREFILL). text: the line; or NULL when everything has its new place.
                          lade_engine_info and _plan are then those of the new strategy */
    LADE_EV_MEMORY,   /* experts gave memory to other programs, or have it back; text: the line */
    LADE_EV_PREFILL, /* progress of a prompt: done, total tokens */
    LADE_EV_TEXT,    /* a piece of the answer or of the reasoning: whole UTF-8 characters */
    LADE_EV_DONE,    /* the answer ended: stop, result */
    LADE_EV_FAILED,  /* the load or the answer failed: text is the error line; result.stop is
                          LADE_STOP_CONTEXT where the prompt does not fit and nothing was done */
    LADE_EV_ENDED, /* the thread has nothing more to do: after lade_engine_end, or a load that failed */
};

/* What an answer cost. */
struct lade_result {
    enum lade_stop stop;
    int prompt_tokens, kept_tokens, tokens; /* prompt in all, of these reused, generated */
    int drafted, accepted; /* guesses of tokens that were evaluated, and that were right and said */
    double ttft_s;         /* ask to first token */
    double prefill_s, decode_s;
    double prefill_tps, decode_tps; /* tokens per second; 0 if nothing was measured */
};

struct lade_event {
    enum lade_event_kind kind;
    int request;         /* of the ask it belongs to; 0 for loading */
    char *text;          /* malloc'ed, freed by lade_event_clear */
    bool reasoning;      /* TEXT: between <think> and </think> */
    int shard, n_shards; /* SHARD */
    uint64_t shard_done, shard_bytes, done_bytes, total_bytes;
    int done, total;           /* PREFILL */
    double seconds;            /* USABLE, READY: since the start */
    struct lade_result result; /* DONE */
};

/* Consistent snapshot of the live numbers. */
struct lade_stats {
    enum lade_phase phase;
    bool ended;    /* ENDED was told */
    bool loading;  /* pieces are on their way home: until READY, also while chatting */
    double load_s; /* so far, or in all */
    uint64_t load_done, load_bytes;
    double load_gbps;               /* GB/s (10^9) over the last second */
    double prefill_tps, decode_tps; /* of the running or last answer, live */
    int context_used, context_size; /* tokens */
    uint64_t rss, rss_peak;         /* of this process */
    uint64_t keeping;               /* bytes of the timeline that is being written; 0 = none is */
    uint64_t weights, kv;           /* bytes the engine holds for weights, and for caches + state */
    uint64_t vram, vram_peak;       /* bytes this process holds on all GPUs; 0 without one */
    struct lade_card_memory cards[LADE_CARDS]; /* of these, each GPU in use */
    int n_cards;
    struct lade_traffic traffic; /* since the start */
    struct lade_traffic token;   /* of the last decoded token that was evaluated alone */
    struct lade_residence in_vram, in_ram;
    uint64_t vram_given, ram_given; /* bytes of the plan's room for experts that others have now */
};

/* Static facts of the model, copied so that the UI never touches the model. */
struct lade_model_info {
    char name[128], path[1024], format[16], quant[64], strategy[32], device[128];
    int n_shards;
    int layers, experts, experts_used, hidden, vocab, max_context;
    uint64_t bytes; /* of the source */
    bool thinking;  /* the family thinks before answering */
    /* Behind a server: `device` is its host, `format` its kind; no shards, no numbers of the model but
     * max_context, which is 0 where it is not told. */
    bool remote;
    struct lade_sampling sampling; /* defaults */
    struct {
        char name[128];
        uint64_t bytes;
    } shards[256]; /* the first 256 */
};

/* Copies opt, starts the thread and the load, returns at once. */
int lade_engine_start(struct lade_engine **out, const struct lade_options *opt, char *err);

/* Cancels what runs and has the timeline written, on the engine's thread: ENDED tells when all is done.
 * `of` is the caller's number of the conversation that was asked in last, 0 = it has none: by it
 * lade_kept_forget (session/kept.h) finds what is written. Only events, numbers, _forget and _stop may be
 * asked for after it. */
void lade_engine_end(struct lade_engine *e, int64_t of);

/* The same where that was not called, with 0; waits for it, and frees everything. NULL is allowed. */
void lade_engine_stop(struct lade_engine *e);

/* Readable when events wait. Do not read it: lade_engine_next drains it. */
int lade_engine_fd(const struct lade_engine *e);

/* Takes the next event; false when there is none. Free it with lade_event_clear. Adjacent TEXT
 * events of the same kind may arrive joined. */
bool lade_engine_next(struct lade_engine *e, struct lade_event *ev);
void lade_event_clear(struct lade_event *ev);

/* Asks for an answer to a conversation (copied). `think` is only for families that think: false
 * closes the reasoning block at once. max_tokens 0 = until it stops or the context is full.
 * Requests queue: one asked while loading runs once the model is usable. Returns the request's
 * number (> 0), or -1. */
int lade_engine_ask(struct lade_engine *e, const struct lade_message *messages, size_t n,
                    const struct lade_sampling *sampling, int max_tokens, bool think, char *err);

/* Stops the answer to one request between two tokens, or drops it where it waits; 0 = of all. Each still
 * ends with a DONE event, stop = CANCELLED, unless it has ended by itself already. The load goes on, and
 * so do other requests. */
void lade_engine_cancel(struct lade_engine *e, int request);

/* What was read and said so far is not kept when the engine stops, and what is being written is given up;
 * what comes after it is kept again. The files of earlier runs are the caller's to remove. */
void lade_engine_forget(struct lade_engine *e);

/* Stops the load itself; the phase becomes FAILED. */
void lade_engine_cancel_load(struct lade_engine *e);

/* Asks for another strategy ("auto" or a name of the table; copied). Takes effect between two
 * tokens, in the middle of an answer too, and keeps the conversation; pieces then move to their new
 * homes in the background. A STRATEGY event tells the outcome; lade_engine_info and _plan are then
 * those of the new one. A later call replaces one that still waits. Fails where there is no model. */
int lade_engine_strategy(struct lade_engine *e, const char *name, char *err);

/* The plan the running strategy was chosen from, for this machine and the caps. False until the
 * MODEL event. */
bool lade_engine_plan(struct lade_engine *e, struct lade_plan *out);

void lade_engine_stats(struct lade_engine *e, struct lade_stats *out);

/* False until the MODEL event. */
bool lade_engine_info(struct lade_engine *e, struct lade_model_info *out);

#endif
