/* lade logits: what the model computes, for checks against a reference. */
#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/cmd/cmd.h"
#include "tui/cmd/ids.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

enum { TOP = 10 };

struct top {
    int id;
    float logit;
};

/* The highest, best first; equal ones by id. What is not a number comes last. */
static int find_top(const float *logits, int vocab, struct top out[TOP])
{
    int n = 0;
    for (int id = 0; id < vocab; id++) {
        float value = isnan(logits[id]) ? -INFINITY : logits[id];
        int at = n;
        while (at > 0 && out[at - 1].logit < value)
            at--;
        if (at == TOP)
            continue;
        n += n < TOP;
        memmove(out + at + 1, out + at, sizeof(*out) * (size_t)(n - 1 - at));
        out[at] = (struct top){id, logits[id]};
    }
    return n;
}

/* The piece as JSON has it, so that newlines and broken characters can be seen. */
static json_t *piece_json(const struct lade_tokenizer *tok, int id)
{
    size_t len;
    char text[LADE_DETOK_MAX];
    struct lade_detok detok = {0};
    lade_tokenizer_piece(tok, id, &len);
    int n = len ? lade_detok_push(&detok, tok, id, text, sizeof(text)) : 0;
    n = n < 0 ? 0 : n;
    int more = lade_detok_flush(&detok, text + n, sizeof(text) - (size_t)n);
    return json_stringn(text, (size_t)(more < 0 ? n : n + more));
}

static void print_top(const struct lade_tokenizer *tok, const float *logits, int vocab)
{
    struct top top[TOP];
    int n = find_top(logits, vocab, top);
    for (int i = 0; i < n; i++) {
        json_t *piece = piece_json(tok, top[i].id);
        char *text = piece ? json_dumps(piece, JSON_ENCODE_ANY) : NULL;
        output_format("%7d %12.6f %s\n", top[i].id, (double)top[i].logit, text ? text : "");
        free(text);
        json_decref(piece);
    }
}

static json_t *top_json(const struct lade_tokenizer *tok, const float *logits, int vocab)
{
    struct top top[TOP];
    json_t *list = json_array();
    int n = find_top(logits, vocab, top);
    for (int i = 0; list && i < n; i++) {
        /* JSON has no infinity and no NaN. */
        json_t *value = isfinite(top[i].logit) ? json_real((double)top[i].logit) : json_null();
        json_array_append_new(list, json_pack("{s:i, s:o, s:o}", "id", top[i].id, "logit", value,
                                              "piece", piece_json(tok, top[i].id)));
    }
    return list;
}

struct work {
    const struct options *o;
    struct lade_model *model;
    struct lade_session *session;
    int32_t *ids;
    size_t n;
    float *all; /* [n][vocab], owned; NULL: only the last */
};

static int vocab_of(const struct work *w)
{
    return lade_model_catalog(w->model)->shape.vocab;
}

static int compute(struct work *w, char *err)
{
    size_t bytes;
    if (!w->o->all)
        return lade_session_sync(w->session, w->ids, (int)w->n, 0, NULL, NULL, NULL, NULL, err);
    if (__builtin_mul_overflow(w->n * sizeof(float), (size_t)vocab_of(w), &bytes) ||
        !(w->all = malloc(bytes)))
        return lade_fail(err, "--all: %zu rows of logits do not fit in memory; give fewer ids",
                         w->n);
    return lade_session_all_logits(w->session, w->ids, (int)w->n, w->all, err);
}

static int write_raw(const struct work *w, const float *rows, size_t n, char *err)
{
    size_t values = n * (size_t)vocab_of(w);
    uint32_t *raw = malloc(values * sizeof(*raw));
    if (!raw)
        return lade_fail(err, "--all: %zu rows of logits do not fit in memory; give fewer ids", n);
    memcpy(raw, rows, values * sizeof(*raw));
    for (size_t i = 0; i < values; i++)
        raw[i] = htole32(raw[i]);
    int rc = output_file(w->o->output, raw, values * sizeof(*raw), err);
    free(raw);
    return rc;
}

static int print_json(const struct work *w, const float *rows, size_t n, char *err)
{
    const struct lade_tokenizer *tok = lade_model_tokenizer(w->model);
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        json_array_append_new(
            list, json_pack("{s:I, s:i, s:o}", "position",
                            (json_int_t)w->n - (json_int_t)n + (json_int_t)i, "id",
                            (int)w->ids[w->n - n + i], "top",
                            top_json(tok, rows + i * (size_t)vocab_of(w), vocab_of(w))));
    return output_json(list, err);
}

static int print_all(const struct work *w, char *err)
{
    const float *rows = w->all ? w->all : lade_session_logits(w->session);
    size_t n = w->all ? w->n : 1;
    if (w->o->output)
        return write_raw(w, rows, n, err);
    if (w->o->json)
        return print_json(w, rows, n, err);
    for (size_t i = 0; i < n; i++) {
        if (w->all)
            printf("%sposition %zu, token %d\n", i ? "\n" : "", i, w->ids[i]);
        print_top(lade_model_tokenizer(w->model), rows + i * (size_t)vocab_of(w), vocab_of(w));
    }
    return 0;
}

/* Whether they are numbers; which of them are tokens the model knows. */
static int check_ids(const char *text, char *err)
{
    int32_t *ids;
    size_t n;
    int rc = ids_parse(text, "--ids", INT32_MAX, &ids, &n, err);
    free(ids);
    if (rc == 0 && n == 0)
        return lade_fail(err, "--ids: holds no ids; give --ids \"1 2 3\"");
    return rc;
}

static int read_ids(struct work *w, char *err)
{
    size_t len;
    char *text = strcmp(w->o->ids, "-") == 0 ? output_read("-", OUTPUT_TEXT_MAX, &len, err)
                                             : strdup(w->o->ids);
    if (!text)
        return -1;
    int rc = ids_parse(text, "--ids", vocab_of(w), &w->ids, &w->n, err);
    free(text);
    int context = lade_model_context(w->model);
    if (rc == 0 && w->n == 0)
        return lade_fail(err, "--ids: holds no ids; give --ids \"1 2 3\"");
    if (rc == 0 && w->n > (size_t)context)
        return lade_fail(err,
                         "--ids: %zu tokens are more than the context of %d; give fewer, or "
                         "a larger --context",
                         w->n, context);
    return rc;
}

int cmd_logits(const struct options *o)
{
    struct work w = {.o = o};
    struct lade_options opt;
    char path[PATH_MAX], err[LADE_ERR];
    if (!o->ids)
        return report_usage(o->json,
                            "logits: needs token ids; give --ids \"1 2 3\", or --ids - for "
                            "standard input");
    if (strcmp(o->ids, "-") != 0 &&
        check_ids(o->ids, err)) /* before a model is loaded for nothing */
        return report_usage(o->json, err);
    int rc = model_path_resolve(o->model, path, err);
    if (rc == 0) {
        options_engine(o, path, true, &opt);
        rc = lade_model_open(&w.model, &opt, NULL, NULL, NULL, err);
    }
    if (rc == 0 && lade_model_notice(w.model))
        report_note(lade_model_notice(w.model));
    if (rc == 0)
        rc = read_ids(&w, err);
    if (rc == 0)
        rc = lade_session_open(&w.session, w.model, err);
    if (rc == 0)
        rc = compute(&w, err);
    if (rc == 0)
        rc = print_all(&w, err);
    if (w.session)
        lade_session_close(w.session);
    if (w.model)
        lade_model_close(w.model);
    free(w.ids);
    free(w.all);
    return rc ? report_failed(o->json, err) : EXIT_DONE;
}
