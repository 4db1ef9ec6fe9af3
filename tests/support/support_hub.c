#include "tests/support/support_hub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void full_path(const struct support_hub *h, const char *path, char out[512])
{
    assert_true(snprintf(out, 512, "%s/%s", h->root, path) < 512);
    for (char *p = out + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(out, 0777);
        *p = '/';
    }
}

bool support_hub_start(struct support_hub *h)
{
    int to[2], from[2];
    char line[64];
    if (system("python3 -c pass >/dev/null 2>&1") != 0)
        return false;
    snprintf(h->root, sizeof h->root, "/tmp/lade-hub-XXXXXX");
    assert_non_null(mkdtemp(h->root));
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execlp("python3", "python3", "tests/support/hub_server.py", h->root, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    h->pid = pid;
    h->in = to[1];
    h->out = from[0];
    FILE *f = fdopen(dup(h->out), "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    assert_int_equal(sscanf(line, "%d %d", &h->port, &h->other), 2);
    snprintf(h->endpoint, sizeof h->endpoint, "http://127.0.0.1:%d", h->port);
    return true;
}

void support_hub_stop(struct support_hub *h)
{
    char command[128];
    close(h->in); /* it ends with its standard input */
    waitpid((pid_t)h->pid, NULL, 0);
    close(h->out);
    snprintf(command, sizeof command, "rm -rf '%s'", h->root);
    assert_int_equal(system(command), 0);
}

void support_hub_put(const struct support_hub *h, const char *path, const void *data, size_t len)
{
    char full[512];
    full_path(h, path, full);
    FILE *f = fopen(full, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

void support_hub_fill(const struct support_hub *h, const char *path, size_t len, unsigned seed)
{
    unsigned char *data = malloc(len + 1);
    uint32_t x = seed * 2654435761U + 1;
    assert_non_null(data);
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525U + 1013904223U;
        data[i] = (unsigned char)(x >> 24);
    }
    support_hub_put(h, path, data, len);
    free(data);
}

void support_hub_rules(const struct support_hub *h, const char *json)
{
    char answer[3];
    assert_int_equal(dprintf(h->in, "%s\n", json), strlen(json) + 1);
    for (size_t n = 0; n < sizeof answer;) {
        ssize_t k = read(h->out, answer + n, sizeof answer - n);
        assert_true(k > 0);
        n += (size_t)k;
    }
    assert_memory_equal(answer, "ok\n", sizeof answer);
}

int support_hub_count(const struct support_hub *h, const char *a, const char *b, const char *c)
{
    char full[512], line[1024];
    int n = 0;
    full_path(h, "log", full);
    FILE *f = fopen(full, "r");
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, a) && (!b || strstr(line, b)) && (!c || strstr(line, c));
    if (f)
        fclose(f);
    return n;
}

bool support_same_file(const char *a, const char *b)
{
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    bool same = f && g;
    while (same) {
        int c = getc(f);
        same = c == getc(g);
        if (c == EOF)
            break;
    }
    if (f)
        fclose(f);
    if (g)
        fclose(g);
    return same;
}
