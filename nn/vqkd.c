/* vqkd.c - see vqkd.h. */
#include "vqkd.h"

#include "most.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROWS 64 /* of a chunk */

/* SLEEF's deterministic variant: the same bits on every CPU. */
float Sleef_cinz_tanhf1_u10purec(float);

/* Declaring ----------------------------------------------------------------------------------- */

static tacit_trunk_config decoder_of(const tacit_vqkd_config *c)
{
    return (tacit_trunk_config){ .dim = c->encoder.dim,
                                 .depth = c->decoder_depth,
                                 .heads = c->encoder.heads,
                                 .mlp = c->encoder.mlp,
                                 .eps = c->encoder.eps,
                                 .recompute = c->encoder.recompute,
                                 .weight = { .kind = TACIT_INIT_NORMAL, .size = 0.02 } };
}

static tacit_status declare_task(tacit_task_layer *t, const char *name, size_t in, size_t out,
                                 size_t max_rows, tacit_params *params, tacit_work *work,
                                 tacit_err *err)
{
    const tacit_init small = { .kind = TACIT_INIT_NORMAL, .size = 0.02 };
    char full[64];
    snprintf(full, sizeof full, "%s.0", name);
    tacit_status st = tacit_dense_declare(&t->first, full, in, in, true, 0, NULL, small,
                                          TACIT_ZEROS, max_rows, params, work, err);
    snprintf(full, sizeof full, "%s.2", name);
    return st == TACIT_OK ? tacit_dense_declare(&t->second, full, in, out, true, 0, NULL, small,
                                                TACIT_ZEROS, max_rows, params, work, err)
                          : st;
}

static tacit_status declare_decoder(tacit_vqkd *v, tacit_params *params, tacit_err *err)
{
    const tacit_vqkd_config *c = &v->config;
    const tacit_init small = { .kind = TACIT_INIT_NORMAL, .size = 0.02 };
    const tacit_init begin = tacit_init_default(c->code_dim);
    tacit_trunk_config decoder = decoder_of(c);
    size_t dim = c->encoder.dim, rows = v->max_batch * v->tokens;
    tacit_status st = tacit_params_add(params, "decoder.cls_token", 3,
                                       (const size_t[]){ 1, 1, dim }, small, &v->cls, err);
    if (st == TACIT_OK)
        st = tacit_params_add(params, "decoder.pos_embed", 3, (const size_t[]){ 1, v->tokens, dim },
                              small, &v->positions, err);
    if (st == TACIT_OK)
        st = tacit_dense_declare(&v->embed, "decoder.patch_embed.proj", c->code_dim, dim, true, 4,
                                 (const size_t[]){ dim, c->code_dim, 1, 1 }, begin, begin,
                                 v->max_batch * v->patches, params, v->work, err);
    if (st == TACIT_OK)
        st = tacit_trunk_declare(&v->decoder, &decoder, "decoder.blocks", "decoder.norm",
                                 v->max_batch, v->tokens, params, v->work, err);
    if (st == TACIT_OK)
        st = declare_task(&v->decode, "decode_task_layer", dim, c->target_dim, rows, params,
                          v->work, err);
    return st;
}

/* fix_init_weight of the authors' VisionTransformer. */
static void begin_trunk(const tacit_trunk *trunk)
{
    for (size_t i = 0; i < trunk->config.depth; i++) {
        const tacit_block *b = &trunk->blocks[i];
        b->proj.w->init.size = b->fc2.w->init.size = 0.02 / sqrt(2 * (double)(i + 1));
    }
}

