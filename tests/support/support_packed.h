/* support_packed.h - a value of a packed matrix, by the formulas of kernels/matrix.h. */
#ifndef LADE_TESTS_SUPPORT_PACKED_H
#define LADE_TESTS_SUPPORT_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/matrix.h"

float support_half(uint16_t h);
float support_brain(uint16_t h);
uint16_t support_u16(const unsigned char *p, size_t i);
uint32_t support_u32(const unsigned char *p, size_t i);

/* W[row][col] of m, whose packed bytes are `data`. */
float support_packed(const struct lade_matrix *m, const unsigned char *data, size_t row,
                     size_t col);

#endif
