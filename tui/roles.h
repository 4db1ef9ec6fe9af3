/* roles.h - what a piece of the screen means; a theme gives each role its colours.
 *
 * Views name roles, never colours, so that one file of key=value lines restyles everything. This
 * header knows no curses: the pure half of every view (layout, cells, plots) includes it alone. */
#ifndef LADE_TUI_ROLES_H
#define LADE_TUI_ROLES_H

/* X(ENUM, key in a theme file, what it is for) */
#define THEME_ROLES(X)                                                                             \
    X(TEXT, "text", "everything without a role of its own; its background is the screen's")        \
    X(DIM, "dim", "hints, units, labels, times")                                                   \
    X(USER, "user", "the name and mark of the person")                                             \
    X(ASSISTANT, "assistant", "the name and mark of the model")                                    \
    X(THINKING, "thinking", "the model's reasoning")                                               \
    X(HEADING, "heading", "headings in an answer")                                                 \
    X(STRONG, "strong", "strong text in an answer")                                                \
    X(EMPHASIS, "emphasis", "emphasised text in an answer")                                        \
    X(CODE, "code", "code, inline and in blocks")                                                  \
    X(QUOTE, "quote", "quoted text, table rules, list marks")                                      \
    X(LINK, "link", "links")                                                                       \
    X(PROMPT, "prompt", "the mark before the input line")                                          \
    X(INPUT, "input", "what is being typed")                                                       \
    X(SELECTION, "selection", "the chosen row of a list")                                          \
    X(MATCH, "match", "found text, the typed part of a completion")                                \
    X(TITLE, "title", "titles of panels and of the board")                                         \
    X(BORDER, "border", "rules and frames")                                                        \
    X(ACCENT, "accent", "the one thing that should catch the eye")                                 \
    X(OK, "ok", "success, done")                                                                   \
    X(WARNING, "warning", "something to know")                                                     \
    X(ERROR, "error", "something failed")                                                          \
    X(STATUS, "status", "values in the status line")                                               \
    X(STATUS_LABEL, "status_label", "labels and separators in the status line")                    \
    X(GAUGE_OURS, "gauge_ours", "memory of this program")                                          \
    X(GAUGE_USED, "gauge_used", "memory of other programs")                                        \
    X(GAUGE_FREE, "gauge_free", "free memory, the empty part of a gauge")                          \
    X(BAR_DONE, "bar_done", "the finished part of a bar")                                          \
    X(BAR_ACTIVE, "bar_active", "the finished part of a bar that is moving now")                   \
    X(BAR_TODO, "bar_todo", "the empty part of a bar")                                             \
    X(SPARK, "spark", "sparklines and graphs")

/* clang-format off */
enum theme_role {
#define X(id, key, text) THEME_##id,
    THEME_ROLES(X)
#undef X
    THEME_ROLE_COUNT
};
/* clang-format on */

#endif
