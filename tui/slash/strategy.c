/* Commands about where the weights live: /plan /strategy /anatomy. */
#include "tui/slash/slash.h"

#include <string.h>

static int need_plan(struct chat *c, const char *command, struct lade_plan *plan, char *err)
{
    if (c->failed || !c->engine)
        return lade_fail(err, "/%s: no model is loaded; open another with -m", command);
    if (!lade_engine_plan(c->engine, plan))
        return lade_fail(err, "/%s: the model's headers are not read yet; ask in a moment",
                         command);
    return 0;
}

int slash_plan(struct chat *c, const char *args, char *err)
{
    struct lade_plan plan;
    (void)args;
    if (need_plan(c, "plan", &plan, err) != 0)
        return -1;
    strategies_open(&c->strategies, &plan, c->info.strategy);
    return 0;
}

int slash_strategy(struct chat *c, const char *args, char *err)
{
    if (!*args)
        return slash_plan(c, args, err);
    if (c->failed || !c->engine)
        return lade_fail(err, "/strategy: no model is loaded; open another with -m");
    if (strcmp(args, c->info.strategy) == 0) {
        chat_say(c, ENTRY_NOTICE, "%s is running already.", args);
        return 0;
    }
    if (strcmp(args, "auto") != 0 && lade_strategy_find(args) < 0)
        return lade_fail(err, "/strategy %.40s: is not a strategy; /plan shows them", args);
    return lade_engine_strategy(c->engine, args, err);
}

/* Names of the table with what they would be like here; what is impossible says why. */
void slash_strategy_complete(struct chat *c, const char *args, struct menu *out)
{
    struct lade_plan plan;
    menu_offer(out, args, "auto", "the best that fits");
    bool known = c->engine && lade_engine_plan(c->engine, &plan);
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < lade_n_strategies; i++) {
            bool impossible = known && plan.rows[i].status == LADE_PLAN_IMPOSSIBLE;
            if (impossible == (turn == 1))
                menu_offer(out, args, lade_strategies[i].name,
                           impossible ? plan.rows[i].reason : lade_strategies[i].summary);
        }
}

void slash_strategies_key(struct chat *c, const struct keys_event *ev)
{
    char err[LADE_ERR];
    const struct lade_plan_row *row = strategies_row(&c->strategies);
    c->dirty = true;
    switch (strategies_key(&c->strategies, ev)) {
    case STRATEGIES_TAKEN:
        strategies_close(&c->strategies);
        if (row->status != LADE_PLAN_CHOSEN && slash_strategy(c, row->strategy->name, err) != 0)
            chat_say(c, ENTRY_ERROR, "%s", err);
        break;
    case STRATEGIES_CLOSED:
        strategies_close(&c->strategies);
        break;
    case STRATEGIES_MOVED:
    case STRATEGIES_NOTHING:
        break;
    }
}

int slash_anatomy(struct chat *c, const char *args, char *err)
{
    if (*args && strcmp(args, "on") != 0 && strcmp(args, "off") != 0)
        return lade_fail(err, "/anatomy %.40s: not understood; choose on or off", args);
    if (c->info.remote)
        return lade_fail(err,
                         "/anatomy: the experts are at %s, which does not tell of them; open a "
                         "checkpoint with -m",
                         c->info.device);
    c->anatomy = *args ? strcmp(args, "on") == 0 : !c->anatomy;
    if (c->anatomy && c->rows && !status_anatomy_rows(c->rows))
        chat_say(c, ENTRY_NOTICE, "It is shown when the terminal has %d rows; now it has %d.",
                 STATUS_ANATOMY_FROM, c->rows);
    return 0;
}

void slash_anatomy_complete(struct chat *c, const char *args, struct menu *out)
{
    (void)c;
    menu_offer(out, args, "on", "show it over the input");
    menu_offer(out, args, "off", "hide it");
}
