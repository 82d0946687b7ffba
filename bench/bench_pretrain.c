/* bench_pretrain.c - whole steps of training against the FMA limit: forward, backward, optimiser.
 *
 * Images are made up and stay the same; the loss is half the features' squared sum, or for the
 * masked autoencoder its own, with masks that are drawn anew. What a step needs in FLOPs counts as
 * much for any program: scores and norms that are made again do not count.
 */
#include "bench.h"
#include "masks.h"
#include "loss_mae.h"
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

#define SUBJECTS (sizeof subjects / sizeof *subjects)

/* One network with all that a step of it needs. */
typedef struct network {
    const subject *s;
    tacit_params params;
    tacit_work work;
    tacit_arena arena, data;
    tacit_vit_train vit;
    tacit_mae mae;
    tacit_mae_target target;
    tacit_resnet_train resnet;
    float *images;
    uint32_t *keep, *mask; /* of a full ViT: mask is its class tokens' rows */
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
    if (n->s->kind == MAE) {
        n->target =
            (tacit_mae_target){ n->s->config.encoder.image, n->s->config.encoder.patch, true };
        tacit_mae_loss_declare(&n->target, n->batch, &n->work);
        return tacit_mae_declare(&n->mae, &n->s->config, n->batch, patches_of(n) / 4, &n->params,
                                 &n->work, err);
    }
    return tacit_vit_train_declare(&n->vit, &n->s->config.encoder, n->batch, 0, &n->params,
                                   &n->work, err);
}

/* Images of noise. */
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

static void forward_mae(network *n)
{
    size_t kept = n->mae.kept, masked = n->mae.masked;
    for (size_t b = 0; b < n->batch; b++)
        tacit_mask_random(1, n->step, b, kept + masked, kept, n->keep + b * kept,
                          n->mask + b * masked);
    tacit_mae_forward(&n->mae, n->images, n->batch, n->keep, n->mask);
    tacit_mae_loss(&n->target, &n->work, n->images, n->batch, n->mask, masked, n->batch,
                   n->mae.predictions, n->mae.ld_pixels);
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
        forward_mae(n);
    } else {
        size_t ld = n->vit.trunk.ld; /* the class tokens, as joint embedding has it */
        for (size_t b = 0; b < n->batch; b++)
            n->mask[b] = (uint32_t)(b * (1 + n->vit.patches));
        tacit_trunk_want(&n->vit.trunk, n->mask, n->batch);
        const float *y = tacit_vit_train_forward(&n->vit, n->images, n->batch, NULL, 0, false);
        for (size_t b = 0; b < n->batch; b++)
            memcpy(n->vit.d + b * ld, y + b * ld, n->s->config.encoder.dim * sizeof *y);
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
        return tacit_vit_train_flops(&n->s->config.encoder, 0, 1);
    const tacit_convolution *stem = &n->resnet.stem.conv;
    return 3 * tacit_resnet_flops(&n->resnet.config) -
           2.0 * (double)tacit_convolution_size(stem) * (double)stem->dense.in;
}

/* What `rounds` steps took, behind one that touches the memory; gives the seconds of an image. */
static double measure(const tacit_bench_options *o, FILE *out, network *n, size_t rounds)
{
    double seconds[64], shares[64], parts[3][64], part[3];
    unsigned threads = tacit_pool_threads(n->work.pool);
    double flops = (double)n->batch * flops_of(n);
    size_t bytes = n->params.arena.size + n->work.arena.size + n->arena.size + n->data.size;
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
                "\"gflop\":%.6g,\"share\":%.4g,\"memory_bytes\":%zu,\"fma_cost\":%.9g}\n",
                n->s->name, n->batch, tacit_isa_name(n->work.kernels->isa), threads, time, part[0],
                part[1], part[2], (double)n->batch / time, flops * 1e-9, share, bytes,
                share > 0 ? flops * 1e-9 / share : 0);
    else
        fprintf(out, "%-36s %5zu %2u %9.1f %9.1f %9.1f %9.1f %9.2f %9.1f %6.1f %% %7.0f\n",
                n->s->name, n->batch, threads, time * 1e3, part[0] * 1e3, part[1] * 1e3,
                part[2] * 1e3, (double)n->batch / time, flops * 1e-9, 100 * share,
                (double)bytes * 0x1p-20);
    fflush(out);
    return time / (double)n->batch;
}

