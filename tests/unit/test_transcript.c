/* Where we look in a conversation: following, scrolling, resizing, streaming. */
#include "tui/view/transcript.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tui/text/width.h"

static struct transcript t;

static int begin(void **state)
{
    (void)state;
    transcript_init(&t);
    transcript_size(&t, 10, 40);
    return 0;
}

static int end(void **state)
{
    (void)state;
    transcript_clear(&t);
    return 0;
}

static struct entry *answer(int paragraphs)
{
    struct entry *e = transcript_add(&t, ENTRY_ANSWER, NULL);
    e->state = ENTRY_STREAMING;
    for (int i = 0; i < paragraphs; i++)
        buf_printf(&e->text, "paragraph %d\n\n", i);
    return e;
}

/* The row shown at `y`, malloc'ed. */
static char *row_at(int y)
{
    int row = t.top_row + y, i = t.top;
    while (i < t.n && row >= (int)transcript_lines(&t, i)->n)
        row -= (int)transcript_lines(&t, i++)->n;
    return i < t.n ? lines_text(&t.items[i]->rows, (size_t)row) : strdup("");
}

static void assert_row(int y, const char *text)
{
    char *row = row_at(y);
    assert_string_equal(row, text);
    free(row);
}

static void follows_the_end(void **state)
{
    (void)state;
    struct entry *e = answer(3);
    transcript_size(&t, 10, 40);
    assert_int_equal(t.top, 0);
    assert_int_equal(t.top_row, 0);
    for (int i = 3; i < 40; i++)
        buf_printf(&e->text, "paragraph %d\n\n", i);
    transcript_size(&t, 10, 40);
    assert_row(8, "paragraph 39");
    assert_row(9, "");
}

static void stops_following_when_scrolled(void **state)
{
    (void)state;
    struct entry *e = answer(40);
    int fresh;
    transcript_size(&t, 10, 40);
    transcript_scroll(&t, -9);
    assert_false(t.follow);
    assert_int_equal(transcript_below(&t, &fresh), 9);
    assert_int_equal(fresh, 0);
    char *before = row_at(0);
    buf_puts(&e->text, "new one\n\nnew two\n");
    transcript_size(&t, 10, 40);
    assert_row(0, before);
    free(before);
    assert_int_equal(transcript_below(&t, &fresh), 13);
    assert_int_equal(fresh, 4);
    transcript_scroll(&t, 5);
    assert_int_equal(transcript_below(&t, &fresh), 8);
    transcript_scroll(&t, 100);
    assert_true(t.follow);
    assert_int_equal(transcript_below(&t, &fresh), 0);
}

static void scrolls_to_the_top_and_stays(void **state)
{
    (void)state;
    answer(40);
    transcript_size(&t, 10, 40);
    transcript_scroll(&t, -10000);
    assert_row(0, "paragraph 0");
    transcript_scroll(&t, -1);
    assert_row(0, "paragraph 0");
    transcript_to_end(&t);
    assert_row(8, "paragraph 39");
    transcript_to_top(&t);
    assert_row(0, "paragraph 0");
}

static void short_text_does_not_scroll(void **state)
{
    (void)state;
    answer(2);
    transcript_size(&t, 10, 40);
    transcript_scroll(&t, -5);
    assert_true(t.follow);
    transcript_to_top(&t);
    assert_true(t.follow);
}

static void keeps_its_place_on_resize(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        char text[128];
        snprintf(text, sizeof text, "message %d with words enough to be wrapped at forty", i);
        transcript_add(&t, ENTRY_USER, text);
    }
    transcript_size(&t, 10, 40);
    transcript_scroll(&t, -40);
    int top = t.top;
    for (int cols = 20; cols < 200; cols += 7) {
        transcript_size(&t, 10, cols);
        assert_int_equal(t.top, top);
    }
    for (int rows = 1; rows < 200; rows += 9)
        transcript_size(&t, rows, 40);
    transcript_to_end(&t);
    transcript_size(&t, 5, 40);
    assert_row(2, "message 29 with words enough to be");
}

static void removing(void **state)
{
    (void)state;
    struct entry *list[20];
    for (int i = 0; i < 20; i++)
        list[i] = transcript_add(&t, ENTRY_NOTICE, "line");
    transcript_size(&t, 10, 40);
    transcript_scroll(&t, -8);
    for (int i = 19; i >= 0; i -= 2)
        transcript_remove(&t, list[i]);
    transcript_size(&t, 10, 40);
    for (int i = 0; i < 20; i += 2)
        transcript_remove(&t, list[i]);
    transcript_size(&t, 10, 40);
    assert_int_equal(t.n, 0);
    transcript_scroll(&t, 3);
    transcript_scroll(&t, -3);
}