tacit_status tacit_vqkd_declare(tacit_vqkd *v, const tacit_vqkd_config *config, size_t max_batch,
                                tacit_params *params, tacit_work *work, tacit_err *err)
{
    const tacit_vqkd_config *c = config;
    const tacit_init sphere = { .kind = TACIT_INIT_SPHERE, .size = 1 };
    *v = (tacit_vqkd){ .config = *c, .work = work, .max_batch = max_batch };
    tacit_status st =
        tacit_vit_train_declare(&v->encoder, &c->encoder, max_batch, 0, params, work, err);
    if (st < 0)
        return st;
    if (!v->encoder.cls)
        return tacit_fail(err, TACIT_EINVAL, "the encoder needs a class token");
    v->patches = v->encoder.patches;
    v->tokens = v->encoder.lead + v->patches;
    st = declare_task(&v->encode, "encode_task_layer", c->encoder.dim, c->code_dim,
                      max_batch * v->tokens, params, work, err);
    if (st == TACIT_OK)
        st = tacit_params_add(params, "quantize.embedding.weight", 2,
                              (const size_t[]){ c->codes, c->code_dim }, sphere, &v->codebook, err);
    if (st == TACIT_OK) {
        v->codebook->frozen = true;
        begin_trunk(&v->encoder.trunk);
    }
    if (st == TACIT_OK && c->target_dim && (st = declare_decoder(v, params, err)) == TACIT_OK) {
        begin_trunk(&v->decoder);
        v->cls->no_decay = v->positions->no_decay = true;
        v->encoder.cls->no_decay = v->encoder.positions->no_decay = true;
    }
    size_t rows = (max_batch * v->patches + ROWS - 1) / ROWS;
    tacit_work_need(&work->worker_floats, ROWS * c->codes);
    tacit_work_need(&work->partial_floats, 2 * rows);
    tacit_work_need(&work->packed_floats,
                    tacit_gemm_packed_size(work->kernels, c->codes, c->code_dim));
    return st;
}

void tacit_vqkd_close(tacit_vqkd *v)
{
    tacit_vit_train_close(&v->encoder);
    tacit_trunk_close(&v->decoder);
    *v = (tacit_vqkd){ 0 };
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_vqkd *v, size_t *total, tacit_vqkd *to, tacit_arena *arena)
{
    const tacit_vqkd_config *c = &v->config;
    size_t rows = v->max_batch * v->patches, all = v->max_batch * v->tokens, dim = c->encoder.dim;
    bool trained = c->target_dim;
    const struct part {
        size_t rows, width;
        bool needed;
        float **at;
    } parts[] = {
        { all, dim, true, arena ? &to->encode.middle : NULL },
        { all, dim, trained, arena ? &to->decode.middle : NULL },
        { all, c->code_dim, true, arena ? &to->raw : NULL },
        { rows, c->code_dim, true, arena ? &to->vectors : NULL },
        { rows, c->code_dim, true, arena ? &to->quantised : NULL },
        { all, c->target_dim, trained, arena ? &to->predictions : NULL },
        { rows, c->code_dim, trained, arena ? &to->dvectors : NULL },
        { rows, v->decoder.ld, trained, arena ? &to->embedded : NULL },
        { all, v->decoder.ld, trained, arena ? &to->d : NULL },
        { c->codes, c->code_dim, trained, arena ? &to->sums : NULL },
        { c->codes, 1, trained, arena ? &to->bins : NULL },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!parts[i].needed)
            continue;
        else if (arena)
            *parts[i].at = tacit_arena_take(arena, parts[i].rows, parts[i].width * sizeof(float));
        else if (!tacit_arena_plan(total, parts[i].rows, parts[i].width * sizeof(float)))
            return false;
    if (arena)
        to->ids = tacit_arena_take(arena, rows, sizeof(uint32_t));
    return arena || tacit_arena_plan(total, rows, sizeof(uint32_t));
}

bool tacit_vqkd_plan(const tacit_vqkd *v, size_t *total)
{
    return plan(v, total, NULL, NULL) && tacit_vit_train_plan(&v->encoder, total) &&
           (!v->config.target_dim || tacit_trunk_plan(&v->decoder, total));
}

void tacit_vqkd_take(tacit_vqkd *v, tacit_arena *arena)
{
    plan(v, NULL, v, arena);
    tacit_vit_train_take(&v->encoder, arena);
    if (v->config.target_dim)
        tacit_trunk_take(&v->decoder, arena);
}

