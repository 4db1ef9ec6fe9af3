/* Packed directories: the same bits as the source, however they lie; nothing damaged, stale or half
 * written is ever used; a run that was killed is gone on with. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/checkpoint/packed.h"
#include "engine/engine.h"
#include "engine/tiers/packer.h"
#include "tests/support/plugins.h"

enum { TOKENS = 24 };

static char err[LADE_ERR], base[64];

static const char *const models[] = {
    "tests/fixtures/tiny8-bf16",
    "tests/fixtures/tiny8-int4-mixed",
    "tests/fixtures/odd-bf16",
    "tests/fixtures/tiny-gguf/tiny-q8_0.gguf",
};
enum { MODELS = sizeof models / sizeof *models };

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/lade-packed-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *ftw)
{
    (void)st, (void)what, (void)ftw;
    return remove(path);
}

static int remove_base(void **state)
{
    (void)state;
    return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* BASE/NAME in one of a few static buffers. */
static const char *in_base(const char *name)
{
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static void empty_base(void)
{
    remove_base(NULL);
    assert_int_equal(mkdir(base, 0755), 0);
}

static int pack(const char *model, int n, bool mirror)
{
    const char *dirs[] = {in_base("a"), in_base("b"), in_base("c")};
    struct lade_pack_options opt = {
        .model = model, .dirs = dirs, .n_dirs = n, .mirror = mirror, .threads = 2};
    return lade_pack_model(&opt, NULL, NULL, NULL, err);
}

static void must_pack(const char *model, int n, bool mirror)
{
    if (pack(model, n, mirror))
        fail_msg("%s", err);
}

/* Logits of all positions; NULL with err where it fails. */
static float *try_logits_at(const char *model, const struct lade_placement *place, size_t *count)
{
    struct lade_options opt = {.model = model,
                               .exact = true,
                               .threads = 2,
                               .place = place,
                               .plugin = test_plugin_path("lade-sim.so")};
    struct lade_model *m;
    struct lade_session *s;
    int32_t ids[TOKENS];
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        return NULL;
    size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 11) % (int)vocab;
    *count = TOKENS * vocab;
    float *out = malloc(*count * sizeof *out);
    int rc = lade_session_open(&s, m, err);
    if (!rc) {
        rc = lade_session_all_logits(s, ids, TOKENS, out, err);
        lade_session_close(s);
    }
    lade_model_close(m);
    if (!rc)
        return out;
    free(out);
    return NULL;
}

static float *try_logits(const char *model, uint64_t ram_experts, size_t *count)
{
    struct lade_placement place = {.base = LADE_RAM,
                                   .kv = LADE_RAM,
                                   .buffers = LADE_RAM,
                                   .ram_experts = ram_experts,
                                   .rest_by = LADE_BY_CPU,
                                   .context = 64,
                                   .batch = 8};
    return try_logits_at(model, &place, count);
}

static float *logits(const char *model, uint64_t ram_experts, size_t *count)
{
    float *out = try_logits(model, ram_experts, count);
    if (!out)
        fail_msg("%s", err);
    return out;
}

/* With all experts in memory the same bits give the same logits. Without, the order of the files is
 * that of the sums: then they are only as near as sums of floats are. */
static void same_values(const float *have, const float *want, size_t count, bool to_the_bit)
{
    if (to_the_bit)
        assert_memory_equal(have, want, count * sizeof *have);
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(have[i] - want[i]) <= 1e-4f * (1 + fabsf(want[i]))))
            fail_msg("logit %zu: %g, should be %g", i, (double)have[i], (double)want[i]);
}

static void same_bits(const char *model, uint64_t ram_experts, const float *want)
{
    size_t count;
    float *have = logits(model, ram_experts, &count);
    same_values(have, want, count, ram_experts);
    free(have);
}

/* In one directory, striped over three, mirrored on two; all in RAM, and no expert there. */
static void test_equal_bits(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        size_t count;
        float *all = logits(models[i], UINT64_MAX, &count), *none = logits(models[i], 0, &count);
        for (int way = 0; way < 3; way++) {
            empty_base();
            must_pack(models[i], way == 0 ? 1 : way == 1 ? 3 : 2, way == 2);
            same_bits(in_base("a"), UINT64_MAX, all);
            same_bits(in_base("a"), 0, none);
        }
        free(all);
        free(none);
    }
}

