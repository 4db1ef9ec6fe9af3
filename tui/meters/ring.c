#include "tui/meters/ring.h"

void ring_push(struct ring *r, float sample)
{
    r->at[r->next] = sample;
    r->next = (r->next + 1) % RING_SIZE;
    if (r->n < RING_SIZE)
        r->n++;
}

int ring_tail(const struct ring *r, float *out, int n)
{
    if (n > r->n)
        n = r->n;
    for (int i = 0; i < n; i++)
        out[i] = r->at[(r->next - n + i + RING_SIZE) % RING_SIZE];
    return n > 0 ? n : 0;
}
