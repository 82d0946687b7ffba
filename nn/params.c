/* params.c - see params.h. */
#include "params.h"

#include "rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* SLEEF's deterministic variants: the same bits on every CPU, with FMA or without. */
double Sleef_cinz_logd1_u10purec(double);
double Sleef_cinz_sind1_u10purec(double);
double Sleef_cinz_cosd1_u10purec(double);
double Sleef_cinz_powd1_u10purec(double, double);

#define PIECE ((size_t)65536)
#define LINE  (TACIT_ALIGN / sizeof(float))

tacit_init tacit_init_xavier(size_t in, size_t out)
{
    return (tacit_init){ .kind = TACIT_INIT_UNIFORM, .size = sqrt(6.0 / (double)(in + out)) };
}

tacit_init tacit_init_kaiming(size_t fan)
{
    return (tacit_init){ .kind = TACIT_INIT_NORMAL, .size = sqrt(2.0 / (double)fan) };
}

tacit_init tacit_init_default(size_t in)
{
    return (tacit_init){ .kind = TACIT_INIT_UNIFORM, .size = 1 / sqrt((double)in) };
}

static bool same_shape(const tacit_param *p, unsigned rank, const size_t *shape)
{
    return p->rank == rank && !memcmp(p->shape, shape, rank * sizeof *shape);
}

tacit_status tacit_params_add(tacit_params *params, const char *name, unsigned rank,
                              const size_t *shape, tacit_init init, tacit_param **out,
                              tacit_err *err)
{
    *out = NULL;
    if (strlen(name) >= TACIT_PARAM_NAME || rank > 4)
        return tacit_fail(err, TACIT_ELIMIT, "tensor %s: a name of %d letters at most, rank 4",
                          name, TACIT_PARAM_NAME - 1);
    tacit_param *there = tacit_params_find(params, name);
    if (there && params->again && same_shape(there, rank, shape)) {
        *out = there;
        return TACIT_OK;
    }
    if (there)
        return tacit_fail(err, TACIT_ECONFLICT, "tensor %s is declared twice%s", name,
                          params->again ? ", in two shapes" : "");
    size_t count = 1, bytes;
    for (unsigned i = 0; i < rank; i++)
        if (!tacit_mul_size(count, shape[i], &count))
            return tacit_fail(err, TACIT_ELIMIT, "tensor %s is too large", name);
    if (!tacit_mul_size(count, sizeof(float), &bytes))
        return tacit_fail(err, TACIT_ELIMIT, "tensor %s is too large", name);
    if (params->count == params->room) {
        size_t room = params->room ? 2 * params->room : 64;
        tacit_param **list =
            tacit_realloc(params->list, params->count * sizeof *list, room * sizeof *list);
        if (!list)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for tensor %s", name);
        params->list = list;
        params->room = room;
    }
    tacit_param *p = tacit_calloc(1, sizeof *p);
    if (!p)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for tensor %s", name);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->rank = rank;
    memcpy(p->shape, shape, rank * sizeof *shape);
    p->count = count;
    p->init = init;
    p->no_decay = rank < 2;
    p->rate = 1;
    params->list[params->count++] = *out = p;
    return TACIT_OK;
}

unsigned tacit_params_blocks(const tacit_params *params, unsigned states)
{
    return (params->fixed ? 1 : 2) + states;
}

