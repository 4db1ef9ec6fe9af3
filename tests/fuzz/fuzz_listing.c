/* What a hub answers: the revision and pages of the list of files, and what is chosen of it. The
 * first line is what is wanted, the rest the answer. Whatever is accepted has names that stay in a
 * directory. */
#include <stdlib.h>
#include <string.h>

#include "engine/hub/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int rc, const char *err)
{
    if (rc && (!err[0] || strchr(err, '\n')))
        abort();
}

static void check_files(const struct lade_listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct lade_hub_file *f = &l->files[i];
        if (!*f->name || strchr(f->name, '/') || !strcmp(f->name, "..") || *f->path == '/' ||
            strstr(f->path, "/../") || !strncmp(f->path, "../", 3) ||
            !lade_digest_valid(f->kind, f->digest))
            abort();
    }
    if (strchr(l->label, '/'))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lade_listing l = {.repo = "Org/Name"};
    char err[LADE_ERR] = "", repo[LADE_REPO], wanted[LADE_WANTED], line[512];
    const uint8_t *end = memchr(data, '\n', size);
    size_t len = end ? (size_t)(end - data) : 0;
    if (len >= sizeof line)
        return 0;
    memcpy(line, data, len);
    line[len] = '\0';
    int rc = lade_hub_spec(line, repo, wanted, err);
    check(rc, err);
    if (rc)
        *wanted = '\0';
    const char *text = (const char *)data + len;
    check(lade_listing_revision(&l, text, size - len, err), err);
    rc = lade_listing_page(&l, text, size - len, err);
    check(rc, err);
    check_files(&l);
    if (!rc) {
        check(lade_listing_pick(&l, wanted, err), err);
        check_files(&l);
    }
    lade_listing_free(&l);
    return 0;
}
