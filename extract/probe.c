/* probe.c - what both probes have in common. See probe.h. */
#include "probe.h"

#include "rng.h"

#include <string.h>

void tacit_shuffle(uint32_t *order, size_t n, uint64_t seed, uint64_t stream)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) { /* Fisher and Yates */
        size_t j = (size_t)((uint64_t)tacit_rng_u32(seed, stream, i) * i >> 32);
        uint32_t swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
}

size_t tacit_hold_out(bool *held, uint32_t *scratch, size_t rows, uint64_t seed)
{
    size_t count = (rows + 9) / 10;
    tacit_shuffle(scratch, rows, seed, 0);
    memset(held, 0, rows * sizeof *held);
    for (size_t i = 0; i < count; i++)
        held[scratch[i]] = true;
    return count;
}

tacit_status tacit_probe_try(const tacit_probe_set *set, const tacit_classifier *classifier,
                             const bool *held, tacit_probe_trial *trial, tacit_err *err)
{
    tacit_score score;
    tacit_status st = tacit_score_open(&score, set->labels, false, err);
    if (st < 0)
        return st;
    st = tacit_classifier_score(classifier, set->vectors, set->labels, held, set->kernels,
                                set->pool, &score, &trial->finite, err);
    trial->top1 = tacit_percent(score.top1, score.rows);
    trial->top5 = tacit_percent(score.top5, score.rows);
    tacit_score_close(&score);
    return st;
}

tacit_status tacit_probe_choose(tacit_probe_result *r, tacit_err *err)
{
    const tacit_probe_trial *best = NULL;
    for (unsigned i = 0; i < r->count; i++)
        if (r->trials[i].finite && (!best || r->trials[i].top1 > best->top1))
            best = &r->trials[i];
    if (!best)
        return tacit_fail(err, TACIT_EINVAL, "training diverged; use a smaller --lr");
    r->chosen = (unsigned)(best - r->trials);
    return TACIT_OK;
}
