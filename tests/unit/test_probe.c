/* The probe: drives and nodes of made-up systems, the file of speeds, what the plan is told; and
 * the measurements themselves, of which a test can only ask that they say something. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/clock.h"
#include "engine/plan/plan.h"
#include "engine/plan/predict.h"
#include "engine/tiers/tiers.h"

static char dir[64], err[LADE_ERR];

/* ---- a made-up system ---- */

static const char *under(const char *path)
{
    static char out[4][256];
    static int turn;
    char *p = out[turn++ % 4];
    snprintf(p, sizeof out[0], "%s/%s", dir, path);
    return p;
}

static void make_parents(const char *path)
{
    char copy[256];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *p = copy + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(copy, 0700) && errno != EEXIST)
            fail_msg("%s: %s", copy, strerror(errno));
        *p = '/';
    }
}

static void put(const char *path, const char *text)
{
    const char *full = under(path);
    make_parents(full);
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void link_device(const char *number, const char *target)
{
    char link[256], to[256];
    snprintf(link, sizeof link, "%s/sys/dev/block/%s", dir, number);
    snprintf(to, sizeof to, "../../%s", target);
    make_parents(link);
    assert_int_equal(symlink(to, link), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/lade-probe-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static struct lade_machine_drive drive(unsigned major, unsigned minor)
{
    struct lade_machine_drive d;
    char sys[128], mounts[128];
    snprintf(sys, sizeof sys, "%s/sys", dir);
    snprintf(mounts, sizeof mounts, "%s/mountinfo", dir);
    lade_probe_drive_of(&d, sys, mounts, major, minor);
    return d;
}

static void test_drives(void **state)
{
    (void)state;
    put("sys/devices/pci/nvme0n1/queue/rotational", "0\n");
    put("sys/devices/pci/nvme0n1/nvme0n1p2/partition", "2\n");
    put("sys/devices/pci/sda/queue/rotational", "1\n");
    put("sys/devices/virtio/vda/queue/rotational", "1\n");
    put("sys/devices/virtual/md0/queue/rotational", "0\n");
    put("sys/devices/virtual/md0/md/level", "raid0\n");
    put("sys/devices/virtual/md0/slaves/nvme1n1", "");
    put("sys/devices/virtual/md0/slaves/nvme2n1", "");
    put("sys/devices/virtual/md0/slaves/nvme3n1", "");
    put("sys/devices/virtual/md1/md/level", "linear\n");
    put("sys/devices/virtual/md1/slaves/sdb", "");
    put("sys/devices/virtual/md1/slaves/sdc", "");
    link_device("259:2", "devices/pci/nvme0n1/nvme0n1p2");
    link_device("8:0", "devices/pci/sda");
    link_device("254:0", "devices/virtio/vda");
    link_device("9:0", "devices/virtual/md0");
    link_device("9:1", "devices/virtual/md1");
    put("mountinfo", "22 1 0:45 / /data rw - btrfs /dev/nobody rw\n"
                     "23 1 0:46 / /tmp rw - tmpfs tmpfs rw\n");

    struct lade_machine_drive d = drive(259, 2);
    assert_string_equal(d.name, "nvme0n1"); /* the drive of the partition */
    assert_false(d.rotational);
    assert_int_equal(d.disks, 1);
    d = drive(8, 0);
    assert_string_equal(d.name, "sda");
    assert_true(d.rotational);
    d = drive(254, 0);
    assert_string_equal(d.name, "vda");
    assert_false(d.rotational);
    d = drive(9, 0);
    assert_string_equal(d.name, "md0");
    assert_int_equal(d.disks, 3);
    assert_int_equal(drive(9, 1).disks, 1);
    d = drive(0, 45); /* its source is no device here */
    assert_string_equal(d.name, "0:45");
    d = drive(0, 46);
    assert_string_equal(d.name, "0:46");
    assert_int_equal(d.disks, 1);
}

static void test_nodes(void **state)
{
    (void)state;
    assert_int_equal(lade_probe_nodes(under("nowhere")), 1);
    put("numa/devices/system/node/node0/meminfo", "Node 0 MemTotal:       131072000 kB\n");
    put("numa/devices/system/node/node1/meminfo", "Node 1 MemTotal:       131072000 kB\n");
    put("numa/devices/system/node/node2/meminfo", "Node 2 MemTotal:       0 kB\n");
    put("numa/devices/system/node/possible", "0-2\n");
    assert_int_equal(lade_probe_nodes(under("numa")), 2);
}

/* ---- speeds ---- */

static struct lade_machine machine(void)
{
    struct lade_machine m = {.cores = 8, .n_drives = 2, .n_gpus = 1, .ram_gbps = 40};
    snprintf(m.cpu, sizeof m.cpu, "Some \"CPU\" 9000");
    snprintf(m.isa, sizeof m.isa, "AVX2, 8 threads");
    m.kernels = (struct lade_machine_kernels){.experts = "int4",
                                              .base = "int8",
                                              .experts_gbps = 30,
                                              .base_gbps = 35,
                                              .experts_gflops = 500,
                                              .base_gflops = 700};
    m.packing = (struct lade_machine_packing){2, 4};
    snprintf(m.drive[0].name, sizeof m.drive[0].name, "nvme0n1");
    m.drive[0].sequential_gbps = 3.25;
    m.drive[0].one_gbps = 1.5;
    m.drive[0].eight_gbps = 3;
    snprintf(m.drive[1].name, sizeof m.drive[1].name, "sda"); /* not measured */
    m.gpu[0] = (struct lade_machine_gpu){.name = "GPU",
                                         .bus = "0000:01:00.0",
                                         .memory_gbps = 900,
                                         .upload_gbps = 24,
                                         .download_gbps = 25,
                                         .measured = true};
    return m;
}

/* The same machine before anything was measured. */
static struct lade_machine blank(void)
{
    struct lade_machine m = machine();
    m.ram_gbps = 0;
    m.packing = (struct lade_machine_packing){0};
    m.kernels = (struct lade_machine_kernels){.experts = "int4", .base = "int8"};
    m.drive[0].sequential_gbps = m.drive[0].one_gbps = m.drive[0].eight_gbps = 0;
    m.gpu[0].memory_gbps = m.gpu[0].upload_gbps = m.gpu[0].download_gbps = 0;
    m.gpu[0].measured = false;
    return m;
}

static void test_speeds_are_kept(void **state)
{
    (void)state;
    const char *cache = under("made/on/demand");
    const double now = 1.7e9, month = 30 * 86400.0;
    struct lade_machine m = machine(), found = blank();
    lade_speeds_recall(&found, "gguf", cache, now);
    assert_true(found.ram_gbps == 0);
    lade_speeds_keep(&m, "gguf", cache, now);

    lade_speeds_recall(&found, "gguf", cache, now + month - 1);
    assert_float_equal(found.ram_gbps, 40, 1e-9);
    assert_float_equal(found.kernels.base_gflops, 700, 1e-9);
    assert_float_equal(found.drive[0].sequential_gbps, 3.25, 1e-9);
    assert_true(found.drive[1].one_gbps == 0);
    assert_float_equal(found.packing.again_gbps, 4, 1e-9);
    assert_true(found.gpu[0].measured);
    assert_float_equal(found.gpu[0].upload_gbps, 24, 1e-9);

    found = blank();
    lade_speeds_recall(&found, "gguf", cache, now + month + 1); /* too old */
    assert_true(found.ram_gbps == 0 && found.drive[0].one_gbps == 0 && !found.gpu[0].measured);
    lade_speeds_recall(&found, "gguf", cache, now - 1); /* from the future */
    assert_true(found.ram_gbps == 0);
    found = blank();
    lade_speeds_recall(&found, "safetensors", cache, now); /* packed otherwise */
    assert_true(found.packing.fresh_gbps == 0 && found.ram_gbps > 0);

    found = blank(); /* other weights, other threads */
    snprintf(found.kernels.experts, sizeof found.kernels.experts, "Q4_K");
    found.cores = 4;
    lade_speeds_recall(&found, "gguf", cache, now);
    assert_true(found.ram_gbps == 0 && found.kernels.experts_gbps == 0);
    assert_true(found.drive[0].one_gbps > 0);

    /* What one machine does not know, another's file keeps. */
    snprintf(found.drive[0].name, sizeof found.drive[0].name, "nvme7n1");
    lade_speeds_keep(&found, "gguf", cache, now);
    found = blank();
    lade_speeds_recall(&found, "gguf", cache, now);
    assert_true(found.ram_gbps > 0 && found.drive[0].one_gbps > 0);
}

/* Loads are kept by size and home, for the drive and the kind of weights; what is not measured again
 * stays as old as it was. */
static void test_loads_are_kept(void **state)
{
    (void)state;
    const char *cache = under("loads");
    const double now = 1.7e9, month = 30 * 86400.0;
    struct lade_machine m = machine(), found;
    lade_speeds_keep(&m, "gguf", cache, now);
    lade_loads_note(&m.to_ram, 8e9, 4);
    lade_loads_note(&m.to_vram, 40e9, 10);
    lade_speeds_keep(&m, "gguf", cache, now + 10);

    found = blank();
    lade_speeds_recall(&found, "gguf", cache, now + month);
    assert_float_equal(lade_loads_speed(&found.to_ram, 8e9), 2, 1e-9);
    assert_float_equal(lade_loads_speed(&found.to_vram, 40e9), 4, 1e-9);
    assert_true(lade_loads_speed(&found.to_ram, 40e9) == 0);
    assert_true(found.ram_gbps > 0);
    found = blank();
    lade_speeds_recall(&found, "gguf", cache, now + month + 5);
    assert_true(lade_loads_speed(&found.to_ram, 8e9) > 0);
    assert_true(found.ram_gbps == 0); /* was written twice, but not measured */

    found = blank();
    lade_speeds_recall(&found, "safetensors", cache, now + 20);
    assert_true(lade_loads_speed(&found.to_ram, 8e9) == 0);
    found = blank();
    snprintf(found.drive[1].name, sizeof found.drive[1].name, "sdb");
    lade_speeds_recall(&found, "gguf", cache, now + 20);
    assert_true(lade_loads_speed(&found.to_ram, 8e9) == 0);

    /* As the tiers note one; the plan has it then. */
    struct lade_catalog *cat;
    struct lade_machine here;
    struct lade_probe_wish wish = {.cache_dir = under("noted")};
    assert_int_equal(lade_catalog_open(&cat, "tests/fixtures/tiny8-int4-mixed", err), 0);
    wish.catalog = cat;
    lade_machine_note_load(cat, wish.cache_dir, false, 8e9, 4);
    lade_machine_note_load(cat, NULL, false, 8e9, 1);
    lade_machine_probe(&here, &wish);
    struct lade_plan_machine pc;
    lade_plan_machine_of(&pc, &here, &(struct lade_plan_caps){0});
    assert_float_equal(lade_loads_speed(&pc.to_ram, 8e9), 2, 1e-9);
    assert_true(lade_loads_speed(&pc.to_vram, 8e9) == 0);
    lade_catalog_close(cat);
}

/* What answers were of what was told is kept by strategy, and forgotten when speeds are measured. */
static void test_answers_are_kept(void **state)
{
    (void)state;
    struct lade_answers seen = {0};
    lade_answers_note(&seen.decode[1], 10, 20);
    assert_float_equal(seen.decode[1], 2, 1e-9);
    lade_answers_note(&seen.decode[1], 10, 5); /* later ones count more: the root of 2 x 0.5 */
    assert_float_equal(seen.decode[1], 1, 1e-9);
    const double senseless[][2] = {{0, 5}, {10, 0}, {10, NAN}, {NAN, 10}, {10, 1e9}, {1e9, 10}};
    for (size_t i = 0; i < sizeof senseless / sizeof *senseless; i++)
        lade_answers_note(&seen.decode[1], senseless[i][0], senseless[i][1]);
    assert_float_equal(seen.decode[1], 1, 1e-9);
    assert_float_equal(lade_answers_factor(seen.prefill[1]), 1, 1e-9);

    struct lade_catalog *cat;
    struct lade_plan plan, again;
    struct lade_plan_caps caps = {
        .cpu_only = true, .cache_dir = under("answers"), .strategy = "mmap"};
    assert_int_equal(lade_catalog_open(&cat, "tests/fixtures/tiny8-int4-mixed", err), 0);
    assert_int_equal(lade_plan_here(&plan, cat, &caps, err), 0);
    const struct lade_plan_row *row = &plan.rows[plan.chosen];
    struct lade_tokens_per_s twice = {.decode = 2 * row->decode_tps};
    lade_plan_note_answer(&plan, cat, &caps, &twice); /* so small a model */
    assert_int_equal(lade_plan_here(&again, cat, &caps, err), 0);
    assert_float_equal(again.rows[again.chosen].decode_tps / row->decode_tps, 1, 1e-9);

    plan.rows[plan.chosen].decode_tps = 100; /* as one of the 80B would be told */
    const double alone = 600 / lade_plan_prompt(row, &plan.model, &plan.machine, 600);
    lade_plan_note_answer(&plan, cat, &caps, &(struct lade_tokens_per_s){.decode = 200});
    lade_plan_note_answer(&plan, cat, &caps,
                          &(struct lade_tokens_per_s){.prefill = alone / 2, .prompt = 600});
    assert_int_equal(lade_plan_here(&again, cat, &caps, err), 0);
    const int other = lade_strategy_find("cpu-tight");
    assert_float_equal(again.machine.answers.decode[plan.chosen], 2, 1e-9);
    assert_float_equal(again.machine.answers.prefill[plan.chosen], 0.5, 1e-9);
    assert_true(again.machine.answers.decode[other] == 0);
    /* What the first answer said is not said once more by a second one of the same speed. */
    again.rows[again.chosen].decode_tps = 200;
    lade_plan_note_answer(&again, cat, &caps, &(struct lade_tokens_per_s){.decode = 200});
    assert_int_equal(lade_plan_here(&again, cat, &caps, err), 0);
    assert_float_equal(again.machine.answers.decode[plan.chosen], 2, 1e-9);

    struct lade_machine here;
    struct lade_probe_wish wish = {.catalog = cat, .cache_dir = caps.cache_dir};
    lade_machine_probe(&here, &wish);
    here.kernels.experts_gbps = here.kernels.base_gbps = 30; /* so that RAM alone is measured */
    here.kernels.experts_gflops = here.kernels.base_gflops = 500;
    lade_speeds_keep(&here, cat->format, wish.cache_dir, (double)time(NULL));
    lade_machine_probe(&here, &wish);
    assert_float_equal(here.answers.decode[plan.chosen], 2, 1e-9);
    wish.measure = LADE_MEASURE_MISSING;
    lade_machine_probe(&here, &wish);
    assert_true(here.answers.decode[plan.chosen] == 0);
    wish.measure = LADE_MEASURE_NOTHING;
    lade_machine_probe(&here, &wish);
    assert_true(here.ram_gbps > 0 && here.answers.decode[plan.chosen] == 0);
    lade_catalog_close(cat);
}

/* The bundled model, copied to where its files can be taken out of the page cache. */
static const char *copy_model(void)
{
    char command[256];
    snprintf(command, sizeof command, "cp -r engine/bundled '%s/model'", dir);
    assert_int_equal(system(command), 0);
    return under("model");
}

/* Takes the weights out of the page cache, or brings them there. */
static void set_cached(const char *model, bool cached)
{
    static unsigned char bytes[1 << 20];
    for (int i = 1; i <= 4; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/model-0000%d-of-00004.safetensors", model, i);
        int fd = open(path, O_RDONLY);
        assert_true(fd >= 0);
        fsync(fd);
        if (!cached)
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        while (cached && read(fd, bytes, sizeof bytes) > 0)
            continue;
        close(fd);
    }
}

/* GB/s that the next plan would be told, after a load. The page cache is set once the headers have been
 * read, with which the system may read more. */
static double speed_after_load(const char *model, const char *cache_dir, bool cached)
{
    struct lade_plan_caps caps = {.cpu_only = true, .cache_dir = cache_dir};
    struct lade_plan plan;
    struct lade_catalog *cat;
    struct lade_tiers *tiers;
    struct lade_machine here;
    if (lade_catalog_open(&cat, model, err) || lade_plan_here(&plan, cat, &caps, err))
        fail_msg("%s", err);
    struct lade_tiers_config config = {.cat = cat,
                                       .place = plan.rows[plan.chosen].place,
                                       .cache_dir = cache_dir,
                                       .began = lade_now()};
    set_cached(model, cached);
    if (lade_tiers_open(&tiers, &config, err) || lade_tiers_load(tiers, NULL, NULL, NULL, err) ||
        lade_tiers_wait(tiers, true, err))
        fail_msg("%s", err);
    lade_tiers_close(tiers);
    lade_machine_probe(&here, &(struct lade_probe_wish){.catalog = cat, .cache_dir = cache_dir});
    double bytes = (double)cat->source_bytes;
    lade_catalog_close(cat);
    return lade_loads_speed(&here.to_ram, bytes);
}

/* A load from the drive is noted, one from the page cache is not. */
static void test_a_load_is_noted(void **state)
{
    (void)state;
    const char *model = copy_model(), *cache = under("cold");
    assert_true(speed_after_load(model, under("warm"), true) == 0);
    double seen = speed_after_load(model, cache, false);
    if (seen == 0)
        skip(); /* a file system that is all page cache */
    assert_true(speed_after_load(model, cache, true) == seen);
}

static void test_damaged_speeds_say_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"version\": 2, \"ram\": {}}",
        ("{\"version\": 1, \"ram\": {\"Some \\\"CPU\\\" 9000, 8 cores\": {\"at\": 1.7e9, "
         "\"ram_gbps\": -3}}}"),
        "{\"version\": 1, \"drives\": {\"nvme0n1\": {\"at\": 1.7e9, \"one_gbps\": 1}}}",
        "{\"version\": 1, \"drives\": {\"nvme0n1\": 7}, \"ram\": \"x\", \"kernels\": []}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put("damaged/speeds.json", texts[i]);
        struct lade_machine found = blank(), m = machine();
        lade_speeds_recall(&found, "gguf", under("damaged"), 1.7e9);
        assert_true(found.ram_gbps == 0 && found.drive[0].one_gbps == 0);
        lade_speeds_keep(&m, "gguf", under("damaged"), 1.7e9);
        lade_speeds_recall(&found, "gguf", under("damaged"), 1.7e9);
        assert_true(found.ram_gbps > 0 && found.drive[0].one_gbps > 0);
    }
    put("a-file", "");
    struct lade_machine m = machine();
    lade_speeds_keep(&m, "gguf", under("a-file/below"), 1.7e9); /* nothing can be kept there */
    lade_speeds_keep(&m, "gguf", NULL, 1.7e9);
    lade_speeds_recall(&m, "gguf", NULL, 1.7e9);
}

static void test_measuring(void **state)
{
    (void)state;
    assert_true(lade_probe_ram(2) > 0);
    struct lade_machine_kernels k;
    lade_probe_kernels(&k, &(struct lade_probe_wish){.threads = 2}, 16);
    assert_string_equal(k.experts, "int4");
    assert_string_equal(k.base, "int8");
    assert_true(k.experts_gbps > 0 && k.base_gbps > 0);
    assert_true(k.experts_gflops > 0 && k.base_gflops > 0);

    struct lade_catalog *cat;
    struct lade_machine_packing packing;
    assert_int_equal(lade_catalog_open(&cat, "tests/fixtures/tiny8-int4-mixed", err), 0);
    lade_probe_packing(&packing, cat, 2);
    assert_true(packing.fresh_gbps > 0 && packing.again_gbps > 0);
    lade_catalog_close(cat);

    struct lade_machine_drive d = {.disks = 1};
    put("small", "x");
    snprintf(d.path, sizeof d.path, "%s", under("small"));
    lade_probe_drive_measure(&d, 100000);
    assert_true(d.one_gbps == 0); /* it would be some cache's speed */
    snprintf(d.path, sizeof d.path, "%s", under("large"));
    lade_probe_drive_measure(&d, 100000); /* not there */
    assert_true(d.one_gbps == 0);
    FILE *f = fopen(d.path, "w");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), 80 << 20), 0);
    fclose(f);
    lade_probe_drive_measure(&d, 100000);
    assert_true(d.one_gbps > 0 && d.eight_gbps > 0 && d.sequential_gbps > 0);
}

