/* Commands about how things look and how answers are made: /theme /think /set. */
#include "tui/slash/slash.h"

#include <stdio.h>
#include <string.h>

#include "tui/prefs.h"
#include "tui/theme.h"

enum { THEMES = 64 };

void slash_theme_show(struct chat *c, const char *name)
{
    char err[LADE_ERR];
    if (strcmp(name, theme_name()) == 0)
        return;
    if (theme_load(name, err) != 0)
        chat_say(c, ENTRY_ERROR, "%s", err);
    c->repaint = c->dirty = true;
}

void slash_theme_keep(struct chat *c)
{
    char err[LADE_ERR];
    if (prefs_set("theme", theme_name(), err) != 0)
        chat_say(c, ENTRY_ERROR, "%s", err);
}

int slash_theme(struct chat *c, const char *args, char *err)
{
    struct theme_entry all[THEMES];
    if (*args) {
        if (theme_load(args, err) != 0)
            return -1;
        c->repaint = true;
        slash_theme_keep(c);
        return 0;
    }
    int n = theme_list(all, THEMES);
    snprintf(c->theme_before, sizeof c->theme_before, "%s", theme_name());
    picker_open(&c->picker, "Themes", "no themes were found; install lade's themes folder");
    c->picking = CHAT_PICK_THEME;
    for (int i = 0; i < n; i++) {
        picker_add(&c->picker, i + 1, all[i].name);
        if (strcmp(all[i].name, theme_name()) == 0)
            picker_choose(&c->picker, i + 1);
    }
    return 0;
}

void slash_theme_complete(struct chat *c, const char *args, struct menu *out)
{
    struct theme_entry all[THEMES];
    int n = theme_list(all, THEMES);
    (void)c;
    for (int i = 0; i < n; i++)
        menu_offer(out, args, all[i].name, "");
}

/* ---- thinking -------------------------------------------------------------------------------- */

static const char *shown(const struct chat *c)
{
    return c->transcript.fold ? "folded to one line" : "shown in full";
}

int slash_think(struct chat *c, const char *args, char *err)
{
    if (!*args) {
        chat_say(c, ENTRY_NOTICE, "Reasoning is %s and %s.", c->settings.think ? "on" : "off",
                 shown(c));
        return 0;
    }
    if (strcmp(args, "fold") == 0 || strcmp(args, "show") == 0) {
        transcript_fold(&c->transcript, *args == 'f');
        chat_say(c, ENTRY_NOTICE, "Reasoning is %s.", shown(c));
        return prefs_set("thinking", args, err);
    }
    if (strcmp(args, "on") != 0 && strcmp(args, "off") != 0)
        return lade_fail(err, "/think %.40s: not understood; choose on, off, fold or show", args);
    if (c->have_info && !c->info.thinking)
        return lade_fail(err,
                         "/think %s: %s does not reason before it answers; open a Thinking "
                         "model with -m",
                         args, c->info.name);
    c->settings.think = args[1] == 'n';
    chat_say(c, ENTRY_NOTICE,
             c->settings.think ? "The model reasons before it answers."
                               : "The model answers at once.");
    return 0;
}

void slash_think_complete(struct chat *c, const char *args, struct menu *out)
{
    (void)c;
    menu_offer(out, args, "on", "reason before answering");
    menu_offer(out, args, "off", "answer at once");
    menu_offer(out, args, "fold", "one line of it");
    menu_offer(out, args, "show", "all of it");
}

/* ---- settings -------------------------------------------------------------------------------- */

static void show_settings(struct chat *c)
{
    struct buf text = {0};
    char value[256];
    buf_puts(&text, "| setting | value | |\n|---|---:|---|\n");
    for (int i = 0; i < settings_count; i++) {
        settings_value(&c->settings, i, value, sizeof value);
        const char *strong = *value && c->settings.set & 1u << i ? "**" : "";
        buf_printf(&text, "| %s | %s", settings_rows[i].name, strong);
        slash_put_cell(&text, *value ? value : "none");
        buf_printf(&text, "%s | ", strong);
        slash_put_cell(&text, settings_rows[i].help);
        buf_puts(&text, " |\n");
    }
    chat_say(c, ENTRY_INFO, "%s", buf_text(&text));
    transcript_to_last(&c->transcript);
    buf_free(&text);
}

int slash_set(struct chat *c, const char *args, char *err)
{
    char name[64], value[256];
    if (!*args) {
        show_settings(c);
        return 0;
    }
    size_t n = strcspn(args, " =");
    snprintf(name, sizeof name, "%.*s", (int)n, args);
    const char *text = args + n + strspn(args + n, " =");
    if (!*text)
        return lade_fail(err, "/set %s: needs a value; /set alone shows them all", name);
    int i = settings_set(&c->settings, name, text, err);
    if (i < 0)
        return -1;
    if (c->have_info)
        settings_defaults(&c->settings, &c->info.sampling);
    settings_value(&c->settings, i, value, sizeof value);
    chat_say(c, ENTRY_NOTICE, "%s is %s%s.", settings_rows[i].name, *value ? value : "empty",
             c->settings.set & 1u << i || c->info.remote ? "" : ", the model's own value");
    return 0;
}

void slash_set_complete(struct chat *c, const char *args, struct menu *out)
{
    char value[256], help[384];
    if (strchr(args, ' '))
        return;
    for (int i = 0; i < settings_count; i++) {
        settings_value(&c->settings, i, value, sizeof value);
        snprintf(help, sizeof help, "%s%s%.100s", settings_rows[i].help, *value ? "  now " : "",
                 value);
        menu_offer(out, args, settings_rows[i].name, help);
    }
}
