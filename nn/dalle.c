/* dalle.c - see dalle.h. */
#include "dalle.h"

#include "most.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* SLEEF's deterministic variant: the same bits on every CPU. */
double Sleef_cinz_expd1_u10purec(double);

#define ROWS  64   /* pixels of a chunk */
#define LEAST 0.1f /* logit_laplace_eps: what black is in the network's scale */

/* Declaring ----------------------------------------------------------------------------------- */

static tacit_status declare_layer(tacit_dalle_layer *l, const char *name, size_t side, size_t in,
                                  size_t out, size_t kernel, tacit_params *params, tacit_work *work,
                                  tacit_err *err)
{
    char full[2 * TACIT_PARAM_NAME];
    tacit_status st = tacit_convolution_declare(&l->conv, name, side, side, in, out, kernel, 1,
                                                kernel / 2, 1, params, work, err);
    snprintf(full, sizeof full, "%s.bias", name);
    return st == TACIT_OK ? tacit_params_add(params, full, 1, &out, TACIT_ZEROS, &l->bias, err)
                          : st;
}

/* kernels: of its four convolutions. */
static tacit_status declare_block(tacit_dalle_block *b, const char *name, size_t side,
                                  const size_t kernels[4], tacit_params *params, tacit_work *work,
                                  tacit_err *err)
{
    char full[128];
    tacit_status st = TACIT_OK;
    b->pixels = side * side;
    if (b->in != b->out) {
        snprintf(full, sizeof full, "%s.id_path", name);
        st = declare_layer(&b->shortcut, full, side, b->in, b->out, 1, params, work, err);
    }
    for (size_t i = 0; st == TACIT_OK && i < 4; i++) {
        size_t in = i ? b->out / 4 : b->in, out = i < 3 ? b->out / 4 : b->out;
        snprintf(full, sizeof full, "%s.res_path.conv_%zu", name, i + 1);
        st = declare_layer(&b->res[i], full, side, in, out, kernels[i], params, work, err);
    }
    return st;
}

/* All blocks of the encoder, or the decoder, which begins with `in` channels. */
static tacit_status declare_groups(const tacit_dalle *d, tacit_dalle_block **blocks, bool decoder,
                                   size_t in, tacit_params *params, tacit_err *err)
{
    static const size_t kernels[2][4] = { { 3, 3, 3, 1 }, { 1, 3, 3, 3 } };
    const tacit_dalle_config *c = &d->config;
    tacit_dalle_block *b = *blocks = tacit_calloc(TACIT_DALLE_GROUPS * c->blocks, sizeof **blocks);
    if (!b)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu blocks",
                          TACIT_DALLE_GROUPS * c->blocks);
    for (size_t g = 0; g < TACIT_DALLE_GROUPS; g++)
        for (size_t i = 0; i < c->blocks; i++, b++) {
            char name[64];
            size_t side = decoder ? d->grid << g : c->size >> g;
            b->in = in;
            b->out = in = c->hidden << (decoder ? TACIT_DALLE_GROUPS - 1 - g : g);
            snprintf(name, sizeof name, "%s.blocks.group_%zu.block_%zu",
                     decoder ? "decoder" : "encoder", g + 1, i + 1);
            tacit_status st = declare_block(b, name, side, kernels[decoder], params, d->work, err);
            if (st < 0)
                return st;
        }
    return TACIT_OK;
}

static tacit_status declare_decoder(tacit_dalle *d, tacit_params *params, tacit_err *err)
{
    const tacit_dalle_config *c = &d->config;
    const size_t shape[4] = { c->begin, c->codes, 1, 1 };
    tacit_status st = tacit_params_add(params, "decoder.blocks.input.weight", 4, shape, TACIT_ZEROS,
                                       &d->codebook, err);
    if (st == TACIT_OK)
        st = tacit_params_add(params, "decoder.blocks.input.bias", 1, shape, TACIT_ZEROS,
                              &d->codebook_bias, err);
    if (st == TACIT_OK)
        st = declare_groups(d, &d->decoder, true, c->begin, params, err);
    if (st == TACIT_OK)
        st = declare_layer(&d->pixels_out, "decoder.blocks.output.conv", c->size, c->hidden, 6, 1,
                           params, d->work, err);
    return st;
}

