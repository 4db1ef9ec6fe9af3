/* .lade.json: from which repository, commit and contents a directory was made. */
#include "engine/hub/listing.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_RECORD (16 << 20)

static const char *const digest_keys[] = {
    [LADE_DIGEST_SHA256] = "sha256",
    [LADE_DIGEST_GIT] = "git",
};

/* The whole text of DIR/.lade.json, or NULL. */
static char *read_text(int dirfd, size_t *len)
{
    struct stat st;
    char *text = NULL;
    int fd = openat(dirfd, LADE_RECORD, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= MAX_RECORD &&
        (text = malloc((size_t)st.st_size + 1))) {
        ssize_t n = read(fd, text, (size_t)st.st_size);
        *len = n > 0 ? (size_t)n : 0;
    }
    close(fd);
    return text;
}

/* Appends an entry of the record; one that is damaged is left out, and its file fetched again. */
static void read_file(struct lade_listing *l, json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    json_t *bytes = json_object_get(entry, "bytes");
    if (!name || !json_is_integer(bytes) || json_integer_value(bytes) < 0)
        return;
    for (int kind = 0; kind < 2; kind++) {
        const char *digest = json_string_value(json_object_get(entry, digest_keys[kind]));
        if (!digest || !lade_digest_valid((enum lade_digest_kind)kind, digest))
            continue;
        struct lade_hub_file *f = &l->files[l->n];
        *f = (struct lade_hub_file){.bytes = (uint64_t)json_integer_value(bytes),
                                    .kind = (enum lade_digest_kind)kind,
                                    .path = strdup(name)};
        if (!f->path)
            return;
        f->name = f->path;
        memcpy(f->digest, digest, strlen(digest) + 1);
        l->n++;
        return;
    }
}

void lade_record_read(struct lade_listing *l, int dirfd)
{
    size_t len;
    char *text = read_text(dirfd, &len);
    json_t *root = text ? json_loadb(text, len, 0, NULL) : NULL;
    json_t *files = json_object_get(root, "files");
    const char *repo = json_string_value(json_object_get(root, "repo"));
    *l = (struct lade_listing){0};
    snprintf(l->repo, sizeof l->repo, "%s", repo ? repo : "");
    l->room = json_array_size(files);
    l->files = l->room ? calloc(l->room, sizeof *l->files) : NULL;
    for (size_t i = 0; l->files && i < json_array_size(files); i++)
        read_file(l, json_array_get(files, i));
    json_decref(root);
    free(text);
}

static json_t *record_of(const struct lade_listing *l)
{
    json_t *files = json_array();
    for (size_t i = 0; i < l->n; i++) {
        const struct lade_hub_file *f = &l->files[i];
        json_array_append_new(files,
                              json_pack("{s:s, s:I, s:s}", "name", f->name, "bytes",
                                        (json_int_t)f->bytes, digest_keys[f->kind], f->digest));
    }
    return json_pack("{s:s, s:s, s:o}", "repo", l->repo, "revision", l->revision, "files", files);
}

int lade_record_write(const struct lade_listing *l, int dirfd, char *err)
{
    static const char fresh[] = LADE_RECORD ".new";
    json_t *root = record_of(l);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    size_t len = text ? strlen(text) : 0;
    int rc = -1, fd = -1;
    errno = ENOMEM;
    if (text)
        fd = openat(dirfd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd >= 0 && write(fd, text, len) == (ssize_t)len && !fsync(fd) &&
        !renameat(dirfd, fresh, dirfd, LADE_RECORD))
        rc = 0;
    else
        lade_fail(err, "%s: %s: %s; check the drive", l->repo, LADE_RECORD, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(text);
    json_decref(root);
    return rc;
}
