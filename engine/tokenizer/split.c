#include "engine/tokenizer/split.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/unicode.h"

/* A property's name of five bytes grows most. */
enum { MAX_REGEX = 4096, MAX_GROWTH = sizeof LADE_NEWER_L / 4 };

/* White_Space as the inside of a character class. */
#define SPACE "\\x{9}-\\x{d}\\x{85}\\p{Z}"

/* The escaped letters that mean the same to both libraries (\s and \p are spelled out). */
#define SHARED "rntfpPdDwWbBxsS"

struct speller {
    const char *in; /* the next character */
    char *out;
    bool in_class;
    char *why;
    size_t why_size;
};

static bool refuse(struct speller *s, const char *what)
{
    snprintf(s->why, s->why_size, "%s: not supported", what);
    return false;
}

/* Writes a class, or in a class what is inside of it. */
static void put_class(struct speller *s, bool negated, const char *inside)
{
    if (!s->in_class)
        s->out = stpcpy(s->out, negated ? "[^" : "[");
    s->out = stpcpy(s->out, inside);
    if (!s->in_class)
        *s->out++ = ']';
}

/* \p{L} and the like, with the characters that PCRE2 does not know yet; s->in is at the backslash. */
static bool spell_property(struct speller *s)
{
    static const struct {
        const char *name, *inside;
    } grown[] = {{"{L}", "\\p{L}" LADE_NEWER_L},
                 {"{M}", "\\p{M}" LADE_NEWER_M},
                 {"{N}", "\\p{N}" LADE_NEWER_N}};
    bool negated = s->in[1] == 'P';
    for (size_t i = 0; i < sizeof grown / sizeof *grown; i++) {
        if (strncmp(s->in + 2, grown[i].name, 3) != 0)
            continue;
        if (negated && s->in_class)
            return refuse(s, "\\P in a class");
        put_class(s, negated, grown[i].inside);
        s->in += 5;
        return true;
    }
    s->out = stpcpy(s->out, negated ? "\\P" : "\\p");
    s->in += 2;
    return true;
}

/* An escape; s->in is at the backslash. */
static bool spell_escape(struct speller *s)
{
    char c = s->in[1], what[] = {'\\', c, '\0'};
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if ((letter && !strchr(SHARED, c)) || (c >= '0' && c <= '9') || (c == 'S' && s->in_class) ||
        (unsigned char)c >= 0x7f || (unsigned char)c < 0x20)
        return refuse(s, letter ? what : "an escape");
    if (c == 'p' || c == 'P')
        return spell_property(s);
    s->in += 2;
    if (c == 's' || c == 'S')
        put_class(s, c == 'S', SPACE);
    else
        s->out = stpcpy(s->out, what);
    return true;
}

/* A bracket: classes nest in Oniguruma and not in PCRE2, so one that would is refused, and so is a
 * ] that PCRE2 would take for a member because it stands first. */
static bool spell_bracket(struct speller *s)
{
    if (*s->in == '[') {
        if (s->in_class)
            return refuse(s, "a class inside a class");
        s->in_class = true;
        *s->out++ = *s->in++;
        if (*s->in == '^')
            *s->out++ = *s->in++;
        return *s->in != ']' || refuse(s, "an empty class");
    }
    s->in_class = false;
    *s->out++ = *s->in++;
    return true;
}

/* Copies the regex with classes spelled out and refuses what the two libraries read
 * differently. `out` holds MAX_GROWTH bytes per byte of input. */
static bool spell_out(struct speller *s)
{
    while (*s->in) {
        bool fine = true;
        if (*s->in == '\\')
            fine = spell_escape(s);
        else if (*s->in == '[' || *s->in == ']')
            fine = spell_bracket(s);
        else if (s->in_class && s->in[0] == '&' && s->in[1] == '&')
            fine = refuse(s, "&& in a class");
        else if (s->in[0] == '(' && s->in[1] == '*')
            fine = refuse(s, "a verb (*");
        else
            *s->out++ = *s->in++;
        if (!fine)
            return false;
    }
    *s->out = '\0';
    return true;
}

static pcre2_code *compile(const char *regex, char *why, size_t size)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        snprintf(why, size, "out of memory");
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    /* Ruby's ^ and $, which Oniguruma has by default, are those of lines. */
    pcre2_code *compiled = pcre2_compile(
        (PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!compiled)
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, size);
    return compiled;
}

pcre2_code *lade_split_compile(const char *regex, char *why, size_t size)
{
    size_t len = strlen(regex);
    if (len == 0 || len > MAX_REGEX) {
        snprintf(why, size, "not 1 to %d bytes long", MAX_REGEX);
        return NULL;
    }
    char *spelled = malloc(MAX_GROWTH * len + 1);
    if (!spelled) {
        snprintf(why, size, "out of memory");
        return NULL;
    }
    struct speller s = {.in = regex, .out = spelled, .why = why, .why_size = size};
    pcre2_code *compiled = spell_out(&s) ? compile(spelled, why, size) : NULL;
    free(spelled);
    if (compiled)
        pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE); /* without JIT it only runs slower */
    return compiled;
}