tacit_status tacit_dalle_declare(tacit_dalle *d, const tacit_dalle_config *config,
                                 tacit_params *params, tacit_work *work, tacit_err *err)
{
    const tacit_dalle_config *c = config;
    *d = (tacit_dalle){ .config = *c, .work = work, .grid = c->size / TACIT_DALLE_PIXELS };
    d->tokens = d->grid * d->grid;
    if (!c->size || c->size % TACIT_DALLE_PIXELS || c->size > 4096)
        return tacit_fail(err, TACIT_EINVAL, "images of %zu pixels do not divide into tokens of %d",
                          c->size, TACIT_DALLE_PIXELS);
    if (!c->hidden || c->hidden % 4 || c->hidden > 4096 || !c->blocks || c->blocks > 64 ||
        !c->codes || c->codes > 65536 || c->begin > 4096)
        return tacit_fail(err, TACIT_EINVAL, "these are not the sizes of DALL-E's dVAE");
    tacit_status st = declare_layer(&d->input, "encoder.blocks.input", c->size, 3, c->hidden, 7,
                                    params, work, err);
    if (st == TACIT_OK)
        st = declare_groups(d, &d->encoder, false, c->hidden, params, err);
    if (st == TACIT_OK)
        st = declare_layer(&d->output, "encoder.blocks.output.conv", d->grid,
                           c->hidden << (TACIT_DALLE_GROUPS - 1), c->codes, 1, params, work, err);
    return st == TACIT_OK && c->begin ? declare_decoder(d, params, err) : st;
}

void tacit_dalle_close(tacit_dalle *d)
{
    tacit_free(d->encoder);
    tacit_free(d->decoder);
    *d = (tacit_dalle){ 0 };
}

/* Memory -------------------------------------------------------------------------------------- */

static void most_of(size_t *most, size_t n)
{
    *most = n > *most ? n : *most;
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_dalle *d, size_t *total, tacit_dalle *to, tacit_arena *arena)
{
    const tacit_dalle_config *c = &d->config;
    size_t pixels = c->size * c->size, map = pixels * c->hidden, narrow = 0;
    for (size_t i = 0; i < TACIT_DALLE_GROUPS * c->blocks; i++)
        for (size_t half = 0; half < (c->begin ? 2 : 1); half++) {
            const tacit_dalle_block *b = half ? &d->decoder[i] : &d->encoder[i];
            most_of(&map, b->pixels * (b->in > b->out ? b->in : b->out));
            most_of(&map, half ? 4 * b->pixels * b->out : 0); /* doubled in height and width */
            most_of(&narrow, b->pixels * b->out / 4);
        }
    if (c->begin && d->grid * d->grid * c->begin > map)
        map = d->grid * d->grid * c->begin;
    const struct part {
        size_t count;
        float **at;
    } parts[] = {
        { 3 * pixels, arena ? &to->image : NULL },
        { d->tokens * c->codes, arena ? &to->logits : NULL },
        { c->begin ? 6 * pixels : 0, arena ? &to->result : NULL },
        { map, arena ? &to->map[0] : NULL },
        { map, arena ? &to->map[1] : NULL },
        { map, arena ? &to->inner : NULL },
        { narrow, arena ? &to->narrow[0] : NULL },
        { narrow, arena ? &to->narrow[1] : NULL },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!parts[i].count)
            continue;
        else if (arena)
            *parts[i].at = tacit_arena_take(arena, parts[i].count, sizeof(float));
        else if (!tacit_arena_plan(total, parts[i].count, sizeof(float)))
            return false;
    return true;
}