tacit_status tacit_params_open(tacit_params *params, unsigned states, tacit_err *err)
{
    size_t total = 0, floats = 0, pieces = 0;
    bool fits = true;
    for (size_t i = 0; i < params->count; i++) {
        size_t count = params->list[i]->count;
        pieces += count / PIECE + (count % PIECE != 0);
        fits = fits && tacit_add_size(count, LINE - 1, &count) &&
               tacit_add_size(floats, count / LINE * LINE, &floats);
    }
    for (unsigned i = 0; i < tacit_params_blocks(params, states); i++)
        fits = fits && tacit_arena_plan(&total, floats, sizeof(float));
    fits = fits && tacit_arena_plan(&total, pieces, sizeof(tacit_piece)) &&
           tacit_arena_plan(&total, pieces, 3 * sizeof(double));
    if (!fits)
        return tacit_fail(err, TACIT_ELIMIT, "a network of %zu tensors is too large",
                          params->count);
    tacit_status st = tacit_arena_open(&params->arena, total, err);
    if (st < 0)
        return tacit_fail_at(err, st, "parameters");
    memset(params->arena.base, 0, total);
    params->floats = floats;
    params->values = tacit_arena_take(&params->arena, floats, sizeof(float));
    if (!params->fixed)
        params->grads = tacit_arena_take(&params->arena, floats, sizeof(float));
    float *state[2] = { NULL, NULL };
    for (unsigned i = 0; i < states; i++)
        state[i] = tacit_arena_take(&params->arena, floats, sizeof(float));
    params->pieces = tacit_arena_take(&params->arena, pieces, sizeof *params->pieces);
    params->sums = tacit_arena_take(&params->arena, pieces, 3 * sizeof *params->sums);
    size_t at = 0;
    for (size_t i = 0; i < params->count; i++) {
        tacit_param *p = params->list[i];
        p->value = params->values + at;
        p->grad = params->grads ? params->grads + at : NULL;
        for (unsigned s = 0; s < states; s++)
            p->state[s] = state[s] + at;
        for (size_t from = 0; from < p->count; from += PIECE)
            params->pieces[params->piece_count++] =
                (tacit_piece){ p, from, p->count - from < PIECE ? p->count - from : PIECE };
        at += (p->count + LINE - 1) / LINE * LINE;
    }
    return TACIT_OK;
}

void tacit_params_close(tacit_params *params)
{
    for (size_t i = 0; i < params->count; i++)
        tacit_free(params->list[i]);
    tacit_free(params->list);
    tacit_arena_close(&params->arena);
    *params = (tacit_params){ 0 };
}

tacit_param *tacit_params_find(const tacit_params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++)
        if (!strcmp(params->list[i]->name, name))
            return params->list[i];
    return NULL;
}

size_t tacit_param_place(const tacit_param *p, size_t i)
{
    if (!p->channels_last)
        return i;
    size_t area = p->shape[2] * p->shape[3], channels = p->shape[1];
    size_t out = i / (channels * area), channel = i / area % channels;
    return (out * area + i % area) * channels + channel;
}

void tacit_param_copy_out(const tacit_param *param, bool grad, float *out)
{
    const float *from = grad ? param->grad : param->value;
    for (size_t i = 0; i < param->count; i++)
        out[i] = from[tacit_param_place(param, i)];
}

void tacit_param_copy_in(tacit_param *param, const float *in)
{
    for (size_t i = 0; i < param->count; i++)
        param->value[tacit_param_place(param, i)] = in[i];
}

size_t tacit_params_trained(const tacit_params *params)
{
    size_t sum = 0;
    for (size_t i = 0; i < params->count; i++)
        sum += params->list[i]->frozen ? 0 : params->list[i]->count;
    return sum;
}

/* Initial values ------------------------------------------------------------------------------ */

/* The stream of a tensor's draws: its name by FNV-1a. */
static uint64_t stream_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

/* Draws 4 i to 4 i + 3 of the standard normal distribution, by Box and Muller. */
static void normals(uint64_t seed, uint64_t stream, uint64_t i, double out[4])
{
    uint32_t w[4];
    tacit_philox(seed, stream, i, w);
    for (int j = 0; j < 4; j += 2) {
        double u = ((double)w[j] + 1) * 0x1p-32, angle = (double)w[j + 1] * 0x1p-31 * acos(-1);
        double radius = sqrt(-2 * Sleef_cinz_logd1_u10purec(u));
        out[j] = radius * Sleef_cinz_cosd1_u10purec(angle);
        out[j + 1] = radius * Sleef_cinz_sind1_u10purec(angle);
    }
}

