#include "tui/cmd/question.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/hub/names.h"
#include "tui/model_path.h"
#include "tui/output.h"

static bool is_word(const char *text)
{
    return !text[strcspn(text, " \t\n")];
}

/* llama3, phi-4, llama:8b, Org/Name, file.gguf */
static bool looks_like_model(const char *word)
{
    bool letters = false, digits = false;
    for (const char *p = word; *p; p++) {
        letters |= isalpha((unsigned char)*p) != 0;
        digits |= isdigit((unsigned char)*p) != 0;
        if (!isalnum((unsigned char)*p) && !strchr("-_.:/~", *p))
            return false;
    }
    const char *mark = strpbrk(word, ":/");
    return letters && (digits || (mark && mark[1]) || lade_ends_with(word, ".gguf"));
}

int question_model(struct options *o, char *err)
{
    if (o->model || o->prompt || !o->n_args || !is_word(o->args[0]))
        return EXIT_DONE;
    const char *word = o->args[0];
    bool known = model_path_names(word), as_others = o->n_args == 2 && !is_word(o->args[1]);
    if (!known && (as_others || (o->n_args <= 2 && looks_like_model(word)))) {
        lade_fail(err,
                  "run %s: is taken for a model and none is called so; see lade models, or give a "
                  "question that begins so with -p",
                  word);
        return EXIT_USAGE;
    }
    if (as_others) {
        o->model = word;
        o->args++;
        o->n_args--;
    } else if (known) {
        lade_fail(err,
                  "run %s: is a model, which -m names; write lade run -m %s TEXT, or -p TEXT for a "
                  "question that begins so",
                  word, word);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

/* All of standard input without the newline at its end; "" if there is nothing. NULL with err. */
static char *read_input(char *err)
{
    size_t len;
    char *text = output_read("-", OUTPUT_TEXT_MAX, &len, err);
    if (text && memchr(text, '\0', len)) {
        lade_fail(err, "standard input: holds a NUL byte; give text");
        free(text);
        return NULL;
    }
    if (text && len && text[len - 1] == '\n')
        text[len - 1] = '\0';
    return text;
}

static bool is_input(const char *part)
{
    return strcmp(part, "-") == 0;
}

static int count_inputs(const struct options *o)
{
    int n = o->prompt && is_input(o->prompt);
    for (int i = 0; i < o->n_args; i++)
        n += is_input(o->args[i]);
    return n;
}

/* All parts, with standard input's text for "-"; NULL without memory. */
static char *put_together(const struct options *o, const char *input)
{
    size_t size = strlen(input) + (o->prompt ? strlen(o->prompt) : 0) + 1;
    for (int i = 0; i < o->n_args; i++)
        size += strlen(o->args[i]) + strlen("\n\n");
    char *text = malloc(size), *end = text;
    bool apart = false; /* the part before was standard input */
    for (int i = o->prompt ? -1 : 0; text && i < o->n_args; i++) {
        const char *part = i < 0 ? o->prompt : o->args[i];
        bool here = is_input(part);
        if (end > text)
            end = stpcpy(end, here || apart ? "\n\n" : " ");
        end = stpcpy(end, here ? input : part);
        apart = here;
    }
    return text;
}

int question_read(char **out, const struct options *o, char *err)
{
    bool given = o->prompt || o->n_args;
    int inputs = given ? count_inputs(o) : !isatty(STDIN_FILENO);
    char *input = NULL;
    int code = EXIT_DONE;
    *out = NULL;
    if (inputs > 1) {
        lade_fail(err, "run: standard input can be read once; give - once");
        return EXIT_USAGE;
    }
    if (inputs && !(input = read_input(err)))
        return EXIT_FAILED;
    if (!given && (!input || !*input)) {
        lade_fail(err, "run: needs a prompt; give -p TEXT, or text on standard input");
        code = EXIT_USAGE;
    } else if (input && !*input) {
        lade_fail(err, "standard input: is empty; give the question there, or with -p TEXT");
        code = EXIT_FAILED;
    } else if (!given) {
        *out = input;
        return EXIT_DONE;
    } else if (!(*out = put_together(o, input ? input : ""))) {
        lade_fail(err, "the prompt: out of memory; close other programs");
        code = EXIT_FAILED;
    }
    free(input);
    return code;
}