bool tacit_dalle_plan(const tacit_dalle *d, size_t *total)
{
    return plan(d, total, NULL, NULL);
}

void tacit_dalle_take(tacit_dalle *d, tacit_arena *arena)
{
    plan(d, NULL, d, arena);
}

/* Forward ------------------------------------------------------------------------------------- */

/* Some pixels of a map of `n` channels; in place where `to` is `x`. */
typedef struct map_job {
    size_t pixels, n;
    const float *x, *bias; /* bias NULL: none */
    const float *base;     /* to = base + gain (x + bias); NULL: to = x + bias */
    float gain;
    bool relu;
    float *to;
} map_job;

static void map_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const map_job *j = ctx;
    size_t end = (chunk + 1) * ROWS < j->pixels ? (chunk + 1) * ROWS : j->pixels;
    for (size_t p = chunk * ROWS; p < end; p++) {
        const float *x = j->x + p * j->n;
        float *to = j->to + p * j->n;
        for (size_t c = 0; c < j->n; c++) {
            float y = j->bias ? x[c] + j->bias[c] : x[c];
            if (j->base)
                y = j->base[p * j->n + c] + j->gain * y;
            to[c] = j->relu && !(y > 0) ? 0 : y;
        }
    }
}

static void run_map(const tacit_dalle *d, map_job j)
{
    tacit_parallel_for(d->work->pool, (j.pixels + ROWS - 1) / ROWS, map_chunk, &j);
}

/* y = x convolved, and the bias. */
static void run_layer(const tacit_dalle *d, const tacit_dalle_layer *l, const float *x, float *y,
                      bool relu)
{
    tacit_convolution_forward(&l->conv, 1, x, y);
    run_map(d, (map_job){ .pixels = l->conv.shape.rows * l->conv.shape.columns,
                          .n = l->conv.out,
                          .x = y,
                          .bias = l->bias->value,
                          .relu = relu,
                          .to = y });
}

/* From map[0] to map[0]. */
static void run_block(tacit_dalle *d, const tacit_dalle_block *b)
{
    float layers = (float)(TACIT_DALLE_GROUPS * d->config.blocks), *x = d->map[0], *y = d->map[1];
    const tacit_dalle_layer *last = &b->res[3];
    run_map(d, (map_job){ .pixels = b->pixels, .n = b->in, .x = x, .relu = true, .to = d->inner });
    run_layer(d, &b->res[0], d->inner, d->narrow[0], true);
    run_layer(d, &b->res[1], d->narrow[0], d->narrow[1], true);
    run_layer(d, &b->res[2], d->narrow[1], d->narrow[0], true);
    if (b->in != b->out)
        run_layer(d, &b->shortcut, x, y, false);
    tacit_convolution_forward(&last->conv, 1, d->narrow[0], d->inner);
    run_map(d, (map_job){ .pixels = b->pixels,
                          .n = b->out,
                          .x = d->inner,
                          .bias = last->bias->value,
                          .base = b->in != b->out ? y : x,
                          .gain = 1 / (layers * layers),
                          .to = y });
    d->map[0] = y;
    d->map[1] = x;
}

/* map[0] (2 side, 2 side, n) to (side, side, n), the largest of each four; or with `doubled` from
 * there back, each pixel four times. A chunk is a row of the small one. */
typedef struct scale_job {
    size_t side, n;
    bool doubled;
    const float *x;
    float *to;
} scale_job;

static void scale_chunk(void *ctx, size_t row, unsigned worker)
{
    (void)worker;
    const scale_job *j = ctx;
    size_t n = j->n, line = 2 * j->side * n;
    for (size_t column = 0; column < j->side; column++) {
        size_t small = (row * j->side + column) * n, large = 2 * row * line + 2 * column * n;
        for (size_t c = 0; c < n; c++) {
            if (j->doubled) {
                float *to = j->to + large + c;
                to[0] = to[n] = to[line] = to[line + n] = j->x[small + c];
                continue;
            }
            const float *x = j->x + large + c;
            float up = x[n] > x[0] ? x[n] : x[0];
            float down = x[line + n] > x[line] ? x[line + n] : x[line];
            j->to[small + c] = down > up ? down : up;
        }
    }
}