/* ---- for the plan ---- */

static void test_machine_for_the_plan(void **state)
{
    (void)state;
    const uint64_t gib = 1u << 30;
    struct lade_plan_machine pc;
    struct lade_machine m = machine();
    m.n_drives = 1;
    m.drive[0].bytes = 10 * gib;
    m.memory = (struct lade_memory){64 * gib, 60 * gib};
    m.gpu[0].total = 24 * gib;
    m.gpu[0].free = 20 * gib;

    lade_plan_machine_of(&pc, &m, &(struct lade_plan_caps){0});
    assert_int_equal(pc.ram, 60 * gib);
    assert_int_equal(pc.ram_reserve, gib);
    assert_int_equal(lade_plan_machine_vram(&pc), 20 * gib);
    assert_true(pc.gpu[0].reserve > 0 && pc.gpu[0].reserve <= gib);
    assert_int_equal(pc.storage, LADE_STORAGE_NVME);
    assert_true(pc.measured);
    assert_float_equal(pc.experts_gbps, 30, 1e-9);
    assert_float_equal(pc.disk_random_gbps, 3, 1e-9);
    assert_float_equal(pc.gpu[0].link_gbps, 24, 1e-9);

    /* Caps lower, they never raise; under one, nothing more is left to others. */
    lade_plan_machine_of(&pc, &m, &(struct lade_plan_caps){.ram = 8 * gib, .vram = {6 * gib}});
    assert_int_equal(pc.ram, 8 * gib);
    assert_int_equal(pc.ram_reserve, 0);
    assert_int_equal(lade_plan_machine_vram(&pc), 6 * gib);
    lade_plan_machine_of(&pc, &m, &(struct lade_plan_caps){.ram = 99 * gib, .vram = {99 * gib}});
    assert_int_equal(pc.ram, 60 * gib);
    assert_int_equal(lade_plan_machine_vram(&pc), 20 * gib);

    lade_plan_machine_of(&pc, &m, &(struct lade_plan_caps){.cpu_only = true});
    assert_int_equal(pc.n_gpus, 0);
    snprintf(m.gpu_missing, sizeof m.gpu_missing, "no driver");
    lade_plan_machine_of(&pc, &m, &(struct lade_plan_caps){0});
    assert_int_equal(pc.n_gpus, 0);

    /* Two drives of different speed, half of the bytes each: the slow one decides. */
    m.n_drives = 2;
    m.drive[1] = m.drive[0];
    m.drive[1].sequential_gbps = 1;
    lade_plan_machine_of(&pc, &m, &(struct lade_plan_caps){0});
    assert_int_equal(pc.storage, LADE_STORAGE_RAID0);
    assert_float_equal(pc.disk_gbps, 2, 1e-9);
    assert_float_equal(pc.disk_random_gbps, 6, 1e-9);
    m.drive[1].one_gbps = m.drive[1].sequential_gbps = m.drive[1].eight_gbps = 0;
    lade_plan_machine_of(&pc, &m, &(struct lade_plan_caps){0});
    assert_false(pc.measured);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drives),
        cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_speeds_are_kept),
        cmocka_unit_test(test_loads_are_kept),
        cmocka_unit_test(test_answers_are_kept),
        cmocka_unit_test(test_a_load_is_noted),
        cmocka_unit_test(test_damaged_speeds_say_nothing),
        cmocka_unit_test(test_measuring),
        cmocka_unit_test(test_machine_for_the_plan),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
