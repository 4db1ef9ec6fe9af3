/* hazards.h - accesses of kernels to memory that nothing puts in order: the emulator runs threads one after
 * the other, a GPU at once. One that is found ends the program.
 *
 * The kernels are compiled with -fsanitize=thread, of which only the calls are used that the compiler puts
 * before each access: hazards.cc has these functions. (Not where another sanitizer is asked for: then
 * nothing of this is checked.) Found are
 *
 *     two threads of a block at the same shared or global memory, one of them writing, and no
 *     __syncthreads() between them, nor, within a warp, __syncwarp(). Shuffles and products order no memory
 *     shared memory touched while a copy to it (copy_async()) is under way: until its thread has waited
 *     two blocks of a grid at the same global memory, one of them writing, unless the first one counted an atomic
 *     up after a __threadfence(), and the second one has counted later
 *     before launch_wait(): a write to global memory, or a read of what the kernel ahead wrote
 *
 * To prove that a barrier is needed, and that a test would find it missing, two variables of the environment
 * name places in the code (`offset` in the plug-in):
 *
 *     LADE_EMULATOR_SITES=FILE   at the end, lines "kind offset kernel" of all that were passed are added
 *     LADE_EMULATOR_DROP=OFFSET  the one there puts nothing in order (it still waits)
 *
 * tests/gpu/mutants drops each in turn. */
#ifndef LADE_EMULATOR_HAZARDS_H
#define LADE_EMULATOR_HAZARDS_H

#include "fibers.h"

/* Where a grid's memory is, and what it follows: `stream` is a name. */
struct lade_emulator_memory {
    void *dynamic_shared, *static_shared;
    size_t dynamic_bytes, static_bytes;
};
void lade_emulator_hazards_grid(const void *stream, const struct lade_emulator_memory *memory);
void lade_emulator_hazards_grid_end(const void *stream);
/* Something else than a kernel came in the stream: it has ended, and all before it, when the next begins. */
void lade_emulator_hazards_break(const void *stream);
void lade_emulator_hazards_block(void);

/* What puts accesses in order, called by the last thread that arrives; `site` is where. */
void lade_emulator_hazards_barrier(const void *site);
void lade_emulator_hazards_syncwarp(const void *site);
/* Of the running thread. */
void lade_emulator_hazards_copy(const void *to, size_t bytes, const void *from, size_t read);
void lade_emulator_hazards_copied(const void *site, const void *to, size_t bytes);

#endif
