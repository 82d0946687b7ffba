/* schedule.c - see schedule.h. */
#include "schedule.h"

/* SLEEF's deterministic variant: the same bits on every CPU, with FMA or without. */
double Sleef_cinz_cospid1_u05purec(double);

static double after_warmup(const tacit_schedule *s, double step)
{
    double left = s->steps - s->warmup, part = left > 0 ? (step - s->warmup) / left : 1;
    double value = s->base;
    part = part < 1 ? part : 1;
    switch (s->kind) {
    case TACIT_SCHEDULE_COSINE:
        return s->final + (s->base - s->final) * (1 + Sleef_cinz_cospid1_u05purec(part)) / 2;
    case TACIT_SCHEDULE_LINEAR: return s->base + (s->final - s->base) * part;
    case TACIT_SCHEDULE_STEP:
        for (size_t i = 0; i < s->drop_count && step >= s->drops[i]; i++)
            value *= s->drop;
        return value;
    case TACIT_SCHEDULE_CONSTANT: break;
    }
    return value;
}

double tacit_schedule_at(const tacit_schedule *s, double step)
{
    if (step >= s->warmup)
        return after_warmup(s, step);
    double over = s->inclusive ? s->warmup - 1 : s->warmup;
    return over > 0 ? s->start + (s->base - s->start) * step / over : s->base;
}
