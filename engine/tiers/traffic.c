/* traffic.c - sums of traffic, of which the difference is an interval. */
#include "engine/engine.h"

struct lade_traffic lade_traffic_between(const struct lade_traffic *from,
                                         const struct lade_traffic *to)
{
    return (struct lade_traffic){
        .tokens = to->tokens - from->tokens,
        .vram_hits = to->vram_hits - from->vram_hits,
        .ram_hits = to->ram_hits - from->ram_hits,
        .disk_reads = to->disk_reads - from->disk_reads,
        .vram_bytes = to->vram_bytes - from->vram_bytes,
        .ram_bytes = to->ram_bytes - from->ram_bytes,
        .disk_bytes = to->disk_bytes - from->disk_bytes,
        .link_bytes = to->link_bytes - from->link_bytes,
        .ahead = to->ahead - from->ahead,
        .ahead_right = to->ahead_right - from->ahead_right,
        .ahead_wasted = to->ahead_wasted - from->ahead_wasted,
        .ahead_wasted_bytes = to->ahead_wasted_bytes - from->ahead_wasted_bytes,
        .ahead_on = to->ahead_on,
        .wait_s = to->wait_s - from->wait_s,
        .compute_s = to->compute_s - from->compute_s,
    };
}
