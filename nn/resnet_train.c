/* resnet_train.c - see resnet_train.h. */
#include "resnet_train.h"

#include <assert.h>
#include <stdio.h>

/* Elements of a chunk of what goes over whole maps. */
#define ELEMENTS ((size_t)16384)

static size_t block_count(const tacit_resnet_config *c)
{
    return (size_t)c->blocks[0] + c->blocks[1] + c->blocks[2] + c->blocks[3];
}

/* Declares a convolution of a map of `height` by `width`, and its norm. */
static tacit_status declare_part(tacit_resnet_train *net, tacit_conv_bn *part, const char *prefix,
                                 const char *conv, const char *norm, size_t height, size_t width,
                                 size_t in, size_t out, size_t kernel, size_t stride, bool relu,
                                 double gain, tacit_params *params, tacit_work *work,
                                 tacit_err *err)
{
    char name[TACIT_PARAM_NAME];
    snprintf(name, sizeof name, "%s%s", prefix, conv);
    tacit_status st =
        tacit_convolution_declare(&part->conv, name, height, width, in, out, kernel, stride,
                                  kernel / 2, net->max_batch, params, work, err);
    snprintf(name, sizeof name, "%s%s", prefix, norm);
    if (st == TACIT_OK)
        st = tacit_bn_declare(&part->bn, name, out, relu, TACIT_BN_AFFINE, gain,
                              net->max_batch * part->conv.shape.rows * part->conv.shape.columns,
                              params, work, err);
    tacit_work_need(&net->most, tacit_convolution_size(&part->conv));
    tacit_work_need(&net->most, height * width * in);
    return st;
}

/* Block b of stage s, on a map of *height by *width with `in` channels. */
static tacit_status declare_block(tacit_resnet_train *net, tacit_residual *b, unsigned s,
                                  unsigned j, size_t *height, size_t *width, size_t in, double gain,
                                  tacit_params *params, tacit_work *work, tacit_err *err)
{
    const tacit_resnet_config *c = &net->config;
    size_t middle = c->width[s], out = c->out[s], stride = s && !j ? 2 : 1;
    const struct part {
        const char *conv, *norm;
        size_t out, kernel, stride;
    } deep[] = { { "conv1", "bn1", middle, 1, 1 },
                 { "conv2", "bn2", middle, 3, stride },
                 { "conv3", "bn3", out, 1, 1 } },
      basic[] = { { "conv1", "bn1", middle, 3, stride }, { "conv2", "bn2", out, 3, 1 } };
    const struct part *parts = c->bottleneck ? deep : basic;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "layer%u.%u.", s + 1, j);
    b->parts = c->bottleneck ? 3 : 2;
    size_t rows = *height, columns = *width, channels = in;
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < b->parts; i++) {
        bool last = i + 1 == b->parts;
        st = declare_part(net, &b->part[i], prefix, parts[i].conv, parts[i].norm, rows, columns,
                          channels, parts[i].out, parts[i].kernel, parts[i].stride, !last,
                          last ? gain : 1, params, work, err);
        rows = b->part[i].conv.shape.rows;
        columns = b->part[i].conv.shape.columns;
        channels = parts[i].out;
    }
    if (st == TACIT_OK && (stride != 1 || in != out))
        st = declare_part(net, &b->shortcut, prefix, "downsample.0", "downsample.1", *height,
                          *width, in, out, 1, stride, false, 1, params, work, err);
    *height = rows;
    *width = columns;
    return st;
}

