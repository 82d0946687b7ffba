/* pretrain_feed.h - made-up batches for tests of training: pixels are draws, no files are read. */
#ifndef TACIT_TESTS_PRETRAIN_FEED_H
#define TACIT_TESTS_PRETRAIN_FEED_H

#include "engine.h"
#include "rng.h"
#include "scratch.h"

#include <check.h>
#include <string.h>

/* The first two views have the side that is asked for, the others, local crops, have FEED_LOCAL. */
enum { FEED_EPOCH = 5, FEED_VIEWS = 4, FEED_LOCAL = 8, FEED_MOST = 16 };

typedef struct test_feed {
    tacit_feed feed;
    size_t side, whole, part; /* pixels, images of a step and of a part */
    float *views[FEED_VIEWS];
    uint32_t samples[FEED_MOST];
    uint64_t poison; /* from this step on a pixel is NaN; 0: never */
} test_feed;

static inline size_t feed_values(const test_feed *f, size_t view)
{
    size_t side = view < 2 ? f->side : FEED_LOCAL;
    return 3 * side * side;
}

/* The pixels of a step are the same whatever parts it has. */
static inline tacit_status feed_next(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                                     tacit_err *err)
{
    test_feed *f = ctx;
    size_t parts = f->whole / f->part;
    uint64_t step = epoch * FEED_EPOCH + index / parts, first = index % parts * f->part;
    (void)err;
    for (size_t v = 0; v < FEED_VIEWS; v++) {
        size_t values = feed_values(f, v);
        for (size_t i = 0; i < f->part * values; i++)
            f->views[v][i] = tacit_rng_uniform(7, 1000 * step + v, first * values + i) * 4 - 2;
    }
    if (f->poison && step >= f->poison)
        f->views[0][5] = nanf("");
    for (size_t i = 0; i < f->part; i++)
        f->samples[i] = (uint32_t)((step * f->whole + first + i) % (FEED_EPOCH * f->whole));
    *batch = (tacit_batch){ .epoch = epoch,
                            .step = index,
                            .samples = f->samples,
                            .views = (const float *const *)f->views };
    return TACIT_OK;
}

static inline void feed_open(test_feed *f, size_t side, size_t whole, size_t parts)
{
    *f = (test_feed){ .feed = { f, FEED_EPOCH * parts, feed_next },
                      .side = side,
                      .whole = whole,
                      .part = whole / parts };
    ck_assert(whole <= FEED_MOST);
    for (size_t v = 0; v < FEED_VIEWS; v++)
        ck_assert_ptr_nonnull(f->views[v] =
                                  tacit_alloc(f->part * feed_values(f, v) * sizeof(float)));
}

static inline void feed_close(test_feed *f)
{
    for (size_t v = 0; v < FEED_VIEWS; v++)
        tacit_free(f->views[v]);
}

/* The settings of tiny runs of each method, which data/pretrain_golden.safetensors has, too. */
static const char *const tiny_mae[] = { "arch=vit_tiny_patch4_32",
                                        "size=16",
                                        "dim=24",
                                        "depth=2",
                                        "heads=3",
                                        "decoder_dim=16",
                                        "decoder_depth=1",
                                        "decoder_heads=2",
                                        "batch=8",
                                        "accumulate=1",
                                        "epochs=4",
                                        "warmup_epochs=1",
                                        "lr=2e-3",
                                        "lr_scale=none",
                                        "seed=11",
                                        NULL };
static const char *const tiny_maskfeat[] = { "arch=vit_tiny_patch4_32",
                                             "size=16",
                                             "dim=24",
                                             "depth=2",
                                             "heads=3",
                                             "cell=2",
                                             "batch=8",
                                             "accumulate=1",
                                             "epochs=4",
                                             "warmup_epochs=1",
                                             "lr=2e-3",
                                             "lr_start=0",
                                             "lr_final=0",
                                             "lr_scale=none",
                                             "seed=11",
                                             NULL };
