/* engine.c - see engine.h. */
#include "engine.h"

#include "encoder.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Settings ------------------------------------------------------------------------------------ */

static double number(const tacit_engine *e, const char *name)
{
    return tacit_config_number(e->learner.config, name);
}

static void take_optimiser(tacit_engine *e)
{
    static const tacit_optimiser_kind kinds[] = { TACIT_SGD,  TACIT_LARS_RATE, TACIT_LARS,
                                                  TACIT_LARC, TACIT_LARC_CLIP, TACIT_ADAMW };
    const tacit_config *c = e->learner.config;
    e->optimiser = (tacit_optimiser){ .kind = kinds[tacit_config_choice(c, "optimiser")],
                                      .momentum = number(e, "momentum"),
                                      .nesterov = tacit_config_flag(c, "nesterov"),
                                      .decay_all = tacit_config_flag(c, "decay_all"),
                                      .trust = number(e, "trust"),
                                      .beta1 = number(e, "beta1"),
                                      .beta2 = number(e, "beta2"),
                                      .eps = number(e, "eps") };
}

/* "120,160" to epochs, ascending. */
static tacit_status take_drops(const char *text, tacit_schedule *rate, tacit_err *err)
{
    for (const char *p = text; *p;) {
        char *end;
        double epoch = strtod(p, &end);
        bool after = !rate->drop_count || epoch > rate->drops[rate->drop_count - 1];
        if (end == p || (*end && *end != ',') || !(epoch > 0 && epoch <= 1e6) || !after ||
            rate->drop_count == TACIT_SCHEDULE_DROPS)
            return tacit_fail(err, TACIT_EINVAL,
                              "lr_drops = '%.80s': use up to %d rising epochs, such as 120,160",
                              text, TACIT_SCHEDULE_DROPS);
        rate->drops[rate->drop_count++] = epoch;
        p = *end ? end + 1 : end;
    }
    return TACIT_OK;
}

/* In epochs; tacit_engine_schedule makes steps of them. */
static tacit_status take_schedules(tacit_engine *e, tacit_err *err)
{
    static const tacit_schedule_kind kinds[] = { TACIT_SCHEDULE_COSINE, TACIT_SCHEDULE_LINEAR,
                                                 TACIT_SCHEDULE_STEP, TACIT_SCHEDULE_CONSTANT };
    const tacit_config *c = e->learner.config;
    double batch = (double)e->learner.whole;
    const double factors[] = { 1, batch / 256, sqrt(batch) };
    double factor = factors[tacit_config_choice(c, "lr_scale")], decay = number(e, "weight_decay");
    double last = number(e, "weight_decay_final");
    e->rate = (tacit_schedule){ .kind = kinds[tacit_config_choice(c, "schedule")],
                                .base = factor * number(e, "lr"),
                                .final = factor * number(e, "lr_final"),
                                .start = factor * number(e, "lr_start"),
                                .warmup = number(e, "warmup_epochs"),
                                .inclusive = tacit_config_flag(c, "warmup_inclusive"),
                                .drop = number(e, "lr_drop") };
    e->decay = (tacit_schedule){ .kind = last < 0 ? TACIT_SCHEDULE_CONSTANT : TACIT_SCHEDULE_COSINE,
                                 .base = decay,
                                 .final = last };
    e->ahead = (tacit_config_flag(c, "schedule_next") ? 1 : 0) -
               (tacit_config_flag(c, "schedule_last") ? 1 : 0);
    bool drops = *tacit_config_string(c, "lr_drops");
    if (drops != (e->rate.kind == TACIT_SCHEDULE_STEP))
        return tacit_fail(err, TACIT_EINVAL,
                          "lr_drops goes with schedule = step, and it with lr_drops");
    return take_drops(tacit_config_string(c, "lr_drops"), &e->rate, err);
}

static bool has_backbone(const tacit_method *m)
{
    return m->vit || m->resnet;
}

