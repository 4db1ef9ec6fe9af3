#include "engine/remote/address.h"

#include <string.h>
#include <strings.h>

#include "engine/tokenizer/utf8.h"

static const char *after_scheme(const char *model)
{
    return !strncasecmp(model, "https://", 8)  ? model + 8
           : !strncasecmp(model, "http://", 7) ? model + 7
                                               : NULL;
}

bool lade_remote_is(const char *model)
{
    return model && after_scheme(model);
}

/* Whether the first n bytes have only what an address may have. A user's name and password before the
 * host would be shown and saved with the conversation. */
static bool is_plain(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7F ||
            strchr("?@\\\"", text[i]))
            return false;
    return true;
}

/* The name goes to the server in JSON. */
static bool is_utf8(const char *text)
{
    int step = 0;
    for (size_t n = strlen(text); n; n -= (size_t)step, text += step)
        if ((step = lade_utf8_next((const unsigned char *)text, n, NULL)) <= 0)
            return false;
    return true;
}

static bool cut_end(char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    if (n < k || strcmp(text + n - k, end) != 0)
        return false;
    text[n - k] = '\0';
    return true;
}

int lade_remote_address(struct lade_remote_address *out, const char *model, char *err)
{
    const char *host = after_scheme(model);
    size_t n = strcspn(model, "#"), host_n = host ? strcspn(host, "/#") : 0;
    const char *name = model[n] ? model + n + 1 : "";
    *out = (struct lade_remote_address){0};
    if (!host_n || !is_plain(model, n))
        return lade_fail(err, "-m %.100s: is no address of a server; write http://HOST:PORT/v1",
                         model);
    if (n + sizeof "/v1" > sizeof out->base || strlen(name) >= sizeof out->name)
        return lade_fail(err, "-m %.100s...: is too long; write http://HOST:PORT/v1", model);
    if (!is_utf8(name))
        return lade_fail(err, "-m %.*s#NAME: the name is no UTF-8; write it as the server lists it",
                         n < 100 ? (int)n : 100, model);
    memcpy(out->host, host, host_n);
    memcpy(out->base, model, n);
    memcpy(out->name, name, strlen(name) + 1);
    while (cut_end(out->base, "/"))
        ;
    cut_end(out->base, "/chat/completions");
    memcpy(out->root, out->base, sizeof out->root);
    if (!cut_end(out->root, "/v1") && !strchr(after_scheme(out->base), '/'))
        memcpy(out->base + strlen(out->base), "/v1", sizeof "/v1");
    return 0;
}
