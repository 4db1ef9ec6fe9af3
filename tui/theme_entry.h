/* theme_entry.h - a theme's name, for those who list themes. */
#ifndef LADE_TUI_THEME_ENTRY_H
#define LADE_TUI_THEME_ENTRY_H

enum { THEME_NAME = 64 };

struct theme_entry {
    char name[THEME_NAME];
};

#endif