/* Of a method without: the size of its images is all that is known. */
static tacit_status no_backbone(const tacit_config *c, tacit_backbone_config *backbone,
                                tacit_err *err)
{
    static const char *const sizes[] = { "patch", "dim", "depth", "heads" };
    unsigned size = (unsigned)tacit_config_whole(c, "size");
    bool none = !*tacit_config_string(c, "arch");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        none = none && !tacit_config_whole(c, sizes[i]);
    *backbone = (tacit_backbone_config){ .vit = { .height = size, .width = size } };
    if (!none)
        return tacit_fail(err, TACIT_EINVAL,
                          "%s has no backbone: leave arch, patch, dim, depth and heads alone",
                          c->method->name);
    return size ? TACIT_OK
                : tacit_fail(err, TACIT_EINVAL, "size = 0: %s needs the images' size",
                             c->method->name);
}

static tacit_status check_method(const tacit_engine *e, tacit_err *err)
{
    const tacit_config *c = e->learner.config;
    const tacit_method *m = e->method;
    bool vit = has_backbone(m) && e->learner.backbone.family == TACIT_FAMILY_VIT;
    if (has_backbone(m) && (vit ? !m->vit : !m->resnet))
        return tacit_fail(err, TACIT_EINVAL, "%s trains a %s, which %s is not: choose another arch",
                          m->name, vit ? "ResNet" : "ViT", tacit_config_string(c, "arch"));
    if (e->learner.whole % e->parts)
        return tacit_fail(err, TACIT_EINVAL,
                          "batch = %zu does not divide into accumulate = %zu parts",
                          e->learner.whole, e->parts);
    if (m->joint && e->learner.whole < 2)
        return tacit_fail(err, TACIT_EINVAL,
                          "batch = 1: %s tells images of a batch apart: use 2 at least", m->name);
    if (*tacit_config_string(c, "knn") && m->tokenizer)
        return tacit_fail(err, TACIT_EINVAL, "%s has no features: leave knn empty", m->name);
    if (*tacit_config_string(c, "pictures") && !tacit_method_draws(c))
        return tacit_fail(err, TACIT_EINVAL, "%s does not reconstruct%s: leave pictures empty",
                          m->name, m->picture ? " with these settings" : "");
    if (!vit && number(e, "drop_path") > 0)
        return tacit_fail(err, TACIT_EINVAL, "drop_path is a ViT's: arch is %s",
                          tacit_config_string(c, "arch"));
    return TACIT_OK;
}

/* Opening ------------------------------------------------------------------------------------- */

/* Numbers that a forward changes. */
static size_t buffers(const tacit_params *params)
{
    size_t floats = 0;
    for (size_t i = 0; i < params->count; i++)
        floats += params->list[i]->buffer ? params->list[i]->count : 0;
    return floats;
}

tacit_status tacit_engine_declare(tacit_engine *e, tacit_config *config,
                                  const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    const tacit_method *m = config->method;
    *e = (tacit_engine){ .method = m, .work = { .kernels = kernels, .pool = pool } };
    e->parts = tacit_config_whole(config, "accumulate");
    e->seed = tacit_config_whole(config, "seed");
    e->learner = (tacit_learner){ .config = config,
                                  .whole = tacit_config_whole(config, "batch"),
                                  .params = &e->params,
                                  .teacher = &e->teacher,
                                  .memory = &e->memory,
                                  .work = &e->work };
    e->learner.part = e->learner.whole / e->parts;
    e->teacher.fixed = e->memory.fixed = true;
    e->clip = number(e, "clip");
    e->clip_tensor = number(e, "clip_tensor");
    take_optimiser(e);
    tacit_status st = has_backbone(m) ? tacit_encoder_config(config, &e->learner.backbone, err)
                                      : no_backbone(config, &e->learner.backbone, err);
    if (st == TACIT_OK)
        st = check_method(e, err);
    if (st == TACIT_OK && m->backbone)
        m->backbone(config, &e->learner.backbone);
    if (st == TACIT_OK)
        st = take_schedules(e, err);
    if (st < 0)
        return st;
    e->state = tacit_calloc(1, m->state);
    if (!e->state)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %s", m->name);
    if ((st = m->declare(e->state, &e->learner, err)) < 0)
        return st;
    if (e->parts > 1 || m->survey)
        e->buffer_floats = buffers(&e->params) + buffers(&e->teacher);
    return TACIT_OK;
}

