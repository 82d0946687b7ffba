/* schedule.h - learning rate, weight decay, momentum as pure functions of the step.
 *
 * A linear warm-up, then constant, half a cosine (Loshchilov and Hutter 2016, arXiv:1608.03983), a
 * line, or drops at given steps. Steps count from 0 and may be fractions; the same bits on every
 * CPU.
 */
#ifndef TACIT_SCHEDULE_H
#define TACIT_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>

#define TACIT_SCHEDULE_DROPS 8

typedef enum tacit_schedule_kind {
    TACIT_SCHEDULE_COSINE, /* final + (base - final) (1 + cos(pi (s - W) / (S - W))) / 2 */
    TACIT_SCHEDULE_LINEAR, /* base + (final - base) (s - W) / (S - W)                    */
    TACIT_SCHEDULE_STEP,   /* base, times `drop` for each of drops that is behind        */
    TACIT_SCHEDULE_CONSTANT,
} tacit_schedule_kind;

typedef struct tacit_schedule {
    tacit_schedule_kind kind;
    double base, final;
    double steps;  /* S, of the whole run                                                   */
    double warmup; /* W: start + (base - start) s / W for s < W; MAE, MoCo v3, SimCLR, ...  */
    double start;
    bool inclusive; /* s / (W - 1) there, so that step W - 1 has base: DINO, SwAV, BEiT     */
    double drop, drops[TACIT_SCHEDULE_DROPS]; /* steps, ascending */
    size_t drop_count;
} tacit_schedule;

double tacit_schedule_at(const tacit_schedule *schedule, double step);

#endif
