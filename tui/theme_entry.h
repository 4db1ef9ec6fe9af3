/* theme_entry.h - the themes that there are, for those who list them. */
#ifndef LADE_TUI_THEME_ENTRY_H
#define LADE_TUI_THEME_ENTRY_H

enum { THEME_NAME = 64 };

struct theme_entry {
    char name[THEME_NAME];
};

/* Names that theme_load accepts, sorted, each once: those of the user's folder (paths.h: themes/ of the
 * configuration) and those that came with lade. Writes at most `max` and returns how many it wrote. */
int theme_list(struct theme_entry *out, int max);

#endif
