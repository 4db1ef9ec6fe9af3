/* find.h - the models that this machine already has, whoever fetched them.
 *
 * Looked through, in this order: lade's own models directory, the Hugging Face hub cache, the
 * caches of llama.cpp and LM Studio, and what ollama keeps where it may be read. Finding reads
 * directories only; what a model is, its headers say when it is probed. Nothing is changed. */
#ifndef LADE_HUB_FIND_H
#define LADE_HUB_FIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/error.h"

struct lade_found {
    char *name;         /* "Qwen/Qwen3-Next-80B-A3B-Instruct", "ORG/NAME:Q4_K_M"; owned */
    char *path;         /* a directory or a file of GGUF; owned */
    const char *place;  /* who keeps it, static: "lade", "huggingface", "ollama" ... */
    const char *format; /* static: "safetensors", "gguf" */
    uint64_t bytes;     /* of the weights that are there */
    bool unfinished;    /* an interrupted download left its traces beside it */

    /* Filled by lade_found_probe. */
    char architecture[64];  /* "qwen3_next"; "" = unknown */
    char quant[64];         /* "int4+int8 g128", "Q4_K_M"; "" = unknown */
    int files, missing;     /* weights and tokenizer that should be there, and those that are not */
    bool runs;              /* of the architecture that lade runs */
    bool complete;          /* every file is there and has the size that its header tells */
    bool opens;             /* this build can open it (LADE_PROBE_OPEN only) */
    char problem[LADE_ERR]; /* why not complete or not opened; "" = none */
};

struct lade_found_list {
    struct lade_found *items;
    size_t n, room;
};

/* Lists what there is. `own` is lade's models directory; the others follow from HF_HUB_CACHE,
 * HF_HOME, XDG_CACHE_HOME and HOME. Places that are missing or not readable are skipped. Fails only
 * without memory. The caller ends *out with lade_found_free. */
int lade_find_models(struct lade_found_list *out, const char *own, char *err);
void lade_found_free(struct lade_found_list *list);

/* How much a probe reads: small files and the first header, or every header as for loading. */
enum lade_probe { LADE_PROBE_FILES, LADE_PROBE_OPEN };

/* Fills the second half of *f. What is wrong with the model goes to f->problem. */
void lade_found_probe(struct lade_found *f, enum lade_probe depth);

/* The model called `name`: by exact name, else by the only name that begins with it, as a whole or
 * after a '/'; case does not count. Only complete models of lade's architecture count;
 * where several places have the same, the first. Probes those that match. NULL, with the candidates
 * or what is wrong in `err`. */
struct lade_found *lade_found_resolve(struct lade_found_list *list, const char *name, char *err);

#endif