static void run_scale(tacit_dalle *d, size_t side, size_t n, bool doubled)
{
    scale_job j = { side, n, doubled, d->map[0], d->map[1] };
    tacit_parallel_for(d->work->pool, side, scale_chunk, &j);
    d->map[1] = d->map[0];
    d->map[0] = j.to;
}

static void run_groups(tacit_dalle *d, const tacit_dalle_block *b, bool decoder)
{
    for (size_t g = 0; g < TACIT_DALLE_GROUPS; g++) {
        for (size_t i = 0; i < d->config.blocks; i++)
            run_block(d, b++);
        if (g + 1 < TACIT_DALLE_GROUPS)
            run_scale(d, decoder ? d->grid << g : d->config.size >> (g + 1), b[-1].out, decoder);
    }
}

/* relu(map[0]), convolved. */
static void run_output(tacit_dalle *d, const tacit_dalle_layer *l, float *y)
{
    run_map(d, (map_job){ .pixels = l->conv.shape.rows * l->conv.shape.columns,
                          .n = l->conv.shape.channels,
                          .x = d->map[0],
                          .relu = true,
                          .to = d->map[0] });
    run_layer(d, l, d->map[0], y, false);
}

void tacit_dalle_encode(tacit_dalle *d, const float *image, uint32_t *ids)
{
    size_t plane = d->config.size * d->config.size, codes = d->config.codes;
    for (size_t p = 0; p < plane; p++)
        for (size_t c = 0; c < 3; c++)
            d->image[3 * p + c] = image[c * plane + p];
    run_layer(d, &d->input, d->image, d->map[0], false);
    run_groups(d, d->encoder, false);
    run_output(d, &d->output, d->logits);
    for (size_t i = 0; i < d->tokens; i++)
        ids[i] = (uint32_t)tacit_most(codes, d->logits + i * codes);
}

/* The scale that the encoder takes, in which nothing is darker than black or brighter than white
 * (unmap_pixels). */
static float to_pixel(float mean)
{
    float x = (float)(1 / (1 + Sleef_cinz_expd1_u10purec(-(double)mean)));
    return x < LEAST ? LEAST : x > 1 - LEAST ? 1 - LEAST : x;
}

void tacit_dalle_decode(tacit_dalle *d, const uint32_t *ids, float *image)
{
    size_t plane = d->config.size * d->config.size, begin = d->config.begin;
    assert(begin);
    for (size_t i = 0; i < d->tokens; i++)
        for (size_t c = 0; c < begin; c++)
            d->map[0][i * begin + c] =
                d->codebook->value[c * d->config.codes + ids[i]] + d->codebook_bias->value[c];
    run_groups(d, d->decoder, true);
    run_output(d, &d->pixels_out, d->result);
    for (size_t p = 0; p < plane; p++)
        for (size_t c = 0; c < 3; c++)
            image[c * plane + p] = to_pixel(d->result[6 * p + c]);
}

static double layer_flops(const tacit_dalle_layer *l)
{
    const tacit_convolution *c = &l->conv;
    return 2.0 * (double)(c->shape.rows * c->shape.columns) * (double)c->dense.in * (double)c->out;
}

double tacit_dalle_encoder_flops(const tacit_dalle *d)
{
    double sum = layer_flops(&d->input) + layer_flops(&d->output);
    for (size_t i = 0; i < TACIT_DALLE_GROUPS * d->config.blocks; i++) {
        const tacit_dalle_block *b = &d->encoder[i];
        if (b->in != b->out)
            sum += layer_flops(&b->shortcut);
        for (size_t j = 0; j < 4; j++)
            sum += layer_flops(&b->res[j]);
    }
    return sum;
}
