/* Copies in and beside the compute queue. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { STAGED = 64 << 10 }; /* larger uploads wait for the device */

bool sim_is_host(const char *what, const void *host, char *err)
{
    if (!((uintptr_t)host >> 55))
        return true;
    lade_set_error(err,
                   "sim: %s is given %p as memory of the host, but it is the device's; fix "
                   "the caller",
                   what, host);
    return false;
}

static int run_copy(struct lade_device *dev, struct sim_command *c, char *err)
{
    (void)dev, (void)err;
    if (c->copy_args.bytes)
        memmove(c->copy_args.dst, c->copy_args.src, c->copy_args.bytes);
    return 0;
}

static int run_zero(struct lade_device *dev, struct sim_command *c, char *err)
{
    (void)dev, (void)err;
    memset(c->copy_args.dst, 0, c->copy_args.bytes);
    return 0;
}

/* A copy whose ends are both of the device. */
static int between(struct lade_device *dev, const char *what, sim_run *run, void *dst,
                   const void *src, size_t bytes, char *err)
{
    struct sim_command *c = sim_command(what, run, err);
    if (!c)
        return -1;
    c->copy_args.bytes = bytes;
    c->copy_args.dst = sim_use(dev, c, dst, bytes, bytes, true, err);
    if (!c->copy_args.dst ||
        (src && !(c->copy_args.src = sim_use(dev, c, src, bytes, bytes, false, err)))) {
        sim_drop(c);
        return -1;
    }
    if (src && (char *)dst < (const char *)src + bytes && (const char *)src < (char *)dst + bytes &&
        bytes) {
        sim_drop(c);
        return lade_fail(err, "sim: ranges of copy() overlap; fix the caller");
    }
    return sim_put(dev, c, SIM_COMPUTE, NULL, err);
}

int sim_copy(struct lade_device *dev, void *dst, const void *src, size_t bytes, char *err)
{
    if (sim_enter(dev, err))
        return -1;
    if (sim_fails(err))
        return sim_leave(-1);
    return sim_leave(between(dev, "copy", run_copy, dst, src, bytes, err));
}

int sim_zero(struct lade_device *dev, void *dst, size_t bytes, char *err)
{
    if (sim_enter(dev, err))
        return -1;
    return sim_leave(between(dev, "zero", run_zero, dst, NULL, bytes, err));
}

static int upload(struct lade_device *dev, void *dst, const void *host, size_t bytes, char *err)
{
    struct sim_command *c = sim_command("upload", run_copy, err);
    if (!c)
        return -1;
    c->copy_args.bytes = bytes;
    c->copy_args.src = host;
    c->copy_args.dst = sim_use(dev, c, dst, bytes, 0, true, err);
    c->link_bytes = bytes;
    if (!c->copy_args.dst || !sim_is_host(c->what, host, err)) {
        sim_drop(c);
        return -1;
    }
    if (bytes > 0 && bytes <= STAGED) {
        c->copy = malloc(bytes);
        if (!c->copy) {
            sim_drop(c);
            return lade_fail(err, "sim: out of memory; close other programs");
        }
        c->copy_args.src = memcpy(c->copy, host, bytes);
    }
    lade_fence done;
    if (sim_put(dev, c, SIM_COMPUTE, &done, err))
        return -1;
    return bytes > STAGED ? sim_reach(dev, done, err) : 0;
}

int sim_upload(struct lade_device *dev, void *dst, const void *host, size_t bytes, char *err)
{
    if (sim_enter_counted(dev, err))
        return -1;
    return sim_leave(upload(dev, dst, host, bytes, err));
}

static int download(struct lade_device *dev, void *host, const void *src, size_t bytes, char *err)
{
    struct sim_command *c = sim_command("download", run_copy, err);
    if (!c)
        return -1;
    c->copy_args.bytes = bytes;
    c->copy_args.dst = host;
    c->copy_args.src = sim_use(dev, c, src, bytes, 0, false, err);
    c->link_bytes = bytes;
    if (!c->copy_args.src || !sim_is_host(c->what, host, err)) {
        sim_drop(c);
        return -1;
    }
    lade_fence done;
    return sim_put(dev, c, SIM_COMPUTE, &done, err) || sim_reach(dev, done, err) ? -1 : 0;
}

int sim_download(struct lade_device *dev, void *host, const void *src, size_t bytes, char *err)
{
    if (sim_enter_counted(dev, err))
        return -1;
    return sim_leave(download(dev, host, src, bytes, err));
}

/* Memory of the host that is pinned by no device makes the call wait, as documented. Races are looked for
 * where it is this one's. */
static int beside(struct lade_device *dev, int queue, void *dev_addr, void *host, size_t bytes,
                  lade_fence after, lade_fence *fence, char *err)
{
    bool up = queue == SIM_UP;
    struct sim_command *c = sim_command(up ? "upload_async" : "download_async", run_copy, err);
    if (!c)
        return -1;
    void *on_device = sim_use(dev, c, dev_addr, bytes, 0, up, err);
    const bool pinned = sim_is_pinned(host, bytes);
    const bool own = sim_real(dev, c->what, host, bytes, NULL, NULL) != NULL;
    if (!on_device || !sim_is_host(c->what, host, err) ||
        (own && !sim_use(dev, c, host, bytes, 0, !up, err))) {
        sim_drop(c);
        return -1;
    }
    c->copy_args.dst = up ? on_device : host;
    c->copy_args.src = up ? host : on_device;
    c->copy_args.bytes = bytes;
    c->link_bytes = bytes;
    c->after = after;
    lade_fence done;
    if (sim_put(dev, c, queue, &done, err))
        return -1;
    if (fence)
        *fence = done;
    return pinned ? 0 : sim_reach(dev, done, err);
}

int sim_upload_async(struct lade_device *dev, void *dst, const void *host, size_t bytes,
                     lade_fence after, lade_fence *fence, char *err)
{
    if (sim_enter_counted(dev, err))
        return -1;
    return sim_leave(beside(dev, SIM_UP, dst, (void *)host, bytes, after, fence, err));
}

int sim_download_async(struct lade_device *dev, void *host, const void *src, size_t bytes,
                       lade_fence after, lade_fence *fence, char *err)
{
    if (sim_enter_counted(dev, err))
        return -1;
    return sim_leave(beside(dev, SIM_DOWN, (void *)src, host, bytes, after, fence, err));
}
