/* optimiser.c - see optimiser.h. The norms behind LARS are sums in double of pieces of fixed size,
 * added in order. */
#include "optimiser.h"

#include <math.h>

unsigned tacit_optimiser_states(tacit_optimiser_kind kind)
{
    return kind == TACIT_ADAMW ? 2 : 1;
}

typedef struct job {
    const tacit_optimiser *o;
    const tacit_params *params;
    const tacit_kernels *kernels;
    double rate, decay;
    uint64_t t;
} job;

/* |w|^2, w g and |g|^2 of a piece. */
static void sums_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_piece *piece = &j->params->pieces[chunk];
    const float *w = piece->param->value + piece->from, *g = piece->param->grad + piece->from;
    double *sums = j->params->sums + 3 * chunk;
    sums[0] = j->kernels->dot_f64(piece->count, w, w);
    sums[1] = j->kernels->dot_f64(piece->count, w, g);
    sums[2] = j->kernels->dot_f64(piece->count, g, g);
}

static bool is_lars(tacit_optimiser_kind kind)
{
    return kind != TACIT_SGD && kind != TACIT_ADAMW;
}

/* The coefficients of SGD for a tensor with these sums. */
static tacit_sgd sgd_of(const job *j, const tacit_param *p, const double sums[3])
{
    const tacit_optimiser *o = j->o;
    bool out = p->no_decay && !o->decay_all && o->kind != TACIT_LARC;
    double rate = j->rate * (double)p->rate, decay = out ? 0 : j->decay, scale = 1;
    double w = sqrt(sums[0]), g = sqrt(sums[2]);
    if (!out && (o->kind == TACIT_LARS || o->kind == TACIT_LARS_RATE)) {
        double h = sqrt(fmax(0, sums[2] + 2 * decay * sums[1] + decay * decay * sums[0]));
        scale = w > 0 && h > 0 ? o->trust * w / h : 1;
    } else if (!out && is_lars(o->kind)) {
        if (w > 0 && g > 0)
            scale = o->trust * w / (g + decay * w + 1e-8);
        else
            decay = 0;
        if (w > 0 && g > 0 && o->kind == TACIT_LARC_CLIP)
            scale = fmin(scale / rate, 1);
    }
    if (o->kind == TACIT_LARS_RATE) {
        scale *= rate;
        rate = 1;
    }
    return (tacit_sgd){ (float)rate, (float)o->momentum, (float)decay, (float)scale, o->nesterov };
}

static void step_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_piece *piece = &j->params->pieces[chunk];
    const tacit_param *p = piece->param;
    size_t at = piece->from;
    if (p->frozen || (double)j->t <= p->wait)
        return;
    if (j->o->kind == TACIT_ADAMW) {
        double decay = p->no_decay && !j->o->decay_all ? 0 : j->decay;
        tacit_adamw a = tacit_adamw_step(j->rate * (double)p->rate, decay, j->o->beta1, j->o->beta2,
                                         j->o->eps, j->t - (uint64_t)p->wait);
        j->kernels->adamw_f32(piece->count, &a, p->grad + at, p->state[0] + at, p->state[1] + at,
                              p->value + at);
        return;
    }
    tacit_sgd sgd = sgd_of(j, p, j->params->sums + 3 * chunk);
    j->kernels->sgd_f32(piece->count, &sgd, p->grad + at, p->state[0] + at, p->value + at);
}

/* Every piece gets the sums of its tensor. */
static void gather_sums(const tacit_params *params)
{
    for (size_t i = 0, end; i < params->piece_count; i = end) {
        double total[3] = { 0 };
        for (end = i;
             end < params->piece_count && params->pieces[end].param == params->pieces[i].param;
             end++)
            for (int s = 0; s < 3; s++)
                total[s] += params->sums[3 * end + s];
        for (size_t q = i; q < end; q++)
            for (int s = 0; s < 3; s++)
                params->sums[3 * q + s] = total[s];
    }
}

void tacit_optimiser_step(const tacit_optimiser *optimiser, tacit_params *params, double rate,
                          double decay, uint64_t t, const tacit_kernels *kernels, tacit_pool *pool)
{
    job j = { optimiser, params, kernels, rate, decay, t };
    if (is_lars(optimiser->kind)) {
        tacit_parallel_for(pool, params->piece_count, sums_chunk, &j);
        gather_sums(params);
    }
    tacit_parallel_for(pool, params->piece_count, step_chunk, &j);
}