static const char *const tiny_maskfeat_deep[] = { "arch=vit_tiny_patch4_32",
                                                  "size=16",
                                                  "dim=24",
                                                  "depth=2",
                                                  "heads=3",
                                                  "target=data/frozen_weights.safetensors",
                                                  "normalise=cifar",
                                                  "clip=0.5",
                                                  "batch=8",
                                                  "accumulate=1",
                                                  "epochs=4",
                                                  "warmup_epochs=1",
                                                  "lr=2e-3",
                                                  "lr_start=0",
                                                  "lr_final=0",
                                                  "lr_scale=none",
                                                  "seed=11",
                                                  NULL };
static const char *const tiny_simclr[] = {
    "arch=resnet18_cifar", "size=12",         "dim=4",      "depth=1",       "head_hidden=16",
    "head_dim=8",          "temperature=0.5", "batch=8",    "accumulate=1",  "epochs=4",
    "warmup_epochs=1",     "lr=0.01",         "trust=0.01", "lr_scale=none", "weight_decay=0.01",
    "zero_init=false",     "seed=11",         NULL
};

#define TINY_RESNET                                                                                \
    "arch=resnet18_cifar", "size=12", "dim=2", "depth=1", "head_hidden=16", "head_dim=8",          \
        "batch=8", "accumulate=1", "epochs=4", "warmup_epochs=1", "lr=0.02", "lr_final=0",         \
        "trust=0.01", "lr_scale=none", "weight_decay=0.01", "zero_init=false", "seed=11"
static const char *const tiny_byol[] = { TINY_RESNET, "target_momentum=0.9", NULL };
static const char *const tiny_barlow[] = { TINY_RESNET, "lambda=0.02", "bias_rate=0.1", NULL };
static const char *const tiny_vicreg[] = { TINY_RESNET, "lr=0.005", NULL };
#define TINY_MOCO TINY_RESNET, "bn_groups=2", "key_momentum=0.9", "temperature=0.2"
static const char *const tiny_moco[] = { TINY_MOCO, "queue=24", NULL };
static const char *const tiny_moco_symmetric[] = { TINY_MOCO, "queue=32", "symmetric=true", NULL };
static const char *const tiny_swav[] = { TINY_RESNET,     "lr_start=0",      "local_crops=2",
                                         "local_size=8",  "prototypes=6",    "queue=19",
                                         "queue_epoch=1", "freeze_epochs=1", NULL };
static const char *const tiny_swav_vit[] = { "arch=vit_tiny_patch4_32",
                                             "size=16",
                                             "dim=24",
                                             "depth=2",
                                             "heads=3",
                                             "optimiser=adamw",
                                             "weight_decay=0.01",
                                             "head_hidden=16",
                                             "head_dim=8",
                                             "batch=8",
                                             "accumulate=1",
                                             "epochs=4",
                                             "warmup_epochs=1",
                                             "lr=5e-3",
                                             "lr_start=0",
                                             "lr_final=0",
                                             "eps=0.01",
                                             "seed=11",
                                             "local_crops=2",
                                             "local_size=8",
                                             "prototypes=6",
                                             "queue=19",
                                             "queue_epoch=1",
                                             "freeze_epochs=1",
                                             NULL };
#define TINY_DINO                                                                                  \
    "local_crops=2", "local_size=8", "outputs=12", "head_hidden=16", "head_dim=8",                 \
        "teacher_momentum=0.9", "teacher_temperature_epochs=3", "clip_tensor=2", "drop_path=0"
static const char *const tiny_dino[] = { TINY_DINO,
                                         "arch=vit_tiny_patch4_32",
                                         "size=16",
                                         "dim=24",
                                         "depth=2",
                                         "heads=3",
                                         "batch=8",
                                         "accumulate=1",
                                         "epochs=4",
                                         "warmup_epochs=1",
                                         "lr=2e-3",
                                         "lr_final=1e-5",
                                         "lr_scale=none",
                                         "seed=11",
                                         NULL };
static const char *const tiny_dino_resnet[] = { TINY_RESNET,
                                                TINY_DINO,
                                                "optimiser=sgd",
                                                "lr=0.005",
                                                "weight_decay_final=-1",
                                                "head_norm=true",
                                                "norm_last_layer=true",
                                                NULL };

