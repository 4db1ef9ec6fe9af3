#include "tui/meters/plot.h"

#include <math.h>

/* Left eighths 1/8..7/8 and lower eighths 1/8..8/8; the Unicode block runs them the other way. */
static const wchar_t LEFT[] = L"▏▎▍▌▋▊▉";
static const wchar_t LOWER[] = L"▁▂▃▄▅▆▇█";
static const wchar_t LOWER_ASCII[] = L"_.-:=+*#";

struct plot_fill plot_bar(double fraction, int width, bool utf8)
{
    struct plot_fill f = {0, 0};
    if (width <= 0 || !(fraction > 0))
        return f;
    if (fraction >= 1)
        return (struct plot_fill){width, 0};
    int steps = utf8 ? 8 : 1;
    long all = (long)width * steps;
    long n = lround(fraction * (double)all);
    if (n < 1)
        n = 1;
    if (n > all - 1)
        n = all - 1;
    f.full = (int)(n / steps);
    if (n % steps)
        f.part = LEFT[n % steps - 1];
    return f;
}

float plot_largest(const float *samples, int n)
{
    float top = 0;
    for (int i = 0; i < n; i++)
        if (samples[i] > top && isfinite(samples[i]))
            top = samples[i];
    return top;
}

/* 0..levels; anything above 0 is at least 1. */
static int height(float v, float top, int levels)
{
    if (!(v > 0) || !(top > 0))
        return 0;
    int h = (int)lroundf(fminf(v / top, 1.0f) * (float)levels);
    return h < 1 ? 1 : h;
}

void plot_spark(wchar_t *out, int width, const float *samples, int n, float top, bool utf8)
{
    if (width <= 0)
        return;
    if (n > width) {
        samples += n - width;
        n = width;
    }
    if (!(top > 0))
        top = plot_largest(samples, n);
    for (int x = 0; x < width - n; x++)
        out[x] = L' ';
    for (int i = 0; i < n; i++) {
        wchar_t *at = &out[width - n + i];
        if (isnan(samples[i])) {
            *at = L' ';
            continue;
        }
        /* A measured zero is a line on the ground, so that "stopped" differs from "no data". */
        int h = height(samples[i], top, 8);
        *at = (utf8 ? LOWER : LOWER_ASCII)[h > 0 ? h - 1 : 0];
    }
}

/* Dots of a braille cell by column and by rows from the bottom: bits of U+2800 + mask. */
static const unsigned char DOT[2][4] = {{0x40, 0x04, 0x02, 0x01}, {0x80, 0x20, 0x10, 0x08}};

void plot_graph(wchar_t *out, int rows, int cols, const float *samples, int n, float top, bool utf8)
{
    if (rows <= 0 || cols <= 0)
        return;
    int per = utf8 ? 2 : 1, levels = rows * (utf8 ? 4 : 1);
    if (n > cols * per) {
        samples += n - cols * per;
        n = cols * per;
    }
    if (!(top > 0))
        top = plot_largest(samples, n);
    for (int y = 0; y < rows; y++) {
        for (int x = 0; x < cols; x++) {
            unsigned mask = 0;
            for (int k = 0; k < per; k++) {
                int i = x * per + k - (cols * per - n);
                int h = i < 0 ? 0 : height(samples[i], top, levels);
                int below = (rows - 1 - y) * (utf8 ? 4 : 1);
                for (int d = 0; d < (utf8 ? 4 : 1); d++)
                    if (h > below + d)
                        mask |= DOT[k][d];
            }
            wchar_t ch = utf8 ? (wchar_t)(0x2800 + mask) : L'#';
            out[y * cols + x] = mask ? ch : L' ';
        }
    }
}

float plot_nice_top(float value)
{
    if (!(value > 0) || !isfinite(value))
        return 1;
    float p = powf(10, floorf(log10f(value)));
    static const float step[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (value <= step[i] * p * 1.0001f)
            return step[i] * p;
    return 10 * p;
}
