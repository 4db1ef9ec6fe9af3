#include "engine/hub/names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/checkpoint/file.h"

bool lade_ends_with(const char *file, const char *tail)
{
    size_t n = strlen(file), m = strlen(tail);
    return n >= m && !strcasecmp(file + n - m, tail);
}

bool lade_gguf_stem(const char *file, char *stem, size_t size, int *part, int *parts)
{
    static const char model[] = "-00001-of-00001";
    const size_t tail = sizeof model - 1;
    const char *base = lade_path_base(file);
    size_t len = strlen(base);
    int i = 1, n = 1, used = 0;
    if (!lade_ends_with(base, ".gguf") || len - 5 >= size)
        return false;
    memcpy(stem, base, len - 5);
    stem[len -= 5] = '\0';
    if (len > tail && sscanf(stem + len - tail, "-%5d-of-%5d%n", &i, &n, &used) == 2 &&
        used == (int)tail && i >= 1 && i <= n)
        stem[len - tail] = '\0';
    else
        i = n = 1;
    if (part)
        *part = i;
    if (parts)
        *parts = n;
    return true;
}

/* Labels of whole files: Q4_K_M, IQ2_XXS, TQ1_0, BF16, F16, MXFP4_MOE and the like. */
static bool is_label(const char *token, size_t len)
{
    static const char *const whole[] = {"F32", "F16", "BF16", "FP16", "FP8"};
    static const char *const begins[] = {"IQ", "TQ", "Q"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (len == strlen(whole[i]) && !strncasecmp(token, whole[i], len))
            return true;
    if ((len >= 5 && !strncasecmp(token, "MXFP4", 5)) ||
        (len >= 5 && !strncasecmp(token, "NVFP4", 5)))
        return true;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        size_t n = strlen(begins[i]);
        if (len > n + 1 && !strncasecmp(token, begins[i], n) && isdigit((unsigned char)token[n]) &&
            token[n + 1] == '_')
            return true;
    }
    return false;
}

bool lade_quant_label(const char *stem, char *label, size_t size)
{
    const char *end = stem + strlen(stem);
    while (end > stem) { /* the last token that is one */
        const char *at = end;
        while (at > stem && !strchr("-.", at[-1]))
            at--;
        if (is_label(at, (size_t)(end - at))) {
            if (at - stem >= 3 && !strncasecmp(at - 3, "UD-", 3) &&
                (at - stem == 3 || strchr("-.", at[-4])))
                at -= 3;
            return snprintf(label, size, "%.*s", (int)(end - at), at) < (int)size;
        }
        end = at > stem ? at - 1 : stem;
    }
    return false;
}

bool lade_stem_has_label(const char *stem, const char *label)
{
    size_t n = strlen(stem), m = strlen(label);
    return n > m && m > 0 && strchr("-.", stem[n - m - 1]) && !strcasecmp(stem + n - m, label);
}
