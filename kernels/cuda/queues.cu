/* The three queues: copies through compute and beside it, fences, recordings. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gpu.h"

/* ---- open, close ----------------------------------------------------------------------------- */

static int open_events(struct lade_device *dev, char *err)
{
    cudaEvent_t *single[GPU_RING + 2];
    int n = 0;
    for (int i = 0; i < GPU_RING; i++)
        single[n++] = &dev->ring_free[i];
    for (int i = 0; i < 2; i++)
        single[n++] = &dev->stage_free[i];
    for (int i = 0; i < n; i++)
        if (gpu_check(dev, "creating events",
                      cudaEventCreateWithFlags(single[i], cudaEventDisableTiming), err))
            return -1;
    for (int i = 0; i < GPU_FENCES; i++)
        if (gpu_check(dev, "creating events",
                      cudaEventCreateWithFlags(&dev->fences[i].event, cudaEventDisableTiming), err))
            return -1;
    return 0;
}

int gpu_queues_open(struct lade_device *dev, char *err)
{
    cudaStream_t *streams[] = {&dev->compute, &dev->up, &dev->down, &dev->misc};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (gpu_check(dev, "creating a stream",
                      cudaStreamCreateWithFlags(streams[i], cudaStreamNonBlocking), err))
            return -1;
    void *ring, *stage;
    if (gpu_host_alloc(dev, &ring, (size_t)GPU_RING * GPU_RING_BYTES, err))
        return -1;
    dev->ring = (unsigned char *)ring;
    if (gpu_host_alloc(dev, &stage, (size_t)2 * GPU_STAGE_BYTES, err))
        return -1;
    dev->stage = (unsigned char *)stage;
    return open_events(dev, err);
}

void gpu_queues_close(struct lade_device *dev)
{
    for (int i = 0; i < GPU_RING; i++)
        if (dev->ring_free[i])
            gpu_gave(dev, "freeing events", cudaEventDestroy(dev->ring_free[i]));
    for (int i = 0; i < 2; i++)
        if (dev->stage_free[i])
            gpu_gave(dev, "freeing events", cudaEventDestroy(dev->stage_free[i]));
    for (int i = 0; i < GPU_FENCES; i++)
        if (dev->fences[i].event)
            gpu_gave(dev, "freeing events", cudaEventDestroy(dev->fences[i].event));
    cudaStream_t streams[] = {dev->compute, dev->up, dev->down, dev->misc};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (streams[i])
            gpu_gave(dev, "freeing a stream", cudaStreamDestroy(streams[i]));
}

/* ---- through compute ------------------------------------------------------------------------- */

/* A slot of the ring, free again once its last copy is done. */
static int upload_small(struct lade_device *dev, void *dst, const void *host, size_t bytes,
                        char *err)
{
    int i = dev->ring_next;
    dev->ring_next = (i + 1) % GPU_RING;
    unsigned char *slot = dev->ring + (size_t)i * GPU_RING_BYTES;
    if (gpu_check(dev, "an upload", cudaEventSynchronize(dev->ring_free[i]), err))
        return -1;
    memcpy(slot, host, bytes);
    if (gpu_check(dev, "an upload",
                  cudaMemcpyAsync(dst, slot, bytes, cudaMemcpyHostToDevice, dev->compute), err))
        return -1;
    return gpu_check(dev, "an upload", cudaEventRecord(dev->ring_free[i], dev->compute), err);
}

/* Through both halves of the stage in turn: one is filled while the other is copied. */
static int upload_staged(struct lade_device *dev, unsigned char *dst, const unsigned char *host,
                         size_t bytes, char *err)
{
    for (int i = 0; bytes; i ^= 1) {
        size_t most = GPU_STAGE_BYTES, part = bytes < most ? bytes : most;
        unsigned char *half = dev->stage + (size_t)i * GPU_STAGE_BYTES;
        if (gpu_check(dev, "an upload", cudaEventSynchronize(dev->stage_free[i]), err))
            return -1;
        memcpy(half, host, part);
        if (gpu_check(dev, "an upload",
                      cudaMemcpyAsync(dst, half, part, cudaMemcpyHostToDevice, dev->compute),
                      err) ||
            gpu_check(dev, "an upload", cudaEventRecord(dev->stage_free[i], dev->compute), err))
            return -1;
        dst += part;
        host += part;
        bytes -= part;
    }
    return 0;
}

