/* habits.h - which experts a model's conversations use, kept between runs.
 *
 * A small file of the cache directory for each model, so that the next start brings home first what
 * was used most, and the plan knows how often a cache will find what is asked for. It is written
 * whole and then renamed; one that is missing, damaged, of another version or of another model is as
 * if there were none, and one that cannot be written is left alone: nothing but speed depends on
 * it. */
#ifndef LADE_PLAN_HABITS_H
#define LADE_PLAN_HABITS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/checkpoint/catalog.h"

/* The path of a model's file, malloc'ed; a packed copy has that of its source. NULL without
 * cache_dir or memory. */
char *lade_habits_path(const char *cache_dir, const struct lade_catalog *cat);

/* How many numbers a model's habits are: the uses of layers x experts, then LADE_AGES visits by tokens
 * by the age of what they asked for, and as many where only the least is known (hits.h). */
size_t lade_habits_count(const struct lade_catalog *cat);

/* Reads them; they stay as they are where there is no good file (false). Each is finite and not
 * negative. */
bool lade_habits_read(const char *path, const struct lade_catalog *cat, double *habits);

/* Writes them; false where that did not work. */
bool lade_habits_write(const char *path, const struct lade_catalog *cat, const double *habits);

#endif