static bool plan(const tacit_engine *e, size_t *total)
{
    assert(!e->method->data || e->epoch_steps); /* scheduled */
    return e->method->plan(e->state, total) &&
           tacit_arena_plan(total, e->buffer_floats, sizeof(float));
}

static bool plan_params(const tacit_params *params, unsigned states, size_t *total)
{
    bool fits = true;
    for (size_t i = 0; fits && i < params->count; i++)
        for (unsigned b = 0; fits && b < tacit_params_blocks(params, states); b++)
            fits = tacit_arena_plan(total, params->list[i]->count, sizeof(float));
    return fits;
}

tacit_status tacit_engine_plan(const tacit_engine *e, size_t *parameters, size_t *rest,
                               tacit_err *err)
{
    size_t arena = 0, partial, worker;
    *parameters = 0;
    bool fits = plan(e, &arena) &&
                plan_params(&e->params, tacit_optimiser_states(e->optimiser.kind), parameters) &&
                plan_params(&e->teacher, 0, parameters) && plan_params(&e->memory, 0, parameters);
    fits = fits && tacit_mul_size(e->work.partial_floats, sizeof(float), &partial) &&
           tacit_mul_size(e->work.worker_floats * sizeof(float), tacit_pool_threads(e->work.pool),
                          &worker) &&
           tacit_add_size(arena, partial, rest) && tacit_add_size(*rest, worker, rest) &&
           tacit_add_size(*rest, e->work.packed_floats * sizeof(float), rest) &&
           tacit_add_size(*rest, e->work.tiles_floats * sizeof(float), rest);
    return fits ? TACIT_OK
                : tacit_fail(err, TACIT_ELIMIT, "parts of %zu images are too large",
                             e->learner.part);
}

tacit_status tacit_engine_open(tacit_engine *e, tacit_err *err)
{
    size_t total = 0;
    if (!plan(e, &total))
        return tacit_fail(err, TACIT_ELIMIT, "parts of %zu images are too large", e->learner.part);
    tacit_status st = tacit_params_open(&e->params, tacit_optimiser_states(e->optimiser.kind), err);
    if (st < 0 || (st = tacit_params_open(&e->teacher, 0, err)) < 0 ||
        (st = tacit_params_open(&e->memory, 0, err)) < 0 ||
        (st = tacit_work_open(&e->work, err)) < 0)
        return st;
    if ((st = tacit_arena_open(&e->arena, total, err)) < 0)
        return tacit_fail_at(err, st, "activations");
    e->method->take(e->state, &e->arena);
    e->buffers = tacit_arena_take(&e->arena, e->buffer_floats, sizeof(float));
    tacit_params_init(&e->params, e->seed, e->work.pool);
    tacit_params_init(&e->teacher, e->seed, e->work.pool);
    tacit_params_init(&e->memory, e->seed, e->work.pool);
    return TACIT_OK;
}

void tacit_engine_close(tacit_engine *e)
{
    if (e->state)
        e->method->close(e->state);
    tacit_free(e->state);
    tacit_arena_close(&e->arena);
    tacit_work_close(&e->work);
    tacit_params_close(&e->memory);
    tacit_params_close(&e->teacher);
    tacit_params_close(&e->params);
    *e = (tacit_engine){ 0 };
}

tacit_status tacit_engine_schedule(tacit_engine *e, uint64_t parts, tacit_err *err)
{
    e->epoch_steps = parts / e->parts;
    if (!e->epoch_steps)
        return tacit_fail(err, TACIT_EINVAL,
                          "batch = %zu is more than there are images: there are %llu for each pass",
                          e->learner.whole, (unsigned long long)parts * e->learner.part);
    const tacit_config *c = e->learner.config;
    double each = (double)e->epoch_steps, warmup = e->rate.warmup * each;
    uint64_t most = tacit_config_whole(c, "max_steps");
    e->steps = most ? most : (uint64_t)tacit_config_whole(c, "epochs") * e->epoch_steps;
    e->rate.steps = e->decay.steps = (double)e->steps;
    e->rate.warmup = warmup;
    for (size_t i = 0; i < e->rate.drop_count; i++)
        e->rate.drops[i] *= each;
    for (size_t i = 0; i < e->params.count; i++)
        e->params.list[i]->wait = floor(e->params.list[i]->wait * each + 0.5);
    if (e->steps && warmup > e->rate.steps)
        return tacit_fail(err, TACIT_EINVAL,
                          "warmup_epochs = %g is longer than the run: %g steps of %g",
                          e->rate.warmup / each, warmup, e->rate.steps);
    size_t rows = (size_t)e->epoch_steps * e->learner.whole;
    return e->method->data ? e->method->data(e->state, &e->learner, rows, err) : TACIT_OK;
}