/* The same with a GPU: everything there; experts on both sides; streamed to it from RAM and from the
 * drive. */
static void test_equal_bits_on_gpu(void **state)
{
    (void)state;
    static const struct lade_placement kinds[] = {
        {.card = {{.experts = UINT64_MAX / 2}}, .rest_by = LADE_BY_GPU},
        {.card = {{.experts = 100000}}, .ram_experts = UINT64_MAX / 2, .rest_by = LADE_BY_CPU},
        {.card = {{.experts = 50000}},
         .vram_is_cache = true,
         .ram_experts = UINT64_MAX / 2,
         .ram_backs_vram = true,
         .rest_by = LADE_BY_GPU},
        {.card = {{.experts = 0}},
         .vram_is_cache = true,
         .ram_experts = 30000,
         .rest_by = LADE_BY_GPU},
    };
    for (int i = 0; i < MODELS; i++) {
        empty_base();
        must_pack(models[i], 1 + i % 2, false);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            struct lade_placement place = kinds[k];
            size_t count;
            place.base = place.kv = place.buffers = LADE_VRAM;
            place.n_cards = 1;
            place.context = 64;
            place.batch = 8;
            float *want = try_logits_at(models[i], &place, &count);
            float *have = want ? try_logits_at(in_base("a"), &place, &count) : NULL;
            if (!have)
                fail_msg("%s, placement %zu: %s", models[i], k, err);
            same_values(have, want, count, k == 0);
            free(want);
            free(have);
        }
    }
}

/* ---- what must not be used ------------------------------------------------------------------- */