int gpu_upload(struct lade_device *dev, void *dst, const void *host, size_t bytes, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (!bytes)
        return 0;
    if (bytes <= GPU_RING_BYTES)
        return upload_small(dev, dst, host, bytes, err);
    if (!gpu_is_pinned(dev, host, bytes))
        return upload_staged(dev, (unsigned char *)dst, (const unsigned char *)host, bytes, err);
    if (gpu_check(dev, "an upload",
                  cudaMemcpyAsync(dst, host, bytes, cudaMemcpyHostToDevice, dev->compute), err))
        return -1;
    return gpu_check(dev, "an upload", cudaStreamSynchronize(dev->compute), err);
}

int gpu_download(struct lade_device *dev, void *host, const void *src, size_t bytes, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (bytes && gpu_check(dev, "a download",
                           cudaMemcpyAsync(host, src, bytes, cudaMemcpyDefault, dev->compute), err))
        return -1;
    return gpu_check(dev, "a download", cudaStreamSynchronize(dev->compute), err);
}

int gpu_copy(struct lade_device *dev, void *dst, const void *src, size_t bytes, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (!bytes)
        return 0;
    return gpu_check(dev, "a copy",
                     cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, dev->compute), err);
}

int gpu_zero(struct lade_device *dev, void *dst, size_t bytes, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    return bytes ? gpu_check(dev, "clearing memory", cudaMemsetAsync(dst, 0, bytes, dev->compute),
                             err)
                 : 0;
}

/* An error that nobody could be told when it happened. */
static int late_error(struct lade_device *dev, char *err)
{
    pthread_mutex_lock(&dev->lock);
    const bool any = err && dev->gave_text[0];
    if (any) {
        lade_set_error(err, "%s", dev->gave_text);
        dev->gave_text[0] = '\0';
    }
    pthread_mutex_unlock(&dev->lock);
    return any ? -1 : 0;
}

int gpu_sync(struct lade_device *dev, char *err)
{
    if (gpu_enter(dev, err) || late_error(dev, err) ||
        gpu_check(dev, "waiting", cudaStreamSynchronize(dev->up), err) ||
        gpu_check(dev, "waiting", cudaStreamSynchronize(dev->compute), err))
        return -1;
    return gpu_check(dev, "waiting", cudaStreamSynchronize(dev->down), err);
}

/* ---- fences ---------------------------------------------------------------------------------- */

/* Fence `number` lives in slot number % GPU_FENCES. A slot is used again only when its event is
 * done, so a number that its slot no longer has is a fence that was reached. All under the lock. */

static cudaError_t new_fence(struct lade_device *dev, cudaStream_t queue, lade_fence *fence)
{
    struct gpu_fence *f = &dev->fences[(dev->last_fence + 1) % GPU_FENCES];
    cudaError_t code = f->number ? cudaEventSynchronize(f->event) : cudaSuccess;
    if (code == cudaSuccess)
        code = cudaEventRecord(f->event, queue);
    if (code == cudaSuccess)
        *fence = f->number = ++dev->last_fence;
    return code;
}

/* The event of a fence that may not be reached yet, or NULL. */
static cudaEvent_t fence_event(struct lade_device *dev, lade_fence fence)
{
    const struct gpu_fence *f = &dev->fences[fence % GPU_FENCES];
    return fence && f->number == fence ? f->event : NULL;
}

static cudaError_t queue_waits(struct lade_device *dev, cudaStream_t queue, lade_fence fence)
{
    cudaEvent_t event = fence_event(dev, fence);
    return event ? cudaStreamWaitEvent(queue, event, 0) : cudaSuccess;
}

int gpu_mark(struct lade_device *dev, lade_fence *fence, char *err)
{
    *fence = 0;
    if (gpu_enter(dev, err))
        return -1;
    pthread_mutex_lock(&dev->lock);
    cudaError_t code = new_fence(dev, dev->compute, fence);
    pthread_mutex_unlock(&dev->lock);
    return gpu_check(dev, "a fence", code, err);
}

/* Wait, copy and fence in one go, so that no other thread's copy comes between. */
static int copy_beside(struct lade_device *dev, cudaStream_t queue, void *dst, const void *src,
                       size_t bytes, lade_fence after, lade_fence *fence, const char *what,
                       char *err)
{
    lade_fence done = 0;
    if (fence)
        *fence = 0;
    if (gpu_enter(dev, err))
        return -1;
    pthread_mutex_lock(&dev->lock);
    cudaError_t code = queue_waits(dev, queue, after);
    if (code == cudaSuccess && bytes)
        code = cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, queue);
    if (code == cudaSuccess)
        code = new_fence(dev, queue, &done);
    pthread_mutex_unlock(&dev->lock);
    if (fence)
        *fence = done;
    return gpu_check(dev, what, code, err);
}

