/* meter.h - what commands that take long have in common: to be stopped in order by a signal, and
 * the line that tells on a terminal how far they are. */
#ifndef TACIT_METER_H
#define TACIT_METER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* From now on the first SIGINT or SIGTERM puts its number where the result points to, until then 0,
 * and the second ends the process. A closed pipe and a file size limit are errors of write. */
const atomic_int *tacit_catch_signals(void);

/* From now on such a signal also adds 1 to an eventfd, so that poll sees it; -1: no more. */
void tacit_signals_wake(int fd);

typedef struct tacit_meter {
    bool terminal; /* stderr is one that can move its cursor: without it nothing is shown */
    double start, shown;
    uint64_t first; /* done when the clock started */
} tacit_meter;

void tacit_meter_open(tacit_meter *meter);
/* A bar with rate and time left, a few times a second; total 0: not known. */
void tacit_meter_show(tacit_meter *meter, uint64_t done, uint64_t total);
/* Before any other line: takes the bar away. */
void tacit_meter_clear(const tacit_meter *meter);

#endif