tacit_status tacit_resnet_train_declare(tacit_resnet_train *net, const tacit_resnet_config *config,
                                        bool zero_init, size_t max_batch, tacit_params *params,
                                        tacit_work *work, tacit_err *err)
{
    const tacit_resnet_config *c = config;
    *net = (tacit_resnet_train){
        .config = *c, .work = work, .max_batch = max_batch, .dim = c->out[3]
    };
    size_t height = c->height, width = c->image_width, in = c->stem;
    net->blocks = tacit_calloc(block_count(c), sizeof *net->blocks);
    if (!net->blocks)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a ResNet");
    tacit_status st =
        declare_part(net, &net->stem, "", "conv1", "bn1", height, width, 3, in,
                     c->small_stem ? 3 : 7, c->small_stem ? 1 : 2, true, 1, params, work, err);
    if (st < 0)
        return st;
    height = net->stem.conv.shape.rows;
    width = net->stem.conv.shape.columns;
    if (!c->small_stem) {
        net->most = 0; /* the gradient of the stem's map has its own place */
        net->pool = (tacit_conv){ height,
                                  width,
                                  in,
                                  in,
                                  3,
                                  2,
                                  1,
                                  tacit_conv_size(height, 3, 2, 1),
                                  tacit_conv_size(width, 3, 2, 1) };
        height = net->pool.rows;
        width = net->pool.columns;
    }
    for (unsigned s = 0; s < 4; s++)
        for (unsigned j = 0; j < c->blocks[s]; j++, in = c->out[s])
            if ((st = declare_block(net, &net->blocks[net->count++], s, j, &height, &width, in,
                                    zero_init ? 0 : 1, params, work, err)) < 0)
                return st;
    return st;
}

static void split_part(tacit_conv_bn *part, size_t groups, size_t pooled)
{
    part->bn.groups = groups;
    part->bn.pooled = pooled;
}

void tacit_resnet_train_split(tacit_resnet_train *net, size_t groups, size_t pooled)
{
    split_part(&net->stem, groups, pooled);
    for (size_t i = 0; i < net->count; i++) {
        tacit_residual *b = &net->blocks[i];
        for (size_t k = 0; k < b->parts; k++)
            split_part(&b->part[k], groups, pooled);
        split_part(&b->shortcut, groups, pooled);
    }
}

void tacit_resnet_train_close(tacit_resnet_train *net)
{
    tacit_free(net->blocks);
    *net = (tacit_resnet_train){ 0 };
}

/* Adds up, or where arena is given takes, `count` values for each image. */
static bool maps(const tacit_resnet_train *net, size_t *total, tacit_arena *arena, size_t count,
                 float **at)
{
    if (!arena)
        return tacit_arena_plan(total, net->max_batch, count * sizeof(float));
    *at = tacit_arena_take(arena, net->max_batch, count * sizeof(float));
    return true;
}

static bool plan_part(const tacit_resnet_train *net, size_t *total, tacit_arena *arena,
                      tacit_conv_bn *part, bool keeps)
{
    size_t size = tacit_convolution_size(&part->conv);
    if (arena)
        tacit_bn_take(&part->bn, arena);
    else if (!tacit_bn_plan(&part->bn, total))
        return false;
    return maps(net, total, arena, size, &part->z) &&
           (!keeps || maps(net, total, arena, size, &part->y));
}

static bool plan(tacit_resnet_train *net, size_t *total, tacit_arena *arena)
{
    const tacit_resnet_config *c = &net->config;
    bool fits = maps(net, total, arena, (size_t)3 * c->height * c->image_width, &net->input) &&
                plan_part(net, total, arena, &net->stem, true) &&
                maps(net, total, arena, net->dim, &net->features) &&
                maps(net, total, arena, net->dim, &net->d) &&
                maps(net, total, arena, net->pool.rows * net->pool.columns * net->pool.channels,
                     &net->pooled) &&
                maps(net, total, arena, net->pool.height * net->pool.width * net->pool.channels,
                     &net->unpooled);
    for (size_t i = 0; fits && i < 4; i++)
        fits = maps(net, total, arena, net->most, &net->turn[i]);
    for (size_t i = 0; fits && i < net->count; i++) {
        tacit_residual *b = &net->blocks[i];
        for (size_t p = 0; fits && p < b->parts; p++)
            fits = plan_part(net, total, arena, &b->part[p], p + 1 < b->parts);
        fits =
            fits && (!b->shortcut.conv.out || plan_part(net, total, arena, &b->shortcut, false)) &&
            maps(net, total, arena, tacit_convolution_size(&b->part[b->parts - 1].conv), &b->out);
    }
    return fits;
}

