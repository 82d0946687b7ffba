/* settings.c - the trainer's settings, which every method has. See config.h. */
#include "config.h"

#define WHOLE(name, fallback, min, max, help, free)                                                \
    {                                                                                              \
        name, TACIT_SETTING_WHOLE, fallback, min, max, NULL, help, free                            \
    }
#define REAL(name, fallback, min, max, help)                                                       \
    {                                                                                              \
        name, TACIT_SETTING_REAL, fallback, min, max, NULL, help, false                            \
    }
#define FLAG(name, fallback, help)                                                                 \
    {                                                                                              \
        name, TACIT_SETTING_FLAG, fallback, 0, 0, NULL, help, false                                \
    }
#define CHOICE(name, fallback, choices, help)                                                      \
    {                                                                                              \
        name, TACIT_SETTING_CHOICE, fallback, 0, 0, choices, help, false                           \
    }
#define STRING(name, fallback, help, free)                                                         \
    {                                                                                              \
        name, TACIT_SETTING_STRING, fallback, 0, 0, NULL, help, free                               \
    }

const tacit_setting tacit_trainer_settings[] = {
    STRING(
        "images", "",
        "folder (with class sub-folders or flat), text list, tar, pack, CIFAR binary or IDX file",
        true),
    STRING("kind", "", "what images is; empty: detected", true),
    STRING("arch", "vit_small_patch16_224", "the backbone, by timm's name", false),
    WHOLE("size", "0", 0, 16384, "height and width of a view in pixels; 0: the arch's", false),
    WHOLE("patch", "0", 0, 1024, "of a ViT; 0: the arch's", false),
    WHOLE("dim", "0", 0, 8192, "width of a ViT, of a ResNet's first stage; 0: the arch's", false),
    WHOLE("depth", "0", 0, 128, "blocks of a ViT, of each ResNet stage; 0: the arch's", false),
    WHOLE("heads", "0", 0, 256, "of a ViT; 0: the arch's", false),
    FLAG("zero_init", "false", "the last norm of a ResNet's block begins at 0"),
    REAL("drop_path", "0", 0, 0.9, "of a ViT's last block; rises linearly from 0"),
    { "recompute", TACIT_SETTING_FLAG, "false", 0, 0, NULL,
      "keep only the blocks' inputs of a ViT, and compute the rest again: less memory, a third "
      "slower",
      true },
    CHOICE("normalise", "imagenet", "none|imagenet|cifar|half",
           "mean and standard deviation that pixels are normalised by; none: values from 0 to 1"),
    WHOLE("epochs", "100", 0, 1000000, "passes over the images", false),
    WHOLE("max_steps", "0", 0, 1000000000000, "the run's length, in place of epochs; 0: epochs",
          false),
    WHOLE("batch", "256", 1, 1048576, "images of a step", false),
    WHOLE("accumulate", "1", 1, 65536,
          "parts that a step goes through one after the other, for less memory", false),
    WHOLE("seed", "0", 0, 9007199254740991, "of initial weights, order, views and masks", false),
    CHOICE(
        "optimiser", "adamw", "sgd|lars-rate|lars|larc|larc-clip|adamw",
        "lars-rate: SimCLR's LARS, the rate inside the momentum; lars: that of BYOL and MoCo v3; "
        "larc: apex'"),
    REAL("lr", "1e-3", 0, 1e6, "learning rate at the end of the warm-up, before lr_scale"),
    CHOICE("lr_scale", "linear", "none|linear|sqrt", "times batch / 256, or times sqrt(batch)"),
    CHOICE("schedule", "cosine", "cosine|linear|step|constant", "of the learning rate"),
    REAL("lr_start", "0", 0, 1e6, "of the warm-up, scaled as lr"),
    REAL("lr_final", "0", 0, 1e6, "of the cosine or the line, scaled as lr"),
    REAL("warmup_epochs", "0", 0, 1e6, "in which the rate rises linearly"),
    FLAG("warmup_inclusive", "false",
         "the full rate is that of the warm-up's last step, not of the one behind it: DINO"),
    FLAG("schedule_next", "false",
         "rate and weight decay of a step are those of the one behind it, the first step's too: "
         "I-JEPA"),
    FLAG("schedule_last", "false",
         "they are those of the one before it, the first step's its own: SimMIM"),
    STRING("lr_drops", "", "schedule step: epochs at which the rate falls, such as 120,160", false),
    REAL("lr_drop", "0.1", 0, 1, "schedule step: the factor of each fall"),
    REAL("weight_decay", "0", 0, 10, "of all but biases and norms"),
    REAL("weight_decay_final", "-1", -1, 10, "where it ends on a cosine; -1: it does not change"),
    FLAG("decay_all", "false", "biases and norms too"),
    REAL("momentum", "0.9", 0, 0.9999999, "of SGD and LARS"),
    FLAG("nesterov", "false", "SGD: Nesterov's momentum"),
    REAL("trust", "0.001", 0, 1, "LARS' coefficient"),
    REAL("beta1", "0.9", 0, 0.9999999, "AdamW"),
    REAL("beta2", "0.999", 0, 0.9999999, "AdamW"),
    REAL("eps", "1e-8", 0, 1, "AdamW"),
    REAL("clip", "0", 0, 1e9, "the largest norm of the whole gradient; 0: any"),
    REAL("clip_tensor", "0", 0, 1e9, "the largest norm of each tensor's gradient; 0: any"),
    WHOLE("log_steps", "1", 1, 1000000000, "steps between lines of log.jsonl", true),
    WHOLE("checkpoint_steps", "0", 0, 1000000000, "steps between checkpoints; 0: none", true),
    { "checkpoint_minutes", TACIT_SETTING_REAL, "10", 0, 1e6, NULL,
      "minutes between checkpoints; 0: none", true },
    WHOLE("keep", "2", 1, 1000, "checkpoints that are kept, with the last", true),
    WHOLE("watch_steps", "100", 0, 1000000000,
          "steps between looks at the spread of the features; 0: none", true),
    STRING("knn", "", "labelled images that are no part of the training: k-NN among them", true),
    WHOLE("knn_epochs", "10", 1, 1000000, "epochs between classifications", true),
    WHOLE("knn_k", "20", 1, 1000, "neighbours that vote", true),
    { "knn_temperature", TACIT_SETTING_REAL, "0.07", 0, 100, NULL,
      "of the votes' weights; 0: they weigh the same", true },
    STRING("pictures", "",
           "images of which the first 16 are drawn as they are reconstructed: pictures-<step>.png",
           true),
    WHOLE("picture_epochs", "10", 0, 1000000, "epochs between such sheets; 0: none", true),
    { 0 },
};
