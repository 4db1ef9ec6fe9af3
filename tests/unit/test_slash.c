/* The chat's commands: parsing, completion, settings. */
#include "engine/clock.h"
#include "tui/slash/slash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/support_hub.h"
#include "tui/input.h"
#include "tui/text/width.h"

static struct chat chat;

static int begin(void **state)
{
    (void)state;
    chat_init(&chat, NULL, NULL);
    chat.transcript.rows = 20;
    chat.transcript.cols = 80;
    return 0;
}

static int end(void **state)
{
    (void)state;
    chat_close(&chat);
    return 0;
}

static const struct entry *last(void)
{
    assert_true(chat.transcript.n > 0);
    return chat.transcript.items[chat.transcript.n - 1];
}

static void what_is_a_command(void **state)
{
    (void)state;
    assert_true(slash_is_command("/help"));
    assert_true(slash_is_command("/"));
    assert_true(slash_is_command("/set temperature 1"));
    assert_false(slash_is_command("//help"));
    assert_false(slash_is_command("/usr/bin/ls lists files"));
    assert_false(slash_is_command("/etc/passwd"));
    assert_false(slash_is_command("hello /help"));
    assert_false(slash_is_command("/help\nmore"));
    assert_false(slash_is_command(""));
}

static void table_is_sound(void **state)
{
    (void)state;
    for (int i = 0; i < slash_count; i++) {
        const struct slash_command *s = &slash_commands[i];
        assert_true(*s->name && *s->help && s->args && s->run);
        assert_ptr_equal(slash_find(s->name, (int)strlen(s->name), NULL), s);
        if (s->alias)
            assert_ptr_equal(slash_find(s->alias, (int)strlen(s->alias), NULL), s);
    }
}

static void beginnings(void **state)
{
    (void)state;
    char err[LADE_ERR] = "";
    assert_string_equal(slash_find("qui", 3, err)->name, "quit");
    assert_string_equal(slash_find("HELP", 4, err)->name, "help");
    assert_null(slash_find("re", 2, err));
    assert_non_null(strstr(err, "/resume or /rename or /retry"));
    assert_null(slash_find("nonsense", 8, err));
    assert_non_null(strstr(err, "/help"));
}

enum { PATIENCE = 12000 }; /* ticks of 10 ms: two minutes, for the slowest machine */

