#include "engine/tokenizer/split.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REGEX = 16384 };

/* White_Space as the inside of a character class. */
#define SPACE "\\p{Z}\\x{9}-\\x{d}\\x{85}"

/* What replaces \s or \S, or NULL where it cannot be written (\S inside a class). */
static const char *space_class(char letter, bool in_class)
{
    if (letter == 's')
        return in_class ? SPACE : "[" SPACE "]";
    return in_class ? NULL : "[^" SPACE "]";
}

/* Copies `regex` with every \s and \S spelled out. `out` holds 32 bytes per byte of input. */
static bool spell_out(const char *regex, char *out)
{
    bool in_class = false;
    for (const char *p = regex; *p; p++) {
        if (*p == '\\' && (p[1] == 's' || p[1] == 'S')) {
            const char *text = space_class(*++p, in_class);
            if (!text)
                return false;
            out = stpcpy(out, text);
            continue;
        }
        if (*p == '\\' && p[1]) {
            *out++ = *p++;
        } else if (*p == '[') {
            in_class = true;
        } else if (*p == ']') {
            in_class = false;
        }
        *out++ = *p;
    }
    *out = '\0';
    return true;
}

pcre2_code *lade_split_compile(const char *regex, char *why, size_t size)
{
    size_t len = strlen(regex);
    char *spelled = len <= MAX_REGEX ? malloc(32 * len + 1) : NULL;
    if (!spelled || !spell_out(regex, spelled)) {
        snprintf(why, size, spelled ? "\\S inside a class" : "longer than %d bytes", MAX_REGEX);
        free(spelled);
        return NULL;
    }
    int code;
    PCRE2_SIZE at;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)spelled, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    free(spelled);
    if (!compiled) {
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, size);
        return NULL;
    }
    pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* without JIT it only runs slower */
    return compiled;
}
