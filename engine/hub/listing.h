/* listing.h - inside engine/hub: the files of a repository, and which of them make a model.
 *
 * Two requests give them: /api/models/ORG/NAME/revision/REVISION has the commit ("sha") and what
 * the model is; /api/models/ORG/NAME/tree/COMMIT?recursive=true lists the files in pages, with
 * size and git blob id ("oid"), and for large ones the sha256 ("lfs": {"oid", "size"}).
 * The same struct keeps what a directory was made from, in its file .lade.json. */
#ifndef LADE_HUB_LISTING_H
#define LADE_HUB_LISTING_H

#include "engine/hub/digest.h"
#include "kernels/error.h"

enum { LADE_REPO = 200, LADE_WANTED = 256 };

struct lade_hub_file {
    char *path;       /* in the repository, owned */
    const char *name; /* its last component: what it is called here */
    uint64_t bytes;
    enum lade_digest_kind kind;
    char digest[LADE_DIGEST_TEXT];
};

struct lade_listing {
    char repo[LADE_REPO];    /* "ORG/NAME" */
    char revision[41];       /* the commit */
    char label[LADE_WANTED]; /* of a GGUF model among several: "Q4_K_M"; "" = safetensors */
    struct lade_hub_file *files;
    size_t n, room;
};

void lade_listing_free(struct lade_listing *l);

/* Splits "ORG/NAME[:WANTED]", which an address of the hub may precede. `wanted` is "" only where there
 * is no colon. */
int lade_hub_spec(const char *what, char repo[LADE_REPO], char wanted[LADE_WANTED], char *err);

/* Takes the answer on the revision: the commit; refuses a model that lade cannot run. */
int lade_listing_revision(struct lade_listing *l, const char *text, size_t len, char *err);

/* Appends a page of the tree. Names that would leave a directory are refused. */
int lade_listing_page(struct lade_listing *l, const char *text, size_t len, char *err);

/* Keeps only the files of the model that is wanted: a quantization, a .gguf file (with its other
 * parts), or with "" the safetensors model, else the only GGUF one. Sets label. */
int lade_listing_pick(struct lade_listing *l, const char *wanted, char *err);

/* The file called `name`, or NULL. */
const struct lade_hub_file *lade_listing_find(const struct lade_listing *l, const char *name);

/* Whether a and b are the same content. */
int lade_hub_file_same(const struct lade_hub_file *a, const struct lade_hub_file *b);

/* Reads and writes DIR/.lade.json. Reading succeeds with an empty listing where it is missing or
 * not ours; writing replaces it at once or not at all. */
#define LADE_RECORD ".lade.json"
void lade_record_read(struct lade_listing *l, int dirfd);
int lade_record_write(const struct lade_listing *l, int dirfd, char *err);

#endif