int gpu_upload_async(struct lade_device *dev, void *dst, const void *host, size_t bytes,
                     lade_fence after, lade_fence *fence, char *err)
{
    return copy_beside(dev, dev->up, dst, host, bytes, after, fence, "an upload", err);
}

int gpu_download_async(struct lade_device *dev, void *host, const void *src, size_t bytes,
                       lade_fence after, lade_fence *fence, char *err)
{
    return copy_beside(dev, dev->down, host, src, bytes, after, fence, "a download", err);
}

int gpu_wait(struct lade_device *dev, lade_fence fence, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    pthread_mutex_lock(&dev->lock);
    cudaError_t code = queue_waits(dev, dev->compute, fence);
    pthread_mutex_unlock(&dev->lock);
    return gpu_check(dev, "waiting for a fence", code, err);
}

int gpu_reached(struct lade_device *dev, lade_fence fence, bool *yes, char *err)
{
    *yes = false;
    if (gpu_enter(dev, err))
        return -1;
    pthread_mutex_lock(&dev->lock);
    cudaEvent_t event = fence_event(dev, fence);
    cudaError_t code = event ? cudaEventQuery(event) : cudaSuccess;
    pthread_mutex_unlock(&dev->lock);
    *yes = code == cudaSuccess;
    if (code == cudaErrorNotReady) {
        gpu_forget_error();
        return 0;
    }
    return gpu_check(dev, "asking for a fence", code, err);
}

int gpu_finish(struct lade_device *dev, lade_fence fence, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    pthread_mutex_lock(&dev->lock);
    cudaEvent_t event = fence_event(dev, fence);
    pthread_mutex_unlock(&dev->lock);
    /* The slot may be used again meanwhile: then this waits longer than it must. */
    return gpu_check(dev, "waiting for a fence", event ? cudaEventSynchronize(event) : cudaSuccess,
                     err);
}

/* ---- recordings ------------------------------------------------------------------------------ */

struct lade_recording {
    cudaGraphExec_t graph;
};

int gpu_record_begin(struct lade_device *dev, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (dev->recording)
        return lade_fail(err, "GPU %d: a recording is under way; report this", dev->gpu);
    /* Thread-local: other threads' copies beside compute go on. */
    if (gpu_check(dev, "recording",
                  cudaStreamBeginCapture(dev->compute, cudaStreamCaptureModeThreadLocal), err))
        return -1;
    dev->recording = true;
    return 0;
}

int gpu_record_end(struct lade_device *dev, struct lade_recording **out, char *err)
{
    *out = NULL;
    if (!dev->recording)
        return lade_fail(err, "GPU %d: no recording is under way; report this", dev->gpu);
    dev->recording = false;
    cudaGraph_t graph = NULL;
    /* Capture must end whatever happened; its own code tells. */
    gpu_gave(dev, "selecting the device", cudaSetDevice(dev->gpu));
    cudaError_t code = cudaStreamEndCapture(dev->compute, &graph);
    struct lade_recording *r = (struct lade_recording *)calloc(1, sizeof *r);
    if (code == cudaSuccess && !r)
        code = cudaErrorMemoryAllocation;
    if (code == cudaSuccess)
        code = cudaGraphInstantiate(&r->graph, graph, 0);
    if (graph)
        gpu_gave(dev, "freeing a graph", cudaGraphDestroy(graph));
    if (code == cudaSuccess)
        code = cudaGraphUpload(r->graph, dev->compute);
    if (code != cudaSuccess) {
        gpu_record_free(dev, r);
        return gpu_fail(dev, "recording", code, err);
    }
    *out = r;
    return 0;
}

void gpu_record_abandon(struct lade_device *dev)
{
    cudaGraph_t graph = NULL;
    dev->recording = false;
    gpu_gave(dev, "selecting the device", cudaSetDevice(dev->gpu));
    if (cudaStreamEndCapture(dev->compute, &graph) != cudaSuccess)
        graph = NULL; /* the capture was broken already, by what is told */
    if (graph)
        gpu_gave(dev, "freeing a graph", cudaGraphDestroy(graph));
    gpu_forget_error();
}

int gpu_replay(struct lade_device *dev, struct lade_recording *r, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    return gpu_check(dev, "replaying", cudaGraphLaunch(r->graph, dev->compute), err);
}

void gpu_record_free(struct lade_device *dev, struct lade_recording *r)
{
    if (!r)
        return;
    gpu_gave(dev, "selecting the device", cudaSetDevice(dev->gpu));
    if (r->graph)
        gpu_gave(dev, "freeing a graph", cudaGraphExecDestroy(r->graph));
    free(r);
}
