/* plugins.h - where tests find the plug-ins that were built with them. */
#ifndef LADE_TESTS_PLUGINS_H
#define LADE_TESTS_PLUGINS_H

#include <stddef.h>

/* The path of `name` beside the folder of the running test program, build/tests/NAME. Static. */
const char *test_plugin_path(const char *name);

/* A symbol of a plug-in that is loaded, or NULL. */
void *test_plugin_symbol(const char *path, const char *symbol);

#endif
