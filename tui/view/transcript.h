/* transcript.h - the conversation on the screen: messages, their rows, and where we look.
 *
 * Messages are the model; rows are a cache made for the entries that are looked at, at one width.
 * The position is an entry and a row in it, not a number of rows from the top, so that a resize or
 * a long history costs only what is visible. UI thread only; transcript.c knows no curses. */
#ifndef LADE_TUI_VIEW_TRANSCRIPT_H
#define LADE_TUI_VIEW_TRANSCRIPT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "tui/text/buf.h"
#include "tui/text/lines.h"
#include "tui/text/markdown.h"

enum entry_kind {
    ENTRY_USER,
    ENTRY_ANSWER,
    ENTRY_NOTICE, /* one or more plain lines from the program */
    ENTRY_INFO,   /* the same as Markdown: /help, /stats */
    ENTRY_ERROR,
};

enum entry_state {
    ENTRY_DONE,
    ENTRY_WAITING, /* user: not sent yet; answer: no text yet */
    ENTRY_STREAMING,
    ENTRY_STOPPED,     /* by the user */
    ENTRY_INTERRUPTED, /* the program or the engine died */
    ENTRY_ELSEWHERE,   /* another lade was writing it when it was read */
    ENTRY_AT_LIMIT,    /* max tokens */
    ENTRY_FULL,        /* the context is full */
};

struct entry {
    enum entry_kind kind;
    enum entry_state state;
    struct buf text, reasoning;
    char progress[128];      /* of a waiting answer: "reading 512 tokens, 43%" */
    bool thinking;           /* the text that comes now is reasoning */
    double think_s;          /* seconds it thought; negative = unknown */
    int think_tokens;        /* about; negative = unknown */
    struct lade_result cost; /* valid if has_cost */
    bool has_cost;
    int64_t id;            /* in the history; 0 = not saved */
    bool end_unsaved;      /* the history has an answer's begin, and could not take its end */
    int version, versions; /* of the question or answer: 2 of 3; versions below 2 = the only one */
    /* private: the rows */
    int width;
    bool changed;
    size_t laid_text, laid_reasoning;
    struct lines rows;
    struct markdown md;
};

struct transcript {
    struct entry **items; /* pointers stay valid until the entry is removed */
    int n, cap;
    bool fold;        /* reasoning is shown as one line */
    bool follow;      /* the end stays in sight */
    int rows, cols;   /* of the window */
    int top, top_row; /* entry and row shown first */
    int rest;         /* rows below the window when the user last scrolled */
};

void transcript_init(struct transcript *t);
void transcript_clear(struct transcript *t);

/* Adds an entry (text may be NULL), owned by the transcript. */
struct entry *transcript_add(struct transcript *t, enum entry_kind kind, const char *text);
void transcript_remove(struct transcript *t, struct entry *e);

/* To be called after changing anything of an entry but by appending to text. */
void entry_changed(struct entry *e);

/* The window's size; keeps the place. */
void transcript_size(struct transcript *t, int rows, int cols);

/* By rows, negative = up. Reaching the end follows again. */
void transcript_scroll(struct transcript *t, int rows);
void transcript_to_top(struct transcript *t);
void transcript_to_end(struct transcript *t);

/* Shows the last entry from its begin, if it is taller than the window. */
void transcript_to_last(struct transcript *t);
void transcript_fold(struct transcript *t, bool fold);

/* Rows below the window, and how many of them came since the user last scrolled. */
int transcript_below(struct transcript *t, int *fresh);

/* Rows of everything, counted up to `most`. */
int transcript_rows(struct transcript *t, int most);

/* Lays out entry i if needed and returns its rows. */
const struct lines *transcript_lines(struct transcript *t, int i);

/* Draws it over the whole of a curses window (WINDOW *). */
void transcript_draw(struct transcript *t, void *window);

#endif
