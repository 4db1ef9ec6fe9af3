#include "tui/cmd/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "tui/meters/units.h"

void progress_clear(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}

void progress_show(struct progress *p, const struct lade_event *ev)
{
    char done[UNITS_MAX], total[UNITS_MAX];
    if (!isatty(STDERR_FILENO) || (ev->kind == LADE_EV_PREFILL && ev->done >= ev->total))
        return;
    progress_clear(p);
    if (ev->kind == LADE_EV_WAITING)
        fprintf(stderr, "%s", ev->text ? ev->text : "");
    else if (ev->kind == LADE_EV_SHARD)
        fprintf(stderr, "loading %s of %s", units_file(done, (double)ev->done_bytes),
                units_file(total, (double)ev->total_bytes));
    else
        fprintf(stderr, "reading the prompt: %d of %d tokens", ev->done, ev->total);
    fflush(stderr);
    p->shown = true;
}
