/* model_file.h - the text files of a model, wherever they are.
 *
 * In a Hugging Face directory they are files. A GGUF file carries the same facts in its metadata;
 * here they are written out as the files they were made of, so that one reader and one set of
 * checks serves both. */
#ifndef LADE_TOKENIZER_MODEL_FILE_H
#define LADE_TOKENIZER_MODEL_FILE_H

#include <stddef.h>

#include "kernels/error.h"

/* Reads MODEL/FILE of at most `limit` bytes, or where MODEL is a GGUF file (any part of a split)
 * makes "tokenizer.json" or "chat_template.jinja" of its metadata. *text is the caller's to free
 * and has a zero byte after it. Fails with errno ENOENT where there is no such file. */
int lade_model_file(const char *model, const char *file, size_t limit, char **text, size_t *len,
                    char *err);

#endif