static const char *const tiny_deepcluster[] = { TINY_RESNET,    "lr_start=0",   "local_crops=2",
                                                "local_size=8", "prototypes=4", NULL };

static const char *const tiny_deepcluster1[] = { "arch=resnet18_cifar",
                                                 "size=12",
                                                 "dim=2",
                                                 "depth=1",
                                                 "batch=8",
                                                 "accumulate=1",
                                                 "epochs=4",
                                                 "warmup_epochs=1",
                                                 "lr=0.02",
                                                 "schedule=cosine",
                                                 "weight_decay=0.01",
                                                 "zero_init=false",
                                                 "seed=11",
                                                 "clusters=4",
                                                 "pca=6",
                                                 NULL };

static const char *const tiny_moco3[] = { TINY_RESNET, "dim=3", "key_momentum=0.9", NULL };
static const char *const tiny_moco3_vit[] = { "arch=vit_tiny_patch4_32",
                                              "size=16",
                                              "dim=24",
                                              "depth=2",
                                              "heads=3",
                                              "optimiser=adamw",
                                              "weight_decay=0.1",
                                              "decay_all=true",
                                              "key_momentum=0.9",
                                              "temperature=0.2",
                                              "head_hidden=16",
                                              "head_dim=8",
                                              "batch=8",
                                              "accumulate=1",
                                              "epochs=4",
                                              "warmup_epochs=1",
                                              "lr=5e-3",
                                              "eps=0.01",
                                              "lr_scale=none",
                                              "seed=11",
                                              NULL };

static const char *const tiny_simmim[] = { "arch=vit_tiny_patch4_32",
                                           "size=16",
                                           "dim=24",
                                           "depth=2",
                                           "heads=3",
                                           "mask_unit=8",
                                           "drop_path=0",
                                           "batch=8",
                                           "accumulate=1",
                                           "epochs=4",
                                           "warmup_epochs=1",
                                           "lr=2e-3",
                                           "lr_start=1e-4",
                                           "lr_scale=none",
                                           "lr_drops=3",
                                           "clip=0.5",
                                           "seed=11",
                                           NULL };

static const char *const tiny_simmim_normalised[] = { "arch=vit_tiny_patch4_32",
                                                      "size=16",
                                                      "dim=24",
                                                      "depth=2",
                                                      "heads=3",
                                                      "mask_unit=8",
                                                      "norm_target=5",
                                                      "drop_path=0",
                                                      "batch=8",
                                                      "accumulate=1",
                                                      "epochs=4",
                                                      "warmup_epochs=1",
                                                      "lr=2e-3",
                                                      "lr_start=1e-4",
                                                      "lr_scale=none",
                                                      "lr_drops=3",
                                                      "clip=0.5",
                                                      "seed=11",
                                                      NULL };

static const char *const tiny_beit[] = { "arch=vit_tiny_patch4_32",
                                         "size=16",
                                         "dim=24",
                                         "depth=2",
                                         "heads=3",
                                         "tokenizer=data/tokenizer_weights.safetensors",
                                         "mask_patches=6",
                                         "mask_least=2",
                                         "drop_path=0",
                                         "batch=8",
                                         "accumulate=1",
                                         "epochs=4",
                                         "warmup_epochs=1",
                                         "lr=2e-3",
                                         "clip=0.5",
                                         "seed=11",
                                         NULL };

/* The context is drawn again now and then, and may have to overlap a block. */
static const char *const tiny_ijepa[] = { "arch=vit_tiny_patch4_32",
                                          "size=16",
                                          "dim=24",
                                          "depth=2",
                                          "heads=3",
                                          "target_blocks=3",
                                          "target_min=0.2",
                                          "target_max=0.45",
                                          "min_keep=1",
                                          "predictor_dim=12",
                                          "predictor_depth=1",
                                          "target_momentum=0.9",
                                          "batch=8",
                                          "accumulate=1",
                                          "epochs=4",
                                          "warmup_epochs=1",
                                          "lr=2e-3",
                                          "seed=11",
                                          NULL };

