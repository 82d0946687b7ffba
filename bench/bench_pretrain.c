/* bench_pretrain.c - whole steps of training against the FMA limit: forward, backward, optimiser.
 *
 * Images and masks are made up and stay the same; the loss is a sum with given weights, or for the
 * masked autoencoder squared errors. What a step needs in FLOPs counts as much for any program:
 * scores and norms that are made again do not count.
 */
#include "bench.h"
#include "mae.h"
#include "measure.h"
#include "optimiser.h"
#include "resnet_train.h"
#include "rng.h"

#include <string.h>

#define ROUNDS 5
#define SLICE  0.05 /* seconds of the limit beside each step */

typedef struct subject {
    const char *name;
    enum { VIT, MAE, RESNET } kind;
    size_t batch;
    tacit_mae_config config; /* of a ResNet only the size of the images */
} subject;

#define SMALL(size, p)                                                                             \
    {                                                                                              \
        .dim = 384, .depth = 12, .heads = 6, .mlp = 1536, .patch = p, .image = size, .eps = 1e-6f  \
    }
#define TINY(size, p)                                                                              \
    {                                                                                              \
        .dim = 192, .depth = 12, .heads = 3, .mlp = 768, .patch = p, .image = size, .eps = 1e-6f   \
    }

static const subject subjects[] = {
    { "vit_small_patch16_224", VIT, 32, { SMALL(224, 16), 0, 0, 0, 0 } },
    { "mae vit_small_patch16_224, 4 x 256", MAE, 32, { SMALL(224, 16), 256, 4, 8, 1024 } },
    { "vit_tiny_patch4_32", VIT, 32, { TINY(32, 4), 0, 0, 0, 0 } },
    { "mae vit_tiny_patch4_32, 2 x 128", MAE, 32, { TINY(32, 4), 128, 2, 4, 512 } },
    { "resnet18_cifar", RESNET, 128, { { .image = 32, .patch = 32 }, 0, 0, 0, 0 } },
    { "resnet50", RESNET, 16, { { .image = 224, .patch = 224 }, 0, 0, 0, 0 } },
};

/* One network with all that a step of it needs. */
typedef struct network {
    const subject *s;
    tacit_params params;
    tacit_work work;
    tacit_arena arena, data;
    tacit_vit_train vit;
    tacit_mae mae;
    tacit_resnet_train resnet;
    float *images;
    uint32_t *keep, *mask;
    size_t batch;
    uint64_t step;
} network;

static void network_close(network *n)
{
    switch (n->s->kind) {
    case MAE: tacit_mae_close(&n->mae); break;
    case VIT: tacit_vit_train_close(&n->vit); break;
    case RESNET: tacit_resnet_train_close(&n->resnet); break;
    }
    tacit_arena_close(&n->data);
    tacit_arena_close(&n->arena);
    tacit_work_close(&n->work);
    tacit_params_close(&n->params);
}

static size_t patches_of(const network *n)
{
    size_t side = n->s->config.encoder.image / n->s->config.encoder.patch;
    return side * side;
}

static tacit_status declare(network *n, tacit_err *err)
{
    tacit_resnet_config resnet;
    if (n->s->kind == RESNET && tacit_resnet_find(n->s->name, &resnet))
        return tacit_resnet_train_declare(&n->resnet, &resnet, true, n->batch, &n->params, &n->work,
                                          err);
    if (n->s->kind == MAE)
        return tacit_mae_declare(&n->mae, &n->s->config, n->batch, patches_of(n) / 4, &n->params,
                                 &n->work, err);
    return tacit_vit_train_declare(&n->vit, &n->s->config.encoder, n->batch, 0, &n->params,
                                   &n->work, err);
}

