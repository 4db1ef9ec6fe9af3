#ifndef LADE_TUI_VERSION_H
#define LADE_TUI_VERSION_H

#define LADE_VERSION "0.1.0"

#endif
