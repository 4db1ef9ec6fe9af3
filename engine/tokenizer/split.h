/* split.h - the pre-tokenizer's regular expression, run by PCRE2. */
#ifndef LADE_TOKENIZER_SPLIT_H
#define LADE_TOKENIZER_SPLIT_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stddef.h>

/* Compiles a regex of a tokenizer.json. The tokenizers library runs it with Oniguruma, whose \s is
 * Unicode's White_Space; PCRE2's has U+180E besides, so \s and \S are spelled out. Returns NULL
 * with the reason in `why`. */
pcre2_code *lade_split_compile(const char *regex, char *why, size_t size);

#endif
