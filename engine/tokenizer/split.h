/* split.h - the pre-tokenizer's regular expression, run by PCRE2. */
#ifndef LADE_TOKENIZER_SPLIT_H
#define LADE_TOKENIZER_SPLIT_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stddef.h>

/* Compiles a regex of a tokenizer.json so that it means what it means to the tokenizers library,
 * which runs it with Oniguruma: \s is Unicode's White_Space (PCRE2's has U+180E besides), \p{L},
 * \p{M} and \p{N} are those of Unicode 16, ^ and $ are those of lines. What the two would read
 * differently otherwise is refused. Returns NULL with the reason in `why`. */
pcre2_code *lade_split_compile(const char *regex, char *why, size_t size);

#endif
