/* Bytes of terminals become keys, however they are cut. */
#include "tui/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct keys k;
static struct keys_event ev;

static void feed(const char *s, double at)
{
    keys_feed(&k, s, strlen(s), at);
}

static void assert_key(enum keys_kind kind, double at)
{
    assert_true(keys_next(&k, &ev, at));
    assert_int_equal(ev.kind, kind);
}

static void assert_bytes(enum keys_kind kind, const char *text)
{
    assert_key(kind, 0);
    assert_int_equal(ev.n, strlen(text));
    assert_memory_equal(ev.at, text, ev.n);
}

static void assert_nothing(double at)
{
    assert_false(keys_next(&k, &ev, at));
}

static int clean(void **state)
{
    (void)state;
    keys_free(&k);
    return 0;
}

static void text_and_controls(void **state)
{
    (void)state;
    feed("añ日\r\001b", 0);
    assert_bytes(KEYS_BYTES, "añ日");
    assert_key(KEYS_ENTER, 0);
    assert_bytes(KEYS_BYTES, "\001b");
    feed("\x03\x04\n\t", 0);
    assert_key(KEYS_CTRL_C, 0);
    assert_key(KEYS_CTRL_D, 0);
    assert_key(KEYS_NEWLINE, 0);
    assert_key(KEYS_TAB, 0);
    assert_nothing(0);
}

static void sequences(void **state)
{
    (void)state;
    feed("\033[A\033OB\033[5~\033[6~\033[H\033[4~\033[1;5F\033[Z\033\r\033[13;2u", 0);
    const enum keys_kind expected[] = {KEYS_UP,      KEYS_DOWN,   KEYS_PAGE_UP, KEYS_PAGE_DOWN,
                                       KEYS_HOME,    KEYS_END,    KEYS_BOTTOM,  KEYS_BACKTAB,
                                       KEYS_NEWLINE, KEYS_NEWLINE};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_key(expected[i], 0);
    assert_nothing(0);
    feed("\033[D\033[15~", 0);
    assert_bytes(KEYS_SEQUENCE, "\033[D"); /* readline may know it */
    assert_bytes(KEYS_SEQUENCE, "\033[15~");
    feed("\033b\033é", 0);
    assert_bytes(KEYS_BYTES, "\033b"); /* Alt and a letter */
    assert_bytes(KEYS_BYTES, "\033é");
}

static void cut_sequences_wait(void **state)
{
    (void)state;
    const char *up = "\033[1;5A";
    for (size_t i = 0; up[i]; i++) {
        char one[2] = {up[i], 0};
        assert_nothing(0);
        feed(one, 0);
    }
    assert_key(KEYS_LINE_UP, 0);
}

static void escape_alone(void **state)
{
    (void)state;
    feed("\033", 1.0);
    assert_nothing(1.0);
    assert_true(keys_wait(&k, 1.0) > 0 && keys_wait(&k, 1.0) <= 2 * KEYS_ESC_WAIT);
    assert_key(KEYS_ESC, 1.0 + 2 * KEYS_ESC_WAIT);
    assert_true(keys_wait(&k, 2) < 0);
    feed("\033\033[A", 3.0);
    assert_key(KEYS_ESC, 3.0);
    assert_key(KEYS_UP, 3.0);
}

static void mouse(void **state)
{
    (void)state;
    feed("\033[<64;10;5M\033[<65;10;5M\033[<0;1;1M\033[<0;1;1m\033[<80;1;1M", 0);
    assert_key(KEYS_WHEEL_UP, 0);
    assert_key(KEYS_WHEEL_DOWN, 0);
    assert_key(KEYS_FOCUS, 0);
    assert_key(KEYS_FOCUS, 0);
    assert_key(KEYS_WHEEL_UP, 0); /* with Ctrl */
}

static void paste(void **state)
{
    (void)state;
    feed("x\033[200~one\rtwo\r\nthree\n\033[31m\a\177end\033[201~y", 0);
    assert_bytes(KEYS_BYTES, "x");
    assert_bytes(KEYS_PASTE, "one\ntwo\nthree\n[31mend");
    assert_bytes(KEYS_BYTES, "y");
}

/* However a paste is cut into reads, it stays one. */
static void cut_paste(void **state)
{
    (void)state;
    const char *all = "\033[200~a\r\nb\033[201~\r";
    for (size_t cut = 1; cut < strlen(all); cut++) {
        bool pasted = false, entered = false;
        for (int part = 0; part < 2; part++) {
            keys_feed(&k, part ? all + cut : all, part ? strlen(all) - cut : cut, 0);
            while (keys_next(&k, &ev, 0)) {
                if (ev.kind == KEYS_PASTE) {
                    assert_int_equal(ev.n, 3);
                    assert_memory_equal(ev.at, "a\nb", 3);
                    pasted = true;
                } else {
                    assert_int_equal(ev.kind, KEYS_ENTER);
                    assert_true(pasted);
                    entered = true;
                }
            }
        }
        assert_true(pasted && entered);
    }
}

/* A paste whose end never comes does not keep the keyboard; a Ctrl-C in a paste stays in it. */
static void unfinished_paste(void **state)
{
    (void)state;
    feed("\033[200~one\rtwo", 1);
    assert_nothing(1);
    assert_true(keys_wait(&k, 1) < 0);
    feed("\003", 2);
    assert_nothing(2);
    assert_true(keys_wait(&k, 2) > 0 && keys_wait(&k, 2) <= 2 * KEYS_PASTE_WAIT);
    assert_key(KEYS_CTRL_C, 2 + 2 * KEYS_PASTE_WAIT);
    assert_nothing(3);
    feed("x\r\033[200~y\033[201~", 4);
    assert_bytes(KEYS_BYTES, "x");
    assert_key(KEYS_ENTER, 4);
    assert_bytes(KEYS_PASTE, "y");
    static const struct {
        const char *before, *mark, *after;
        double at; /* when `after` comes */
    } pasted[] = {
        {"\033[200~a", "\003", "\rb\033[201~", 5},     /* more follows at once */
        {"\033[200~a", "\003\003", "\rb\033[201~", 9}, /* not by itself: a pause of the line */
        {"\033[200~", "a\003", "\rb\033[201~", 9},
    };
    for (size_t i = 0; i < sizeof pasted / sizeof *pasted; i++) {
        feed(pasted[i].before, 5);
        assert_nothing(5);
        feed(pasted[i].mark, 5);
        assert_nothing(pasted[i].at);
        feed(pasted[i].after, pasted[i].at);
        assert_bytes(KEYS_PASTE, "a\nb");
    }
}

static void garbage(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int i = 0; i < 20000; i++) {
        char bytes[16];
        for (size_t b = 0; b < sizeof bytes; b++) {
            seed = seed * 1664525 + 1013904223;
            bytes[b] = seed >> 30 ? (char)(seed >> 16) : '\033';
        }
        keys_feed(&k, bytes, sizeof bytes, i);
        while (keys_next(&k, &ev, i))
            assert_true(ev.kind <= KEYS_FOCUS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(text_and_controls, clean),
        cmocka_unit_test_teardown(sequences, clean),
        cmocka_unit_test_teardown(cut_sequences_wait, clean),
        cmocka_unit_test_teardown(escape_alone, clean),
        cmocka_unit_test_teardown(mouse, clean),
        cmocka_unit_test_teardown(paste, clean),
        cmocka_unit_test_teardown(cut_paste, clean),
        cmocka_unit_test_teardown(unfinished_paste, clean),
        cmocka_unit_test_teardown(garbage, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
