#include "tui/options_table.h"

#include <math.h>

#include "engine/checkpoint/packed.h"

const struct command_row options_commands[N_COMMANDS] = {
    [COMMAND_CHAT] = {"chat", "", "talk with a model on the whole screen (the default)", 0, NULL},
    [COMMAND_RUN] =
        {"run", "[-p] TEXT|-", "one answer to standard output", ANY_ARGS,
         "The question is TEXT, in one argument or in many; - puts standard input there:\n"
         "  lade run 'Is this safe?' - < main.c\n"
         "Without TEXT it is standard input. lade run MODEL \"MANY WORDS\" is understood.\n\n"
         "The answer alone goes to standard output. Reasoning is left out unless\n"
         "--show-thinking; then it comes between <think> and </think>.\n"
         "Ctrl-C stops the answer and ends with code 130.\n"},
    [COMMAND_SERVE] =
        {"serve", "", "keep a model loaded and answer other programs, as OpenAI's API does", 0,
         "POST /v1/chat/completions, GET /v1/models, GET /health. Clients are told the URL\n"
         "that it prints, http://127.0.0.1:8080/v1. Requests wait while the model loads, and are\n"
         "answered one after another. Sampling options are what holds where a request has none.\n"
         "Other machines are answered only with --host and --key-file: its first line is the\n"
         "key that clients send. Ctrl-C ends it.\n"},
    [COMMAND_LOGITS] = {"logits", "--ids \"1 2 3\"", "float32 logits of the last or of all tokens",
                        0,
                        "With -o: raw little-endian float32, [vocabulary] or with --all\n"
                        "[tokens][vocabulary]. Without: the ten highest, as text.\n"
                        "Arithmetic is exact unless --fast.\n"},
    [COMMAND_TOKENIZE] = {"tokenize", "", "text on standard input to ids", 0, NULL},
    [COMMAND_DETOKENIZE] = {"detokenize", "", "ids on standard input to text", 0, NULL},
    [COMMAND_INSPECT] = {"inspect", "", "what a checkpoint holds, without loading it", 0, NULL},
    [COMMAND_PACK] =
        {"pack", "-o DIR [DIR...]", "write a copy that loads without repacking", LADE_PACKED_DRIVES,
         "DIR is then a MODEL like any other: weights as they lie in memory, each expert in one\n"
         "piece, with checksums. Give a directory on each drive to have experts read from all of\n"
         "them. What was interrupted goes on where it stopped.\n"},
    [COMMAND_PLAN] = {"plan", "", "which strategy fits a machine, with predicted numbers", 0,
                      "Without -m: the INT4-mixed 80B. Without --vram and --ram: this machine.\n"},
    [COMMAND_MODELS] = {"models", "", "the models that this machine has, by name", 0,
                        "Looks into lade's own models directory, the Hugging Face hub cache, and\n"
                        "those of llama.cpp, LM Studio and ollama. Each name, or a beginning that\n"
                        "only one has, stands for MODEL everywhere.\n"},
    [COMMAND_PULL] =
        {"pull", "ORG/NAME[:QUANT|:FILE]", "fetch a model from the Hugging Face hub", 1,
         "  pull ORG/NAME               safetensors, or the only GGUF model\n"
         "  pull ORG/NAME:Q4_K_M        a GGUF model by its quantization\n"
         "  pull ORG/NAME:FILE.gguf     or by a file (all parts of a split come)\n"
         "Into the models directory; the path goes to standard output. What was interrupted\n"
         "goes on where it stopped; every file is checked. HF_TOKEN opens private and gated\n"
         "repositories, HF_ENDPOINT names another server.\n"},
    [COMMAND_BENCH] = {"bench", "", "measure loading, prefill and decode", 0, NULL},
    [COMMAND_HISTORY] =
        {"history", "list|show|search|rename|export|import|delete [ARGS]", "saved conversations",
         ANY_ARGS,
         "  list [TITLE]        newest first; only those whose title has TITLE in it\n"
         "  show ID             the conversation as text; with --branches all its versions\n"
         "  search WORDS        messages and titles that have all the words\n"
         "  rename ID TITLE\n"
         "  export [ID]         as JSON (or --markdown); all without ID\n"
         "  import FILE|-       an exported JSON file\n"
         "  delete ID...        for good\n"},
    [COMMAND_DOCTOR] = {"doctor", "", "what this machine has and what is missing", 0, NULL},
    [COMMAND_HELP] = {"help", "[COMMAND]", "this text, or that of a command", 1, NULL},
    [COMMAND_VERSION] = {"version", "", "its version, and how it was built", 0, NULL},
};

