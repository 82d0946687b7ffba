/* swav_family.c - see swav_family.h. */
#include "swav_family.h"

const tacit_setting tacit_swav_settings[] = {
    { "temperature", TACIT_SETTING_REAL, "0.1", 0.001, 100, NULL, "of the softmax over prototypes",
      false },
    { "prototypes", TACIT_SETTING_WHOLE, "3000", 2, 1048576, NULL, "how many there are", false },
    { "head_hidden", TACIT_SETTING_WHOLE, "2048", 1, 16384, NULL,
      "width of the head's hidden layer", false },
    { "head_dim", TACIT_SETTING_WHOLE, "128", 2, 16384, NULL, "width of the embeddings", false },
    { 0 },
};

const char *const tacit_swav_quick[] = {
    "arch=resnet18_cifar", "dim=32",          "depth=1",
    "batch=128",           "accumulate=1",    "epochs=10",
    "warmup_epochs=1",     "optimiser=adamw", "lr=0.004",
    "lr_start=0",          "lr_final=0",      "lr_scale=linear",
    "weight_decay=1e-4",   "zero_init=true",  "prototypes=500",
    "head_hidden=512",     "local_crops=0",   "crop_min=0.2",
    "jitter=0.5",          "blur=0",          NULL,
};

tacit_tower_config tacit_swav_tower(const tacit_config *config)
{
    tacit_tower_config tower = {
        .layers = { { .out = tacit_config_whole(config, "head_hidden"),
                      .bias = true,
                      .norm = TACIT_MLP_BN,
                      .relu = true,
                      .name = "0",
                      .norm_name = "1" },
                    { .out = tacit_config_whole(config, "head_dim"),
                      .bias = true,
                      .norm = TACIT_MLP_NO_NORM,
                      .name = "3" } },
        .layer_count = 2,
    };
    tacit_tower_multicrop(&tower, config);
    return tower;
}
