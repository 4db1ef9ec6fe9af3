/* The op table. */
#include "kernels/cuda/gpu.h"

extern "C" {
#include "kernels/plugin.h"
}

/* An op that fails while it is recorded ends the recording: nothing after it may be taken for
 * recorded. */
template <auto op, typename... Args> static int recordable(struct lade_device *dev, Args... args)
{
    int failed = op(dev, args...);
    if (failed && dev->recording)
        gpu_record_abandon(dev);
    return failed;
}

static struct lade_ops make_ops(void)
{
    struct lade_ops ops = {};
    ops.name = "cuda";
    ops.list = gpu_list;
    ops.open = gpu_open;
    ops.close = gpu_close;
    ops.describe = gpu_describe;
    ops.lost = gpu_lost;
    ops.memory = gpu_memory;
    ops.measure = gpu_measure;
    ops.workspace = gpu_workspace;
    ops.prepare = gpu_prepare;
    ops.reserve = gpu_reserve;
    ops.alloc = gpu_alloc;
    ops.free = gpu_free;
    ops.host_alloc = gpu_host_alloc;
    ops.host_free = gpu_host_free;
    ops.pin = gpu_pin;
    ops.unpin = gpu_unpin;
    ops.upload = gpu_upload;
    ops.download = gpu_download;
    ops.copy = recordable<gpu_copy>;
    ops.zero = recordable<gpu_zero>;
    ops.sync = gpu_sync;
    ops.mark = gpu_mark;
    ops.upload_async = gpu_upload_async;
    ops.download_async = gpu_download_async;
    ops.wait = gpu_wait;
    ops.reached = gpu_reached;
    ops.finish = gpu_finish;
    ops.record_begin = gpu_record_begin;
    ops.record_end = gpu_record_end;
    ops.replay = gpu_replay;
    ops.record_free = gpu_record_free;
    ops.table = gpu_table;
    ops.embed = recordable<gpu_embed>;
    ops.embed_at = recordable<gpu_embed_at>;
    ops.rmsnorm = recordable<gpu_rmsnorm>;
    ops.add = recordable<gpu_add>;
    ops.matmul = recordable<gpu_matmul>;
    ops.project = recordable<gpu_project>;
    ops.attention = recordable<gpu_attention>;
    ops.deltanet = recordable<gpu_deltanet>;
    ops.route = recordable<gpu_route>;
    ops.router = recordable<gpu_router>;
    ops.moe = recordable<gpu_moe>;
    ops.topk = recordable<gpu_topk>;
    return ops;
}

static const struct lade_ops ops = make_ops();

LADE_PLUGIN_EXPORT const struct lade_plugin lade_plugin = LADE_PLUGIN(&ops);
