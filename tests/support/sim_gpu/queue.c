/* Queues, fences, recordings, virtual time and races.
 *
 * Work is done when somebody must see it. Every command knows which positions of each queue come
 * before it, by the order in its own queue and by fences; two commands of different queues that
 * touch the same bytes must be ordered that way. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_WAITING = 20000 }; /* commands in a queue, so that tests need no gigabytes */

pthread_mutex_t sim_lock = PTHREAD_MUTEX_INITIALIZER;

int sim_enter(struct lade_device *dev, char *err)
{
    pthread_mutex_lock(&sim_lock);
    if (dev->number == lade_sim.lose_gpu && atomic_fetch_sub(&lade_sim.lose_call, 1) == 1) {
        dev->lost = true;
        atomic_fetch_or(&lade_sim.gone, 1u << dev->number);
    }
    if (dev->lost)
        lade_set_error(err, "sim: GPU %d was lost; start lade again to use it", dev->number);
    else if (dev->error[0])
        lade_set_error(err, "%s", dev->error);
    else
        return 0;
    pthread_mutex_unlock(&sim_lock);
    return -1;
}

bool sim_lost(struct lade_device *dev)
{
    pthread_mutex_lock(&sim_lock);
    bool lost = dev->lost;
    pthread_mutex_unlock(&sim_lock);
    return lost;
}

int sim_leave(int result)
{
    pthread_mutex_unlock(&sim_lock);
    return result;
}

int sim_enter_plain(struct lade_device *dev, char *err)
{
    if (sim_enter(dev, err))
        return -1;
    if (!dev->recording)
        return 0;
    return sim_leave(lade_fail(err, "sim: a function that cannot be recorded is called in a "
                                    "recording; fix the caller"));
}

bool sim_fails(char *err)
{
    if (atomic_fetch_sub(&lade_sim.fail_call, 1) != 1)
        return false;
    lade_set_error(err, "sim: this call fails, as a test has asked; call again");
    return true;
}

int sim_enter_counted(struct lade_device *dev, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    return sim_fails(err) ? sim_leave(-1) : 0;
}

/* ---- commands ---- */

struct sim_command *sim_command(const char *what, sim_run *run, char *err)
{
    struct sim_command *c = calloc(1, sizeof *c);
    if (!c) {
        lade_set_error(err, "sim: out of memory; close other programs");
        return NULL;
    }
    c->what = what;
    c->run = run;
    return c;
}

void sim_drop(struct sim_command *c)
{
    if (!c)
        return;
    sim_table_release(c->table);
    free(c->copy);
    free(c);
}

void *sim_use(struct lade_device *dev, struct sim_command *c, const void *addr, size_t bytes,
              size_t moved, bool write, char *err)
{
    bool host = false;
    char *real = sim_real(dev, c->what, addr, bytes, &host, err);
    if (!real)
        return NULL;
    if (c->n_ranges == SIM_RANGES)
        sim_die("%s has too many operands", c->what);
    c->range[c->n_ranges++] = (struct sim_range){real, bytes, write};
    *(host ? &c->link_bytes : &c->device_bytes) += moved;
    return real;
}

/* ---- races ---- */

static bool clash(const struct sim_range *a, const struct sim_range *b)
{
    return (a->write || b->write) && a->at < b->at + b->bytes && b->at < a->at + a->bytes;
}

static const struct sim_range *ranges(const struct sim_command *c, int i)
{
    if (i < c->n_ranges)
        return &c->range[i];
    i -= c->n_ranges;
    return c->table && i < c->table->n_ranges ? &c->table->ranges[i] : NULL;
}

static const struct sim_range *first_clash(const struct sim_command *a, const struct sim_command *b)
{
    const struct sim_range *x, *y;
    for (int i = 0; (x = ranges(a, i)); i++)
        for (int j = 0; (y = ranges(b, j)); j++) {
            if (i >= a->n_ranges && j >= b->n_ranges)
                break; /* tables are only read */
            if (clash(x, y))
                return x;
        }
    return NULL;
}

static struct sim_command *waiting(const struct sim_queue *q, size_t i)
{
    return q->waiting[(q->first + i) % q->room];
}

static int check_races(struct lade_device *dev, const struct sim_command *c, int queue, char *err)
{
    for (int other = 0; other < SIM_QUEUES; other++) {
        const struct sim_queue *q = &dev->queue[other];
        if (other == queue)
            continue;
        for (size_t i = q->n; i-- > 0 && q->done + i + 1 > c->before[other];) {
            const struct sim_command *p = waiting(q, i);
            const struct sim_range *r = first_clash(c, p);
            if (r)
                return lade_fail(err,
                                 "sim: race: %s and %s use the same memory at %p and no fence "
                                 "orders them; fix the caller",
                                 c->what, p->what, (void *)r->at);
        }
    }
    return 0;
}

bool sim_in_use(const struct lade_device *dev, const struct sim_block *b)
{
    struct sim_range whole = {b->real, b->bytes, true};
    for (int k = 0; k < SIM_QUEUES; k++)
        for (size_t i = 0; i < dev->queue[k].n; i++) {
            const struct sim_range *r;
            for (int j = 0; (r = ranges(waiting(&dev->queue[k], i), j)); j++)
                if (clash(r, &whole))
                    return true;
        }
    return false;
}

