/* codebooks.h - the value tables of ggml's IQ formats, packed. */
#ifndef LADE_KERNELS_CODEBOOKS_H
#define LADE_KERNELS_CODEBOOKS_H

#include <stdint.h>

/* Entries of 8 values, 2 bits each, the first value lowest. */
extern const uint16_t lade_iq1_grid[2048];                         /* of -1, 0, 1 */
extern const uint16_t lade_iq2xxs_grid[256], lade_iq2xs_grid[512]; /* of 8, 25, 43 */
extern const uint16_t lade_iq2s_grid[1024];

/* Entries of 4 values, 3 bits each. */
extern const uint16_t lade_iq3xxs_grid[256]; /* of 4, 12, 20, 28, 36, 44, 52, 62 */
extern const uint16_t lade_iq3s_grid[512];   /* of 1, 3, 5, .. 15 */

#endif