static void init_normal(const tacit_piece *piece, uint64_t seed)
{
    const tacit_param *p = piece->param;
    uint64_t stream = stream_of(p->name);
    double four[4], again[4], cut = p->init.kind == TACIT_INIT_TRUNCATED ? p->init.cut : INFINITY;
    for (size_t i = piece->from; i < piece->from + piece->count; i++) {
        if (i % 4 == 0 || i == piece->from)
            normals(seed, stream, i / 4, four);
        double x = four[i % 4];
        for (uint64_t attempt = 1; !(fabs(x) <= cut); attempt++) {
            normals(seed, stream, i / 4 + (attempt << 48), again);
            x = again[i % 4];
        }
        p->value[i] = (float)(x * p->init.size);
    }
}

/* Kaiming He et al. 2021 (MAE): of a patch in row r and column c, with the frequencies w_i =
 * 10000^(-i / q), i < q = dim / 4: sin(c w), cos(c w), sin(r w), cos(r w). Chen et al. 2021 (MoCo
 * v3) have r before c. */
static void init_sincos(const tacit_piece *piece)
{
    const tacit_param *p = piece->param;
    size_t dim = p->shape[2], quarter = dim / 4, grid = 1;
    while ((grid + 1) * (grid + 1) <= p->shape[1])
        grid++;
    size_t cls = p->shape[1] - grid * grid; /* 1 or 0 */
    for (size_t at = piece->from; at < piece->from + piece->count; at++) {
        size_t token = at / dim, j = at % dim, i = j % quarter;
        if (token < cls || j >= 4 * quarter)
            continue; /* the class token's row stays 0 */
        bool column = (j / quarter < 2) == (p->init.kind == TACIT_INIT_SINCOS);
        size_t where = column ? (token - cls) % grid : (token - cls) / grid;
        double angle =
            (double)where / Sleef_cinz_powd1_u10purec(10000, (double)i / (double)quarter);
        p->value[at] = (float)(j / quarter % 2 ? Sleef_cinz_cosd1_u10purec(angle)
                                               : Sleef_cinz_sind1_u10purec(angle));
    }
}

static void unit_rows(tacit_param *p)
{
    size_t dim = p->shape[p->rank - 1];
    for (float *row = p->value; row < p->value + p->count; row += dim) {
        double sum = 0;
        for (size_t i = 0; i < dim; i++)
            sum += (double)row[i] * (double)row[i];
        for (size_t i = 0; i < dim; i++)
            row[i] = (float)((double)row[i] / sqrt(sum));
    }
}

static void init_piece(const tacit_piece *piece, uint64_t seed)
{
    const tacit_param *p = piece->param;
    float *to = p->value + piece->from;
    switch (p->init.kind) {
    case TACIT_INIT_CONSTANT:
        for (size_t i = 0; i < piece->count; i++)
            to[i] = (float)p->init.size;
        break;
    case TACIT_INIT_UNIFORM:
        for (size_t i = 0; i < piece->count; i++)
            to[i] =
                (float)((2 * (double)tacit_rng_uniform(seed, stream_of(p->name), piece->from + i) -
                         1) *
                        p->init.size);
        break;
    case TACIT_INIT_NORMAL:
    case TACIT_INIT_SPHERE:
    case TACIT_INIT_TRUNCATED: init_normal(piece, seed); break;
    case TACIT_INIT_SINCOS_ROWS:
    case TACIT_INIT_SINCOS: init_sincos(piece); break;
    }
}

typedef struct init_job {
    const tacit_params *params;
    uint64_t seed;
} init_job;

static void init_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const init_job *j = ctx;
    init_piece(&j->params->pieces[chunk], j->seed);
}

void tacit_params_init(tacit_params *params, uint64_t seed, tacit_pool *pool)
{
    init_job j = { params, seed };
    tacit_parallel_for(pool, params->piece_count, init_chunk, &j);
    for (size_t i = 0; i < params->count; i++)
        if (params->list[i]->init.kind == TACIT_INIT_SPHERE)
            unit_rows(params->list[i]);
}

