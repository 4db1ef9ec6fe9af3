/* store.h - the memory behind the slots of a cache: RAM, pinned RAM, or memory of a GPU.
 *
 * Plain RAM is address space that becomes memory where it is used: anonymous, not page cache,
 * which the kernel may take; in huge pages where the system allows. The other two come in chunks of
 * some slots. Plain RAM that is copied to a GPU now and then is pinned as it is, chunk by chunk, when a
 * copy first needs it: a load need not wait for that. */
#ifndef LADE_TIERS_STORE_H
#define LADE_TIERS_STORE_H

#include "engine/tiers/cache.h"
#include "kernels/kernels.h"

enum lade_store_kind { LADE_STORE_RAM, LADE_STORE_PINNED, LADE_STORE_VRAM };

struct lade_store {
    enum lade_store_kind where, stage_where;
    const struct lade_kinds *kinds; /* borrowed */
    const struct lade_ops *ops;     /* of the GPU, borrowed; NULL for plain RAM */
    struct lade_device *dev;
    unsigned char *arena[LADE_MAX_KINDS];  /* RAM: address space for every expert of a kind */
    unsigned char **chunk[LADE_MAX_KINDS]; /* others: [chunks], NULL where there is no memory */
    int first[LADE_MAX_KINDS];             /* number of the first slot of a kind */
    int per_chunk[LADE_MAX_KINDS];         /* slots */
    uint8_t *pinned[LADE_MAX_KINDS];       /* RAM: [chunks] which ones are; NULL: none is */
    int room[LADE_MAX_KINDS];              /* RAM: slots that may be used */
    unsigned char *stage;
    int first_stage, n_stage;
    size_t bytes; /* of memory that the slots may take now */
};

/* How many slots of each kind `budget` bytes give: as lade_kinds_rooms, in whole chunks. Returns
 * the bytes they take. */
size_t lade_store_rooms(enum lade_store_kind where, const struct lade_kinds *k, uint64_t budget,
                        int *room);

/* Nothing but the stage has memory yet. ops and dev may be NULL where both kinds are
 * LADE_STORE_RAM. `budget` is that of lade_store_rooms. */
int lade_store_open(struct lade_store *s, enum lade_store_kind where,
                    enum lade_store_kind stage_where, const struct lade_kinds *kinds,
                    uint64_t budget, int n_stage, const struct lade_ops *ops,
                    struct lade_device *dev, char *err);
void lade_store_close(struct lade_store *s);

/* Its GPU goes, lost or not: of plain RAM nothing is pinned any more, the stage is plain, too, and the slots
 * stay where they are. On failure it is as it was. */
int lade_store_leave(struct lade_store *s, char *err);

/* Gives memory to the first `room` slots of a kind and takes it from the others. On failure those
 * that had memory keep it. */
int lade_store_resize(struct lade_store *s, int kind, int room, char *err);

/* How many slots of each kind `budget` bytes give in whole chunks of this store. */
void lade_store_fit(const struct lade_store *s, uint64_t budget, int *room);
/* The other way round: a budget, hardly more than the least, that gives each kind these slots. */
uint64_t lade_store_budget(const struct lade_store *s, const int *room);
/* Whether its chunks suit a budget: not so large that much is lost, nor so small that there are
 * very many. */
bool lade_store_suits(const struct lade_store *s, uint64_t budget);
/* Slots of a kind that have memory, from the first on. */
int lade_store_reached(const struct lade_store *s, int kind);

/* Moves the bytes of the first room[] slots of each kind to `to`, an open store without memory of
 * its own but the stage, and closes `s`. Chunk by chunk, so that little is held twice; both are in
 * RAM or both on the same GPU. room[] becomes what `to` has memory for: less where there was none. */
void lade_store_move(struct lade_store *s, struct lade_store *to, int *room);

/* Has copies to a GPU not wait for a slot of RAM, if it does not already; false where the system does not
 * allow it. The slot must have its room. It ends with the room of the slot's kind. */
bool lade_store_pin(struct lade_store *s, int slot);

/* A slot: where it is, and how far it is to the next. */
unsigned char *lade_store_slot(const struct lade_store *s, int slot);
size_t lade_store_stride(const struct lade_store *s, int slot);

#endif