/* Linear, tanh, Linear ------------------------------------------------------------------------ */

typedef struct tanh_job {
    size_t n;
    float *y, *d;
} tanh_job;

#define ELEMENTS ((size_t)4096)

static void tanh_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const tanh_job *j = ctx;
    size_t end = (chunk + 1) * ELEMENTS < j->n ? (chunk + 1) * ELEMENTS : j->n;
    for (size_t i = chunk * ELEMENTS; i < end; i++)
        if (j->d)
            j->d[i] *= 1 - j->y[i] * j->y[i];
        else
            j->y[i] = Sleef_cinz_tanhf1_u10purec(j->y[i]);
}

/* y becomes tanh(y), or with d, d becomes its gradient. */
static void run_tanh(const tacit_work *work, size_t n, float *y, float *d)
{
    tanh_job j = { n, y, d };
    tacit_parallel_for(work->pool, (n + ELEMENTS - 1) / ELEMENTS, tanh_chunk, &j);
}

static void task_forward(const tacit_work *work, tacit_task_layer *t, size_t rows, const float *x,
                         size_t ldx, float *y)
{
    size_t width = t->first.out;
    tacit_dense_forward(work, &t->first, rows, x, ldx, t->middle, width, NULL);
    run_tanh(work, rows * width, t->middle, NULL);
    tacit_dense_forward(work, &t->second, rows, t->middle, width, y, t->second.out, NULL);
}

/* To dx, lddx apart; scratch has room for (rows, width). */
static void task_backward(const tacit_work *work, tacit_task_layer *t, size_t rows, const float *dy,
                          const float *x, size_t ldx, float *dx, size_t lddx, float *scratch)
{
    size_t width = t->first.out;
    tacit_dense_backward(work, &t->second, rows, dy, t->second.out, t->middle, width, scratch,
                         width, NULL);
    run_tanh(work, rows * width, t->middle, scratch);
    tacit_dense_backward(work, &t->first, rows, scratch, width, x, ldx, dx, lddx, NULL);
}

/* Forward ------------------------------------------------------------------------------------- */

/* An image's patches, of length 1. */
static void unit_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const tacit_vqkd *v = ctx;
    size_t n = v->config.code_dim, lead = v->tokens - v->patches;
    v->work->kernels->l2norm_f32(v->patches, n, v->raw + (image * v->tokens + lead) * n, n,
                                 v->vectors + image * v->patches * n, n);
}

void tacit_vqkd_encode(tacit_vqkd *v, const float *images, size_t batch, bool drop)
{
    v->batch = batch;
    const float *tokens = tacit_vit_train_forward(&v->encoder, images, batch, NULL, 0, drop);
    task_forward(v->work, &v->encode, batch * v->tokens, tokens, v->encoder.trunk.ld, v->raw);
    tacit_parallel_for(v->work->pool, batch, unit_chunk, v);
}

static size_t rows_of(const tacit_vqkd *v, size_t chunk)
{
    size_t left = v->batch * v->patches - chunk * ROWS;
    return left < ROWS ? left : ROWS;
}

static void quantise_chunk(void *ctx, size_t chunk, unsigned worker)
{
    tacit_vqkd *v = ctx;
    size_t n = v->config.code_dim, codes = v->config.codes, first = chunk * ROWS;
    size_t rows = rows_of(v, chunk);
    float *scores = v->work->worker + worker * v->work->worker_floats;
    v->work->kernels->gemm_f32(rows, codes, n, v->vectors + first * n, n, v->work->packed, scores,
                               codes, NULL);
    for (size_t row = 0; row < rows; row++, scores += codes) {
        size_t most = tacit_most(codes, scores);
        v->ids[first + row] = (uint32_t)most;
        memcpy(v->quantised + (first + row) * n, v->codebook->value + most * n,
               n * sizeof *v->quantised);
    }
}

