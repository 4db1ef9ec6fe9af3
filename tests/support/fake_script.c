#include "tests/support/fake_script.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *block(FILE *f)
{
    char *all = strdup(""), *line = NULL;
    size_t n = 0, cap = 0;
    for (ssize_t len; (len = getline(&line, &cap, f)) > 0 && strcmp(line, ".\n") != 0;) {
        all = realloc(all, n + (size_t)len + 1);
        memcpy(all + n, line, (size_t)len + 1);
        n += (size_t)len;
    }
    if (n)
        all[n - 1] = '\0';
    free(line);
    return all;
}

static void directive(struct fake_script *s, FILE *f, char *line)
{
    char *rest = line + strcspn(line, " \n");
    if (*rest)
        *rest++ = '\0';
    rest[strcspn(rest, "\n")] = '\0';
    struct fake_reply *r = &s->replies[s->n_replies];
    if (!strcmp(line, "name"))
        snprintf(s->info.name, sizeof s->info.name, "%s", rest);
    else if (!strcmp(line, "strategy"))
        snprintf(s->info.strategy, sizeof s->info.strategy, "%s", rest);
    else if (!strcmp(line, "device"))
        snprintf(s->info.device, sizeof s->info.device, "%s", rest);
    else if (!strcmp(line, "thinking"))
        s->info.thinking = true;
    else if (!strcmp(line, "context"))
        s->info.max_context = atoi(rest);
    else if (!strcmp(line, "speed"))
        s->speed = strtod(rest, NULL);
    else if (!strcmp(line, "rate"))
        s->rate = strtod(rest, NULL);
    else if (!strcmp(line, "hold"))
        s->hold = strtod(rest, NULL);
    else if (!strcmp(line, "usable"))
        s->usable = strtod(rest, NULL);
    else if (!strcmp(line, "traffic"))
        sscanf(rest, "%d %d %d %lf %lf", &s->found[LADE_VRAM], &s->found[LADE_RAM],
               &s->found[LADE_DRIVE], &s->wait_s, &s->compute_s);
    else if (!strcmp(line, "room"))
        sscanf(rest, "%d %d", &s->room[LADE_VRAM], &s->room[LADE_RAM]);
    else if (!strcmp(line, "machine"))
        sscanf(rest, "%lf %lf", &s->vram, &s->ram);
    else if (!strcmp(line, "stderr"))
        s->noise = strdup(rest);
    else if (!strcmp(line, "fail"))
        s->fail = strdup(rest);
    else if (!strcmp(line, "prefill"))
        sscanf(rest, "%d %lf", &s->prefill, &s->prefill_s);
    else if (!strcmp(line, "shard") && s->info.n_shards < 256) {
        unsigned long long bytes = 0;
        sscanf(rest, "%127s %llu", s->info.shards[s->info.n_shards].name, &bytes);
        s->info.shards[s->info.n_shards++].bytes = bytes;
        s->info.bytes += bytes;
    } else if (s->n_replies < FAKE_REPLIES - 1 && !strcmp(line, "think")) {
        r->think = block(f);
    } else if (s->n_replies < FAKE_REPLIES - 1 &&
               (!strcmp(line, "answer") || !strcmp(line, "error"))) {
        r->error = *line == 'e';
        r->text = block(f);
        s->n_replies++;
    }
}

int fake_script_read(struct fake_script *s, const char *path, char *err)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return lade_fail(err, "%s: %s; name a script", path, strerror(errno));
    snprintf(s->info.path, sizeof s->info.path, "%s", path);
    snprintf(s->info.format, sizeof s->info.format, "safetensors");
    snprintf(s->info.quant, sizeof s->info.quant, "int4 mixed");
    s->info.layers = 48;
    s->info.experts = 512;
    s->info.experts_used = 10;
    s->info.hidden = 2048;
    s->info.vocab = 151936;
    s->info.sampling = (struct lade_sampling){
        .temperature = 0.7f, .top_k = 20, .top_p = 0.8f, .repetition_penalty = 1};
    s->hold = s->usable = 2;
    s->ram = 64;
    s->speed = s->rate = 1000;
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0)
        directive(s, f, line);
    free(line);
    fclose(f);
    return 0;
}

void fake_script_free(struct fake_script *s)
{
    for (int i = 0; i <= s->n_replies; i++) {
        free(s->replies[i].think);
        free(s->replies[i].text);
    }
    free(s->fail);
    free(s->noise);
}
