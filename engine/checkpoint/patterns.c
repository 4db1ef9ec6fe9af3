#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/checkpoint/patterns.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/scan.h"

enum { MOST = 4096, NAME = 160 };

struct pattern {
    const char *text;
    size_t len;
    json_t *value;
    pcre2_code *code; /* NULL: the text has no operator but '.', see plain_search */
};

struct lade_patterns {
    char *list;
    struct pattern *items;
    size_t n;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

struct lade_patterns *lade_patterns_new(const char *list)
{
    struct lade_patterns *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->list = strdup(list);
    p->match = pcre2_match_data_create(1, NULL);
    p->limits = pcre2_match_context_create(NULL);
    if (!p->list || !p->match || !p->limits) {
        lade_patterns_free(p);
        return NULL;
    }
    pcre2_set_match_limit(p->limits, 20000); /* a hostile pattern must not hang the program */
    return p;
}

void lade_patterns_free(struct lade_patterns *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++)
        pcre2_code_free(p->items[i].code);
    free(p->items);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->limits);
    free(p->list);
    free(p);
}

/* Whether a text has no operator but '.', as module names have. There may be thousands of these, so
 * they do not go through the regex engine. */
static bool is_plain(const char *text)
{
    return !text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.")];
}

/* Searches for a plain text: '.' stands for any byte. */
static bool plain_search(const char *text, size_t text_len, const char *name, size_t len)
{
    for (size_t at = 0; at + text_len <= len; at++) {
        size_t i = 0;
        while (i < text_len && (text[i] == '.' || text[i] == name[at + i]))
            i++;
        if (i == text_len)
            return true;
    }
    return false;
}

int lade_patterns_add(struct lade_patterns *p, const char *text, bool anchored, json_t *value,
                      char *err)
{
    struct pattern add = {.text = text, .len = strlen(text), .value = value};
    if (anchored || !is_plain(text)) {
        int code;
        PCRE2_SIZE at;
        add.code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                                 anchored ? PCRE2_ANCHORED : 0, &code, &at, NULL);
        if (!add.code)
            return 0;
    }
    struct pattern *grown = realloc(p->items, (p->n + 1) * sizeof *grown);
    if (grown)
        p->items = grown;
    if (!grown || p->n == MOST) {
        pcre2_code_free(add.code);
        return lade_fail(err, "%s has more than %d patterns; the file is damaged", p->list, MOST);
    }
    p->items[p->n++] = add;
    return 0;
}

int lade_patterns_find(const struct lade_patterns *p, const char *name, size_t len, json_t **value,
                       char *err)
{
    *value = NULL;
    for (size_t i = 0; i < p->n && !*value; i++) {
        const struct pattern *at = &p->items[i];
        if (!at->code) {
            if (plain_search(at->text, at->len, name, len))
                *value = at->value;
            continue;
        }
        int rc = pcre2_match(at->code, (PCRE2_SPTR)name, len, 0, 0, p->match, p->limits);
        if (rc >= 0)
            *value = at->value;
        else if (rc != PCRE2_ERROR_NOMATCH)
            return lade_fail(err,
                             "%s pattern '%s' takes too long to match; replace it by module names",
                             p->list, lade_printable((char[NAME]){0}, NAME, at->text, at->len));
    }
    return 0;
}
