#include "kernels/cpu/planes.h"

#include <pthread.h>

#include "kernels/codebooks.h"

_Alignas(64) uint8_t cpu_iq1_planes[2 * 2048];
_Alignas(64) uint8_t cpu_iq2xxs_planes[2 * 256];
_Alignas(64) uint8_t cpu_iq2xs_planes[2 * 512];
_Alignas(64) uint8_t cpu_iq2s_planes[2 * 1024];
_Alignas(64) uint8_t cpu_iq3xxs_planes[2 * 256];
_Alignas(64) uint8_t cpu_iq3s_planes[2 * 512];

_Alignas(64) uint64_t cpu_iq1_codes[2048];
_Alignas(64) uint64_t cpu_iq2xxs_codes[256];
_Alignas(64) uint64_t cpu_iq2xs_codes[512];
_Alignas(64) uint64_t cpu_iq2s_codes[1024];
_Alignas(64) uint32_t cpu_iq3xxs_codes[256];
_Alignas(64) uint32_t cpu_iq3s_codes[512];

/* 1 more or less than 16 + 8 (v - 1); of two bits, then with a sign. */
const uint8_t cpu_iq1_values[16] = {9, 17, 25, 16, 7, 15, 23, 16, 9, 17, 25, 16, 7, 15, 23, 16};
const uint8_t cpu_iq2_values[16] = {72, 89, 107, 64, 56, 39, 21, 64,
                                    72, 89, 107, 64, 56, 39, 21, 64};
const uint8_t cpu_iq3xxs_values[16] = {68, 76, 84, 92, 100, 108, 116, 126,
                                       60, 52, 44, 36, 28,  20,  12,  2};
const uint8_t cpu_iq3s_values[16] = {17, 19, 21, 23, 25, 27, 29, 31, 15, 13, 11, 9, 7, 5, 3, 1};

static void split(uint8_t *planes, const uint16_t *points, int n)
{
    for (int i = 0; i < n; i++) {
        planes[i] = (uint8_t)points[i];
        planes[n + i] = (uint8_t)(points[i] >> 8);
    }
}

/* Points of `inputs` values of `bits`. */
static uint64_t codes_of(uint16_t point, int inputs, int bits, const uint8_t *values)
{
    uint64_t codes = 0;
    for (int i = 0; i < inputs; i++)
        codes |= (uint64_t)values[point >> bits * i & ((1 << bits) - 1)] << 8 * i;
    return codes;
}

static void codes8(uint64_t *codes, const uint16_t *points, int n, const uint8_t *values)
{
    for (int i = 0; i < n; i++)
        codes[i] = codes_of(points[i], 8, 2, values);
}

static void codes4(uint32_t *codes, const uint16_t *points, int n, const uint8_t *values)
{
    for (int i = 0; i < n; i++)
        codes[i] = (uint32_t)codes_of(points[i], 4, 3, values);
}

static void make(void)
{
    split(cpu_iq1_planes, lade_iq1_grid, 2048);
    split(cpu_iq2xxs_planes, lade_iq2xxs_grid, 256);
    split(cpu_iq2xs_planes, lade_iq2xs_grid, 512);
    split(cpu_iq2s_planes, lade_iq2s_grid, 1024);
    split(cpu_iq3xxs_planes, lade_iq3xxs_grid, 256);
    split(cpu_iq3s_planes, lade_iq3s_grid, 512);
    codes8(cpu_iq1_codes, lade_iq1_grid, 2048, cpu_iq1_values);
    codes8(cpu_iq2xxs_codes, lade_iq2xxs_grid, 256, cpu_iq2_values);
    codes8(cpu_iq2xs_codes, lade_iq2xs_grid, 512, cpu_iq2_values);
    codes8(cpu_iq2s_codes, lade_iq2s_grid, 1024, cpu_iq2_values);
    codes4(cpu_iq3xxs_codes, lade_iq3xxs_grid, 256, cpu_iq3xxs_values);
    codes4(cpu_iq3s_codes, lade_iq3s_grid, 512, cpu_iq3s_values);
}

void cpu_planes_make(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make);
}
