/* What clients send to `lade serve`: a line that is taken for a Host, an Origin and a key, then a body.
 * Whatever is accepted has messages of known roles with texts, and numbers in their ranges; a template
 * can write it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tui/serve/guard.h"
#include "tui/serve/question.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct serve_question *q)
{
    const struct lade_sampling *s = &q->sampling;
    if (!q->n || s->stop.n > LADE_STOPS || q->max_tokens < 0 || s->top_k < 0 ||
        !(s->temperature >= 0 && s->temperature <= 100) || !(s->top_p >= 0 && s->top_p <= 1) ||
        !(s->min_p >= 0 && s->min_p <= 1) || !(s->repetition_penalty > 0))
        abort();
    for (size_t i = 0; i < q->n; i++)
        if (q->messages[i].role > LADE_TOOLS || !q->messages[i].content ||
            ((q->messages[i].reasoning || q->messages[i].calls) &&
             q->messages[i].role != LADE_ASSISTANT) ||
            (q->messages[i].role == LADE_TOOLS) != (q->tools && !i))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct serve_defaults defaults = {
        .model = "bundled", .sampling = {.top_p = 1, .repetition_penalty = 1}};
    struct serve_question q;
    struct serve_error e;
    char line[256];
    const uint8_t *end = memchr(data, '\n', size);
    const size_t len = end ? (size_t)(end - data) : 0;
    if (len >= sizeof line)
        return 0;
    memcpy(line, data, len);
    line[len] = '\0';
    if (guard_is_loopback(line) && strpbrk(line, "/@ "))
        abort();
    guard_origin_is_loopback(line);
    if (guard_key_fits(line, "key") && strcmp(line + strlen(line) - strlen(" key"), " key") != 0)
        abort();
    if (serve_question_read(&q, (const char *)data + len, size - len, &defaults, &e)) {
        if (e.status < 400 || !*e.message || q.body || q.messages)
            abort();
        return 0;
    }
    check(&q);
    free(lade_chat_render(size % 2 ? LADE_CHAT_CODER : LADE_CHAT_THINKING, q.messages, q.n, true,
                          e.message));
    serve_question_free(&q);
    return 0;
}