#define TINY_DVAE                                                                                  \
    "size=16", "stages=2", "hidden=6", "codes=10", "code_dim=5", "batch=8", "accumulate=1",        \
        "epochs=4", "warmup_epochs=1", "lr=2e-3", "lr_final=0", "weight_decay=0.05", "clip=0",     \
        "kl_weight=0.05", "temperature_final=0.5", "seed=11"
static const char *const tiny_dvae[] = { TINY_DVAE, NULL };
static const char *const tiny_dvae_smooth[] = { TINY_DVAE, "distance=smooth-l1", NULL };

static const char *const tiny_vqkd[] = { "arch=vit_tiny_patch4_32",
                                         "size=16",
                                         "dim=24",
                                         "depth=2",
                                         "heads=3",
                                         "target=data/frozen_weights.safetensors",
                                         "normalise=cifar",
                                         "codes=6",
                                         "code_dim=8",
                                         "code_decay=0.9",
                                         "batch=8",
                                         "accumulate=1",
                                         "epochs=4",
                                         "warmup_epochs=1",
                                         "lr=1e-3",
                                         "lr_final=0",
                                         "weight_decay=0.05",
                                         "seed=11",
                                         NULL };

/* Tiny runs of every method and tokenizer. A method's second one is called <method>-2 among the
 * golden. */
static const struct tiny {
    const char *method;
    size_t side;
    const char *const *settings;
} tiny[] = {
    { "simclr", 12, tiny_simclr },
    { "mae", 16, tiny_mae },
    { "byol", 12, tiny_byol },
    { "barlow", 12, tiny_barlow },
    { "vicreg", 12, tiny_vicreg },
    { "moco", 12, tiny_moco },
    { "moco", 12, tiny_moco_symmetric },
    { "moco3", 12, tiny_moco3 },
    { "moco3", 16, tiny_moco3_vit },
    { "swav", 12, tiny_swav },
    { "swav", 16, tiny_swav_vit },
    { "dino", 16, tiny_dino },
    { "dino", 12, tiny_dino_resnet },
    { "deepcluster", 12, tiny_deepcluster },
    { "deepcluster1", 12, tiny_deepcluster1 },
    { "maskfeat", 16, tiny_maskfeat },
    { "maskfeat", 16, tiny_maskfeat_deep },
    { "simmim", 16, tiny_simmim },
    { "simmim", 16, tiny_simmim_normalised },
    { "beit", 16, tiny_beit },
    { "ijepa", 16, tiny_ijepa },
    { "dvae", 16, tiny_dvae },
    { "dvae", 16, tiny_dvae_smooth },
    { "vqkd", 16, tiny_vqkd },
};
enum { TINY_SIMCLR, TINY_MAE, TINY_COUNT = sizeof tiny / sizeof *tiny };

/* The place of a method's first tiny run. */
static inline size_t tiny_of(const char *method)
{
    size_t i = 0;
    while (strcmp(tiny[i].method, method) != 0)
        ck_assert(++i < TINY_COUNT);
    return i;
}

/* A file "data/..." is one of tests/data. */
static inline void config_set(tacit_config *c, const char *setting)
{
    tacit_err err;
    char text[TACIT_SETTING_TEXT + 64];
    const char *file = strstr(setting, "=data/");
    if (file)
        snprintf(text, sizeof text, "%.*s%s", (int)(file + 1 - setting), setting, golden(file + 6));
    ck_assert_msg(!tacit_config_set(c, file ? text : setting, &err), "%s", err.text);
}

static inline void config_open(tacit_config *c, const char *method, const char *const *settings)
{
    tacit_err err;
    ck_assert_msg(!tacit_config_open(c, tacit_method_find(method), &err), "%s", err.text);
    for (; *settings; settings++)
        config_set(c, *settings);
}

static inline void engine_ready(tacit_engine *e, tacit_config *c, tacit_isa isa, tacit_pool *pool)
{
    tacit_err err;
    ck_assert_msg(!tacit_engine_declare(e, c, tacit_kernels_for(isa), pool, &err), "%s", err.text);
    ck_assert_msg(!tacit_engine_schedule(e, FEED_EPOCH * e->parts, &err), "%s", err.text);
    ck_assert_msg(!tacit_engine_open(e, &err), "%s", err.text);
}

#endif