/* A step -------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Adds the seconds since *from to *to, and begins again. */
static void lap(double *from, double *to)
{
    double t = now();
    *to += t - *from;
    *from = t;
}

static float *copy_set(tacit_params *params, float *at, bool back)
{
    for (size_t i = 0; i < params->count; i++) {
        tacit_param *p = params->list[i];
        if (!p->buffer)
            continue;
        memcpy(back ? p->value : at, back ? at : p->value, p->count * sizeof *at);
        at += p->count;
    }
    return at;
}

/* Batch norm's running statistics to e->buffers, or from there. */
static void copy_buffers(tacit_engine *e, bool back)
{
    if (e->buffer_floats)
        copy_set(&e->teacher, copy_set(&e->params, e->buffers, back), back);
}

typedef struct pass {
    tacit_engine *e;
    const tacit_feed *feed;
    tacit_step *result;
    tacit_batch batch;
    tacit_part part;
    double clock;
} pass;

/* Part `index` of an epoch. */
static tacit_status take_part(pass *p, uint64_t index, tacit_err *err)
{
    tacit_engine *e = p->e;
    tacit_status st = p->feed->next(p->feed->ctx, p->result->epoch, index, &p->batch, err);
    lap(&p->clock, &p->result->data_s);
    p->part = (tacit_part){ .batch = &p->batch,
                            .images = e->learner.part,
                            .index = index % e->parts,
                            .count = e->parts,
                            .seed = e->seed,
                            .step = e->step,
                            .steps = e->steps };
    return st;
}

static tacit_status forward(pass *p, size_t index, tacit_err *err)
{
    tacit_engine *e = p->e;
    tacit_status st = take_part(p, e->step % e->epoch_steps * e->parts + index, err);
    if (st == TACIT_OK)
        e->method->forward(e->state, &p->part);
    return st;
}

/* All that comes before an epoch's first step. */
static tacit_status begin_epoch(pass *p, tacit_err *err)
{
    tacit_engine *e = p->e;
    const tacit_method *m = e->method;
    tacit_status st = TACIT_OK;
    if (m->survey && (m->surveys || !e->step)) {
        copy_buffers(e, false);
        for (uint64_t i = 0; st == TACIT_OK && i < e->epoch_steps * e->parts; i++) {
            st = take_part(p, i, err);
            if (st == TACIT_OK)
                m->survey(e->state, &p->part);
            lap(&p->clock, &p->result->forward_s);
        }
        copy_buffers(e, true);
    }
    if (st == TACIT_OK && m->epoch)
        m->epoch(e->state, e->seed, p->result->epoch);
    lap(&p->clock, &p->result->forward_s);
    return st;
}

static void take_loss(pass *p)
{
    tacit_engine *e = p->e;
    p->result->loss += e->method->loss(e->state, &p->part, p->result->parts);
    if (e->look && p->part.index + 1 == e->parts)
        e->look(e->ctx);
    lap(&p->clock, &p->result->forward_s);
}

static void backward(pass *p)
{
    p->e->method->backward(p->e->state, &p->part);
    lap(&p->clock, &p->result->backward_s);
}

/* The gradients and the loss of all parts. */
static tacit_status gradients(pass *p, tacit_err *err)
{
    tacit_engine *e = p->e;
    tacit_status st = TACIT_OK;
    bool twice = e->method->joint && e->parts > 1;
    tacit_params_clear_grads(&e->params, e->work.pool);
    copy_buffers(e, false);
    for (size_t i = 0; twice && st == TACIT_OK && i < e->parts; i++) {
        st = forward(p, i, err);
        lap(&p->clock, &p->result->forward_s);
    }
    if (twice && st == TACIT_OK)
        take_loss(p);
    if (twice)
        copy_buffers(e, true);
    for (size_t i = 0; st == TACIT_OK && i < e->parts; i++) {
        st = forward(p, i, err);
        if (st == TACIT_OK && !twice)
            take_loss(p);
        lap(&p->clock, &p->result->forward_s);
        if (st == TACIT_OK)
            backward(p);
    }
    if (st < 0)
        copy_buffers(e, true);
    return st;
}

