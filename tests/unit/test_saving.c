/* How much of a streaming answer can be lost: the chat's clock is made up here, so that the bound is
 * exact and holds on any machine. That what was written survives is test_history_kill.c's matter. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tui/chat.h"
#include "tui/input.h"
#include "tui/slash/slash.h"

/* Seconds. The loop ticks this often while an answer runs (tui/app.c); nothing older than LOST may
 * be unsaved. */
#define TICK  0.25
#define LOST  0.5
#define PIECE 0.01

static char dir[32], path[64], err[HISTORY_ERR];
static struct chat chat;

static int begin(void **state)
{
    (void)state;
    struct history *history;
    strcpy(dir, "/tmp/lade-saving-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/history.db", dir);
    if (history_open(&history, path, err))
        return -1;
    chat_init(&chat, NULL, history);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[64];
    chat_close(&chat);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* An answer to a question, as if a model had been asked. */
static void start_answer(void)
{
    enum { REQUEST = 7 };
    struct entry *question = transcript_add(&chat.transcript, ENTRY_USER, "Why?");
    chat_save_user(&chat, question);
    chat.answer = (struct chat_answer){
        .entry = transcript_add(&chat.transcript, ENTRY_ANSWER, NULL), .request = REQUEST};
    chat_save_begin(&chat);
    assert_true(chat.answer.entry->id > 0);
}

static void add_piece(int i)
{
    char text[16];
    snprintf(text, sizeof text, "%06d ", i);
    chat_event(&chat, &(struct lade_event){
                          .kind = LADE_EV_TEXT, .request = chat.answer.request, .text = text});
}

/* Bytes of the answer that another program finds in the database. */
static size_t bytes_saved(struct history *other)
{
    struct history_messages m;
    if (history_messages_path(other, chat.conversation, HISTORY_ACTIVE, &m, err))
        fail_msg("%s", err);
    size_t n = strlen(m.items[m.n - 1].content);
    assert_memory_equal(m.items[m.n - 1].content, buf_text(&chat.answer.entry->text), n);
    history_messages_clear(&m);
    return n;
}

/* Ticks come when they are due, and earlier where the engine reports something. */
static void nothing_old_is_lost(void **state)
{
    (void)state;
    struct history *other;
    double began[2000], ticked = 100;
    uint32_t random = 1;
    int updates = 0;
    size_t before = 0;
    start_answer();
    if (history_open(&other, path, err))
        fail_msg("%s", err);
    for (int i = 0; i < 2000; i++) {
        double now = 100 + i * PIECE;
        random = random * 1664525u + 1013904223u;
        began[i] = now;
        add_piece(i);
        if (now - ticked >= TICK || random >> 28 == 0) {
            chat_tick(&chat, now);
            ticked = now;
        }
        size_t saved = bytes_saved(other);
        updates += saved != before;
        before = saved;
        if (saved < chat.answer.entry->text.n)
            assert_true(now - began[saved / 7] < LOST - PIECE);
    }
    assert_true(updates > 40); /* in 20 seconds */
    history_close(other);
}

static void allow_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static struct entry *say(enum entry_kind kind, const char *text)
{
    struct entry *e = transcript_add(&chat.transcript, kind, text);
    if (kind == ENTRY_USER)
        chat_save_user(&chat, e);
    return e;
}

/* Files that cannot grow stand for a full disk. When it has space again, nothing is missing. */
static void saves_what_it_could_not(void **state)
{
    (void)state;
    struct history_messages m;
    signal(SIGXFSZ, SIG_IGN);
    say(ENTRY_USER, "one");
    allow_file_size(1);
    struct entry *answer = say(ENTRY_ANSWER, "first");
    chat.answer = (struct chat_answer){.entry = answer, .request = 1};
    chat_save_begin(&chat);
    assert_int_equal(answer->id, 0);
    chat.answer = (struct chat_answer){0};
    say(ENTRY_USER, "two");
    assert_true(chat.history_failed);
    int said = chat.transcript.n;
    say(ENTRY_USER, "three");
    assert_int_equal(chat.transcript.n, said + 1); /* the trouble is said once */
    allow_file_size(RLIM_INFINITY);
    say(ENTRY_ANSWER, "second");
    say(ENTRY_USER, "four");
    assert_false(chat.history_failed);
    if (history_messages_path(chat.history, chat.conversation, HISTORY_ACTIVE, &m, err))
        fail_msg("%s", err);
    static const char *const all[] = {"one", "first", "two", "three", "second", "four"};
    assert_int_equal(m.n, 6);
    for (int i = 0; i < m.n; i++) {
        assert_string_equal(m.items[i].content, all[i]);
        assert_int_equal(m.items[i].state, HISTORY_COMPLETE);
    }
    history_messages_clear(&m);
}

static void assert_saved(int64_t conversation, int at, const char *text)
{
    struct history_messages m;
    struct history *other;
    if (history_open(&other, path, err) ||
        history_messages_path(other, conversation, HISTORY_ACTIVE, &m, err))
        fail_msg("%s", err);
    assert_true(at < m.n);
    assert_string_equal(m.items[at].content, text);
    assert_int_equal(m.items[at].state, HISTORY_COMPLETE);
    history_messages_clear(&m);
    history_close(other);
}

/* An answer whose begin was saved and whose end was not: it is saved with the next question, where it
 * leaves the screen, and at the end. */
static void saves_the_end_that_it_could_not(void **state)
{
    (void)state;
    enum { NEXT, NEW, AGAIN, LEAVE };
    signal(SIGXFSZ, SIG_IGN);
    for (int way = NEXT; way <= LEAVE; way++) {
        start_answer();
        add_piece(way);
        char text[16];
        snprintf(text, sizeof text, "%06d ", way);
        int64_t conversation = chat.conversation;
        allow_file_size(1);
        chat_event(&chat, &(struct lade_event){.kind = LADE_EV_DONE,
                                               .request = chat.answer.request,
                                               .result = {.stop = LADE_STOP_END}});
        assert_true(chat.history_failed);
        allow_file_size(RLIM_INFINITY);
        if (way == NEXT)
            say(ENTRY_USER, "And?");
        else if (way == NEW)
            chat_new(&chat);
        else if (way == AGAIN)
            assert_int_equal(chat_resume(&chat, conversation, err), 0);
        else
            chat_end(&chat);
        assert_false(chat.history_failed);
        assert_saved(conversation, 1, text);
        chat_new(&chat);
    }
}

/* Each try may wait for a lock: those of an answer come seldom after one has failed. */
static void a_save_that_failed_is_not_hurried(void **state)
{
    (void)state;
    struct history_messages m;
    signal(SIGXFSZ, SIG_IGN);
    start_answer();
    double now = 100;
    allow_file_size(1);
    add_piece(0);
    chat_tick(&chat, now);
    assert_true(chat.history_failed);
    allow_file_size(RLIM_INFINITY);
    for (int later = 0; later < 2; later++) {
        chat_tick(&chat, now += later ? 20 : 1);
        if (history_messages_path(chat.history, chat.conversation, HISTORY_ACTIVE, &m, err))
            fail_msg("%s", err);
        assert_string_equal(m.items[1].content, later ? "000000 " : "");
        history_messages_clear(&m);
    }
}

/* Another program's answer is no ruin of a dead one; our own is stopped and kept. */
static void resumes_what_is_being_written(void **state)
{
    (void)state;
    struct history *other = NULL;
    int64_t id = 0, answer;
    if (history_open(&other, path, err) ||
        history_conversation_new(other, "", &(struct history_setup){0}, &id, err) ||
        history_message_add(other, id, HISTORY_ACTIVE, HISTORY_USER, "Why?", NULL, err) ||
        history_message_begin(other, id, HISTORY_ACTIVE, "m", NULL, &answer, err) ||
        history_message_update(other, answer, "Because", NULL, err) || chat_resume(&chat, id, err))
        fail_msg("%s", err);
    assert_int_equal(chat.transcript.n, 2);
    assert_int_equal(chat.transcript.items[1]->state, ENTRY_ELSEWHERE);
    assert_string_equal(buf_text(&chat.transcript.items[1]->text), "Because");
    history_close(other);
    if (chat_resume(&chat, id, err))
        fail_msg("%s", err);
    assert_int_equal(chat.transcript.items[1]->state, ENTRY_INTERRUPTED);

    chat_new(&chat);
    start_answer();
    add_piece(1);
    if (chat_resume(&chat, chat.conversation, err))
        fail_msg("%s", err);
    assert_int_equal(chat.transcript.items[1]->state, ENTRY_STOPPED);
    assert_string_equal(buf_text(&chat.transcript.items[1]->text), "000001 ");
    assert_null(chat.answer.entry);
}

/* Two programs on one conversation, which both show one question and its answer. */
static struct chat neighbour;

static int begin_two(void **state)
{
    struct history *history;
    if (begin(state))
        return -1;
    say(ENTRY_USER, "one");
    say(ENTRY_ANSWER, "first");
    say(ENTRY_USER, "two");
    if (history_open(&history, path, err))
        return -1;
    chat_init(&neighbour, NULL, history);
    return chat_resume(&neighbour, chat.conversation, err);
}

static int end_two(void **state)
{
    chat_close(&neighbour);
    return end(state);
}

static struct entry *say_in(struct chat *c, const char *text)
{
    struct entry *e = transcript_add(&c->transcript, ENTRY_USER, text);
    chat_save_user(c, e);
    return e;
}

static void answer_in(struct chat *c, const char *text)
{
    c->answer = (struct chat_answer){.entry = transcript_add(&c->transcript, ENTRY_ANSWER, NULL),
                                     .request = 1};
    chat_save_begin(c);
    chat_event(c, &(struct lade_event){
                      .kind = LADE_EV_TEXT, .request = c->answer.request, .text = (char *)text});
}

static void finish_in(struct chat *c)
{
    chat_save_end(c, c->answer.entry);
    c->answer = (struct chat_answer){0};
}

/* The messages that lead to the active one, with blanks between them. */
static void holds(int64_t conversation, const char *all)
{
    struct history_messages m;
    struct buf text = {0};
    if (history_messages_path(chat.history, conversation, HISTORY_ACTIVE, &m, err))
        fail_msg("%s", err);
    for (int i = 0; i < m.n; i++)
        buf_printf(&text, i ? " %s" : "%s", m.items[i].content);
    assert_string_equal(buf_text(&text), all);
    history_messages_clear(&m);
    buf_free(&text);
}

static bool said(const struct chat *c, const char *part)
{
    for (int i = 0; i < c->transcript.n; i++)
        if (strstr(buf_text(&c->transcript.items[i]->text), part))
            return true;
    return false;
}

/* Whoever speaks second goes on in a copy, and is told so; then both go on as always. */
static void two_programs_do_not_mix(void **state)
{
    (void)state;
    int64_t original = chat.conversation;
    say_in(&neighbour, "three of second");
    answer_in(&neighbour, "his");
    assert_false(said(&neighbour, "Another lade"));
    say_in(&chat, "three of first");
    assert_true(said(&chat, "Another lade goes on with conversation 1."));
    assert_int_not_equal(chat.conversation, original);
    assert_string_equal(chat.title, "one (copy)");
    answer_in(&chat, "mine");
    finish_in(&neighbour);
    finish_in(&chat);
    int shown = chat.transcript.n;
    say_in(&chat, "four of first");
    say_in(&neighbour, "four of second");
    assert_int_equal(chat.transcript.n, shown + 1);
    assert_int_equal(neighbour.conversation, original);
    holds(original, "one first two three of second his four of second");
    holds(chat.conversation, "one first two three of first mine four of first");
    assert_int_equal(chat_resume(&neighbour, chat.conversation, err), 0);
    assert_int_equal(neighbour.transcript.n, 6);
}

/* What the model has read of a conversation that the other program deletes is noticed, wherever this one
 * has gone since. */
static void deleted_by_the_other_is_noticed(void **state)
{
    (void)state;
    int64_t original = chat.conversation;
    assert_false(chat_was_deleted(&chat)); /* nothing was asked */
    answer_in(&chat, "mine");
    finish_in(&chat);
    chat_new(&chat);
    assert_false(chat_was_deleted(&chat));
    assert_int_equal(chat.read, original);
    assert_int_equal(history_conversation_delete(neighbour.history, original, err), 0);
    assert_true(chat_was_deleted(&chat));
    /* A question of which nothing is read: what the model holds may be of another conversation. */
    say(ENTRY_USER, "too long");
    chat.answer = (struct chat_answer){
        .entry = transcript_add(&chat.transcript, ENTRY_ANSWER, NULL), .request = 2};
    chat_save_begin(&chat);
    assert_int_equal(chat.read, 0);
    finish_in(&chat);
}

/* Taking a question back does not take away what the other program asked after it. */
static void taking_back_leaves_the_other_alone(void **state)
{
    (void)state;
    int64_t original = chat.conversation;
    say_in(&neighbour, "three of second");
    assert_true(chat_take_back(&chat));
    say_in(&chat, "two, changed");
    holds(original, "one first two three of second");
    holds(chat.conversation, "one first two, changed");
}

/* An answer that the other program writes is left to it; when it is there it is read, and the
 * conversation goes on. */
static void an_answer_of_the_other_is_left_to_it(void **state)
{
    (void)state;
    int64_t original = chat.conversation;
    answer_in(&chat, "a long");
    chat_save_progress(&chat, 1);
    assert_int_equal(chat_resume(&neighbour, original, err), 0);
    buf_puts(&chat.answer.entry->text, " answer");
    chat_save_progress(&chat, 2);
    say_in(&neighbour, "three of second");
    assert_int_not_equal(neighbour.conversation, original);
    holds(neighbour.conversation, "one first two a long answer three of second");
    assert_int_equal(neighbour.transcript.items[3]->state, ENTRY_INTERRUPTED);
    assert_string_equal(buf_text(&neighbour.transcript.items[3]->text), "a long answer");

    assert_int_equal(chat_resume(&neighbour, original, err), 0);
    assert_int_equal(neighbour.transcript.items[3]->state, ENTRY_ELSEWHERE);
    buf_puts(&chat.answer.entry->text, " at last");
    finish_in(&chat);
    say_in(&neighbour, "three");
    assert_int_equal(neighbour.conversation, original);
    assert_string_equal(buf_text(&neighbour.transcript.items[3]->text), "a long answer at last");
    holds(original, "one first two a long answer at last three");
}

/* What was set up for one conversation is not taken into another. */
static void resumes_with_its_own_settings(void **state)
{
    (void)state;
    assert_true(settings_set(&chat.settings, "system", "Answer in verse.", err) >= 0);
    assert_true(settings_set(&chat.settings, "top-k", "7", err) >= 0);
    start_answer();
    int64_t first = chat.conversation;
    chat_new(&chat);
    assert_int_equal(chat.settings.sampling.top_k, 7); /* a new one begins as the last was */
    settings_free(&chat.settings);
    chat.settings.think = false;
    assert_true(settings_set(&chat.settings, "temperature", "0.5", err) >= 0);
    start_answer();
    int64_t second = chat.conversation;

    assert_int_equal(chat_resume(&chat, first, err), 0);
    assert_string_equal(chat.settings.system, "Answer in verse.");
    assert_int_equal(chat.settings.sampling.top_k, 7);
    assert_true(chat.settings.think);
    assert_true(chat.settings.sampling.temperature == 0);
    chat.have_info = true;
    chat.info.sampling = (struct lade_sampling){.temperature = 0.7f, .top_k = 20};
    assert_int_equal(chat_resume(&chat, second, err), 0);
    assert_null(chat.settings.system);
    assert_int_equal(chat.settings.sampling.top_k, 20);
    assert_true(chat.settings.sampling.temperature == 0.5f);
    assert_false(chat.settings.think);
}

/* A shell would know what ~ is; a file that is there is not written over. */
static void exports_to_the_home_directory(void **state)
{
    (void)state;
    char file[64], text[512] = "";
    start_answer();
    setenv("HOME", dir, 1);
    slash_run(&chat, "/export ~/why.md");
    snprintf(file, sizeof file, "%s/why.md", dir);
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    assert_non_null(strstr(text, "# Why?"));
    slash_run(&chat, "/export ~/why.md");
    const struct entry *last = chat.transcript.items[chat.transcript.n - 1];
    assert_int_equal(last->kind, ENTRY_ERROR);
    assert_non_null(strstr(buf_text(&last->text), "why.md: File exists; "));

    /* What cannot be written as a whole is not left there. */
    struct rlimit limit, none = {0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    none.rlim_max = limit.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    slash_run(&chat, "/export ~/big.md");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    last = chat.transcript.items[chat.transcript.n - 1];
    assert_non_null(strstr(buf_text(&last->text), "big.md: File too large; "));
    snprintf(file, sizeof file, "%s/big.md", dir);
    assert_int_equal(access(file, F_OK), -1);
}

/* What is on the screen, messages with their versions, between bars. */
static void shows(const char *all)
{
    struct buf text = {0};
    for (int i = 0; i < chat.transcript.n; i++) {
        const struct entry *e = chat.transcript.items[i];
        if (e->kind != ENTRY_USER && e->kind != ENTRY_ANSWER)
            continue;
        buf_printf(&text, "%s%s", text.n ? "|" : "", buf_text(&e->text));
        if (e->versions > 1)
            buf_printf(&text, " %d/%d", e->version, e->versions);
    }
    assert_string_equal(buf_text(&text), all);
    buf_free(&text);
}

static void fails(const char *command, const char *part)
{
    slash_run(&chat, command);
    const struct entry *last = chat.transcript.items[chat.transcript.n - 1];
    assert_int_equal(last->kind, ENTRY_ERROR);
    if (!strstr(buf_text(&last->text), part))
        fail_msg("%s", buf_text(&last->text));
}

/* Another answer to the last question, as /retry asks for it. */
static void answer_again(const char *text)
{
    for (int i = chat.transcript.n - 1; i >= 0; i--) {
        struct entry *e = chat.transcript.items[i];
        if (e->kind == ENTRY_USER)
            break;
        if (e->kind == ENTRY_ANSWER) {
            transcript_remove(&chat.transcript, e);
            chat_save_unsend(&chat);
        }
    }
    answer_in(&chat, text);
    finish_in(&chat);
}

/* Answers asked for again, questions that were changed: each is a branch that can be gone back to. */
static void goes_from_branch_to_branch(void **state)
{
    (void)state;
    fails("/branch", "nothing is saved yet");
    say_in(&chat, "one");
    answer_again("a");
    fails("/branch next", "one version");
    answer_again("b");
    shows("one|b 2/2");
    say_in(&chat, "two");
    answer_again("c");
    answer_again("d");
    answer_again("e");
    shows("one|b 2/2|two|e 3/3");
    slash_run(&chat, "/branch previous");
    shows("one|b 2/2|two|d 2/3");
    slash_run(&chat, "/branch 1");
    shows("one|b 2/2|two|c 1/3");
    slash_run(&chat, "/branch prev");
    shows("one|b 2/2|two|e 3/3");
    fails("/branch 4", "there are 3 versions");
    fails("/branch x", "is not a version");
    assert_true(chat_take_back(&chat));
    shows("one|b 2/2");
    slash_run(&chat, "/branch next"); /* nothing was said after this one: as it was left */
    shows("one|a 1/2");
    slash_run(&chat, "/branch next");
    shows("one|b 2/2|two|e 3/3");
    assert_true(chat_take_back(&chat));
    say_in(&chat, "two, changed");
    shows("one|b 2/2|two, changed 2/2");
    answer_again("f");
    holds(chat.conversation, "one b two, changed f");

    /* All of them in a list, the last said first, and it goes on from there. */
    slash_run(&chat, "/branch");
    assert_true(chat.picker.open);
    assert_int_equal(chat.picker.n, 5);
    static const char *const ends[] = {"f", "e", "d", "c", "a"};
    for (int i = 0; i < 5; i++)
        assert_string_equal(chat.picker.items[i].title, ends[i]);
    assert_int_equal(chat.picker.chosen, 0);
    slash_picker_key(&chat, &(struct keys_event){.kind = KEYS_DOWN}, 10);
    slash_picker_key(&chat, &(struct keys_event){.kind = KEYS_DOWN}, 10);
    slash_picker_key(&chat, &(struct keys_event){.kind = KEYS_ENTER}, 10);
    assert_false(chat.picker.open);
    shows("one|b 2/2|two 1/2|d 2/3");
    say_in(&chat, "three");
    holds(chat.conversation, "one b two d three");
    int64_t id = chat.conversation;
    chat_new(&chat);
    assert_int_equal(chat_resume(&chat, id, err), 0);
    shows("one|b 2/2|two 1/2|d 2/3|three");
    answer_in(&chat, "being written");
    fails("/branch next", "stop it first");
    finish_in(&chat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(saves_what_it_could_not, begin, end),
        cmocka_unit_test_setup_teardown(saves_the_end_that_it_could_not, begin, end),
        cmocka_unit_test_setup_teardown(a_save_that_failed_is_not_hurried, begin, end),
        cmocka_unit_test_setup_teardown(nothing_old_is_lost, begin, end),
        cmocka_unit_test_setup_teardown(resumes_what_is_being_written, begin, end),
        cmocka_unit_test_setup_teardown(two_programs_do_not_mix, begin_two, end_two),
        cmocka_unit_test_setup_teardown(deleted_by_the_other_is_noticed, begin_two, end_two),
        cmocka_unit_test_setup_teardown(taking_back_leaves_the_other_alone, begin_two, end_two),
        cmocka_unit_test_setup_teardown(an_answer_of_the_other_is_left_to_it, begin_two, end_two),
        cmocka_unit_test_setup_teardown(resumes_with_its_own_settings, begin, end),
        cmocka_unit_test_setup_teardown(goes_from_branch_to_branch, begin, end),
        cmocka_unit_test_setup_teardown(exports_to_the_home_directory, begin, end),
    };
    input_start(NULL, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
