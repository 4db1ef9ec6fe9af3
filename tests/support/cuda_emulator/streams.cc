/* Streams, events and graphs. A stream is a queue of work that is done when somebody must see its
 * result. What an event or stream waits for was always queued before, so doing the oldest work
 * first ends. */
#include "hazards.h"
#include "runtime.h"

#include <chrono>
#include <deque>
#include <memory>
#include <vector>

typedef std::function<void()> work;

struct lade_emulator_graph {
    std::vector<work> nodes;
    bool broken;
};
struct lade_emulator_exec {
    std::vector<work> nodes;
};

struct lade_emulator_stream {
    int device;
    std::deque<work> queue;
    unsigned long queued, done; /* counted from the beginning */
    lade_emulator_graph *capture;
    bool began_capture; /* or joined it through an event */
    int polls;
};

/* One record of an event. */
struct point {
    lade_emulator_stream *stream;
    unsigned long at; /* reached when the stream has done so many */
    std::chrono::steady_clock::time_point time;
    lade_emulator_graph *capture;
};
struct lade_emulator_event {
    std::shared_ptr<point> last; /* null before the first record: then always reached */
    int polls;
};

static std::vector<lade_emulator_stream *> streams;
static unsigned launches_order;
static bool was_kernel; /* the work that was done last */

static void do_work(const lade_emulator_stream *s, const work &w)
{
    was_kernel = false;
    w();
    if (!was_kernel)
        lade_emulator_hazards_break(s);
}

static void drain(lade_emulator_stream *s, unsigned long upto)
{
    if (s->done >= upto)
        return;
    lade_emulator_enter(s->device);
    while (s->done < upto) {
        work w = std::move(s->queue.front());
        s->queue.pop_front();
        do_work(s, w);
        s->done++;
    }
    lade_emulator_leave(s->device);
}

static bool alive(lade_emulator_stream *s)
{
    for (auto other : streams)
        if (other == s)
            return true;
    return false;
}

static void reach(const point &p)
{
    if (alive(p.stream)) /* a stream's work is done before it is destroyed */
        drain(p.stream, p.at);
}

void lade_emulator_drain_all(void)
{
    for (auto s : streams)
        drain(s, s->queued);
}

bool lade_emulator_capturing(void)
{
    bool any = false;
    for (auto s : streams)
        if (s->capture) {
            s->capture->broken = true;
            any = true;
        }
    return any;
}

/* The default stream: what is given to it comes after all else, and is done at once. */
static cudaError_t add(lade_emulator_stream *s, work w)
{
    if (!s) {
        if (lade_emulator_capturing())
            return lade_emulator_error(cudaErrorStreamCaptureUnsupported);
        lade_emulator_drain_all();
        int device = lade_emulator_device();
        lade_emulator_enter(device);
        w();
        lade_emulator_leave(device);
        return cudaSuccess;
    }
    if (s->device != lade_emulator_device())
        lade_emulator_die("work for a stream of GPU %d while GPU %d is set", s->device,
                          lade_emulator_device());
    if (s->capture) {
        s->capture->nodes.push_back(std::move(w));
        return cudaSuccess;
    }
    s->queue.push_back(std::move(w));
    s->queued++;
    if (lade_emulator.eager)
        drain(s, s->queued);
    return cudaSuccess;
}

cudaError_t lade_emulator_queue(cudaStream_t stream, std::function<void()> work)
{
    if (lade_emulator_capturing())
        lade_emulator_die("a library's work is captured");
    return add(stream, std::move(work));
}

#define BEGIN_CALL                                                                                 \
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);                                \
    cudaError_t call_error = lade_emulator_call();                                                 \
    if (call_error)                                                                                \
    return call_error
#define NOT_IN_CAPTURE                                                                             \
    if (lade_emulator_capturing())                                                                 \
    return lade_emulator_error(cudaErrorStreamCaptureUnsupported)

/* ---- launches and copies ---- */