/* Images of noise; of each image's patches, every fourth from another first one is kept. */
static tacit_status make_data(network *n, tacit_err *err)
{
    size_t total = 0, patches = patches_of(n), side = n->s->config.encoder.image;
    size_t pixels = n->batch * 3 * side * side;
    tacit_arena_plan(&total, pixels, sizeof(float));
    tacit_arena_plan(&total, n->batch * patches, sizeof(uint32_t));
    tacit_arena_plan(&total, n->batch * patches, sizeof(uint32_t));
    tacit_status st = tacit_arena_open(&n->data, total, err);
    if (st < 0)
        return st;
    n->images = tacit_arena_take(&n->data, pixels, sizeof(float));
    n->keep = tacit_arena_take(&n->data, n->batch * patches, sizeof(uint32_t));
    n->mask = tacit_arena_take(&n->data, n->batch * patches, sizeof(uint32_t));
    for (size_t i = 0; i < pixels; i++)
        n->images[i] = tacit_rng_uniform(1, 2, i) * 4 - 2;
    for (size_t b = 0, k = 0, m = 0; b < n->batch; b++)
        for (size_t p = 0; p < patches; p++)
            if ((p + b) % 4 == 0)
                n->keep[k++] = (uint32_t)p;
            else
                n->mask[m++] = (uint32_t)p;
    return TACIT_OK;
}

static tacit_status network_open(network *n, tacit_err *err)
{
    size_t total = 0;
    tacit_status st = declare(n, err);
    if (st < 0 || (st = tacit_params_open(&n->params, 2, err)) < 0 ||
        (st = tacit_work_open(&n->work, err)) < 0)
        return st;
    if (!(n->s->kind == MAE      ? tacit_mae_plan(&n->mae, &total)
          : n->s->kind == RESNET ? tacit_resnet_train_plan(&n->resnet, &total)
                                 : tacit_vit_train_plan(&n->vit, &total)))
        return tacit_fail(err, TACIT_ELIMIT, "a batch of %zu is too large", n->batch);
    if ((st = tacit_arena_open(&n->arena, total, err)) < 0 || (st = make_data(n, err)) < 0)
        return st;
    switch (n->s->kind) {
    case MAE: tacit_mae_take(&n->mae, &n->arena); break;
    case VIT: tacit_vit_train_take(&n->vit, &n->arena); break;
    case RESNET: tacit_resnet_train_take(&n->resnet, &n->arena); break;
    }
    tacit_params_init(&n->params, 1, n->work.pool);
    return TACIT_OK;
}

/* Predictions become the gradients of their squares, as one pass of a loss would. */
static void loss_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    network *n = ctx;
    size_t values = n->mae.encoder.embed.in;
    for (size_t i = image * n->mae.masked; i < (image + 1) * n->mae.masked; i++) {
        float *row = n->mae.predictions + i * n->mae.ld_pixels;
        n->work.kernels->scale_add_f32(values, row, 1e-3f, NULL, row);
    }
}

/* A step; the seconds of its three parts. */
static void step(network *n, double parts[3])
{
    static const tacit_optimiser adamw = {
        .kind = TACIT_ADAMW, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8
    };
    double start = tacit_now();
    tacit_params_clear_grads(&n->params, n->work.pool);
    if (n->s->kind == RESNET) {
        const float *y = tacit_resnet_train_forward(&n->resnet, n->images, n->batch);
        memcpy(n->resnet.d, y, n->batch * n->resnet.dim * sizeof *y);
    } else if (n->s->kind == MAE) {
        tacit_mae_forward(&n->mae, n->images, n->batch, n->keep, n->mask);
        tacit_parallel_for(n->work.pool, n->batch, loss_chunk, n);
    } else {
        const float *y = tacit_vit_train_forward(&n->vit, n->images, n->batch, NULL, 0, false);
        size_t rows = n->batch * (1 + n->vit.patches), ld = n->vit.trunk.ld;
        for (size_t r = 0; r < rows; r++)
            memcpy(n->vit.d + r * ld, y + r * ld, n->s->config.encoder.dim * sizeof *y);
    }
    double middle = tacit_now();
    switch (n->s->kind) {
    case MAE: tacit_mae_backward(&n->mae); break;
    case VIT: tacit_vit_train_backward(&n->vit); break;
    case RESNET: tacit_resnet_train_backward(&n->resnet); break;
    }
    double end = tacit_now();
    tacit_optimiser_step(&adamw, &n->params, 1e-5, 0.05, ++n->step, n->work.kernels, n->work.pool);
    parts[0] = middle - start;
    parts[1] = end - middle;
    parts[2] = tacit_now() - end;
}