/* One turn of the loop. */
static void turn(void)
{
    chat_tick(&chat, lade_now());
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

/* Waits until the download has ended with an entry of that kind. */
static const struct entry *tick_until(enum entry_kind kind)
{
    for (int i = 0; i < PATIENCE && (chat.pull || last()->kind != kind); i++)
        turn();
    assert_null(chat.pull);
    assert_int_equal(last()->kind, kind);
    return last();
}

static void strategies_without_a_model(void **state)
{
    (void)state;
    static const char *const lines[] = {"/plan", "/strategy", "/strategy mmap"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        slash_run(&chat, lines[i]);
        assert_int_equal(last()->kind, ENTRY_ERROR);
        assert_non_null(strstr(buf_text(&last()->text), "no model is loaded"));
        assert_false(chat.strategies.open);
    }
    slash_run(&chat, "/anatomy");
    assert_true(chat.anatomy);
    slash_run(&chat, "/anatomy off");
    assert_false(chat.anatomy);
    chat.rows = 12;
    slash_run(&chat, "/anatomy");
    assert_true(chat.anatomy);
    assert_non_null(
        strstr(buf_text(&last()->text), "when the terminal has 16 rows; now it has 12"));
    chat.rows = 0;
    slash_run(&chat, "/anatomy maybe");
    assert_non_null(strstr(buf_text(&last()->text), "choose on or off"));
    struct menu menu = {0};
    int from;
    slash_complete(&chat, "/strategy hy", &menu, &from);
    assert_int_equal(from, 10);
    assert_int_equal(menu.n, 3);
    assert_string_equal(menu.items[0].text, "hybrid-heavy-gpu");
    menu_clear(&menu);
}

static void pull_beside_the_chat(void **state)
{
    (void)state;
    struct support_hub hub;
    char home[128];
    if (!support_hub_start(&hub)) {
        print_message("skip: there is no python3\n");
        skip();
    }
    snprintf(home, sizeof home, "%s/home", hub.root);
    setenv("LADE_HOME", home, 1);
    setenv("HF_ENDPOINT", hub.endpoint, 1);
    support_hub_put(&hub, "Org/Next/config.json", "{}", 2);
    support_hub_fill(&hub, "Org/Next/model.safetensors", 300000, 1);

    slash_run(&chat, "/pull");
    assert_non_null(strstr(buf_text(&last()->text), "needs a repository"));
    slash_run(&chat, "/pull stop");
    assert_non_null(strstr(buf_text(&last()->text), "nothing is being fetched"));
    slash_run(&chat, "/pull Org/None");
    assert_true(chat_is_busy(&chat));
    assert_non_null(strstr(buf_text(&tick_until(ENTRY_ERROR)->text), "404"));

    support_hub_rules(&hub, "[{\"match\": \"model\", \"pace\": 1000}]");
    slash_run(&chat, "/pull Org/Next");
    for (int i = 0; i < PATIENCE && !strstr(buf_text(&last()->text), "66 of 300 kB"); i++)
        turn();
    assert_non_null(strstr(buf_text(&last()->text), "66 of 300 kB"));
    assert_non_null(strstr(buf_text(&last()->text), "model.safetensors"));
    slash_run(&chat, "/pull Org/Other");
    assert_non_null(strstr(buf_text(&last()->text), "one at a time"));
    chat_new(&chat); /* the notice goes, the download does not */
    assert_int_equal(chat.transcript.n, 0);
    chat_tick(&chat, lade_now());
    assert_int_equal(chat.transcript.n, 1);
    slash_run(&chat, "/pull stop");
    assert_non_null(strstr(buf_text(&tick_until(ENTRY_ERROR)->text), "cancelled"));

    support_hub_rules(&hub, "[]");
    slash_run(&chat, "/pull Org/Next");
    assert_non_null(strstr(buf_text(&tick_until(ENTRY_NOTICE)->text), "models/Org/Next"));
    support_hub_rules(&hub, "[{\"match\": \"/\", \"delay\": 1000}]");
    slash_run(&chat, "/pull Org/Next"); /* and leaving in the middle */
    support_hub_stop(&hub);
    unsetenv("LADE_HOME");
    unsetenv("HF_ENDPOINT");
}

static void errors_are_said(void **state)
{
    (void)state;
    slash_run(&chat, "/nonsense");
    assert_int_equal(last()->kind, ENTRY_ERROR);
    slash_run(&chat, "/hlep");
    assert_non_null(strstr(buf_text(&last()->text), "did you mean /help?"));
    slash_run(&chat, "/nope"); /* half of /copy is no misspelling of it */
    assert_null(strstr(buf_text(&last()->text), "did you mean"));
    assert_non_null(strstr(buf_text(&last()->text), "/help lists"));
    slash_run(&chat, "/");
    assert_non_null(strstr(buf_text(&last()->text), "/help lists them"));
    slash_run(&chat, "/quit now");
    assert_int_equal(last()->kind, ENTRY_ERROR);
    assert_false(chat.quit);
    slash_run(&chat, "/rename");
    assert_int_equal(last()->kind, ENTRY_ERROR);
    slash_run(&chat, "/resume x");
    assert_int_equal(last()->kind, ENTRY_ERROR);
    slash_run(&chat, "/copy");
    assert_int_equal(last()->kind, ENTRY_ERROR);
    slash_run(&chat, "/quit");
    assert_true(chat.quit);
}

static const char *said(const char *line)
{
    slash_run(&chat, line);
    return buf_text(&last()->text);
}

/* Code blocks are counted from the first; what is there is said. */
static void copy_of_code(void **state)
{
    (void)state;
    transcript_add(&chat.transcript, ENTRY_ANSWER,
                   "Text\n```c\nint a;\n```\nmore\n  ```\n  two\n  ```\n```\nopen");
    assert_non_null(strstr(said("/copy 1"), "7 bytes"));
    assert_non_null(strstr(said("/copy 2"), "6 bytes"));
    assert_non_null(strstr(said("/copy 3"), "4 bytes")); /* a fence ends with the text, too */
    assert_non_null(strstr(said("/copy code"), "4 bytes"));
    assert_non_null(strstr(said("/copy 4"), "has 3 code blocks"));
    assert_non_null(strstr(said("/copy 0"), "cannot be copied"));
    assert_non_null(strstr(said("/copy 1000"), "cannot be copied"));
    transcript_add(&chat.transcript, ENTRY_ANSWER,
                   "```a```\n~~~ md\n```c\nint b;\n```\n~~~\nand\n````\n```\n````");
    assert_non_null(strstr(said("/copy 1"), "16 bytes")); /* the other mark does not end it */
    assert_non_null(strstr(said("/copy 2"), "4 bytes"));  /* nor do fewer */
    assert_non_null(strstr(said("/copy 3"), "has 2 code blocks"));
    transcript_add(&chat.transcript, ENTRY_ANSWER, "No code.");
    assert_non_null(strstr(said("/copy 1"), "no code block"));
}

/* With a history of its own, and no engine: what needs none. */
static void another_try(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-slash-XXXXXX", path[64], line[96], err[HISTORY_ERR];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/history.db", dir);
    for (const char *const *c = (const char *const[]){"/retry", "/edit", "/fork", "/export", NULL};
         *c; c++) {
        said(*c);
        assert_int_equal(last()->kind, ENTRY_ERROR);
    }
    if (history_open(&chat.history, path, err))
        fail_msg("%s", err);
    chat_save_user(&chat, transcript_add(&chat.transcript, ENTRY_USER, "question"));
    struct entry *answer = transcript_add(&chat.transcript, ENTRY_ANSWER, "answer");
    assert_int_equal(history_message_add(chat.history, chat.conversation, HISTORY_ACTIVE,
                                         HISTORY_ASSISTANT, "answer\x1b[31m\tred\xC2\x9B",
                                         &answer->id, err),
                     0);
    chat.leaf = answer->id;
    snprintf(line, sizeof line, "/export %s/a.md", dir);
    assert_non_null(strstr(said(line), "Written to"));
    assert_non_null(strstr(said(line), "File exists"));
    char written[512];
    FILE *f = fopen(line + strlen("/export "), "r");
    assert_non_null(f);
    written[fread(written, 1, sizeof written - 1, f)] = '\0';
    fclose(f);
    assert_non_null(strstr(written, "answer[31m\tred\n")); /* whoever prints it runs nothing */
    snprintf(line, sizeof line, "/export %s/a.json", dir);
    assert_non_null(strstr(said(line), "Written to"));
    assert_non_null(strstr(said("/export /nowhere/a"), "No such file"));

    assert_non_null(strstr(said("/fork"), "conversation 2"));
    assert_int_equal(chat.conversation, 2);
    assert_string_equal(chat.title, "question (copy)");
    assert_int_equal(chat.transcript.n, 3);
    char long_title[700] = "/rename ";
    for (int i = 0; i < 200; i++)
        strcat(long_title, "\xE6\xBC\xA2");
    slash_run(&chat, long_title);
    const size_t n = strlen(chat.title); /* whole characters, and a mark that there are more */
    assert_true(n > 3 * 80 && n % 3 == 0);
    assert_string_equal(chat.title + n - 6, "\xE6\xBC\xA2…");
    slash_run(&chat, "/edit");
    assert_string_equal(input_text(), "question");
    assert_int_equal(chat.transcript.n, 1);
    if (chat_resume(&chat, 2, err))
        fail_msg("%s", err);
    assert_int_equal(chat.transcript.n, 0); /* the answer is on another branch now */
    if (chat_resume(&chat, 1, err))
        fail_msg("%s", err);
    assert_int_equal(chat.transcript.n, 2);
    snprintf(line, sizeof line, "rm -rf '%s'", dir);
    assert_int_equal(system(line), 0);
}

