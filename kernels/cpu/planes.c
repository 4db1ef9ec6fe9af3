#include "kernels/cpu/planes.h"

#include <pthread.h>

#include "kernels/codebooks.h"

_Alignas(64) uint8_t cpu_iq1_planes[2 * 2048];
_Alignas(64) uint8_t cpu_iq2xxs_planes[2 * 256];
_Alignas(64) uint8_t cpu_iq2xs_planes[2 * 512];
_Alignas(64) uint8_t cpu_iq2s_planes[2 * 1024];
_Alignas(64) uint8_t cpu_iq3xxs_planes[2 * 256];
_Alignas(64) uint8_t cpu_iq3s_planes[2 * 512];

static void split(uint8_t *planes, const uint16_t *points, int n)
{
    for (int i = 0; i < n; i++) {
        planes[i] = (uint8_t)points[i];
        planes[n + i] = (uint8_t)(points[i] >> 8);
    }
}

static void make(void)
{
    split(cpu_iq1_planes, lade_iq1_grid, 2048);
    split(cpu_iq2xxs_planes, lade_iq2xxs_grid, 256);
    split(cpu_iq2xs_planes, lade_iq2xs_grid, 512);
    split(cpu_iq2s_planes, lade_iq2s_grid, 1024);
    split(cpu_iq3xxs_planes, lade_iq3xxs_grid, 256);
    split(cpu_iq3s_planes, lade_iq3s_grid, 512);
}

void cpu_planes_make(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make);
}
