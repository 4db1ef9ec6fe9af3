/* fetch.h - downloads a model from the Hugging Face hub, or a server with its API.
 *
 * The repository is listed at one commit, so that its files belong together. They go to
 * DIR/ORG/NAME.partial (safetensors) or DIR/ORG/NAME@LABEL.partial (one GGUF model of a
 * repository), several at a time, each as FILE.part until its size and digest are right: the
 * sha256 of large files, git's blob id of small ones, both from the listing. When all are there the
 * directory gets its name without ".partial", so a directory without it is a whole model. A
 * download that was cancelled, killed or cut off goes on where it stopped when asked for again:
 * what is in a FILE.part is read and hashed first, then the rest is fetched. */
#ifndef LADE_HUB_FETCH_H
#define LADE_HUB_FETCH_H

#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>

#include "kernels/error.h"

#define LADE_HUB_ENDPOINT "https://huggingface.co"

struct lade_fetch_options {
    const char *what;     /* "ORG/NAME", "ORG/NAME:Q4_K_M", "ORG/NAME:FILE.gguf", or its address */
    const char *revision; /* branch, tag or commit; NULL = main */
    const char *dir;      /* the models directory; made where it is missing */
    const char *endpoint; /* NULL = LADE_HUB_ENDPOINT */
    const char *token;    /* NULL = none; only ever sent to the endpoint */
    int connections;      /* files at a time; 0 = 4 */
    int attempts;         /* of a request or file in a row without progress; 0 = 6 */
    double backoff_s;     /* before the second attempt, then doubled up to 30; 0 = 1 */
    int stall_s;          /* a silent connection is dropped after that; 0 = 30 */
};

enum lade_fetch_state {
    LADE_FETCH_WAITING,  /* for a connection, or between two attempts */
    LADE_FETCH_CHECKING, /* hashing what an earlier run left */
    LADE_FETCH_RUNNING,
    LADE_FETCH_DONE,
};

struct lade_fetch_file {
    const char *name;
    uint64_t bytes, done;
    enum lade_fetch_state state;
};

/* Valid during the call. */
struct lade_fetch_progress {
    const char *repo;                    /* "ORG/NAME" */
    const struct lade_fetch_file *files; /* NULL while the repository is listed */
    int n_files;
    uint64_t bytes, done; /* of all files */
    uint64_t fetched;     /* came over the network in this call */
    const char *note;     /* something people should know, once, or NULL: retries */
};

/* Called on the caller's thread: when a file changes its state, with a note, else ten times a
 * second. Must be quick. */
typedef void lade_fetch_fn(void *user, const struct lade_fetch_progress *p);

/* Blocks until the model is there; `path` is then what to open: its directory, or the first file
 * of a GGUF model. A model that is there already and unchanged costs two requests. `cancel` (may be
 * NULL) is looked at ten times a second. Fails with one line; what was fetched stays for the next
 * call. One process at a time fetches the same model: another gets an error. */
int lade_fetch(const struct lade_fetch_options *o, lade_fetch_fn *progress, void *user,
               const atomic_bool *cancel, char path[PATH_MAX], char *err);

/* The token of HF_TOKEN, else of the file that HF_TOKEN_PATH names, else of `hf auth login`
 * ($HF_HOME/token, ~/.cache/huggingface/token); NULL where there is none. The caller frees it. */
char *lade_hub_token(void);

#endif
