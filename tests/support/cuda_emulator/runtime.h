/* runtime.h - inside of the emulated runtime: memory, queues, errors. */
#ifndef LADE_EMULATOR_RUNTIME_H
#define LADE_EMULATOR_RUNTIME_H

#include "lade_emulator.h"

#include <mutex>

extern std::recursive_mutex lade_emulator_lock; /* held by every call */

/* Begins a call: counts it, and fails it where the GPU is lost or cannot be had. */
cudaError_t lade_emulator_call(void);
/* Keeps an error for cudaGetLastError and returns it. */
cudaError_t lade_emulator_error(cudaError_t e);
/* The device that this thread has set. */
int lade_emulator_device(void);

enum lade_emulator_place { LADE_HOST, LADE_PINNED, LADE_ON_DEVICE };

/* Where [p, p + bytes) lies. Ends the program where it leaves its allocation, or where no such
 * allocation is. */
enum lade_emulator_place lade_emulator_where(const void *p, size_t bytes);
/* Ends the program where one of the words is the address of ordinary memory of the host. */
void lade_emulator_check_words(const char *name, const void *words, size_t bytes);
/* Lets kernels and copies of a device touch its memory, and ends that. Nests. */
void lade_emulator_enter(int device);
void lade_emulator_leave(int device);

/* Memory of a device by the byte: false where there is not as much. */
bool lade_emulator_take(int device, size_t bytes);
void lade_emulator_give(int device, size_t bytes);
/* Whether something runs on a device now. */
bool lade_emulator_entered(int device);
/* Addresses that nothing else has or will have, a multiple of 4096; memory is under none. */
char *lade_emulator_addresses(size_t bytes);
/* All addresses that memory of devices has or will have. */
char *lade_emulator_device_addresses(size_t *bytes);

/* pages.cc: whether [at, at + bytes) is of a run of addresses of cuMemAddressReserve(). Ends the
 * program where it is and no memory is under it. */
bool lade_emulator_in_pages(const void *at, size_t bytes);
/* Lets all pages of a device be touched, or not. */
void lade_emulator_protect_pages(int device, bool open);

/* Queues what runs on a device, in the order of a stream. */
cudaError_t lade_emulator_queue(cudaStream_t stream, std::function<void()> work);

/* Does all that is queued. */
void lade_emulator_drain_all(void);
/* Whether a stream is being captured: most calls are then an error, and end the capture. */
bool lade_emulator_capturing(void);

/* Shared memory that a block of the emulated compute capability may ask for, by CUDA's tables. */
static inline int lade_emulator_shared_most(void)
{
    static const struct {
        int capability, kib;
    } most[] = {{75, 64}, {80, 163}, {86, 99}, {87, 163}, {89, 99}, {90, 227}, {120, 99}};
    int kib = 48;
    for (auto &m : most)
        kib = m.capability <= lade_emulator.major * 10 + lade_emulator.minor ? m.kib : kib;
    return kib << 10;
}

#endif