static std::vector<std::pair<const void *, int>> dynamic_limits;

cudaError_t lade_emulator_func_attribute(const void *func, enum cudaFuncAttribute attr, int value)
{
    BEGIN_CALL;
    if (attr != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > lade_emulator_shared_most())
        return lade_emulator_error(cudaErrorInvalidValue);
    dynamic_limits.push_back({func, value});
    return cudaSuccess;
}

static bool shared_allowed(const void *kernel, size_t shared)
{
    size_t limit = 48 << 10;
    for (auto &l : dynamic_limits)
        if (l.first == kernel)
            limit = (size_t)l.second > limit ? (size_t)l.second : limit;
    return shared <= limit;
}

static void call_body(const void *context)
{
    (*(const work *)context)();
}

cudaError_t lade_emulator_enqueue(const char *name, const void *kernel, dim3 grid, dim3 block,
                                  size_t shared, cudaStream_t stream, std::function<void()> thread,
                                  const void *words, size_t bytes)
{
    BEGIN_CALL;
    unsigned long threads = (unsigned long)block.x * block.y * block.z;
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
        !threads || threads > 1024 || block.z > 64)
        return lade_emulator_error(cudaErrorInvalidConfiguration);
    if (!shared_allowed(kernel, shared))
        return lade_emulator_error(cudaErrorInvalidValue);
    lade_emulator_check_words(name, words, bytes);
    lade_emulator.launches++;
    return add(stream, [=] {
        lade_emulator_run_grid(name, stream, grid, block, shared, launches_order++, call_body,
                               &thread);
        was_kernel = true;
    });
}

static bool kind_fits(enum cudaMemcpyKind kind, enum lade_emulator_place to,
                      enum lade_emulator_place from)
{
    switch (kind) {
    case cudaMemcpyHostToHost:
        return to != LADE_ON_DEVICE && from != LADE_ON_DEVICE;
    case cudaMemcpyHostToDevice:
        return to != LADE_HOST && from != LADE_ON_DEVICE;
    case cudaMemcpyDeviceToHost:
        return to != LADE_ON_DEVICE && from != LADE_HOST;
    case cudaMemcpyDeviceToDevice:
        return to != LADE_HOST && from != LADE_HOST;
    default:
        return true;
    }
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    BEGIN_CALL;
    enum lade_emulator_place to = lade_emulator_where(dst, bytes);
    enum lade_emulator_place from = lade_emulator_where(src, bytes);
    if (!kind_fits(kind, to, from))
        return lade_emulator_error(cudaErrorInvalidValue);
    bool capturing = stream && stream->capture;
    if (capturing && (to == LADE_HOST || from == LADE_HOST))
        lade_emulator_die("a copy from or to ordinary memory is captured");
    if (!capturing)
        lade_emulator.copies++;
    if (to == LADE_HOST) { /* returns when it is done */
        cudaError_t e = add(stream, [=] { memcpy(dst, src, bytes); });
        if (!e && stream)
            drain(stream, stream->queued);
        return e;
    }
    if (from == LADE_HOST) { /* staged before it returns */
        auto staged =
            std::make_shared<std::vector<char>>((const char *)src, (const char *)src + bytes);
        return add(stream, [=] { memcpy(dst, staged->data(), bytes); });
    }
    return add(stream, [=] { memmove(dst, src, bytes); });
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
    BEGIN_CALL;
    if (lade_emulator_where(dst, bytes) == LADE_HOST)
        return lade_emulator_error(cudaErrorInvalidValue);
    return add(stream, [=] { memset(dst, value, bytes); });
}

cudaError_t cudaMemset(void *dst, int value, size_t bytes)
{
    return cudaMemsetAsync(dst, value, bytes, nullptr);
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    BEGIN_CALL;
    *stream = new lade_emulator_stream();
    (*stream)->device = lade_emulator_device();
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)priority;
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    BEGIN_CALL;
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) {
            drain(stream, stream->queued);
            streams.erase(streams.begin() + (long)i);
            delete stream;
            return lade_emulator_call();
        }
    lade_emulator_die("a stream is destroyed that is none");
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    BEGIN_CALL;
    NOT_IN_CAPTURE;
    if (stream)
        drain(stream, stream->queued);
    else
        lade_emulator_drain_all();
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaStreamSynchronize(nullptr);
}