bool tacit_resnet_train_plan(const tacit_resnet_train *net, size_t *total)
{
    tacit_resnet_train copy = *net; /* without an arena nothing is written behind its pointers */
    return plan(&copy, total, NULL);
}

void tacit_resnet_train_take(tacit_resnet_train *net, tacit_arena *arena)
{
    plan(net, NULL, arena);
}

/* Whole maps ---------------------------------------------------------------------------------- */

typedef struct map_job {
    const tacit_resnet_train *net;
    size_t count;
    const float *x, *y;
    float *z;
    void (*run)(const tacit_kernels *k, size_t n, const float *x, const float *y, float *z);
} map_job;

static void map_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const map_job *j = ctx;
    size_t from = chunk * ELEMENTS, left = j->count - from;
    j->run(j->net->work->kernels, left < ELEMENTS ? left : ELEMENTS, j->x + from, j->y + from,
           j->z + from);
}

static void over_maps(const tacit_resnet_train *net, size_t count,
                      void (*run)(const tacit_kernels *, size_t, const float *, const float *,
                                  float *),
                      const float *x, const float *y, float *z)
{
    map_job j = { net, count, x, y, z, run };
    tacit_parallel_for(net->work->pool, (count + ELEMENTS - 1) / ELEMENTS, map_chunk, &j);
}

static void run_relu_back(const tacit_kernels *k, size_t n, const float *y, const float *dy,
                          float *dx)
{
    k->relu_backward_f32(n, y, dy, dx);
}

/* Forward ------------------------------------------------------------------------------------- */

static size_t pixels_of(const tacit_conv_bn *part)
{
    return part->conv.shape.rows * part->conv.shape.columns;
}

/* beside: what the result is added to, or NULL. */
static void part_forward(const tacit_resnet_train *net, tacit_conv_bn *part, const float *x,
                         const float *beside, float *y)
{
    size_t out = part->conv.out;
    tacit_convolution_forward(&part->conv, net->batch, x, part->z);
    tacit_bn_forward(net->work, &part->bn, net->batch * pixels_of(part), part->z, out, beside, out,
                     y, out);
}

static void block_forward(tacit_resnet_train *net, tacit_residual *b, const float *x)
{
    const float *beside = x;
    b->x = x;
    if (b->shortcut.conv.out) {
        part_forward(net, &b->shortcut, x, NULL, net->turn[0]);
        beside = net->turn[0];
    }
    for (size_t i = 0; i < b->parts; i++) {
        bool last = i + 1 == b->parts;
        float *y = last ? b->out : b->part[i].y;
        part_forward(net, &b->part[i], x, last ? beside : NULL, y);
        x = y;
    }
}

/* An image to channels last. */
static void input_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_resnet_train *net = ctx;
    size_t plane = (size_t)net->config.height * net->config.image_width;
    const float *from = net->images + image * 3 * plane;
    float *to = net->input + image * 3 * plane;
    for (size_t p = 0; p < plane; p++)
        for (size_t c = 0; c < 3; c++)
            to[3 * p + c] = from[c * plane + p];
}

static void pool_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_resnet_train *net = ctx;
    size_t outputs = net->pool.rows * net->pool.columns;
    net->work->kernels->maxpool_f32(&net->pool, image * outputs, outputs, net->stem.y,
                                    net->pooled + image * outputs * net->pool.channels,
                                    net->pool.channels);
}

/* The last block's last part has the shape of the last map. */
static const tacit_conv_bn *last_part(const tacit_resnet_train *net)
{
    const tacit_residual *b = &net->blocks[net->count - 1];
    return &b->part[b->parts - 1];
}

static void mean_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_resnet_train *net = ctx;
    size_t pixels = pixels_of(last_part(net));
    net->work->kernels->mean_rows_f32(pixels, net->dim,
                                      net->blocks[net->count - 1].out + image * pixels * net->dim,
                                      net->dim, net->features + image * net->dim);
}

