/* guard.h - whom the server answers. Pure.
 *
 * A server on the loopback is reached by every web page that this machine's browser shows: the page's
 * own name can be made to mean 127.0.0.1 (then Host is that name), or the page sends its request across
 * (then Origin says from where). Neither is answered. */
#ifndef LADE_TUI_SERVE_GUARD_H
#define LADE_TUI_SERVE_GUARD_H

#include <stdbool.h>

/* Whether "HOST[:PORT]" is localhost or an address of the loopback. NULL is not. */
bool guard_is_loopback(const char *host);

/* Whether an origin ("http://HOST[:PORT]") is of the loopback. */
bool guard_origin_is_loopback(const char *origin);

/* Whether the value of an Authorization header (NULL = none) is "Bearer KEY". Takes as long whatever is
 * wrong with it. */
bool guard_key_fits(const char *authorization, const char *key);

#endif