/* Says no at first, so that nobody takes a yes for granted; the second time the work is done. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    BEGIN_CALL;
    NOT_IN_CAPTURE;
    if (stream && stream->done < stream->queued && stream->polls++ % 2 == 0)
        return cudaErrorNotReady;
    return cudaStreamSynchronize(stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    BEGIN_CALL;
    std::shared_ptr<point> p = event->last;
    if (!p)
        return cudaSuccess;
    if (p->capture) { /* the stream joins the capture; its nodes keep the order of the calls */
        if (!stream->capture)
            stream->capture = p->capture;
        return cudaSuccess;
    }
    if (stream && stream->capture)
        lade_emulator_die("a captured stream waits for an event outside of the capture");
    return add(stream, [=] { reach(*p); });
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    BEGIN_CALL;
    *event = new lade_emulator_event();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    delete event;
    return lade_emulator_call();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    BEGIN_CALL;
    auto p = std::make_shared<point>();
    event->last = nullptr;
    event->polls = 0;
    if (stream && stream->capture) {
        p->capture = stream->capture;
        event->last = p;
        return cudaSuccess;
    }
    cudaError_t e = add(stream, [=] { p->time = std::chrono::steady_clock::now(); });
    if (e || !stream) /* the default stream has done it: the event is reached */
        return e;
    p->stream = stream;
    p->at = stream->queued;
    event->last = p;
    return cudaSuccess;
}

static bool reached(const point *p)
{
    return !p || !alive(p->stream) || p->stream->done >= p->at;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    BEGIN_CALL;
    NOT_IN_CAPTURE;
    if (reached(event->last.get()))
        return cudaSuccess;
    if (event->polls++ % 2 == 0) /* as cudaStreamQuery */
        return cudaErrorNotReady;
    reach(*event->last);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    BEGIN_CALL;
    NOT_IN_CAPTURE;
    if (event->last)
        reach(*event->last);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    BEGIN_CALL;
    if (!begin->last || !end->last)
        return lade_emulator_error(cudaErrorInvalidResourceHandle);
    if (!reached(begin->last.get()) || !reached(end->last.get()))
        return lade_emulator_error(cudaErrorNotReady);
    *ms = std::chrono::duration<float, std::milli>(end->last->time - begin->last->time).count();
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)mode;
    BEGIN_CALL;
    if (!stream || stream->capture)
        return lade_emulator_error(cudaErrorStreamCaptureUnsupported);
    stream->capture = new lade_emulator_graph();
    stream->began_capture = true;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    *graph = nullptr;
    lade_emulator_graph *g = stream->capture;
    if (!g || !stream->began_capture)
        return lade_emulator_error(cudaErrorStreamCaptureUnsupported);
    for (auto s : streams)
        if (s->capture == g) {
            s->capture = nullptr;
            s->began_capture = false;
        }
    cudaError_t e = lade_emulator_call();
    if (!e && g->broken)
        e = lade_emulator_error(cudaErrorStreamCaptureInvalidated);
    if (e)
        delete g;
    else
        *graph = g;
    return e;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    BEGIN_CALL;
    *exec = new lade_emulator_exec{graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)exec, (void)stream;
    BEGIN_CALL;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    BEGIN_CALL;
    std::vector<work> nodes = exec->nodes;
    lade_emulator.launches++;
    return add(stream, [=] {
        lade_emulator_hazards_break(stream);
        for (auto &node : nodes)
            do_work(stream, node);
        was_kernel = false; /* what follows waits for all of it */
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    delete graph;
    return lade_emulator_call();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    delete exec;
    return lade_emulator_call();
}