static void thinking_folds(void **state)
{
    (void)state;
    struct entry *e = answer(0);
    buf_puts(&e->reasoning, "one\ntwo\nthree\nfour\nfive");
    e->thinking = true;
    e->think_s = 3.2;
    e->think_tokens = 120;
    transcript_size(&t, 10, 60);
    assert_row(0, "▸ thinking 3.2 s · about 120 tokens");
    assert_row(1, "│ three"); /* the last rows of what is being thought */
    assert_row(3, "│ five");
    e->thinking = false;
    e->state = ENTRY_DONE;
    buf_puts(&e->text, "The answer.");
    entry_changed(e);
    transcript_size(&t, 10, 60);
    assert_row(0, "▸ thought for 3.2 s · about 120 tokens");
    assert_row(1, "");
    assert_row(2, "The answer.");
    transcript_fold(&t, false);
    assert_row(0, "▾ thought for 3.2 s · about 120 tokens");
    assert_row(1, "│ one");
    assert_row(7, "The answer.");
}

/* Parts of the line below an answer are there as a whole or not at all; what is a sentence is wrapped. */
static void no_line_is_cut(void **state)
{
    (void)state;
    struct entry *e = answer(0);
    buf_puts(&e->text, "Yes.");
    e->state = ENTRY_DONE;
    e->has_cost = true;
    e->cost = (struct lade_result){.tokens = 1, .decode_tps = 12.34, .ttft_s = 0.25};
    transcript_size(&t, 10, 60);
    assert_row(1, "1 token · 12.3 tokens/s · first after 250 ms");
    transcript_size(&t, 10, 46); /* just not: the gutter and a column are not the text's */
    assert_row(1, "1 token · 12.3 tokens/s");
    transcript_size(&t, 10, 47);
    assert_row(1, "1 token · 12.3 tokens/s · first after 250 ms");
    e->cost.prompt_tokens = 536;
    e->cost.kept_tokens = 24;
    e->cost.prefill_tps = 104;
    entry_changed(e);
    transcript_size(&t, 10, 90);
    assert_row(1, "1 token · 12.3 tokens/s · first after 250 ms · prompt 512 at 104/s · 24 reused");
    transcript_size(&t, 10, 70);
    assert_row(1, "1 token · 12.3 tokens/s · first after 250 ms · prompt 512 at 104/s");
    e->state = ENTRY_ELSEWHERE;
    entry_changed(e);
    transcript_size(&t, 10, 40);
    assert_row(1, "another lade is still writing this;");
    assert_row(2, "/resume shows more");
    assert_row(3, "");
    e = transcript_add(&t, ENTRY_USER, "And?");
    e->state = ENTRY_WAITING;
    transcript_size(&t, 10, 40);
    assert_row(5, "will be sent when ready; Esc takes it");
    assert_row(6, "back");
}

/* A row is never made twice, whatever the order of pieces and drawings. */
static void streaming_adds_up(void **state)
{
    (void)state;
    struct entry *e = transcript_add(&t, ENTRY_ANSWER, NULL);
    e->state = ENTRY_WAITING;
    transcript_size(&t, 10, 40);
    assert_int_equal(transcript_rows(&t, 100), 2);
    e->state = ENTRY_STREAMING;
    entry_changed(e);
    static const char text[] = "\n\nHello *world*, this is a text that goes on.\n\n- a\n- b\n";
    for (size_t i = 0; i < strlen(text); i++) {
        buf_add(&e->text, text + i, 1);
        transcript_size(&t, 10, 40);
        transcript_size(&t, 10, 40);
    }
    assert_int_equal(transcript_rows(&t, 100), 6);
    e->state = ENTRY_STOPPED;
    entry_changed(e);
    assert_int_equal(transcript_rows(&t, 100), 7);
}

int main(void)
{
    width_locale();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(follows_the_end, begin, end),
        cmocka_unit_test_setup_teardown(stops_following_when_scrolled, begin, end),
        cmocka_unit_test_setup_teardown(scrolls_to_the_top_and_stays, begin, end),
        cmocka_unit_test_setup_teardown(short_text_does_not_scroll, begin, end),
        cmocka_unit_test_setup_teardown(keeps_its_place_on_resize, begin, end),
        cmocka_unit_test_setup_teardown(removing, begin, end),
        cmocka_unit_test_setup_teardown(thinking_folds, begin, end),
        cmocka_unit_test_setup_teardown(no_line_is_cut, begin, end),
        cmocka_unit_test_setup_teardown(streaming_adds_up, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
