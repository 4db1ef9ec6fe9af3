/* Keys that mean the same on every screen: Ctrl-C never ends the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tui/app_keys.h"
#include "tui/input.h"

static struct chat chat;
static struct screen screen;

static int begin(void **state)
{
    (void)state;
    chat_init(&chat, NULL, NULL);
    input_start(NULL, NULL, NULL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ctrl_c_never_leaves),
        cmocka_unit_test(ctrl_c_empties_the_line_before_it_tells_how_to_leave),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