/* It would be part of every later prompt, and none of them would fit. */
static void what_does_not_fit_comes_back(void **state)
{
    (void)state;
    struct lade_event failed = {.kind = LADE_EV_FAILED, .request = 5, .text = (char *)"too long"};
    transcript_add(&chat.transcript, ENTRY_USER, "short");
    transcript_add(&chat.transcript, ENTRY_ANSWER, "yes");
    transcript_add(&chat.transcript, ENTRY_USER, "very");
    transcript_add(&chat.transcript, ENTRY_USER, "long");
    chat.answer = (struct chat_answer){.request = 5,
                                       .entry = transcript_add(&chat.transcript, ENTRY_ANSWER, "")};
    failed.result.stop = LADE_STOP_CONTEXT;
    input_set("");
    chat_event(&chat, &failed);
    assert_int_equal(chat.transcript.n, 3);
    assert_string_equal(buf_text(&chat.transcript.items[1]->text), "yes");
    assert_string_equal(buf_text(&last()->text), "too long");
    assert_string_equal(input_text(), "very\nlong");
}

/* The last entry as it is drawn, blanks between words left out. */
static void shown(char *out, size_t size)
{
    struct lines rows = {0};
    struct markdown md = {0};
    const struct buf *text = &last()->text;
    size_t n = 0;
    markdown_update(&md, &rows, text->at, text->n, 400);
    for (size_t i = 0; i < rows.n; i++) {
        char *row = lines_text(&rows, i);
        for (const char *p = row; *p && n + 1 < size; p++)
            if (*p != ' ')
                out[n++] = *p;
        free(row);
    }
    out[n] = '\0';
    lines_free(&rows);
}