/* A masked autoencoder's step beside the full step of the same ViT, where both were measured. */
static void say_masked(const tacit_bench_options *o, FILE *out, const double *seconds)
{
    for (size_t m = 0; m < SUBJECTS; m++)
        for (size_t v = 0; v < SUBJECTS; v++) {
            const subject *mae = &subjects[m], *vit = &subjects[v];
            if (mae->kind != MAE || vit->kind != VIT || !strstr(mae->name, vit->name) ||
                seconds[m] <= 0 || seconds[v] <= 0)
                continue;
            size_t side = vit->config.encoder.image / vit->config.encoder.patch;
            double flops = tacit_mae_flops(&mae->config, side * side / 4) /
                           tacit_vit_train_flops(&vit->config.encoder, 0, 1);
            double time = seconds[m] / seconds[v];
            fprintf(out,
                    o->json ? "{\"masked\":\"%s\",\"full\":\"%s\",\"flop_ratio\":%.4g,"
                              "\"time_ratio\":%.4g}\n"
                            : "%s beside %s: %.3f of its FLOPs, %.3f of its time\n",
                    mae->name, vit->name, flops, time);
        }
}

typedef struct ground {
    tacit_pool *pool;
    tacit_isa isa;
} ground;

static tacit_status ground_open(ground *g, const tacit_bench_options *o, tacit_err *err)
{
    tacit_threads threads;
    tacit_status st = tacit_threads_select(o->threads, &threads, err);
    if (st < 0 || (st = tacit_isa_select(NULL, &g->isa, err)) < 0)
        return st;
    return tacit_pool_open(&g->pool, threads.use, err);
}

bool tacit_bench_chosen(const tacit_bench_options *o, const char *text)
{
    const char *const *f = o->filters;
    while (f && *f && !strstr(text, *f))
        f++;
    return !f || *f || f == o->filters;
}

/* Opened, and one step done: its memory is touched. */
static tacit_status network_begin(network *n, const tacit_bench_options *o, const ground *g,
                                  const subject *s, tacit_err *err)
{
    double part[3];
    *n = (network){ .s = s,
                    .batch = o->batch ? o->batch : s->batch,
                    .work = { .kernels = tacit_kernels_for(g->isa), .pool = g->pool } };
    tacit_status st = network_open(n, err);
    if (st == TACIT_OK)
        step(n, part);
    return st;
}

tacit_status tacit_bench_pretrain(const tacit_bench_options *o, FILE *out, tacit_err *err)
{
    ground g = { 0 };
    double seconds[SUBJECTS] = { 0 };
    tacit_status st = ground_open(&g, o, err);
    if (st == TACIT_OK && !o->json)
        fprintf(out, "%-36s %5s %2s %9s %9s %9s %9s %9s %9s %8s %7s\n", "step", "batch", "T", "ms",
                "forward", "backward", "optimiser", "images/s", "GFLOP", "of limit", "MiB");
    for (size_t i = 0; st == TACIT_OK && i < SUBJECTS; i++) {
        if (!tacit_bench_chosen(o, subjects[i].name))
            continue;
        network n;
        st = network_begin(&n, o, &g, &subjects[i], err);
        if (st == TACIT_OK)
            seconds[i] = measure(o, out, &n, o->rounds ? o->rounds : ROUNDS);
        network_close(&n);
    }
    if (st == TACIT_OK)
        say_masked(o, out, seconds);
    tacit_pool_close(&g.pool);
    return st;
}

tacit_status tacit_bench_steps(const tacit_bench_options *o, FILE *in, FILE *out, tacit_err *err)
{
    ground g = { 0 };
    network n;
    size_t i = 0;
    int c;
    while (i < SUBJECTS && !tacit_bench_chosen(o, subjects[i].name))
        i++;
    if (i == SUBJECTS)
        return tacit_fail(err, TACIT_EINVAL, "no network's name holds what is asked for");
    tacit_status st = ground_open(&g, o, err);
    if (st < 0)
        return st;
    st = network_begin(&n, o, &g, &subjects[i], err);
    while (st == TACIT_OK && (c = getc(in)) != EOF)
        if (c == '\n')
            measure(o, out, &n, 1);
    network_close(&n);
    tacit_pool_close(&g.pool);
    return st;
}
