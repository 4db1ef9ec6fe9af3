#include "tui/nearest.h"

#include <string.h>

/* Edits (insert, delete, replace, swap of neighbours) from a to b. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b);
    int d[NEAREST_LETTERS + 1][NEAREST_LETTERS + 1];
    if (n > NEAREST_LETTERS || m > NEAREST_LETTERS)
        return NEAREST_LETTERS;
    for (int i = 0; i <= n; i++) {
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

void nearest_consider(struct nearest *n, const char *name)
{
    int d = distance(n->typed, name), letters = (int)strlen(n->typed);
    if (strncmp(n->typed, name, strlen(n->typed)) == 0 && letters > 1)
        d = 1; /* cut short */
    if ((int)strlen(name) < letters)
        letters = (int)strlen(name);
    if (d < n->distance && d <= (letters < 6 ? 1 : letters / 3)) {
        n->distance = d;
        n->name = name;
    }
}