const float *tacit_resnet_train_forward(tacit_resnet_train *net, const float *images, size_t batch)
{
    tacit_pool *pool = net->work->pool;
    assert(batch && batch <= net->max_batch);
    net->batch = batch;
    net->images = images;
    tacit_parallel_for(pool, batch, input_chunk, net);
    net->images = NULL;
    part_forward(net, &net->stem, net->input, NULL, net->stem.y);
    const float *x = net->stem.y;
    if (net->pool.kernel) {
        tacit_parallel_for(pool, batch, pool_chunk, net);
        x = net->pooled;
    }
    for (size_t i = 0; i < net->count; i++) {
        block_forward(net, &net->blocks[i], x);
        x = net->blocks[i].out;
    }
    tacit_parallel_for(pool, batch, mean_chunk, net);
    return net->features;
}

/* Backward ------------------------------------------------------------------------------------ */

/* dy goes through the norm to dz, which may be dy, and through the convolution to dx, where it is
 * added to `beside`, or NULL. */
static void part_backward(const tacit_resnet_train *net, tacit_conv_bn *part, const float *x,
                          const float *dy, float *dz, float *dx, const float *beside)
{
    size_t out = part->conv.out;
    tacit_bn_backward(net->work, &part->bn, net->batch * pixels_of(part), part->z, out, dy, out, dz,
                      out);
    tacit_convolution_backward(&part->conv, net->batch, x, dz, dx, beside);
}

/* turn[0] holds the gradient of the block's result, and then that of its input. */
static void block_backward(tacit_resnet_train *net, tacit_residual *b)
{
    const tacit_conv_bn *last = &b->part[b->parts - 1];
    float *g = net->turn[0], *free_one = net->turn[1], *d = net->turn[2], *side = net->turn[3];
    over_maps(net, net->batch * tacit_convolution_size(&last->conv), run_relu_back, b->out, g, g);
    const float *dy = g;
    for (size_t i = b->parts; i-- > 0;) {
        float *dz = dy == g ? free_one : (float *)d, *result = dz == free_one ? d : free_one;
        const float *beside = i ? NULL : g;
        if (!i && b->shortcut.conv.out) {
            part_backward(net, &b->shortcut, b->x, g, g, side, NULL);
            beside = side;
        }
        part_backward(net, &b->part[i], i ? b->part[i - 1].y : b->x, dy, dz, result, beside);
        free_one = dz;
        d = result;
        dy = d;
    }
    net->turn[0] = d;
    net->turn[1] = free_one;
    net->turn[2] = side;
    net->turn[3] = g;
}

/* The gradient of a feature, spread over the pixels that it is the mean of. */
static void spread_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_resnet_train *net = ctx;
    size_t pixels = pixels_of(last_part(net));
    for (size_t p = 0; p < pixels; p++)
        net->work->kernels->scale_add_f32(net->dim, net->d + image * net->dim, 1.0f / (float)pixels,
                                          NULL, net->turn[0] + (image * pixels + p) * net->dim);
}

static void unpool_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_resnet_train *net = ctx;
    const tacit_conv *p = &net->pool;
    size_t in = p->height * p->width * p->channels, out = p->rows * p->columns * p->channels;
    net->work->kernels->maxpool_backward_f32(p, net->stem.y + image * in,
                                             net->turn[0] + image * out, p->channels,
                                             net->unpooled + image * in);
}

void tacit_resnet_train_backward(tacit_resnet_train *net)
{
    tacit_pool *pool = net->work->pool;
    tacit_parallel_for(pool, net->batch, spread_chunk, net);
    for (size_t i = net->count; i-- > 0;)
        block_backward(net, &net->blocks[i]);
    float *g = net->turn[0];
    if (net->pool.kernel) {
        tacit_parallel_for(pool, net->batch, unpool_chunk, net);
        g = net->unpooled;
    }
    part_backward(net, &net->stem, net->input, g, g, NULL, NULL);
}
