/* Keys that mean the same on every screen: Ctrl-C never ends the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tui/app_keys.h"
#include "tui/input.h"

static struct chat chat;
static struct screen screen;

static char submitted[64];

static void submit(void *user, const char *text)
{
    (void)user;
    snprintf(submitted, sizeof submitted, "%s", text);
}

static int begin(void **state)
{
    (void)state;
    chat_init(&chat, NULL, NULL);
    input_start(NULL, submit, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    input_stop();
    chat_close(&chat);
    return 0;
}

static void press(enum keys_kind kind)
{
    const struct keys_event ev = {.kind = kind, .at = "", .n = 0};
    app_key(&chat, &screen, &ev);
}

static void ctrl_c_never_leaves(void **state)
{
    (void)state;
    for (int small = 0; small < 2; small++) {
        screen.layout.too_small = small;
        chat.quit = false;
        press(KEYS_CTRL_C);
        assert_false(chat.quit);
        press(KEYS_CTRL_D);
        assert_true(chat.quit);
    }
}

static void ctrl_c_empties_the_line_before_it_tells_how_to_leave(void **state)
{
    (void)state;
    screen.layout.too_small = false;
    input_set("typed");
    press(KEYS_CTRL_C);
    assert_true(input_is_empty());
    assert_null(screen.hint);
    press(KEYS_CTRL_C);
    assert_non_null(screen.hint);
}

static void type(enum keys_kind kind, const char *bytes)
{
    const struct keys_event ev = {.kind = kind, .at = bytes, .n = strlen(bytes)};
    app_key(&chat, &screen, &ev);
}

/* A line that ends with Alt-3 Enter goes at once, and a search may follow it. */
static void enter_after_an_argument(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        *submitted = '\0';
        type(KEYS_BYTES, "hello");
        type(KEYS_BYTES, "\0333");
        type(KEYS_ENTER, "\r");
        assert_string_equal(submitted, "hello");
        assert_true(input_is_empty());
        type(KEYS_BYTES, "\022");
        type(KEYS_BYTES, "x");
        type(KEYS_ESC, "\033");
        assert_false(input_is_busy());
        assert_true(input_is_empty());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ctrl_c_never_leaves),
        cmocka_unit_test(ctrl_c_empties_the_line_before_it_tells_how_to_leave),
        cmocka_unit_test(enter_after_an_argument),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
