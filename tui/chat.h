/* chat.h - the state of the chat screen, and what can be done to it.
 *
 * chat.c and its siblings hold the conversation: they take what was typed and what the engine says,
 * keep the history, and change the plain structs that the views draw. They know no curses; screen.c
 * shows the state, app.c waits and calls. UI thread only. */
#ifndef LADE_TUI_CHAT_H
#define LADE_TUI_CHAT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "history/history.h"
#include "tui/settings.h"
#include "tui/view/board.h"
#include "tui/view/menu.h"
#include "tui/view/picker.h"
#include "tui/view/status.h"
#include "tui/view/strategies.h"
#include "tui/view/transcript.h"

/* What an answer is being written with. entry NULL = none runs. */
struct chat_answer {
    struct entry *entry;
    int request;
    double began, think_began; /* monotonic seconds */
    int think_base;            /* tokens in the context when thinking began; -1 = not yet */
    double saved;              /* when it was last saved, of the clock of chat_tick */
    size_t saved_text, saved_reasoning;
};

enum chat_pick { CHAT_PICK_CONVERSATION, CHAT_PICK_BRANCH, CHAT_PICK_THEME };

struct chat {
    struct lade_engine *engine; /* NULL when it could not be started */
    bool have_info, failed;
    bool usable;        /* answers are given */
    bool ready;         /* every piece is home */
    bool greeted;       /* the greeting was said */
    bool asked;         /* a question has been sent: the board keeps to a line */
    int64_t read;       /* conversation that the model last read of; 0 = unknown, or not saved */
    bool in_context;    /* a question of this conversation: the engine's context is its own */
    bool moving;        /* pieces change homes after /strategy */
    double board_until; /* monotonic seconds: the finished board stays until then; 0 = not */
    struct lade_model_info info;
    bool bundled;            /* no model was named: it is the one that comes with lade */
    struct lade_result last; /* of the last finished answer */
    bool have_last;

    struct history *history; /* NULL = nothing is saved */
    bool history_failed;     /* said so already */
    int64_t conversation;    /* 0 = begins with the next message */
    int64_t leaf;            /* its last message when we last read or wrote it; 0 = none */
    char title[512];         /* a given one that is longer ends with "…" */

    struct settings settings;
    struct chat_answer answer;
    struct transcript transcript;
    struct board board;
    struct status status;

    struct pull_job *pull;    /* a download that runs; NULL = none */
    struct entry *pull_entry; /* its bars; in the transcript or gone with it */

    struct menu menu; /* completions of what is typed */
    char *menu_for;   /* the text they are for; owned */
    struct picker picker;
    enum chat_pick picking;
    struct strategies strategies; /* /plan */
    bool anatomy;                 /* /anatomy: the drawer is open */
    int rows;                     /* of the screen when it was last drawn; 0 = not yet */
    char theme_before[64];        /* to go back to from the theme picker */

    bool dirty;   /* the screen must be drawn */
    bool repaint; /* from nothing: the theme changed, or garbage is on the screen */
    bool quit;
    bool tick_now; /* the engine began or ended something: the gauges are old */
};

/* Takes the handles over (either may be NULL). */
void chat_init(struct chat *c, struct lade_engine *engine, struct history *history);
void chat_close(struct chat *c);

/* Begins to leave: saves what is said, and has the engine end (lade_engine_end). chat_close does what is
 * left of it. */
void chat_end(struct chat *c);

/* Whether the conversation that the model has read is in the history no more: another program deleted it. */
bool chat_was_deleted(const struct chat *c);

/* A line for the person: NOTICE, INFO (Markdown) or ERROR. */
void chat_say(struct chat *c, enum entry_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* What was typed: a command or a message. Messages wait until the model is ready. */
void chat_submit(struct chat *c, const char *text);

/* Takes back the last waiting message, or stops the answer. Returns false if there was neither.
 * A message taken back is given to `restore` (may be NULL) before it goes. */
bool chat_cancel(struct chat *c, void (*restore)(const char *text));

/* Sends the waiting messages as one request, when the model is free. */
void chat_send_waiting(struct chat *c);

/* An event of the engine; the caller clears it. */
void chat_event(struct chat *c, const struct lade_event *ev);

/* To be called at least every quarter of a second while chat_is_busy: gauges, clocks, saving. */
void chat_tick(struct chat *c, double now);
bool chat_is_busy(const struct chat *c);

/* True while the load board belongs on the screen: pieces are on their way home, or have just
 * arrived. Beside a conversation it is a line. */
bool chat_is_loading(const struct chat *c);
bool chat_board_is_line(const struct chat *c);

/* ---- conversations (chat_history.c) ----------------------------------------------------------- */

/* Begins an empty one. An answer that runs is stopped and kept. */
void chat_new(struct chat *c);

/* The path or address of the model that a saved one was held with, id 0 = the last: malloc'ed. NULL where
 * that is the bundled one, or is not known. */
char *chat_held_with(struct history *h, int64_t id);

/* Shows a saved one and goes on with it, as the user had set it up; id 0 = the last. */
int chat_resume(struct chat *c, int64_t id, char *err);
int chat_rename(struct chat *c, const char *title, char *err);
int chat_delete(struct chat *c, int64_t id, char *err);

/* ---- changing what was said (chat_revise.c) ----------------------------------------------------
 *
 * The history keeps what is taken off the screen, as another branch of the conversation. */

/* Takes the last question and its answer off, and puts the question into the input line if that is
 * empty. Returns false if there is no question. No answer may be running. */
bool chat_take_back(struct chat *c);

/* Asks the last question again, for another answer. */
int chat_retry(struct chat *c, char *err);

/* Shows the branch of the conversation that ends with message `leaf`, and goes on with it. */
int chat_branch(struct chat *c, int64_t leaf, char *err);

/* The same by version: `by` 1 = the next, -1 = the one before, of the last question or answer on the
 * screen that has several; they go round. Version `to` if that is not 0. */
int chat_version(struct chat *c, int by, int to, char *err);

/* Goes on in a copy of the conversation; the original stays as it is. */
int chat_fork(struct chat *c, char *err);

/* For the files of the conversation: 0 if it is this program's, which makes a copy of it where another
 * one has gone on with it; its title, and its messages up to the leaf, on the screen. */
int chat_own(struct chat *c, char *err);
void chat_show(struct chat *c, const struct history_messages *path);

/* Saving, for chat.c. Errors are said once, and the chat goes on. Where another program has gone on
 * with the conversation, this one goes on in a copy. */
void chat_save_user(struct chat *c, struct entry *e);
void chat_save_begin(struct chat *c);
void chat_save_progress(struct chat *c, double now);
void chat_save_end(struct chat *c, struct entry *e);
void chat_save_unsend(struct chat *c);

/* Stops the answer that runs, and saves what of the conversation could not be saved when it came: before
 * it leaves the screen. */
void chat_settle(struct chat *c);

#endif
