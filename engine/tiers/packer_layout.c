/* packer_layout.c - where everything of a packed directory will lie. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/checkpoint/file.h"
#include "engine/tiers/packing.h"

struct place {
    int piece, shard;
    uint64_t offset;
};

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int make_order(struct packer *p, char *err)
{
    int n = p->cat->n_pieces;
    struct place *places = malloc((size_t)n * sizeof *places);
    p->order = malloc((size_t)n * sizeof *p->order);
    if (!places || !p->order) {
        free(places);
        return lade_packing_no_memory(err);
    }
    for (int i = 0; i < n; i++) {
        const struct lade_span *s = &p->cat->tensors[p->cat->pieces[i].first].parts[0];
        places[i] = (struct place){i, s->shard, s->offset};
    }
    qsort(places, (size_t)n, sizeof *places, by_place);
    for (int i = 0; i < n; i++)
        p->order[i] = places[i].piece;
    free(places);
    return 0;
}

/* "model-00001-of-00003.lade", with the drive's number where several share the shard. */
static char *file_name(const char *shard, int drive, int drives)
{
    const char *base = lade_path_base(shard), *dot = strrchr(base, '.');
    int len = dot && dot > base ? (int)(dot - base) : (int)strlen(base);
    char *name = NULL;
    int n = drives > 1 ? asprintf(&name, "%.*s.%d-of-%d.lade", len, base, drive + 1, drives)
                       : asprintf(&name, "%.*s.lade", len, base);
    return n < 0 ? NULL : name;
}

static int lay_out_files(struct packer *p, char *err)
{
    struct lade_packed *x = &p->index;
    int stripes = x->mirrored ? 1 : x->n_drives, shards = p->cat->n_shards;
    x->n_files = shards * stripes;
    x->files = calloc((size_t)x->n_files, sizeof *x->files);
    x->pieces = calloc((size_t)p->cat->n_pieces, sizeof *x->pieces);
    int *turn = calloc((size_t)shards, sizeof *turn);
    if (!x->files || !x->pieces || !turn) {
        free(turn);
        return lade_packing_no_memory(err);
    }
    x->n_pieces = p->cat->n_pieces;
    for (int i = 0; i < x->n_files; i++) {
        x->files[i].drive = i % stripes;
        x->files[i].name = file_name(p->cat->shards[i / stripes].path, i % stripes, stripes);
        if (!x->files[i].name) {
            free(turn);
            return lade_packing_no_memory(err);
        }
    }
    for (int i = 0; i < x->n_pieces; i++) {
        int piece = p->order[i];
        const struct lade_piece *pc = &p->cat->pieces[piece];
        int shard = p->cat->tensors[pc->first].parts[0].shard;
        struct lade_packed_file *f = &x->files[shard * stripes + turn[shard]++ % stripes];
        x->pieces[piece] = (struct lade_packed_piece){(int)(f - x->files), f->bytes};
        f->bytes += lade_packing_align(pc->bytes);
        p->bytes += pc->bytes;
    }
    free(turn);
    return 0;
}

static int describe_source(struct packer *p, char *err)
{
    struct lade_packed *x = &p->index;
    const struct lade_catalog *cat = p->cat;
    x->name = strdup(cat->name);
    x->format = strdup(cat->format);
    x->shape = cat->shape;
    x->generation = cat->generation;
    x->sources = calloc((size_t)cat->n_shards, sizeof *x->sources);
    x->tensors = calloc((size_t)cat->n_tensors, sizeof *x->tensors);
    p->first_check = calloc((size_t)cat->n_pieces, sizeof *p->first_check);
    if (!x->name || !x->format || !x->sources || !x->tensors || !p->first_check)
        return lade_packing_no_memory(err);
    for (; x->n_sources < cat->n_shards; x->n_sources++)
        if (lade_packed_look(&x->sources[x->n_sources], cat->shards[x->n_sources].path, err))
            return -1;
    for (; x->n_tensors < cat->n_tensors; x->n_tensors++)
        x->tensors[x->n_tensors] = cat->tensors[x->n_tensors].packed;
    for (int i = 0; i < cat->n_pieces; i++) {
        p->first_check[i] = x->n_checks;
        x->n_checks += lade_packed_blocks(cat->pieces[i].bytes);
    }
    x->checks = calloc((size_t)x->n_checks, sizeof *x->checks);
    return x->checks ? 0 : lade_packing_no_memory(err);
}

static int make_dirs(struct packer *p, const struct lade_pack_options *opt, char *err)
{
    struct lade_packed *x = &p->index;
    if (opt->n_dirs < 1 || opt->n_dirs > LADE_PACKED_DRIVES)
        return lade_fail(err, "lade pack: %d directories; give 1 to %d", opt->n_dirs,
                         LADE_PACKED_DRIVES);
    x->mirrored = opt->mirror && opt->n_dirs > 1;
    for (int i = 0; i < opt->n_dirs; i++) {
        if (mkdir(opt->dirs[i], 0755) && errno != EEXIST)
            return lade_fail(err, "%s: cannot be made: %s; check the path", opt->dirs[i],
                             strerror(errno));
        x->drives[i] = realpath(opt->dirs[i], NULL);
        if (!x->drives[i])
            return lade_fail(err, "%s: %s; check the path", opt->dirs[i], strerror(errno));
        x->n_drives = i + 1;
        for (int j = 0; j < i; j++)
            if (!strcmp(x->drives[i], x->drives[j]))
                return lade_fail(err, "%s: is given twice; give one directory for each drive",
                                 opt->dirs[i]);
    }
    return 0;
}

int lade_packing_lay_out(struct packer *p, const struct lade_pack_options *opt, char *err)
{
    return make_dirs(p, opt, err) || describe_source(p, err) || make_order(p, err) ||
                   lay_out_files(p, err)
               ? -1
               : 0;
}
