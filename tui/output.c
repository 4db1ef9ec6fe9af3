#include "tui/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernels/error.h"

/* Bytes of the character at `text` if it is a control, else 0. */
static size_t control(const char *text, size_t len)
{
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < ' ' || c[0] == 0x7F)
        return 1;
    return len > 1 && c[0] == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0 ? 2 : 0; /* U+0080 to U+009F */
}

/* The same if it drives a terminal (controls) or turns the order of what is shown after it (U+202A to
 * U+202E, U+2066 to U+2069). */
static size_t driving(const char *text, size_t len)
{
    const unsigned char *c = (const unsigned char *)text;
    const size_t n = control(text, len);
    if (n)
        return n;
    if (len > 2 && c[0] == 0xE2 &&
        ((c[1] == 0x80 && c[2] >= 0xAA && c[2] <= 0xAE) ||
         (c[1] == 0x81 && c[2] >= 0xA6 && c[2] <= 0xA9)))
        return 3;
    return 0;
}

void output_text(const char *text, size_t len)
{
    static int terminal = -1;
    if (terminal < 0)
        terminal = isatty(STDOUT_FILENO);
    if (!terminal) {
        fwrite(text, 1, len, stdout);
        return;
    }
    for (size_t i = 0; i < len;) {
        size_t n = text[i] == '\n' || text[i] == '\t' ? 0 : driving(text + i, len - i);
        if (!n)
            fputc(text[i], stdout);
        i += n ? n : 1;
    }
}

void output_calm(char *text)
{
    char *to = text;
    for (size_t len = strlen(text); len;) {
        size_t n = *text == '\n' || *text == '\t' ? 0 : control(text, len);
        if (!n)
            *to++ = *text;
        text += n ? n : 1;
        len -= n ? n : 1;
    }
    *to = '\0';
}

int output_columns(int fd)
{
    struct winsize w;
    return ioctl(fd, TIOCGWINSZ, &w) ? 0 : w.ws_col;
}

void output_format(const char *fmt, ...)
{
    char *text;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    output_text(text, (size_t)n);
    free(text);
}

void output_clean(char *text)
{
    for (char *p = text, *end = text + strlen(text); p < end; p++) {
        size_t n = driving(p, (size_t)(end - p));
        if (n)
            memset(p, '?', n);
    }
}

int output_json(json_t *value, char *err)
{
    if (!value)
        return lade_fail(err, "JSON: out of memory; close other programs");
    /* Nine digits bring back every float; more only shows the noise of doubles. */
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9) | JSON_ENCODE_ANY);
    fputc('\n', stdout);
    json_decref(value);
    return output_end(err); /* a reader need not wait until much memory is given back */
}

json_t *output_string(const char *text)
{
    json_t *value = json_string(text);
    char *ascii = value ? NULL : strdup(text);
    if (!ascii)
        return value;
    for (char *s = ascii; *s; s++) {
        if ((unsigned char)*s >= 0x80)
            *s = '?';
    }
    value = json_string(ascii);
    free(ascii);
    return value;
}

int output_file(const char *path, const void *data, size_t len, char *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdout : fopen(path, "wb");
    if (!f)
        return lade_fail(err, "%s: cannot be written: %s; choose another file", path,
                         strerror(errno));
    size_t written = fwrite(data, 1, len, f);
    int ended = standard ? fflush(f) : fclose(f);
    if (written != len || ended)
        return lade_fail(err, "%s: only a part was written: %s; free some space", path,
                         strerror(errno));
    return 0;
}

int output_end(char *err)
{
    errno = 0; /* an earlier write that failed left only its mark */
    if (fflush(stdout) || ferror(stdout))
        return lade_fail(err, "standard output: cannot be written%s%s; %s", errno ? ": " : "",
                         errno ? strerror(errno) : "",
                         errno == EBADF ? "open it" : "free some space");
    return 0;
}

char *output_read(const char *path, size_t most, size_t *len, char *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "rb");
    if (standard)
        path = "standard input";
    if (!f) {
        lade_fail(err, "%s: cannot be read: %s; check its name", path, strerror(errno));
        return NULL;
    }
    size_t size = 1 << 16, n = 0;
    char *data = malloc(size);
    while (data) {
        n += fread(data + n, 1, size - n - 1, f);
        if (n < size - 1)
            break;
        if (n > most)
            break;
        char *grown = realloc(data, size *= 2);
        if (!grown)
            free(data);
        data = grown;
    }
    int failed = ferror(f) ? errno : 0;
    if (!standard)
        fclose(f);
    if (data && !failed && n > most) {
        lade_fail(err, "%s: more than %zu MiB; give it in parts", path, most >> 20);
        free(data);
        return NULL;
    }
    if (!data || failed) {
        lade_fail(err, "%s: cannot be read: %s; check the file", path,
                  data ? strerror(failed) : "it does not fit in memory");
        free(data);
        return NULL;
    }
    data[n] = '\0';
    *len = n;
    return data;
}

json_t *output_predicted(const struct lade_plan *plan)
{
    if (plan->n == 0 || plan->chosen < 0 || plan->rows[plan->chosen].strategy->remote)
        return json_null();
    const struct lade_plan_row *r = &plan->rows[plan->chosen];
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:I, s:I}", "load_s", r->load_s, "first_s",
                     r->first_s, "ttft_s", r->ttft_s, "prefill_tps", r->prefill_tps, "decode_tps",
                     r->decode_tps, "vram_bytes", (json_int_t)r->vram_bytes, "ram_bytes",
                     (json_int_t)r->ram_bytes);
}

json_t *output_cards(const struct lade_card_memory *cards, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list,
                              json_pack("{s:i, s:i, s:i, s:I, s:I}", "gpu", cards[i].gpu,
                                        "first_layer", cards[i].first, "layers", cards[i].layers,
                                        "vram_bytes", (json_int_t)cards[i].used, "vram_peak_bytes",
                                        (json_int_t)cards[i].peak));
    return list;
}

json_t *output_traffic(const struct lade_traffic *t)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:I, s:I, s:I, s:I}",
                     "vram_hits", (json_int_t)t->vram_hits, "ram_hits", (json_int_t)t->ram_hits,
                     "disk_reads", (json_int_t)t->disk_reads, "vram_bytes",
                     (json_int_t)t->vram_bytes, "ram_bytes", (json_int_t)t->ram_bytes, "disk_bytes",
                     (json_int_t)t->disk_bytes, "link_bytes", (json_int_t)t->link_bytes, "wait_s",
                     t->wait_s, "compute_s", t->compute_s, "ahead_on", t->ahead_on, "ahead",
                     (json_int_t)t->ahead, "ahead_right", (json_int_t)t->ahead_right,
                     "ahead_wasted", (json_int_t)t->ahead_wasted, "ahead_wasted_bytes",
                     (json_int_t)t->ahead_wasted_bytes);
}