/* ---- running ---- */

static double later(double a, double b)
{
    return a > b ? a : b;
}

/* Work that runs later cannot fail its call: the error stays and fails the next ones. */
static void run(struct lade_device *dev, int queue, struct sim_command *c)
{
    struct sim_queue *q = &dev->queue[queue];
    double begin = later(q->clock, c->ready);
    char err[LADE_ERR] = "";
    if (c->after)
        begin = later(begin, dev->fences[c->after - 1].time);
    if (!dev->lost && !dev->error[0] && c->run && c->run(dev, c, err))
        memcpy(dev->error, err, sizeof dev->error);
    double cost = (double)c->link_bytes / lade_sim.link_rate +
                  (double)c->device_bytes / lade_sim.memory_rate + (c->run ? lade_sim.launch : 0);
    q->clock = begin + cost;
    *(queue == SIM_COMPUTE ? &lade_sim.compute_busy
      : queue == SIM_UP    ? &lade_sim.upload_busy
                           : &lade_sim.download_busy) += cost;
    *(queue == SIM_DOWN ? &lade_sim.download_bytes : &lade_sim.upload_bytes) += c->link_bytes;
    sim_drop(c);
}

/* Positions up to `upto` of a queue; what they wait for first. */
static void advance(struct lade_device *dev, int queue, uint64_t upto)
{
    struct sim_queue *q = &dev->queue[queue];
    while (q->done < upto) {
        struct sim_command *c = waiting(q, 0);
        if (c->after) {
            struct sim_fence *f = &dev->fences[c->after - 1];
            advance(dev, f->queue, f->position);
        }
        q->first = (q->first + 1) % q->room;
        q->n--;
        q->done++;
        run(dev, queue, c);
        for (size_t i = dev->n_fences; i-- > 0;) { /* the latest ones are at the end */
            struct sim_fence *f = &dev->fences[i];
            if (f->queue == queue && f->position < q->done)
                break;
            if (f->queue == queue && f->position == q->done)
                f->time = q->clock;
        }
    }
}

static int result_of_work(struct lade_device *dev, char *err)
{
    return dev->error[0] ? lade_fail(err, "%s", dev->error) : 0;
}

int sim_reach(struct lade_device *dev, lade_fence fence, char *err)
{
    if (!fence)
        return 0;
    if (fence > dev->n_fences)
        return lade_fail(err, "sim: there is no fence %llu; fix the caller",
                         (unsigned long long)fence);
    struct sim_fence *f = &dev->fences[fence - 1];
    advance(dev, f->queue, f->position);
    lade_sim.seconds = later(lade_sim.seconds, f->time);
    return result_of_work(dev, err);
}

int sim_drain(struct lade_device *dev, char *err)
{
    for (int k = 0; k < SIM_QUEUES; k++) {
        advance(dev, k, dev->queue[k].queued);
        lade_sim.seconds = later(lade_sim.seconds, dev->queue[k].clock);
    }
    return result_of_work(dev, err);
}

void sim_discard(struct lade_device *dev)
{
    for (int k = 0; k < SIM_QUEUES; k++) {
        for (size_t i = 0; i < dev->queue[k].n; i++)
            sim_drop(waiting(&dev->queue[k], i));
        free(dev->queue[k].waiting);
        dev->queue[k] = (struct sim_queue){0};
    }
}

/* ---- queueing ---- */

static int add_fence(struct lade_device *dev, int queue, lade_fence *fence, char *err)
{
    if (dev->n_fences == dev->room_fences) {
        size_t room = dev->room_fences ? 2 * dev->room_fences : 1024;
        void *larger = realloc(dev->fences, room * sizeof *dev->fences);
        if (!larger)
            return lade_fail(err, "sim: out of memory; close other programs");
        dev->fences = larger;
        dev->room_fences = room;
    }
    struct sim_queue *q = &dev->queue[queue];
    struct sim_fence *f = &dev->fences[dev->n_fences++];
    *f = (struct sim_fence){.queue = queue, .position = q->queued, .time = q->clock};
    memcpy(f->before, q->before, sizeof f->before);
    *fence = dev->n_fences;
    return 0;
}

static int make_room(struct lade_device *dev, struct sim_queue *q, char *err)
{
    if (q->n == MOST_WAITING && sim_drain(dev, err))
        return -1;
    if (q->n < q->room)
        return 0;
    size_t room = q->room ? 2 * q->room : 64;
    struct sim_command **larger = calloc(room, sizeof(*larger));
    if (!larger)
        return lade_fail(err, "sim: out of memory; close other programs");
    for (size_t i = 0; i < q->n; i++)
        larger[i] = waiting(q, i);
    free(q->waiting);
    q->waiting = larger;
    q->room = room;
    q->first = 0;
    return 0;
}

