/* colour.h - the 256-colour palette as numbers. Pure. */
#ifndef LADE_TUI_COLOUR_H
#define LADE_TUI_COLOUR_H

#include <stdbool.h>
#include <stdint.h>

/* Names of the first 16 colours: "black", "red" ... "bright-white". */
extern const char *const colour_names[16];

/* Index of a name, or -1. */
int colour_by_name(const char *name);

/* 0xRRGGBB of palette entry 0..255. 16 and up are the same on every terminal (a 6x6x6 cube and 24
 * greys); the first 16 are the user's own, given here as xterm has them. */
uint32_t colour_rgb(int index);

/* The entry of 16..255 nearest to rgb that `taken` (256 flags, may be NULL) leaves free. */
int colour_nearest_256(uint32_t rgb, const bool *taken);

/* The nearest of the first 16. */
int colour_nearest_16(uint32_t rgb);

#endif
