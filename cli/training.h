/* training.h - what 'tacit pretrain' and 'tacit tokenizer train' have in common: settings put
 * together, a run, what is said about it. */
#ifndef TACIT_TRAINING_H
#define TACIT_TRAINING_H

#include "cli.h"

/* The rows of the command's table that a training reads; `product` is the file that it is for. */
#define TACIT_TRAINING_OPTIONS(product)                                                            \
    { "images", "PATH", NULL,                                                                      \
      "folder (with class sub-folders or flat), text list, tar, pack, CIFAR binary or IDX file",   \
      false },                                                                                     \
        { "out", "DIR", NULL,                                                                      \
          "the run's folder: config.ini, log.jsonl, checkpoint.safetensors, " product, false },    \
        { "preset", "imagenet|small32|quick", NULL,                                                \
          "settings that fit: as published, for images of 32 pixels, or for a first look",         \
          false },                                                                                 \
        { "config", "FILE", NULL, "settings, as lines KEY = VALUE", false },                       \
        { "set", "KEY=VALUE", NULL, "one setting; may be given several times", false },            \
        { "arch", "NAME", NULL, "as --set arch=NAME: the backbone, by timm's name", false },       \
        { "epochs", "N", NULL, "as --set epochs=N; 0 writes the initial weights", false },         \
        { "batch", "N", NULL, "as --set batch=N", false },                                         \
        { "seed", "N", NULL, "as --set seed=N", false },                                           \
        { "checkpoint-steps", "N", NULL, "as --set checkpoint_steps=N", false },                   \
        { "kind", "folder|list|tar|cifar10|cifar100|idx|pack", NULL,                               \
          "as --set kind=KIND: what PATH is (default: detected)", false },                         \
        { "steps", "N", NULL, "save and stop at step N; the schedules are those of the whole run", \
          false },                                                                                 \
        { "resume", NULL, NULL, "go on with the run in DIR, if there is one", false },             \
        { "threads", "N", NULL, "threads (default: what the machine allows this process)",         \
          false },                                                                                 \
        { "dry-run", NULL, NULL, "tell what the run would take, and do nothing", false },          \
        { "list", NULL, NULL, "list the methods", false },                                         \
    {                                                                                              \
        "json", NULL, NULL, "print the result as one JSON object on standard output", false        \
    }

/* What is trained, and which operand names it. */
typedef struct tacit_training {
    const char *command;                   /* "pretrain", "tokenizer train" */
    const char *kind;                      /* "method", "tokenizer"         */
    const struct tacit_method *const *all; /* NULL at the end               */
    int operand;
} tacit_training;

/* Gives the exit status. */
int tacit_training_run(const tacit_training *training, const tacit_args *args);
/* --help of one method, where the operands name it. */
bool tacit_training_help(const tacit_training *training, const tacit_args *args);

#endif