void tacit_param_init(tacit_param *param, uint64_t seed)
{
    const tacit_piece whole = { param, 0, param->count };
    init_piece(&whole, seed);
    if (param->init.kind == TACIT_INIT_SPHERE)
        unit_rows(param);
}

/* All pieces ---------------------------------------------------------------------------------- */

static void clear_piece(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const tacit_piece *piece = &((const tacit_params *)ctx)->pieces[chunk];
    memset(piece->param->grad + piece->from, 0, piece->count * sizeof(float));
}

void tacit_params_clear_grads(tacit_params *params, tacit_pool *pool)
{
    tacit_parallel_for(pool, params->piece_count, clear_piece, params);
}

typedef struct piece_job {
    const tacit_params *params, *from;
    const tacit_kernels *kernels;
    float factor;
} piece_job;

static void norm_piece(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const piece_job *j = ctx;
    const tacit_piece *piece = &j->params->pieces[chunk];
    const float *grad = piece->param->grad + piece->from;
    j->params->sums[3 * chunk] = j->kernels->dot_f64(piece->count, grad, grad);
}

double tacit_params_grad_norm(tacit_params *params, const tacit_kernels *kernels, tacit_pool *pool,
                              const tacit_param **bad)
{
    piece_job j = { params, NULL, kernels, 0 };
    double sum = 0;
    tacit_parallel_for(pool, params->piece_count, norm_piece, &j);
    if (bad)
        *bad = NULL;
    for (size_t i = 0; i < params->piece_count; i++) {
        if (params->pieces[i].param->frozen)
            continue;
        if (bad && !*bad && !isfinite(params->sums[3 * i]))
            *bad = params->pieces[i].param;
        sum += params->sums[3 * i];
    }
    return sum;
}

static void scale_piece(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const piece_job *j = ctx;
    const tacit_piece *piece = &j->params->pieces[chunk];
    float *grad = piece->param->grad + piece->from;
    j->kernels->scale_add_f32(piece->count, grad, j->factor, NULL, grad);
}

void tacit_params_scale_grads(tacit_params *params, float factor, const tacit_kernels *kernels,
                              tacit_pool *pool)
{
    piece_job j = { params, NULL, kernels, factor };
    tacit_parallel_for(pool, params->piece_count, scale_piece, &j);
}

static void clip_piece(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const piece_job *j = ctx;
    const tacit_piece *piece = &j->params->pieces[chunk];
    float *grad = piece->param->grad + piece->from, factor = (float)j->params->sums[3 * chunk];
    if (factor < 1)
        j->kernels->scale_add_f32(piece->count, grad, factor, NULL, grad);
}

void tacit_params_clip_each(tacit_params *params, double most, const tacit_kernels *kernels,
                            tacit_pool *pool)
{
    piece_job j = { params, NULL, kernels, 0 };
    for (size_t i = 0, end; i < params->piece_count; i = end) {
        double sum = 0;
        for (end = i;
             end < params->piece_count && params->pieces[end].param == params->pieces[i].param;
             end++)
            sum += params->sums[3 * end];
        for (size_t p = i; p < end; p++) /* in place of the sums: the factor */
            params->sums[3 * p] = most / (sqrt(sum) + 1e-6);
    }
    tacit_parallel_for(pool, params->piece_count, clip_piece, &j);
}

static void average_piece(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const piece_job *j = ctx;
    const tacit_piece *to = &j->params->pieces[chunk], *from = &j->from->pieces[chunk];
    if (to->param->buffer)
        return;
    j->kernels->ema_f32(to->count, j->factor, from->param->value + from->from,
                        to->param->value + to->from);
}

void tacit_params_average(tacit_params *to, const tacit_params *from, double momentum,
                          const tacit_kernels *kernels, tacit_pool *pool)
{
    piece_job j = { to, from, kernels, (float)(1 - momentum) };
    assert(to->count <= from->count && to->piece_count <= from->piece_count);
    tacit_parallel_for(pool, to->piece_count, average_piece, &j);
}
