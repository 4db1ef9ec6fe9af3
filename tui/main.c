#include <locale.h>

#include "tui/app.h"
#include "tui/cmd/cmd.h"
#include "tui/output.h"
#include "tui/report.h"

static int (*const commands[N_COMMANDS])(const struct options *) = {
    [COMMAND_CHAT] = chat_main,        [COMMAND_RUN] = cmd_run,
    [COMMAND_SERVE] = cmd_serve,       [COMMAND_LOGITS] = cmd_logits,
    [COMMAND_TOKENIZE] = cmd_tokenize, [COMMAND_DETOKENIZE] = cmd_detokenize,
    [COMMAND_INSPECT] = cmd_inspect,   [COMMAND_PACK] = cmd_pack,
    [COMMAND_PLAN] = cmd_plan,         [COMMAND_MODELS] = cmd_models,
    [COMMAND_PULL] = cmd_pull,         [COMMAND_BENCH] = cmd_bench,
    [COMMAND_HISTORY] = cmd_history,   [COMMAND_DOCTOR] = cmd_doctor,
    [COMMAND_HELP] = cmd_help,         [COMMAND_VERSION] = cmd_version,
};

int main(int argc, char **argv)
{
    struct options o;
    char err[LADE_ERR];
    /* Characters only: numbers are printed and read with a point everywhere. */
    setlocale(LC_CTYPE, "");
    if (options_parse(&o, argc, argv, err))
        return report_usage(o.json, err);
    int code = o.help ? cmd_help(&o) : commands[o.command](&o);
    if (output_end(err) && code == EXIT_DONE)
        code = report_failed(o.json, err);
    return code;
}