static int record(struct lade_recording *r, struct sim_command *c, char *err)
{
    if (r->n == r->room) {
        size_t room = r->room ? 2 * r->room : 256;
        void *larger = realloc(r->commands, room * sizeof(*r->commands));
        if (!larger) {
            sim_drop(c);
            return lade_fail(err, "sim: out of memory; close other programs");
        }
        r->commands = larger;
        r->room = room;
    }
    r->commands[r->n++] = c;
    return 0;
}

static int put(struct lade_device *dev, struct sim_command *c, int queue, lade_fence *fence,
               char *err)
{
    struct sim_queue *q = &dev->queue[queue];
    if (c->after > dev->n_fences)
        return lade_fail(err, "sim: %s waits for fence %llu, which is none; fix the caller",
                         c->what, (unsigned long long)c->after);
    if (make_room(dev, q, err))
        return -1;
    memcpy(c->before, q->before, sizeof c->before);
    if (c->after)
        for (int k = 0; k < SIM_QUEUES; k++) {
            uint64_t p = dev->fences[c->after - 1].before[k];
            c->before[k] = p > c->before[k] ? p : c->before[k];
        }
    if (check_races(dev, c, queue, err))
        return -1;
    c->ready = lade_sim.seconds;
    c->before[queue] = ++q->queued;
    memcpy(q->before, c->before, sizeof q->before);
    q->waiting[(q->first + q->n++) % q->room] = c;
    lade_sim.ops += queue == SIM_COMPUTE;
    lade_sim.uploads += queue == SIM_UP;
    lade_sim.downloads += queue == SIM_DOWN;
    return fence ? add_fence(dev, queue, fence, err) : 0;
}

int sim_put(struct lade_device *dev, struct sim_command *c, int queue, lade_fence *fence, char *err)
{
    if (dev->recording)
        return record(dev->recording, c, err);
    if (c->table_key && !c->table && !(c->table = sim_table_hold(dev, c->table_key, err))) {
        sim_drop(c);
        return -1;
    }
    uint64_t before = dev->queue[queue].queued;
    int failed = put(dev, c, queue, fence, err);
    if (failed && dev->queue[queue].queued == before)
        sim_drop(c);
    return failed;
}

int sim_mark(struct lade_device *dev, lade_fence *fence, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    return sim_leave(add_fence(dev, SIM_COMPUTE, fence, err));
}

int sim_wait(struct lade_device *dev, lade_fence fence, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    if (!fence)
        return sim_leave(0);
    struct sim_command *c = sim_command("wait", NULL, err);
    if (!c)
        return sim_leave(-1);
    c->after = fence;
    return sim_leave(sim_put(dev, c, SIM_COMPUTE, NULL, err));
}

/* Says no at first, so that nobody takes a yes for granted. */
int sim_reached(struct lade_device *dev, lade_fence fence, bool *yes, char *err)
{
    *yes = true;
    if (sim_enter_plain(dev, err))
        return -1;
    if (fence && fence <= dev->n_fences) {
        struct sim_fence *f = &dev->fences[fence - 1];
        *yes = dev->queue[f->queue].done >= f->position;
        if (!*yes && f->polls++ == 0)
            return sim_leave(0);
    }
    int failed = sim_reach(dev, fence, err);
    *yes = !failed;
    return sim_leave(failed);
}

int sim_finish(struct lade_device *dev, lade_fence fence, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    return sim_leave(sim_reach(dev, fence, err));
}

int sim_sync(struct lade_device *dev, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    return sim_leave(sim_drain(dev, err));
}

/* ---- recordings ---- */

int sim_record_begin(struct lade_device *dev, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    dev->recording = calloc(1, sizeof *dev->recording);
    if (!dev->recording)
        return sim_leave(lade_fail(err, "sim: out of memory; close other programs"));
    return sim_leave(0);
}

int sim_record_end(struct lade_device *dev, struct lade_recording **out, char *err)
{
    *out = NULL;
    if (sim_enter(dev, err))
        return -1;
    *out = dev->recording;
    dev->recording = NULL;
    if (!*out)
        return sim_leave(lade_fail(err, "sim: nothing is being recorded; fix the caller"));
    return sim_leave(0);
}

static struct sim_command *copy_of(const struct sim_command *c, char *err)
{
    struct sim_command *twin = sim_command(c->what, c->run, err);
    if (!twin)
        return NULL;
    *twin = *c;
    twin->copy = NULL;
    if (c->copy && !(twin->copy = malloc(c->copy_bytes))) {
        free(twin);
        lade_set_error(err, "sim: out of memory; close other programs");
        return NULL;
    }
    if (c->copy)
        memcpy(twin->copy, c->copy, c->copy_bytes);
    return twin;
}

int sim_replay(struct lade_device *dev, struct lade_recording *r, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    lade_sim.replays++;
    for (size_t i = 0; i < r->n; i++) {
        struct sim_command *c = copy_of(r->commands[i], err);
        if (!c || sim_put(dev, c, SIM_COMPUTE, NULL, err))
            return sim_leave(-1);
    }
    return sim_leave(0);
}

void sim_record_free(struct lade_device *dev, struct lade_recording *r)
{
    (void)dev;
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        sim_drop(r->commands[i]);
    free(r->commands);
    free(r);
}