/* Sets of commands. */
#define IN(c)  (1U << COMMAND_##c)
#define EVERY  ((1U << N_COMMANDS) - 1)
#define LOADS  (IN(CHAT) | IN(RUN) | IN(SERVE) | IN(LOGITS) | IN(BENCH))
#define PLANS  (LOADS | IN(PLAN))
#define NAMES  (PLANS | IN(TOKENIZE) | IN(DETOKENIZE) | IN(INSPECT) | IN(PACK))
#define ASKS   (IN(CHAT) | IN(RUN) | IN(SERVE))
#define TALKS  (IN(CHAT) | IN(RUN))
#define SERVED (TALKS | IN(PLAN)) /* where the model may be behind a server */
#define HERE   OPTION_HERE
#define HAS_JSON                                                                                   \
    (IN(RUN) | IN(LOGITS) | IN(PLAN) | IN(MODELS) | IN(PULL) | IN(INSPECT) | IN(BENCH) |           \
     IN(HISTORY) | IN(DOCTOR) | IN(PACK))

#define FIELD(f) offsetof(struct options, f)
#define GIB_MAX  1048576.0

#define NO_GPU  "no-gpu"
#define MIN_GPU "min-gpu"
#define MAX_GPU "max-gpu"
const char *const options_load_words[] = {NO_GPU, MIN_GPU, MAX_GPU, NULL};
const char *const options_isas[] = {"avx512", "avxvnni", "avx2", "neon", "portable", NULL};

