/* Decoding allocates nothing: every malloc and mmap of this program is counted while tokens are
 * evaluated. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED /* they have a malloc of their own */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif

static atomic_long allocations;

#ifndef SANITIZED
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(n, bytes);
}

void *realloc(void *p, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(align, bytes);
}

int posix_memalign(void **p, size_t align, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    *p = __libc_memalign(align, bytes);
    return *p ? 0 : ENOMEM;
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    atomic_fetch_add(&allocations, 1);
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}
#endif

static void decode(bool exact)
{
    enum { PROMPT = 20, TOKENS = 40 };
    char err[LADE_ERR] = "";
    struct lade_options opt = {
        .model = "engine/bundled", .threads = 2, .context = 512, .exact = exact};
    struct lade_model *m;
    struct lade_session *s;
    int32_t ids[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        ids[i] = 10 + 7 * i;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err) || lade_session_open(&s, m, err) ||
        lade_session_sync(s, ids, PROMPT, 0, NULL, NULL, NULL, NULL, err) ||
        lade_session_push(s, 5, err)) /* the first token finds its work space */
        fail_msg("%s", err);
    const long before = atomic_load(&allocations);
    for (int i = 0; i < TOKENS; i++)
        if (lade_session_push(s, 100 + 3 * i, err))
            fail_msg("%s", err);
    for (int i = 0; i < TOKENS; i++) {
        const int32_t drafts[] = {7, 9 + i, 11, 13, 15};
        if (lade_session_push_drafts(s, 5, drafts, 1 + i % 5, err) ||
            lade_session_push(s, drafts[0], err))
            fail_msg("%s", err);
    }
    const long after = atomic_load(&allocations);
    lade_session_close(s);
    lade_model_close(m);
    assert_true(before > 0);
    assert_int_equal(after - before, 0);
}

static void decoding_allocates_nothing(void **state)
{
    (void)state;
#ifdef SANITIZED
    skip();
#endif
    decode(false);
    decode(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(decoding_allocates_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
