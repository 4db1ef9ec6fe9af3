#include "engine/plan/habits.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/packed.h"
#include "engine/plan/hits.h"

enum { VERSION = 2, MOST_BYTES = 64 << 20 };
static const uint32_t ONE = 1; /* tells the order of bytes */

/* The file: this, then a float for each number. */
struct head {
    char magic[8];
    uint32_t one, version, layers, experts;
    uint64_t check; /* of the floats */
};

char *lade_habits_path(const char *cache_dir, const struct lade_catalog *cat)
{
    char text[512], path[PATH_MAX];
    if (!cache_dir)
        return NULL;
    int n = snprintf(text, sizeof text, "%.200s, %.64s, %d x %d, %zu", cat->name, cat->quant,
                     cat->shape.layers, cat->shape.experts, cat->packed_bytes);
    uint64_t key = lade_packed_check(text, (size_t)n);
    n = snprintf(path, sizeof path, "%s/routing/%016llx", cache_dir, (unsigned long long)key);
    return n < (int)sizeof path ? strdup(path) : NULL;
}

/* An empty head of the catalog's model. */
static struct head head_of(const struct lade_catalog *cat)
{
    struct head h = {.one = ONE,
                     .version = VERSION,
                     .layers = (uint32_t)cat->shape.layers,
                     .experts = (uint32_t)cat->shape.experts};
    memcpy(h.magic, "LADEHABI", sizeof h.magic);
    return h;
}

size_t lade_habits_count(const struct lade_catalog *cat)
{
    return (size_t)cat->shape.layers * (size_t)cat->shape.experts + 2 * (size_t)LADE_AGES;
}

/* Takes the numbers of a whole file, all or none. */
static bool take(const char *data, size_t len, const struct lade_catalog *cat, double *habits)
{
    struct head want = head_of(cat), have;
    size_t n = lade_habits_count(cat), bytes = n * sizeof(float);
    if (len != sizeof have + bytes)
        return false;
    memcpy(&have, data, sizeof have);
    want.check = lade_packed_check(data + sizeof have, bytes);
    if (memcmp(&have, &want, sizeof have) != 0)
        return false;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++) {
            float value;
            memcpy(&value, data + sizeof have + i * sizeof value, sizeof value);
            if (!isfinite(value) || value < 0)
                return false; /* in the first pass */
            if (pass)
                habits[i] = (double)value;
        }
    return true;
}

bool lade_habits_read(const char *path, const struct lade_catalog *cat, double *habits)
{
    char *data, err[LADE_ERR];
    size_t len;
    if (lade_file_read(path, MOST_BYTES, &data, &len, err))
        return false;
    bool good = take(data, len, cat, habits);
    free(data);
    return good;
}

bool lade_habits_write(const char *path, const struct lade_catalog *cat, const double *habits)
{
    struct head head = head_of(cat);
    size_t n = lade_habits_count(cat), bytes = n * sizeof(float);
    char *file = malloc(sizeof head + bytes);
    if (!file)
        return false;
    for (size_t i = 0; i < n; i++) {
        float value = (float)habits[i];
        memcpy(file + sizeof head + i * sizeof value, &value, sizeof value);
    }
    head.check = lade_packed_check(file + sizeof head, bytes);
    memcpy(file, &head, sizeof head);
    bool done = lade_file_replace(path, file, sizeof head + bytes, NULL) == 0;
    free(file);
    return done;
}
