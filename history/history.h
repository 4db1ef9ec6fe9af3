/* history.h - conversations on disk: one SQLite database.
 *
 * The messages of a conversation are a tree: each has a parent, and the conversation remembers its
 * active leaf. What is shown and sent to the model is the path from the root to that leaf, so that
 * an answer can be asked for again without losing the first one.
 *
 * An answer is written while it streams: history_message_begin, then history_message_update at
 * least every 500 ms, then history_message_finish. Each call is one transaction, so a process that
 * is killed loses what came after its last update and nothing else. Its message is then in state
 * `streaming` with a writer that no longer lives; the next one to open the database or the
 * conversation turns it into `interrupted`, keeping the text. Several processes may have the
 * database open at once.
 *
 * Functions that can fail return 0, or -1 with one line `WHAT: WHY; DO` in `err` (HISTORY_ERR
 * bytes, may be NULL). A handle belongs to one thread. Strings are UTF-8; bytes that are not are
 * stored as U+FFFD. Times are milliseconds since 1970. Conversation ids are small numbers that
 * people type; they are never used twice. */
#ifndef LADE_HISTORY_HISTORY_H
#define LADE_HISTORY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HISTORY_ERR = 512 };

struct history;

/* Opens PATH, making it (mode 0600) and its directory (0700) if they are not there, and brings an
 * older database up to date. A database of a newer lade, one of another program and a damaged one
 * are refused and not changed. The caller owns *out. */
int history_open(struct history **out, const char *path, char *err);

/* The same to read what is there, where PATH can only be read too: on a read-only file system, as
 * another user, on a full disk. Nothing is made or changed then, calls that write fail,
 * history_is_read_only says so, and `err` has the line of why it could not be written. */
int history_open_to_read(struct history **out, const char *path, char *err);
bool history_is_read_only(const struct history *h);

/* Answers of this handle that were never finished become interrupted. NULL is allowed. */
void history_close(struct history *h);

/* ---- conversations --------------------------------------------------------------------------- */

/* What a conversation is held with. Strings may be NULL; parameters is a JSON object as text. */
struct history_setup {
    const char *model, *model_path, *strategy, *parameters;
};

struct history_conversation {
    int64_t id;
    char *title; /* "" until the first message of the user, its first line, or what it was given */
    int64_t created, updated;
    int messages;                                     /* on the active path and off it */
    int64_t leaf;                                     /* id of the active leaf, 0 = no messages */
    char *model, *model_path, *strategy, *parameters; /* "" if unknown */
};

struct history_list {
    struct history_conversation *items;
    int n;
};

/* An empty title stands for "the first line of the first message of the user". Titles are one line:
 * control characters in them become blanks. */
int history_conversation_new(struct history *h, const char *title,
                             const struct history_setup *setup, int64_t *id, char *err);

/* Fails if there is no such conversation. Free with history_conversation_clear. */
int history_conversation_get(struct history *h, int64_t id, struct history_conversation *out,
                             char *err);
void history_conversation_clear(struct history_conversation *c);

/* The conversation changed last; *id 0 if there is none. */
int history_conversation_last(struct history *h, int64_t *id, char *err);

/* Newest first. `filter` (may be NULL) keeps titles that contain it, upper and lower case alike for
 * ASCII. limit -1 = all. Free with history_list_clear. */
int history_conversation_list(struct history *h, const char *filter, int offset, int limit,
                              struct history_list *out, char *err);
void history_list_clear(struct history_list *list);

/* Blanks around the title are left out; one of nothing else is refused. */
int history_conversation_rename(struct history *h, int64_t id, const char *title, char *err);
int history_conversation_setup(struct history *h, int64_t id, const struct history_setup *setup,
                               char *err);

/* Deletes it with its messages for good: the bytes are overwritten in the database. */
int history_conversation_delete(struct history *h, int64_t id, char *err);

/* ---- messages -------------------------------------------------------------------------------- */

enum history_role { HISTORY_SYSTEM, HISTORY_USER, HISTORY_ASSISTANT, HISTORY_TOOL };

enum history_state {
    HISTORY_STREAMING,   /* being written now, by this or another living process */
    HISTORY_COMPLETE,    /* ended by itself or at a limit */
    HISTORY_STOPPED,     /* the user stopped it */
    HISTORY_INTERRUPTED, /* the program died or the engine failed in the middle */
};

const char *history_role_name(enum history_role role); /* "user", as in the database */
const char *history_state_name(enum history_state state);

/* What an answer cost; negative = unknown. */
struct history_cost {
    int prompt_tokens, kept_tokens, tokens;
    double ttft_s, prefill_tps, decode_tps; /* seconds, tokens per second */
};
#define HISTORY_COST_UNKNOWN ((struct history_cost){-1, -1, -1, -1, -1, -1})

