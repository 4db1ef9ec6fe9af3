/* What a model says where tools are offered, in one piece and in many: a byte for the size of pieces and
 * one for the end, then the text. The outcome does not depend on the pieces; arguments are objects;
 * nothing is lost where there is no call, and nothing is made up where there is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tui/serve/calls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tools[] =
    "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":\"string\"},"
    "\"i\":{\"type\":\"integer\"},\"o\":{\"type\":[\"object\",\"null\"]},"
    "\"a\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\"}]},\"e\":{\"enum\":[1]}}}}}]";

static void run(struct calls *c, const char *text, size_t n, size_t piece, bool whole)
{
    json_t *list = json_loads(tools, 0, NULL);
    calls_begin(c, list);
    json_decref(list);
    for (size_t i = 0; i < n; i += piece)
        calls_take(c, text + i, piece < n - i ? piece : n - i);
    calls_end(c, whole);
}

static void check(const struct calls *c, const char *text, size_t n)
{
    if (c->held.n || c->text.n > n ||
        (!c->n && (c->text.n != n || (n && memcmp(c->text.at, text, n)))))
        abort();
    for (size_t i = 0; i < c->n; i++) {
        json_t *arguments = json_loads(c->made[i].arguments, 0, NULL);
        if (!json_is_object(arguments) || !c->made[i].name)
            abort();
        json_decref(arguments);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct calls one, many;
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 2;
    const size_t n = size - 2;
    run(&one, text, n, n ? n : 1, data[1] & 1);
    run(&many, text, n, 1 + data[0] % 8, data[1] & 1);
    check(&one, text, n);
    if (one.n != many.n || one.text.n != many.text.n ||
        (one.text.n && memcmp(one.text.at, many.text.at, one.text.n) != 0))
        abort();
    for (size_t i = 0; i < one.n; i++)
        if (strcmp(one.made[i].name, many.made[i].name) != 0 ||
            strcmp(one.made[i].arguments, many.made[i].arguments) != 0)
            abort();
    calls_free(&one);
    calls_free(&many);
    return 0;
}