/* Nothing of a table's text is taken for Markdown. */
static void tables_show_what_is_written(void **state)
{
    (void)state;
    char text[8192];
    for (int help = 0; help < 2; help++) {
        slash_run(&chat, help ? "/help set" : "/set");
        shown(text, sizeof text);
        assert_non_null(strstr(text, "\\nisanewline,|standsbetweenseveral;noneremovesit"));
    }
    slash_run(&chat, "/set system Use *stars*, `ticks` and _lines_.");
    slash_run(&chat, "/set stop User:|\\n|<b>");
    slash_run(&chat, "/set");
    shown(text, sizeof text);
    assert_non_null(strstr(text, "Use*stars*,`ticks`and_lines_."));
    assert_non_null(strstr(text, "User:|\\n|<b>"));
    slash_run(&chat, "/help");
    shown(text, sizeof text);
    assert_non_null(strstr(text, "/branch[next|previous|N]"));
}

static void help_names_everything(void **state)
{
    (void)state;
    char name[32];
    slash_run(&chat, "/help");
    assert_int_equal(last()->kind, ENTRY_INFO);
    for (int i = 0; i < slash_count; i++) {
        snprintf(name, sizeof name, "/%s", slash_commands[i].name);
        assert_non_null(strstr(buf_text(&last()->text), name));
    }
    slash_run(&chat, "/help set");
    assert_non_null(strstr(buf_text(&last()->text), "temperature"));
}

static void completions(void **state)
{
    (void)state;
    struct menu m = {0};
    int from;
    slash_complete(&chat, "/", &m, &from);
    assert_int_equal(m.n, slash_count);
    slash_complete(&chat, "/re", &m, &from);
    assert_int_equal(m.n, 3);
    assert_int_equal(menu_common(&m), 3);
    assert_int_equal(m.typed, 3);
    slash_complete(&chat, "/think f", &m, &from);
    assert_int_equal(m.n, 1);
    assert_string_equal(m.items[0].text, "fold");
    assert_int_equal(from, 7);
    slash_complete(&chat, "/set t", &m, &from);
    assert_int_equal(m.n, 3);
    slash_complete(&chat, "/set top-p 0", &m, &from);
    assert_int_equal(m.n, 0);
    slash_complete(&chat, "hello", &m, &from);
    assert_int_equal(m.n, 0);
    menu_clear(&m);
}

static void settings(void **state)
{
    (void)state;
    slash_run(&chat, "/set temperature 0.25");
    assert_int_equal(last()->kind, ENTRY_NOTICE);
    assert_true(chat.settings.sampling.temperature == 0.25f);
    slash_run(&chat, "/set top_k=12");
    assert_int_equal(chat.settings.sampling.top_k, 12);
    const char *bad[] = {"/set temperature hot", "/set temperature nan", "/set top-p 1.5",
                         "/set top-k 1.5",       "/set seed -1",         "/set nothing 1",
                         "/set temperature",     "/set seed 1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        slash_run(&chat, bad[i]);
        assert_int_equal(last()->kind, ENTRY_ERROR);
    }
    assert_true(chat.settings.sampling.temperature == 0.25f);
    slash_run(&chat, "/set top-k 1.5");
    assert_non_null(strstr(buf_text(&last()->text), "whole number from 0 to 1000000000"));
    slash_run(&chat, "/set seed -3");
    assert_non_null(strstr(buf_text(&last()->text), "whole number from 0 to 18446744073709551615"));
    slash_run(&chat, "/set repeat-penalty 1.25"); /* other names of two */
    assert_non_null(strstr(buf_text(&last()->text), "repetition-penalty is 1.25"));
    slash_run(&chat, "/set tokens 5");
    assert_int_equal(chat.settings.max_tokens, 5);
    slash_run(&chat, "/set system Answer in verse.");
    assert_string_equal(chat.settings.system, "Answer in verse.");
    slash_run(&chat, "/set seed 18446744073709551615");
    assert_true(chat.settings.sampling.seed == UINT64_MAX);
    slash_run(&chat, "/set seed 7.5");
    assert_int_equal(last()->kind, ENTRY_ERROR);
    assert_true(chat.settings.sampling.seed == UINT64_MAX); /* as it was */
}