struct history_message {
    int64_t id, parent; /* parent 0 = root */
    enum history_role role;
    enum history_state state;
    char *content;             /* never NULL */
    char *reasoning;           /* NULL if there is none */
    int64_t created, finished; /* finished 0 while streaming and after an interruption */
    char *model, *parameters;  /* of an answer; "" if unknown */
    /* Its place among the messages of its role with the same parent, oldest first, and how many there
     * are: answers to one question, or forms of one question. 1 of 1 for most. */
    int version, versions;
    struct history_cost cost;
};

struct history_messages {
    struct history_message *items;
    int n;
};

/* As parent: the conversation's active leaf. As leaf: the active one. */
enum { HISTORY_ACTIVE = -1 };

/* Adds a finished message, which becomes the active leaf. `parent` is a message of the same
 * conversation, 0 = root, or HISTORY_ACTIVE. `id` may be NULL. */
int history_message_add(struct history *h, int64_t conversation, int64_t parent,
                        enum history_role role, const char *content, int64_t *id, char *err);

/* Begins an answer with empty text; it becomes the active leaf. model and parameters (JSON object)
 * may be NULL. */
int history_message_begin(struct history *h, int64_t conversation, int64_t parent,
                          const char *model, const char *parameters, int64_t *id, char *err);

/* Replaces the text so far. reasoning may be NULL. Fails if the message is no longer streaming. */
int history_message_update(struct history *h, int64_t id, const char *content,
                           const char *reasoning, char *err);

/* The last update. `state` is anything but HISTORY_STREAMING; cost may be NULL. */
int history_message_finish(struct history *h, int64_t id, enum history_state state,
                           const char *content, const char *reasoning,
                           const struct history_cost *cost, char *err);

/* The path from the root to `leaf` (a message, or HISTORY_ACTIVE). Free with
 * history_messages_clear. */
int history_messages_path(struct history *h, int64_t conversation, int64_t leaf,
                          struct history_messages *out, char *err);

/* All messages of the conversation, oldest first: parents come before their children. */
int history_messages_all(struct history *h, int64_t conversation, struct history_messages *out,
                         char *err);

/* The ends of its branches, oldest first: the messages without children. */
int history_messages_leaves(struct history *h, int64_t conversation, struct history_messages *out,
                            char *err);

/* The last message that was written below version `version` (from 1) of `message`, or that version
 * itself: what makes it the active branch. Fails if there is no such version. */
int history_version_leaf(struct history *h, int64_t message, int version, int64_t *leaf, char *err);

/* One message. Fails if there is none. Free with history_messages_clear. */
int history_message_get(struct history *h, int64_t id, struct history_messages *out, char *err);
void history_messages_clear(struct history_messages *m);

/* Makes `message` (0 = before the first) the active leaf: what is added next is its child. A title that
 * was made of a first question becomes that of the one on the path to it. */
int history_leaf_set(struct history *h, int64_t conversation, int64_t message, char *err);

/* Begins a conversation, *copy, that holds a copy of the path from the root to `leaf` (a message, or
 * HISTORY_ACTIVE) of conversation `id`, and is named after it. What is still being written there is
 * interrupted in the copy. */
int history_conversation_copy(struct history *h, int64_t id, int64_t leaf, int64_t *copy,
                              char *err);

/* ---- search ---------------------------------------------------------------------------------- */

struct history_hit {
    int64_t conversation, message; /* message 0: the title matched */
    enum history_role role;        /* of the message */
    int64_t at;                    /* when it was made */
    char *title;
    char *excerpt; /* one line around the first match */
};

struct history_hits {
    struct history_hit *items;
    int n;
};

/* Finds every message and title that contains all the words of `query`, in any order and anywhere
 * inside a word (so it works for scripts without spaces), without regard to case. Newest first,
 * at most `limit`. Free with history_hits_clear. */
int history_search(struct history *h, const char *query, int limit, struct history_hits *out,
                   char *err);
void history_hits_clear(struct history_hits *hits);

/* ---- out and in ------------------------------------------------------------------------------ */

enum history_format { HISTORY_JSON, HISTORY_MARKDOWN, HISTORY_BRANCHES };

/* Writes conversation `id`, or all of them for 0, as text. JSON keeps everything but paths of this
 * machine and is what history_import reads; Markdown is the active path, for people, and
 * says what other branches there are; HISTORY_BRANCHES is Markdown with all of them, each message
 * followed by what was said after it. Returns malloc'ed text, or NULL. */
char *history_export(struct history *h, int64_t id, enum history_format format, char *err);

/* Adds the conversations of an exported JSON text under new ids, all or none. *n (may be NULL) gets
 * their number, *first (may be NULL) the first new id. Everything is checked; `name` is the file
 * name for messages. */
int history_import(struct history *h, const char *text, size_t len, const char *name, int *n,
                   int64_t *first, char *err);

/* ---- the database itself --------------------------------------------------------------------- */

struct history_facts {
    int version;         /* of the schema */
    const char *library; /* SQLite's version; static */
    bool indexed;        /* search uses an index (the library has FTS5) */
    int64_t conversations, messages, bytes;
};

/* Counts, and reads every page to see that the database is sound. A search index that does not agree
 * with the messages is made anew. */
int history_check(struct history *h, struct history_facts *out, char *err);

#endif
