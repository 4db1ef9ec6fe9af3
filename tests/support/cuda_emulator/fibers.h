/* fibers.h - the threads of one block, as stacks that are switched at barriers.
 *
 * One block runs at a time, on the operating system's thread that holds the emulator's lock. */
#ifndef LADE_EMULATOR_FIBERS_H
#define LADE_EMULATOR_FIBERS_H

#include <stddef.h>

#include "vector_types.h"

enum { LADE_WARP = 32, LADE_EXCHANGE = 32 }; /* lanes; most bytes that a lane gives to the others */

/* The thread that runs. */
struct lade_emulator_thread {
    uint3 index;
    int warp, lane;
    void *sp;               /* where it stopped */
    bool done, waited;      /* at its end; has called launch_wait() */
    bool passed;            /* the same, where that counts (hazards.h) */
    unsigned generation;    /* exchanges of its warp that it took part in */
    unsigned fence, atomic; /* epoch of its last ones (hazards.cc) */
    char *stack;
    size_t stack_bytes;
    void *fake_stack; /* AddressSanitizer's */
};
extern struct lade_emulator_thread *lade_emulator_now;
extern uint3 lade_emulator_block;
extern dim3 lade_emulator_block_dim, lade_emulator_grid_dim;

/* What a barrier or exchange is, to find lanes that stand at different ones. */
enum lade_emulator_op { LADE_SYNCWARP, LADE_SHUFFLE, LADE_VOTE };

/* Runs every block of a grid: `body(context)` is one thread. `order` varies the order of threads.
 * `name` is for messages, `stream` for hazards.h. */
void lade_emulator_run_grid(const char *name, const void *stream, dim3 grid, dim3 block,
                            size_t shared, unsigned order, void (*body)(const void *context),
                            const void *context);
/* Its name while it runs. */
const char *lade_emulator_kernel(void);

/* launch_wait(), __threadfence(), and before each atomic operation on memory. */
void lade_emulator_launch_wait(void);
void lade_emulator_fence(void);
void lade_emulator_atomic(void);

/* Waits for all threads of the block that are not done; returns how many gave true. */
int lade_emulator_barrier(bool value);

/* Waits for all lanes of the warp that are not done. Returns what each lane gave (`bytes` of it,
 * 0xff for lanes that gave nothing), valid until this lane's next exchange; *present are the
 * lanes that took part. */
const unsigned char (*lade_emulator_exchange(unsigned mask, enum lade_emulator_op op,
                                             const void *value, size_t bytes,
                                             unsigned *present))[LADE_EXCHANGE];

/* Copies that a thread has begun and not waited for, of 16 bytes each: the first `bytes` of `from`, zeros
 * behind them. Nothing of one is there before the thread waits: as late as the hardware may do it. */
void lade_emulator_copy_async(void *to, const void *from, size_t bytes);
void lade_emulator_copy_commit(void);
void lade_emulator_copy_wait(unsigned left); /* until at most so many groups are under way */

/* The dynamic shared memory of the block. */
void *lade_emulator_dynamic_shared(void);

/* Ends the program with a message that names the running kernel, if one runs. */
[[noreturn]] void lade_emulator_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
