/* meter.c - see meter.h. */
#include "meter.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int stop_signal, wake_fd = -1;

static void on_signal(int number)
{
    int fd = atomic_load(&wake_fd), before = errno;
    atomic_store(&stop_signal, number);
    ssize_t n = fd >= 0 ? write(fd, &(uint64_t){ 1 }, sizeof(uint64_t)) : 0;
    (void)n; /* a full one wakes as it is */
    errno = before;
}

void tacit_signals_wake(int fd)
{
    atomic_store(&wake_fd, fd);
}

const atomic_int *tacit_catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
    return &stop_signal;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void tacit_meter_open(tacit_meter *meter)
{
    const char *term = getenv("TERM");
    *meter = (tacit_meter){ .terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") };
}

void tacit_meter_show(tacit_meter *meter, uint64_t done, uint64_t total)
{
    double now = seconds();
    if (!meter->terminal || (meter->shown > 0 && now - meter->shown < 0.2))
        return;
    if (meter->shown == 0) {
        meter->start = now;
        meter->first = done;
    }
    meter->shown = now;
    double rate = now > meter->start ? (double)(done - meter->first) / (now - meter->start) : 0;
    char bar[31], left[32] = "";
    if (total) {
        int filled = (int)(30 * done / total);
        memset(bar, '.', 30);
        memset(bar, '#', (size_t)filled);
        bar[30] = 0;
        if (rate > 0) {
            unsigned long s = (unsigned long)((double)(total - done) / rate);
            snprintf(left, sizeof left, ", %lu:%02lu:%02lu left", s / 3600, s / 60 % 60, s % 60);
        }
        fprintf(stderr, "\r[%s] %llu/%llu", bar, (unsigned long long)done,
                (unsigned long long)total);
    } else {
        fprintf(stderr, "\r%llu images", (unsigned long long)done);
    }
    fprintf(stderr, ", %.1f/s%s\033[K", rate, left);
}

void tacit_meter_clear(const tacit_meter *meter)
{
    if (meter->terminal)
        fputs("\r\033[K", stderr);
}