/* Of a forward and a backward of one image; that of the first layer ends at its weights. */
static double flops_of(const network *n)
{
    if (n->s->kind == MAE)
        return tacit_mae_flops(&n->s->config, patches_of(n) / 4);
    if (n->s->kind == VIT)
        return tacit_vit_train_flops(&n->s->config.encoder, 0);
    const tacit_convolution *stem = &n->resnet.stem.conv;
    return 3 * tacit_resnet_flops(&n->resnet.config) -
           2.0 * (double)tacit_convolution_size(stem) * (double)stem->dense.in;
}

static void measure(const tacit_bench_options *o, FILE *out, network *n)
{
    double seconds[64], shares[64], parts[3][64], part[3];
    unsigned threads = tacit_pool_threads(n->work.pool);
    size_t rounds = o->rounds ? o->rounds : ROUNDS;
    double flops = (double)n->batch * flops_of(n);
    size_t bytes = n->params.arena.size + n->work.arena.size + n->arena.size + n->data.size;
    step(n, part); /* first touch */
    for (size_t r = 0; r < rounds; r++) {
        double limit = tacit_fma_limit(n->work.kernels->isa, n->work.pool, SLICE);
        step(n, part);
        limit = (limit + tacit_fma_limit(n->work.kernels->isa, n->work.pool, SLICE)) / 2;
        seconds[r] = part[0] + part[1] + part[2];
        shares[r] = limit > 0 ? flops * 1e-9 / seconds[r] / limit : 0;
        for (int i = 0; i < 3; i++)
            parts[i][r] = part[i];
    }
    double time = tacit_quantile(seconds, rounds, 0.5), share = tacit_quantile(shares, rounds, 0.5);
    for (int i = 0; i < 3; i++)
        part[i] = tacit_quantile(parts[i], rounds, 0.5);
    if (o->json)
        fprintf(out,
                "{\"step\":\"%s\",\"batch\":%zu,\"isa\":\"%s\",\"threads\":%u,\"time_s\":%.6g,"
                "\"forward_s\":%.6g,\"backward_s\":%.6g,\"optimiser_s\":%.6g,\"images_s\":%.6g,"
                "\"gflop\":%.6g,\"share\":%.4g,\"memory_bytes\":%zu}\n",
                n->s->name, n->batch, tacit_isa_name(n->work.kernels->isa), threads, time, part[0],
                part[1], part[2], (double)n->batch / time, flops * 1e-9, share, bytes);
    else
        fprintf(out, "%-36s %5zu %2u %9.1f %9.1f %9.1f %9.1f %9.2f %9.1f %6.1f %% %7.0f\n",
                n->s->name, n->batch, threads, time * 1e3, part[0] * 1e3, part[1] * 1e3,
                part[2] * 1e3, (double)n->batch / time, flops * 1e-9, 100 * share,
                (double)bytes * 0x1p-20);
    fflush(out);
}

tacit_status tacit_bench_pretrain(const tacit_bench_options *o, FILE *out, tacit_err *err)
{
    tacit_threads threads;
    tacit_pool *pool = NULL;
    tacit_isa isa;
    tacit_status st = tacit_threads_select(o->threads, &threads, err);
    if (st < 0 || (st = tacit_isa_select(NULL, &isa, err)) < 0 ||
        (st = tacit_pool_open(&pool, threads.use, err)) < 0)
        return st;
    if (!o->json)
        fprintf(out, "%-36s %5s %2s %9s %9s %9s %9s %9s %9s %8s %7s\n", "step", "batch", "T", "ms",
                "forward", "backward", "optimiser", "images/s", "GFLOP", "of limit", "MiB");
    for (size_t i = 0; st == TACIT_OK && i < sizeof subjects / sizeof *subjects; i++) {
        if (o->filter && !strstr(subjects[i].name, o->filter))
            continue;
        network n = { .s = &subjects[i],
                      .batch = o->batch ? o->batch : subjects[i].batch,
                      .work = { .kernels = tacit_kernels_for(isa), .pool = pool } };
        st = network_open(&n, err);
        if (st == TACIT_OK)
            measure(o, out, &n);
        network_close(&n);
    }
    tacit_pool_close(&pool);
    return st;
}
