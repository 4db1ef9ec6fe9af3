/* How the simulated GPU finds the mistakes it is there for, and what it counts. */
#include "gpu_common.h"

#include "tests/support/sim_gpu/sim_gpu.h"

static struct lade_sim *sim(void)
{
    struct lade_sim *s = test_plugin_symbol(test_plugin_path("lade-sim.so"), "lade_sim");
    assert_non_null(s);
    return s;
}

static void host_memory_is_refused(void **state)
{
    (void)state;
    float host[4] = {0}, *p = device_floats(NULL, 4), *q = device_floats(NULL, 4);
    bad("no memory of the device", add(dev, p, host, 4, err));
    bad("no memory of the device", zero(dev, host, 4, err));
    bad("as memory of the host", upload(dev, p, q, 4, err));
    bad("uses 20 bytes", add(dev, p, q, 5, err));
    bad("uses 16 bytes", zero(dev, p + 1, 16, err));
    gpu->free(dev, q);
    bad("no memory of the device", add(dev, p, q, 4, err));
    gpu->free(dev, p);
}

static void races_are_found(void **state)
{
    (void)state;
    enum { N = 64, BYTES = N * sizeof(float) };
    float *stage, *p = device_floats(NULL, N), *sum = device_floats(NULL, N);
    lade_fence used, filled;
    good(host_alloc(dev, (void **)&stage, BYTES, err));
    good(sync(dev, err));
    good(add(dev, sum, p, N, err));
    bad("race: upload_async and add", upload_async(dev, p, stage, BYTES, 0, &filled, err));
    good(mark(dev, &used, err));
    good(upload_async(dev, p, stage, BYTES, used, &filled, err));
    bad("race: add and upload_async", add(dev, sum, p, N, err));
    bad("race: download_async", download_async(dev, stage, sum, BYTES, used, NULL, err));
    good(wait(dev, filled, err));
    good(add(dev, sum, p, N, err));
    good(sync(dev, err));
    gpu->free(dev, p);
    gpu->free(dev, sum);
    gpu->host_free(dev, stage);
}

static void results_are_late(void **state)
{
    (void)state;
    float *y, *x = device_floats((float[]){5}, 1);
    lade_fence done;
    good(host_alloc(dev, (void **)&y, sizeof *y, err));
    good(add(dev, y, x, 1, err));
    good(mark(dev, &done, err));
    assert_true(*y == 0);
    good(finish(dev, done, err));
    assert_true(*y == 5);
    gpu->host_free(dev, y);
    gpu->free(dev, x);
}

static void stale_tables_are_found(void **state)
{
    (void)state;
    struct experts *m = make_experts();
    struct lade_moe op = moe_of(m, 7);
    good(moe(dev, &op, err));
    m->table[1] = m->all[1];
    bad("version 7 did not", moe(dev, &op, err));
    good(record_begin(dev, err));
    op.version = 8;
    bad("changes in a recording", moe(dev, &op, err));
    struct lade_recording *r;
    good(record_end(dev, &r, err));
    gpu->record_free(dev, r);
    good(sync(dev, err));
    free_experts(m);
}

static void positions_have_a_bound(void **state)
{
    (void)state;
    int32_t *at;
    good(host_alloc(dev, (void **)&at, sizeof *at, err));
    *at = 3;
    struct lade_attention a = make_attention(1, 1, 8, 4);
    a.pos = 2;
    a.pos_at = at;
    good(attention(dev, &a, err));
    bad("above the largest", sync(dev, err));
    bad("above the largest", add(dev, a.out, a.k, 1, err)); /* the error stays */
}

static void link_time_is_modelled(void **state)
{
    (void)state;
    enum { BYTES = 10 << 20 };
    struct lade_sim *s = sim();
    double before = s->seconds, rate = s->link_rate;
    uint64_t moved = s->upload_bytes;
    s->link_rate = 1e9;
    void *stage, *p;
    lade_fence filled;
    good(host_alloc(dev, &stage, BYTES, err));
    good(alloc(dev, &p, BYTES, err));
    good(upload_async(dev, p, stage, BYTES, 0, &filled, err));
    assert_true(s->seconds == before);
    good(finish(dev, filled, err));
    assert_int_equal(s->upload_bytes - moved, BYTES);
    assert_true(s->seconds - before > 0.0104 && s->seconds - before < 0.0106);
    s->link_rate = rate;
    gpu->free(dev, p);
    gpu->host_free(dev, stage);
}

static void a_lost_device_fails_every_call(void **state)
{
    (void)state;
    struct lade_sim *s = sim();
    float *p = device_floats(NULL, 4), *q = device_floats(NULL, 4);
    good(sync(dev, err));
    s->lose_call = 3;
    good(add(dev, p, q, 4, err));
    good(add(dev, p, q, 4, err));
    assert_false(gpu->lost(dev));
    bad("was lost", add(dev, p, q, 4, err));
    assert_true(gpu->lost(dev));
    assert_int_equal(s->gone, 1);
    s->gone = 0;
    bad("was lost", add(dev, p, q, 4, err));
    bad("was lost", sync(dev, err));
    float host[4];
    bad("was lost", download(dev, host, p, sizeof host, err));
}

static void without_a_driver(void **state)
{
    struct lade_sim *s = sim();
    s->devices = 0;
    err[0] = '\0';
    assert_null(lade_plugin_open(test_plugin_path(*state), err));
    assert_non_null(strstr(err, "no driver"));
    s->devices = 1;
    s->others = s->total - 1000;
    struct lade_device *none;
    struct lade_device_config cfg = {.threads = 1};
    bad("no 0.062 GiB of GPU memory for the driver", open(&none, &cfg, err));
    s->others = 0;
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {
        ON_SIM(host_memory_is_refused),
        ON_SIM(races_are_found),
        ON_SIM(results_are_late),
        ON_SIM(stale_tables_are_found),
        ON_SIM(positions_have_a_bound),
        ON_SIM(link_time_is_modelled),
        ON_SIM(a_lost_device_fails_every_call),
        ON_SIM(without_a_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