static void copy_model(const char *from, const char *to)
{
    char command[1024];
    snprintf(command, sizeof command, "cp -r %s %s", from, to);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

static void flip_byte(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void must_not_open(const char *what)
{
    struct lade_catalog *cat;
    assert_int_equal(lade_catalog_open(&cat, in_base("a"), err), -1);
    if (!strstr(err, what))
        fail_msg("'%s' does not say '%s'", err, what);
}

static void test_stale(void **state)
{
    (void)state;
    empty_base();
    copy_model(models[0], in_base("source"));
    must_pack(in_base("source"), 1, false);
    const char *shard = in_base("source/model-00002-of-00004.safetensors");
    flip_byte(shard, 200000);
    must_not_open("is stale");
    must_not_open("model-00002-of-00004.safetensors");
    must_not_open("lade pack");
    /* Packing again repairs it; without its source it still works. */
    size_t count;
    float *want = logits(in_base("source"), UINT64_MAX, &count);
    must_pack(in_base("source"), 1, false);
    same_bits(in_base("a"), UINT64_MAX, want);
    assert_int_equal(rename(in_base("source"), in_base("gone")), 0);
    same_bits(in_base("a"), UINT64_MAX, want);
    free(want);
}

static void test_damage(void **state)
{
    (void)state;
    size_t count;
    static const char file[] = "a/model-00002-of-00004.lade";
    empty_base();
    must_pack(models[1], 1, false);
    struct stat st;
    assert_int_equal(stat(in_base(file), &st), 0);
    /* Of the many places in the file each belongs to some piece or to padding, which nobody reads. */
    int noticed = 0, tried = 0;
    for (off_t at = 0; at < st.st_size; at += st.st_size / 23, tried++) {
        flip_byte(in_base(file), at);
        float *out = try_logits(in_base("a"), UINT64_MAX, &count);
        noticed += !out && strstr(err, "damaged") && strstr(err, "model-00002-of-00004.lade");
        free(out);
        flip_byte(in_base(file), at);
    }
    assert_true(noticed > tried / 2);
    /* The index itself, and files that are cut or gone. */
    flip_byte(in_base("a/lade.pack"), 300);
    must_not_open("damaged");
    flip_byte(in_base("a/lade.pack"), 300);
    assert_int_equal(truncate(in_base(file), st.st_size - 4096), 0);
    must_not_open("model-00002-of-00004.lade: has");
    unlink(in_base(file));
    must_not_open("model-00002-of-00004.lade");
    must_pack(models[1], 1, false);
    float *want = logits(models[1], 0, &count);
    same_bits(in_base("a"), 0, want);
    free(want);
}

/* A good index may name a file as nobody would: the error stays one line. Found by fuzz_pack. */
static void test_strange_name(void **state)
{
    (void)state;
    struct lade_packed p;
    empty_base();
    must_pack(models[1], 1, false);
    if (lade_packed_read(&p, in_base("a"), err))
        fail_msg("%s", err);
    free(p.files[0].name);
    p.files[0].name = strdup("one\ntwo\x1b[2J.lade");
    assert_non_null(p.files[0].name);
    if (lade_packed_write(&p, in_base("a"), err))
        fail_msg("%s", err);
    lade_packed_free(&p);
    must_not_open("one?two?[2J.lade");
    for (const char *c = err; *c; c++)
        assert_true((unsigned char)*c >= ' ');
}

/* One copy damaged, or its drive gone: the other one serves. */
static void test_mirror(void **state)
{
    (void)state;
    size_t count;
    float *want = logits(models[0], 0, &count);
    empty_base();
    must_pack(models[0], 2, true);
    for (int i = 1; i <= 4; i++) {
        char name[64];
        struct stat st;
        snprintf(name, sizeof name, "b/model-0000%d-of-00004.lade", i);
        assert_int_equal(stat(in_base(name), &st), 0);
        for (off_t at = 0; at < st.st_size; at += 1000)
            flip_byte(in_base(name), at);
    }
    same_bits(in_base("a"), 0, want);
    assert_int_equal(rename(in_base("b"), in_base("elsewhere")), 0);
    same_bits(in_base("a"), 0, want);
    free(want);
}

/* A shard that shrinks while the model runs: an error that names it, then all is well again. */
static void test_shrinks_while_running(void **state)
{
    (void)state;
    struct lade_placement place = {.base = LADE_RAM,
                                   .kv = LADE_RAM,
                                   .buffers = LADE_RAM,
                                   .rest_by = LADE_BY_CPU,
                                   .context = 64,
                                   .batch = 8};
    struct lade_model *m;
    struct lade_session *s;
    struct stat st;
    int32_t ids[TOKENS];
    for (int way = 0; way < 2; way++) {
        empty_base();
        copy_model(models[0], in_base("source"));
        if (way)
            must_pack(in_base("source"), 1, false);
        const char *path = in_base(way ? "a" : "source");
        const char *file = in_base(way ? "a/model-00001-of-00004.lade"
                                       : "source/model-00001-of-00004.safetensors");
        struct lade_options opt = {.model = path, .exact = true, .threads = 2, .place = &place};
        assert_int_equal(lade_model_open(&m, &opt, NULL, NULL, NULL, err), 0);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        for (int i = 0; i < TOKENS; i++)
            ids[i] = 5 * i + 1;
        assert_int_equal(lade_session_sync(s, ids, 8, 8, NULL, NULL, NULL, NULL, err), 0);
        copy_model(file, in_base("kept"));
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(truncate(file, 4096), 0);
        int rc = lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err);
        assert_int_equal(rc, -1);
        assert_non_null(strstr(err, "cut short"));
        assert_non_null(strstr(err, "model-00001-of-00004"));
        assert_int_equal(lade_session_length(s), 8);
        char command[1024];
        snprintf(command, sizeof command, "cat %s > %s", in_base("kept"), file);
        assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
        rc = lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err);
        if (rc)
            fail_msg("%s", err);
        lade_session_close(s);
        lade_model_close(m);
    }
}

/* ---- packing that is stopped ----------------------------------------------------------------- */

static void kill_at_once(void *user, const struct lade_pack_progress *p)
{
    if (p->done >= *(const uint64_t *)user)
        kill(getpid(), SIGKILL);
}