void tacit_vqkd_quantise(tacit_vqkd *v)
{
    size_t n = v->config.code_dim;
    v->work->kernels->gemm_pack_f32(v->config.codes, n, v->codebook->value, n, v->work->packed);
    tacit_parallel_for(v->work->pool, (v->batch * v->patches + ROWS - 1) / ROWS, quantise_chunk, v);
}

/* An image's tokens for the decoder: class token and patches, with their positions. */
static void tokens_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_vqkd *v = ctx;
    const tacit_kernels *k = v->work->kernels;
    size_t dim = v->config.encoder.dim, ld = v->decoder.ld, lead = v->tokens - v->patches;
    float *x = tacit_trunk_input(&v->decoder) + image * v->tokens * ld;
    k->add_f32(dim, v->cls->value, v->positions->value, x);
    for (size_t i = 0; i < v->patches; i++)
        k->add_f32(dim, v->embedded + (image * v->patches + i) * ld,
                   v->positions->value + (lead + i) * dim, x + (lead + i) * ld);
}

void tacit_vqkd_decode(tacit_vqkd *v)
{
    size_t n = v->config.code_dim, ld = v->decoder.ld;
    tacit_dense_forward(v->work, &v->embed, v->batch * v->patches, v->quantised, n, v->embedded, ld,
                        NULL);
    tacit_parallel_for(v->work->pool, v->batch, tokens_chunk, v);
    const float *normed = tacit_trunk_forward(&v->decoder, v->batch, v->tokens, false);
    task_forward(v->work, &v->decode, v->batch * v->tokens, normed, ld, v->predictions);
}

/* Losses and backward ------------------------------------------------------------------------- */

typedef struct commit_job {
    tacit_vqkd *v;
    float factor;
} commit_job;

static void commit_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const commit_job *j = ctx;
    tacit_vqkd *v = j->v;
    size_t n = v->config.code_dim, at = chunk * ROWS * n;
    ((double *)(void *)v->work->partial)[chunk] = v->work->kernels->squared_error_f32(
        rows_of(v, chunk) * n, v->vectors + at, v->quantised + at, 2 * j->factor, v->dvectors + at);
}

double tacit_vqkd_commitment(tacit_vqkd *v, double beta, double of)
{
    commit_job j = { v, (float)(beta / of) };
    size_t chunks = (v->batch * v->patches + ROWS - 1) / ROWS;
    double sum = 0;
    memcpy(v->dvectors, v->vectors, v->batch * v->patches * v->config.code_dim * sizeof(float));
    tacit_parallel_for(v->work->pool, chunks, commit_chunk, &j);
    for (size_t i = 0; i < chunks; i++)
        sum += ((const double *)(const void *)v->work->partial)[i];
    return beta * sum / of;
}

/* The gradients of an image's embedded codes, without that of its class token. */
static void embedded_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_vqkd *v = ctx;
    size_t ld = v->decoder.ld, lead = v->tokens - v->patches;
    for (size_t i = 0; i < v->patches; i++)
        memcpy(v->embedded + (image * v->patches + i) * ld,
               v->d + (image * v->tokens + lead + i) * ld, v->config.encoder.dim * sizeof(float));
}

static void positions_chunk(void *ctx, size_t token, unsigned worker)
{
    (void)worker;
    tacit_vqkd *v = ctx;
    size_t dim = v->config.encoder.dim, ld = v->decoder.ld;
    v->work->kernels->sum_rows_f32(v->batch, dim, v->d + token * ld, v->tokens * ld, true,
                                   v->positions->grad + token * dim);
    if (!token)
        v->work->kernels->sum_rows_f32(v->batch, dim, v->d, v->tokens * ld, true, v->cls->grad);
}

/* Through the norm of an image's vectors; those of class tokens have no gradient. */
static void unit_back_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_vqkd *v = ctx;
    const tacit_kernels *k = v->work->kernels;
    size_t n = v->config.code_dim, lead = v->tokens - v->patches;
    float *raw = v->raw + image * v->tokens * n, *x = raw + lead * n;
    const float *dy = v->dvectors + image * v->patches * n;
    k->l2norm_backward_f32(v->patches, n, x, n, dy, n, v->vectors + image * v->patches * n, n);
    memset(raw, 0, lead * n * sizeof *raw);
    memcpy(x, v->vectors + image * v->patches * n, v->patches * n * sizeof *x);
}

