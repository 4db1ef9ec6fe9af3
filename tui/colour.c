#include "tui/colour.h"

#include <limits.h>
#include <string.h>

const char *const colour_names[16] = {
    "black",        "red",           "green",       "yellow",         "blue",
    "magenta",      "cyan",          "white",       "bright-black",   "bright-red",
    "bright-green", "bright-yellow", "bright-blue", "bright-magenta", "bright-cyan",
    "bright-white"};

int colour_by_name(const char *name)
{
    for (int i = 0; i < 16; i++)
        if (strcmp(name, colour_names[i]) == 0)
            return i;
    return -1;
}

uint32_t colour_rgb(int index)
{
    static const uint32_t first[16] = {0x000000, 0xcd0000, 0x00cd00, 0xcdcd00, 0x0000ee, 0xcd00cd,
                                       0x00cdcd, 0xe5e5e5, 0x7f7f7f, 0xff0000, 0x00ff00, 0xffff00,
                                       0x5c5cff, 0xff00ff, 0x00ffff, 0xffffff};
    if (index < 16)
        return first[index < 0 ? 0 : index];
    if (index > 255)
        index = 255;
    if (index >= 232) {
        uint32_t v = 8 + 10 * (uint32_t)(index - 232);
        return v << 16 | v << 8 | v;
    }
    uint32_t rgb = 0;
    for (int i = index - 16, shift = 0; shift < 24; shift += 8, i /= 6)
        rgb |= (uint32_t)(i % 6 ? 55 + 40 * (i % 6) : 0) << shift;
    return rgb;
}

/* Squared distance weighted by how strongly the eye sees each channel at this redness
 * (T. Riemersma, "Colour metric", compuphase.com/cmetric.htm). */
static int distance(uint32_t a, uint32_t b)
{
    int ar = a >> 16 & 255, ag = a >> 8 & 255, ab = a & 255;
    int br = b >> 16 & 255, bg = b >> 8 & 255, bb = b & 255;
    int mean = (ar + br) / 2, r = ar - br, g = ag - bg, l = ab - bb;
    return ((512 + mean) * r * r >> 8) + 4 * g * g + ((767 - mean) * l * l >> 8);
}

static int nearest(uint32_t rgb, int from, int to, const bool *taken)
{
    int best = from, least = INT_MAX;
    for (int i = from; i < to; i++) {
        int d = distance(rgb, colour_rgb(i));
        if (d < least && !(taken && taken[i])) {
            least = d;
            best = i;
        }
    }
    return best;
}

int colour_nearest_256(uint32_t rgb, const bool *taken)
{
    return nearest(rgb, 16, 256, taken);
}

int colour_nearest_16(uint32_t rgb)
{
    return nearest(rgb, 0, 16, NULL);
}