const struct option_row options_rows[] = {
    {"model", 'm', OPTION_TEXT, SERVED, FIELD(model), "MODEL",
     "directory, .gguf file or name; or a server: http://HOST:PORT[#NAME]", 0, 0, 0, 0},
    {"model", 'm', OPTION_TEXT, (NAMES | IN(DOCTOR)) & ~SERVED, FIELD(model), "MODEL",
     "directory or .gguf file, or a name that lade models lists", 0, 0, 0, 0},
    {"key-file", 0, OPTION_TEXT, TALKS, FIELD(key_file), "FILE",
     "its first line is the key of the server that -m names", 0, 0, 0, 0},

    {"prompt", 'p', OPTION_TEXT, IN(RUN), FIELD(prompt), "TEXT|-",
     "what to ask, or its beginning; - is standard input", 0, 0, 0, 0},
    {"system", 's', OPTION_TEXT, TALKS, FIELD(system), "TEXT", "system message", 0, 0, 0,
     MAY_BE_EMPTY},
    {"tokens", 'n', OPTION_INT, ASKS, FIELD(tokens), "N",
     "at most N tokens an answer; 0 = until it stops by itself", 0, 1e9, 0, 0},
    {"greedy", 0, OPTION_FLAG, ASKS, FIELD(greedy), NULL, "always the likeliest token", 0, 0, 0, 0},
    {"seed", 0, OPTION_U64, ASKS, FIELD(seed), "S", "of the sampling; 0 = from the clock", 0, 0, 0,
     0},
    {"temperature", 't', OPTION_REAL, ASKS, FIELD(temperature), "T",
     "0 = greedy; default the model's own", 0, 100, NAN, 0},
    {"top-k", 0, OPTION_INT, ASKS, FIELD(top_k), "K", "from the K likeliest; 0 = all", 0, 1e9, -1,
     0},
    {"top-p", 0, OPTION_REAL, ASKS, FIELD(top_p), "P", "from the likeliest that make up P", 0, 1,
     NAN, 0},
    {"min-p", 0, OPTION_REAL, ASKS, FIELD(min_p), "P",
     "from those at least P times as likely as the first", 0, 1, NAN, 0},
    {"repetition-penalty", 0, OPTION_REAL, ASKS, FIELD(repetition_penalty), "R",
     "against repeating; 1 = off", 0.1, 10, NAN, 0},
    {"stop", 0, OPTION_STOP, ASKS, FIELD(stop), "TEXT",
     "end the answer before TEXT; may be given eight times", 0, 0, 0, 0},
    {"think", 0, OPTION_SET, ASKS, FIELD(think), NULL, "let the model reason first, if it can", 0,
     0, 0, THINK_YES},
    {"no-think", 0, OPTION_SET, ASKS, FIELD(think), NULL, "do not let it reason", 0, 0, 0,
     THINK_NO},
    {"show-thinking", 0, OPTION_FLAG, IN(RUN), FIELD(show_thinking), NULL,
     "print the reasoning too", 0, 0, 0, 0},

    {"host", 0, OPTION_TEXT, IN(SERVE), FIELD(host), "ADDRESS",
     "listen there; default 127.0.0.1, which only this machine reaches", 0, 0, 0, 0},
    {"port", 0, OPTION_INT, IN(SERVE), FIELD(port), "N", "listen there; 0 = a free one", 0, 65535,
     8080, 0},
    {"key-file", 0, OPTION_TEXT, IN(SERVE), FIELD(key_file), "FILE",
     "answer only those who send the first line of FILE as their key", 0, 0, 0, 0},

    {"ids", 0, OPTION_TEXT, IN(LOGITS), FIELD(ids), "\"1 2 3\"", "token ids", 0, 0, 0, 0},
    {"all", 0, OPTION_FLAG, IN(LOGITS), FIELD(all), NULL, "every position, not only the last", 0, 0,
     0, 0},
    {"all", 0, OPTION_FLAG, IN(MODELS), FIELD(all), NULL, "also those that lade cannot run", 0, 0,
     0, 0},
    {"revision", 0, OPTION_TEXT, IN(PULL), FIELD(revision), "REV",
     "branch, tag or commit; default main", 0, 0, 0, 0},
    {"connections", 0, OPTION_INT, IN(PULL), FIELD(connections), "N", "files at a time", 1, 16, 4,
     0},
    {"special", 0, OPTION_FLAG, IN(TOKENIZE), FIELD(special), NULL,
     "special tokens written in the text are tokens", 0, 0, 0, 0},

    {"vram", 0, OPTION_CARDS, IN(PLAN) | HERE, FIELD(vram), "GiB[,GiB...]",
     "plan for this much VRAM, of each GPU", 0, GIB_MAX, 0, 0},
    {"ram", 0, OPTION_REAL, IN(PLAN) | HERE, FIELD(ram), "GiB", "plan for this much RAM", 0,
     GIB_MAX, NAN, 0},
    {"storage", 0, OPTION_TEXT, IN(PLAN) | HERE, FIELD(storage), "KIND", "nvme, ssd, hdd or raid0",
     0, 0, 0, 0},

    {"prefill", 'p', OPTION_INT, IN(BENCH), FIELD(prefill), "N", "tokens to prefill; 0 = none", 0,
     1e7, 512, 0},
    {"tokens", 'n', OPTION_INT, IN(BENCH), FIELD(tokens), "N", "tokens to decode; 0 = none", 0, 1e7,
     64, 0},
    {"repeat", 'r', OPTION_INT, IN(BENCH), FIELD(repeat), "R", "repetitions", 1, 1000, 3, 0},
    {"depth", 'd', OPTION_TEXT, IN(BENCH), FIELD(depths), "N[,N...]",
     "tokens on the timeline before each measurement", 0, 0, 0, 0},

    {"resume", 'r', OPTION_RESUME, IN(CHAT), FIELD(resume_id), "[ID]",
     "go on with conversation ID, or the last, and its model", 0, 0, 0, 0},
    {"theme", 0, OPTION_TEXT, IN(CHAT), FIELD(theme), "NAME", "colours", 0, 0, 0, 0},

    {"output", 'o', OPTION_TEXT, IN(LOGITS) | IN(HISTORY), FIELD(output), "FILE|-",
     "write to FILE; - is standard output", 0, 0, 0, 0},
    {"output", 'o', OPTION_TEXT, IN(PACK), FIELD(output), "DIR", "where to write", 0, 0, 0, 0},
    {"mirror", 0, OPTION_FLAG, IN(PACK), FIELD(mirror), NULL,
     "all of it into every directory, instead of a part", 0, 0, 0, 0},
    {"markdown", 0, OPTION_FLAG, IN(HISTORY), FIELD(markdown), NULL, "export for people to read", 0,
     0, 0, 0},
    {"branches", 0, OPTION_FLAG, IN(HISTORY), FIELD(branches), NULL,
     "every version of questions and answers, as Markdown", 0, 0, 0, 0},
    {"limit", 'l', OPTION_INT, IN(HISTORY), FIELD(limit), "N", "list or find at most N; -1 = all",
     -1, 1e9, 20, 0},
    {"json", 0, OPTION_FLAG, HAS_JSON, FIELD(json), NULL, "print JSON", 0, 0, 0, 0},

    {"strategy", 0, OPTION_TEXT, PLANS, FIELD(strategy), "NAME|auto", "where the weights live", 0,
     0, 0, 0},
    {"gpu-memory", 0, OPTION_CARDS, PLANS | HERE, FIELD(gpu_memory), "GiB[,GiB...]",
     "use at most this much of each GPU's memory; default all that is free", 0, GIB_MAX, 0, 0},
    {"cpu-memory", 0, OPTION_REAL, PLANS | HERE, FIELD(cpu_memory), "GiB",
     "use at most this much RAM; default all that is free", 0, GIB_MAX, 0, 0},
    {"cpu", 0, OPTION_FLAG, PLANS | HERE, FIELD(cpu), NULL, "do not use a GPU", 0, 0, 0, 0},
    {"context", 'c', OPTION_INT, PLANS | HERE, FIELD(context), "N",
     "tokens a conversation may have; 0 = what model and memory allow", 0, 1e9, 0, 0},
    {"kv-q8", 0, OPTION_FLAG, PLANS | HERE, FIELD(kv_q8), NULL,
     "keys and values of a conversation in 8 bits instead of 16; CPU only", 0, 0, 0, 0},
    {"no-lookahead", 0, OPTION_FLAG, LOADS | HERE, FIELD(no_lookahead), NULL,
     "read experts only when they are needed", 0, 0, 0, 0},
    {"no-draft", 0, OPTION_FLAG, ASKS | HERE, FIELD(no_draft), NULL,
     "evaluate no guesses of the next tokens", 0, 0, 0, 0},
    {"threads", 0, OPTION_INT, PLANS | HERE, FIELD(threads), "N", "default: the physical cores", 0,
     1024, 0, 0},
    {"batch", 0, OPTION_INT, PLANS | HERE, FIELD(batch), "N",
     "tokens of a prompt at once; else as planned", 0, 8192, 0, 0},
    {"isa", 0, OPTION_TEXT, PLANS | HERE, FIELD(isa), "NAME",
     "instruction set: portable, neon, avx2, avxvnni, avx512; else the best", 0, 0, 0, 0},
    {"gpu-plugin", 0, OPTION_TEXT, PLANS | IN(DOCTOR) | HERE, FIELD(plugin), "FILE",
     "op table of the GPU; default lade-cuda.so beside the program", 0, 0, 0, 0},
    {"exact", 0, OPTION_SET, PLANS | HERE, FIELD(precision), NULL, "32-bit floats everywhere", 0, 0,
     0, PRECISION_EXACT},
    {"fast", 0, OPTION_SET, PLANS | HERE, FIELD(precision), NULL,
     "rounded activations where that is faster", 0, 0, 0, PRECISION_FAST},
    {"man", 0, OPTION_SET, IN(HELP), FIELD(help_as), NULL, "all of it as a manual page", 0, 0, 0,
     HELP_MAN},
    {"bash", 0, OPTION_SET, IN(HELP), FIELD(help_as), NULL, "a script that completes for bash", 0,
     0, 0, HELP_BASH},
    {"zsh", 0, OPTION_SET, IN(HELP), FIELD(help_as), NULL, "the same for zsh", 0, 0, 0, HELP_ZSH},
    {"fish", 0, OPTION_SET, IN(HELP), FIELD(help_as), NULL, "the same for fish", 0, 0, 0,
     HELP_FISH},
    {"help", 'h', OPTION_FLAG, EVERY, FIELD(help), NULL, "this text", 0, 0, 0, 0},

    /* Other spellings, so that command lines of other programs for this model work. */
    {"max-tokens", 0, OPTION_INT, ASKS, FIELD(tokens), "N", NULL, 0, 1e9, 0, 0},
    {"repeat-penalty", 0, OPTION_REAL, ASKS, FIELD(repetition_penalty), "R", NULL, 0.1, 10, NAN, 0},
    {"thinking", 0, OPTION_SET, ASKS, FIELD(think), NULL, NULL, 0, 0, 0, THINK_YES},
    {"load-strategy", 0, OPTION_LOAD_STRATEGY, PLANS | HERE, FIELD(strategy),
     NO_GPU "|" MIN_GPU "|" MAX_GPU, NULL, 0, 0, 0, 0},
    {"use-gptq", 0, OPTION_IGNORED, PLANS, 0, NULL, NULL, 0, 0, 0, 0},
    {"dry-run", 0, OPTION_COMMAND, PLANS, 0, NULL, NULL, 0, 0, 0, COMMAND_PLAN},
    {"check", 0, OPTION_COMMAND, IN(CHAT), 0, NULL, NULL, 0, 0, 0, COMMAND_DOCTOR},
    {"version", 'V', OPTION_COMMAND, IN(CHAT), 0, NULL, NULL, 0, 0, 0, COMMAND_VERSION},
};
const int options_n_rows = sizeof(options_rows) / sizeof(*options_rows);