static void defaults_and_json(void **state)
{
    (void)state;
    struct settings a = {0}, b = {0};
    struct lade_sampling model = {.temperature = 0.7f,
                                  .top_k = 20,
                                  .top_p = 0.8f,
                                  .min_p = 0.05f,
                                  .repetition_penalty = 1.1f};
    assert_true(settings_set(&a, "top-p", "0.5", NULL) >= 0);
    assert_true(settings_set(&a, "system", "a \"quoted\"\nline", NULL) >= 0);
    assert_true(settings_set(&a, "seed", "18446744073709551615", NULL) >= 0);
    assert_true(settings_set(&a, "stop", "User:|\\n", NULL) >= 0);
    settings_defaults(&a, &model);
    assert_true(a.sampling.top_p == 0.5f && a.sampling.top_k == 20);
    char *json = settings_json(&a);
    settings_from_json(&b, json);
    assert_int_equal(a.set, b.set);
    assert_true(b.sampling.top_p == 0.5f);
    assert_true(b.sampling.seed == UINT64_MAX);
    assert_int_equal(b.sampling.top_k, 0); /* not set by the user: the model's own */
    assert_string_equal(b.system, a.system);
    assert_int_equal(b.sampling.stop.n, 2);
    assert_memory_equal(&b.sampling.stop, &a.sampling.stop, sizeof a.sampling.stop);
    assert_true(settings_set(&b, "stop", "a||b", NULL) < 0);
    assert_int_equal(b.sampling.stop.n, 2);
    assert_true(settings_set(&b, "stop", "none", NULL) >= 0);
    assert_int_equal(b.sampling.stop.n, 0);
    settings_from_json(&b, "not json");
    settings_from_json(&b, "{\"set\":[\"seed\"],\"seed\":7}"); /* as it was written before */
    assert_true(b.sampling.seed == 7);
    settings_from_json(&b, "{\"set\":[\"repeat-penalty\"],\"repeat-penalty\":1.5}");
    assert_true(b.sampling.repetition_penalty == 1.5f);
    settings_from_json(&b, "{\"set\":[1,\"nothing\",\"top-p\"],\"top-p\":99}");
    assert_true(b.sampling.top_p == 0.5f);
    assert_true(settings_set(&a, "top-p", "default", NULL) >= 0);
    settings_defaults(&a, &model);
    assert_true(a.sampling.top_p == 0.8f);
    assert_int_equal(a.sampling.stop.n, 2);
    assert_true(settings_set(&a, "stop", "default", NULL) >= 0);
    assert_int_equal(a.sampling.stop.n, 0);
    free(json);
    settings_free(&a);
    settings_free(&b);
}

/* What has no reasoning on the screen to show it says so. */
static void thinking_says_how_it_is_shown(void **state)
{
    (void)state;
    char home[] = "/tmp/lade-slash-XXXXXX", file[64];
    assert_non_null(mkdtemp(home));
    setenv("LADE_HOME", home, 1);
    slash_run(&chat, "/think show");
    assert_string_equal(buf_text(&last()->text), "Reasoning is shown in full.");
    slash_run(&chat, "/think fold");
    assert_string_equal(buf_text(&last()->text), "Reasoning is folded to one line.");
    slash_run(&chat, "/think");
    assert_string_equal(buf_text(&last()->text), "Reasoning is on and folded to one line.");
    snprintf(file, sizeof file, "%s/settings.json", home);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(home), 0);
    unsetenv("LADE_HOME");
}

int main(void)
{
    width_locale();
    input_start(NULL, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_a_command, begin, end),
        cmocka_unit_test_setup_teardown(table_is_sound, begin, end),
        cmocka_unit_test_setup_teardown(beginnings, begin, end),
        cmocka_unit_test_setup_teardown(strategies_without_a_model, begin, end),
        cmocka_unit_test_setup_teardown(pull_beside_the_chat, begin, end),
        cmocka_unit_test_setup_teardown(errors_are_said, begin, end),
        cmocka_unit_test_setup_teardown(copy_of_code, begin, end),
        cmocka_unit_test_setup_teardown(another_try, begin, end),
        cmocka_unit_test_setup_teardown(what_does_not_fit_comes_back, begin, end),
        cmocka_unit_test_setup_teardown(help_names_everything, begin, end),
        cmocka_unit_test_setup_teardown(tables_show_what_is_written, begin, end),
        cmocka_unit_test_setup_teardown(completions, begin, end),
        cmocka_unit_test_setup_teardown(settings, begin, end),
        cmocka_unit_test_setup_teardown(thinking_says_how_it_is_shown, begin, end),
        cmocka_unit_test_setup_teardown(defaults_and_json, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