void tacit_vqkd_backward(tacit_vqkd *v)
{
    const tacit_work *work = v->work;
    size_t ld = v->decoder.ld, n = v->config.code_dim, rows = v->batch * v->patches;
    task_backward(work, &v->decode, v->batch * v->tokens, v->predictions, v->decoder.normed, ld,
                  v->d, ld, v->decoder.wide);
    tacit_trunk_backward(&v->decoder, v->d);
    tacit_parallel_for(work->pool, v->tokens, positions_chunk, v);
    tacit_parallel_for(work->pool, v->batch, embedded_chunk, v);
    const tacit_after more = { .residual = v->dvectors, .ldr = n }; /* straight through */
    tacit_dense_backward(work, &v->embed, rows, v->embedded, ld, v->quantised, n, v->dvectors, n,
                         &more);
    tacit_parallel_for(work->pool, v->batch, unit_back_chunk, v);
    task_backward(work, &v->encode, v->batch * v->tokens, v->raw, v->encoder.trunk.normed,
                  v->encoder.trunk.ld, v->encoder.d, v->encoder.trunk.ld, v->encoder.trunk.wide);
    tacit_vit_train_backward(&v->encoder);
}

/* Codes --------------------------------------------------------------------------------------- */

void tacit_vqkd_clear(tacit_vqkd *v)
{
    memset(v->sums, 0, v->config.codes * v->config.code_dim * sizeof *v->sums);
    memset(v->bins, 0, v->config.codes * sizeof *v->bins);
}

void tacit_vqkd_gather(tacit_vqkd *v)
{
    size_t n = v->config.code_dim;
    for (size_t row = 0; row < v->batch * v->patches; row++) {
        float *sum = v->sums + v->ids[row] * n;
        v->bins[v->ids[row]] += 1;
        v->work->kernels->add_f32(n, sum, v->vectors + row * n, sum);
    }
}

void tacit_vqkd_update(tacit_vqkd *v, double decay)
{
    const tacit_kernels *k = v->work->kernels;
    size_t n = v->config.code_dim;
    for (size_t c = 0; c < v->config.codes; c++) {
        float *code = v->codebook->value + c * n, *mean = v->sums + c * n;
        for (size_t i = 0; i < n; i++)
            mean[i] /= v->bins[c] > 0 ? v->bins[c] : 1;
        k->l2norm_f32(1, n, mean, n, mean, n);
        const float *to = v->bins[c] > 0 ? mean : code;
        for (size_t i = 0; i < n; i++)
            code[i] = (float)decay * code[i] + (float)(1 - decay) * to[i];
        k->l2norm_f32(1, n, code, n, code, n);
    }
}

double tacit_vqkd_encode_flops(const tacit_vqkd *v)
{
    const tacit_vqkd_config *c = &v->config;
    double dim = c->encoder.dim, patches = (double)v->patches;
    return tacit_vit_train_flops(&c->encoder, 0, 0) / 3 +
           2 * patches * (dim * (dim + (double)c->code_dim) + (double)(c->codes * c->code_dim));
}

double tacit_vqkd_flops(const tacit_vqkd *v)
{
    const tacit_vqkd_config *c = &v->config;
    tacit_trunk_config decoder = decoder_of(c);
    double dim = c->encoder.dim, patches = (double)v->patches;
    double tokens = (double)v->tokens;
    return tacit_vit_train_flops(&c->encoder, 0, 0) +
           tacit_trunk_flops(&decoder, tokens, tokens, tokens) +
           6 * patches * dim * (2 * dim + 2 * (double)c->code_dim + (double)c->target_dim) +
           2 * patches * (double)(c->codes * c->code_dim);
}