/* A child packs and is killed when it has written `bytes`; true if it lived to the end. */
static bool pack_and_die(const char *model, uint64_t bytes)
{
    pid_t child = fork();
    if (child == 0) {
        const char *dirs[] = {in_base("a"), in_base("b")};
        struct lade_pack_options opt = {.model = model, .dirs = dirs, .n_dirs = 2, .threads = 1};
        _exit(lade_pack_model(&opt, kill_at_once, &bytes, NULL, err) ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_killed(void **state)
{
    (void)state;
    size_t count;
    float *want = logits(models[1], 0, &count);
    empty_base();
    for (uint64_t bytes = 1; !pack_and_die(models[1], bytes); bytes += 60000) {
        struct lade_catalog *cat;
        /* Not a model: there is no index. Killed at once, there is nothing at all. */
        assert_int_equal(lade_catalog_open(&cat, in_base("a"), err), -1);
        if (!access(in_base("a/lade.pack.journal"), F_OK))
            assert_non_null(strstr(err, "run it again"));
    }
    must_pack(models[1], 2, false);
    same_bits(in_base("a"), 0, want);
    same_bits(in_base("b"), 0, want);
    free(want);
}

static void cancel_at(void *user, const struct lade_pack_progress *p)
{
    if (p->done > p->bytes / 2)
        atomic_store((atomic_bool *)user, true);
}

static void first_done(void *user, const struct lade_pack_progress *p)
{
    uint64_t *first = user;
    if (!*first)
        *first = p->done;
}

/* A run that was stopped has kept its work, which the next one does not do again. */
static void test_resumed(void **state)
{
    (void)state;
    atomic_bool cancel = false;
    uint64_t first = 0;
    size_t count;
    empty_base();
    const char *dirs[] = {in_base("a")};
    struct lade_pack_options opt = {.model = models[0], .dirs = dirs, .n_dirs = 1, .threads = 1};
    assert_int_equal(lade_pack_model(&opt, cancel_at, &cancel, &cancel, err), -1);
    assert_non_null(strstr(err, "run it again"));
    must_not_open("");
    assert_int_equal(lade_pack_model(&opt, first_done, &first, NULL, err), 0);
    struct lade_catalog *cat;
    assert_int_equal(lade_catalog_open(&cat, in_base("a"), err), 0);
    assert_true(first > cat->packed_bytes / 2);
    lade_catalog_close(cat);
    float *want = logits(models[0], UINT64_MAX, &count);
    same_bits(in_base("a"), UINT64_MAX, want);
    /* A third has nothing to do. */
    first = 0;
    assert_int_equal(lade_pack_model(&opt, first_done, &first, NULL, err), 0);
    assert_int_equal(first, 0);
    /* Lost files of a half-done work are not taken for written. */
    atomic_store(&cancel, false);
    empty_base();
    assert_int_equal(lade_pack_model(&opt, cancel_at, &cancel, &cancel, err), -1);
    unlink(in_base("a/model-00001-of-00004.lade.part"));
    assert_int_equal(lade_pack_model(&opt, NULL, NULL, NULL, err), 0);
    same_bits(in_base("a"), UINT64_MAX, want);
    free(want);
}

/* In a mount namespace with a small file system: 0 fine, 1 wrong, 77 not allowed here. */
static int on_full_drive(void)
{
    const char *dirs[] = {in_base("small/a")};
    struct lade_pack_options opt = {.model = models[0], .dirs = dirs, .n_dirs = 1};
    if (unshare(getuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mkdir(in_base("small"), 0755) ||
        mount("small", in_base("small"), "tmpfs", 0, "size=300k"))
        return 77;
    if (!lade_pack_model(&opt, NULL, NULL, NULL, err))
        return 1;
    if (!strstr(err, "free some space") || !access(in_base("small/a/lade.pack"), F_OK))
        return 1;
    if (mount("small", in_base("small"), "tmpfs", MS_REMOUNT, "size=8m"))
        return 77;
    return lade_pack_model(&opt, NULL, NULL, NULL, err) ? 1 : 0;
}

static void test_full_drive(void **state)
{
    (void)state;
    empty_base();
    pid_t child = fork();
    if (child == 0)
        _exit(on_full_drive());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_bits),
        cmocka_unit_test(test_equal_bits_on_gpu),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_strange_name),
        cmocka_unit_test(test_mirror),
        cmocka_unit_test(test_shrinks_while_running),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_full_drive),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
