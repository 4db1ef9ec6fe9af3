#include "tui/cmd/bandwidth.h"

#include <sys/wait.h>
#include <unistd.h>

#include "engine/plan/probe.h"

/* In a process of its own, because its memory would count as ours at the peak. */
double bandwidth_measure(int threads)
{
    int pipe_fd[2];
    double rate = 0;
    if (pipe(pipe_fd))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        rate = lade_probe_ram(threads);
        _exit(write(pipe_fd[1], &rate, sizeof(rate)) != sizeof(rate));
    }
    close(pipe_fd[1]);
    if (child < 0 || read(pipe_fd[0], &rate, sizeof(rate)) != sizeof(rate))
        rate = 0;
    close(pipe_fd[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return rate;
}