static bool all_finite(const tacit_param *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (!isfinite(p->value[i]))
            return false;
    return true;
}

static tacit_status check_set(const tacit_params *params, const char *whose, tacit_err *err)
{
    for (size_t i = 0; i < params->count; i++)
        if (!all_finite(params->list[i]))
            return tacit_fail(err, TACIT_EFORMAT, "%s%s holds a value that is not finite", whose,
                              params->list[i]->name);
    return TACIT_OK;
}

tacit_status tacit_engine_check(const tacit_engine *e, tacit_err *err)
{
    tacit_status st = check_set(&e->params, "", err);
    if (st == TACIT_OK)
        st = check_set(&e->teacher, "the teacher's ", err);
    return st == TACIT_OK ? check_set(&e->memory, "the memory's ", err) : st;
}

static tacit_status check_finite(const tacit_engine *e, const tacit_step *r, const tacit_param *bad,
                                 tacit_err *err)
{
    if (isfinite(r->loss) && !bad)
        return TACIT_OK;
    tacit_status st = tacit_engine_check(e, err);
    if (st < 0)
        return tacit_fail_at(err, st, "step %llu", (unsigned long long)r->step);
    if (bad)
        return tacit_fail(
            err, TACIT_EFORMAT,
            "step %llu: the loss is %g, the gradient of %s is not finite: a lower lr, "
            "a longer warm-up or clip may help",
            (unsigned long long)r->step, r->loss, bad->name);
    return tacit_fail(err, TACIT_EFORMAT, "step %llu: the loss is %g", (unsigned long long)r->step,
                      r->loss);
}

/* Each tensor first, then all of them. norm: of the whole gradient. */
static void clip(tacit_engine *e, double norm)
{
    const tacit_kernels *kernels = e->work.kernels;
    tacit_pool *pool = e->work.pool;
    if (e->clip_tensor > 0) { /* DINO's clip_gradients */
        tacit_params_clip_each(&e->params, e->clip_tensor, kernels, pool);
        norm = sqrt(tacit_params_grad_norm(&e->params, kernels, pool, NULL));
    }
    if (e->clip > 0 && norm > e->clip) /* PyTorch's clip_grad_norm_ */
        tacit_params_scale_grads(&e->params, (float)(e->clip / (norm + 1e-6)), kernels, pool);
}

tacit_status tacit_engine_step(tacit_engine *e, const tacit_feed *feed, tacit_step *result,
                               tacit_err *err)
{
    const tacit_param *bad;
    assert(e->epoch_steps);
    *result = (tacit_step){ .step = e->step + 1, .epoch = e->step / e->epoch_steps };
    pass p = { .e = e, .feed = feed, .result = result, .clock = now() };
    tacit_status st = e->step % e->epoch_steps ? TACIT_OK : begin_epoch(&p, err);
    if (st == TACIT_OK)
        st = gradients(&p, err);
    if (st < 0)
        return st;
    double norm = sqrt(tacit_params_grad_norm(&e->params, e->work.kernels, e->work.pool, &bad));
    result->gradient = norm;
    if ((st = check_finite(e, result, bad, err)) < 0)
        return st;
    clip(e, norm);
    double at = e->step || e->ahead > 0 ? (double)e->step + e->ahead : 0;
    result->rate = tacit_schedule_at(&e->rate, at);
    result->decay = tacit_schedule_at(&e->decay, at);
    tacit_optimiser_step(&e->optimiser, &e->params, result->rate, result->decay, e->step + 1,
                         e->work.kernels, e->work.pool);
    if (e->method->after)
        e->method->after(e->state, e->step, e->steps);
    lap(&p.clock, &result->optimiser_s);
    e->step++;
    return TACIT_OK;
}
