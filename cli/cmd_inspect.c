/* cmd_inspect.c - tacit inspect: what a checkpoint is, and what would be used of it. */
#include "cmd.h"

#include "mem.h"
#include "safetensors.h"
#include "vit.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const tacit_option options[] = {
    { "json", NULL, NULL, "print one JSON object on standard output", false },
};

static const tacit_tensor *find(const tacit_tensor_source *source, const char *name)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, name))
            return &source->tensors[i];
    return NULL;
}

static bool same_shape(const tacit_tensor *a, const tacit_tensor *b)
{
    return a->rank == b->rank && !memcmp(a->shape, b->shape, a->rank * sizeof *a->shape);
}

/* "used", "not used" or "mis-shaped"; wanted is empty where no architecture was recognised. */
static const char *use_of(const tacit_tensor *tensor, const tacit_tensor_source *wanted)
{
    const tacit_tensor *slot = find(wanted, tensor->name);
    return !slot ? "not used" : same_shape(slot, tensor) ? "used" : "mis-shaped";
}

static void print_text(const char *path, const char *arch, const tacit_tensor_source *file,
                       const tacit_tensor_source *wanted)
{
    size_t used = 0, missing = 0;
    for (size_t i = 0; i < file->count; i++) {
        const tacit_tensor *t = &file->tensors[i];
        const char *use = use_of(t, wanted);
        used += !strcmp(use, "used");
        printf("%-10s %-5s %s (", use, tacit_dtype_name(t->dtype), t->name);
        for (unsigned k = 0; k < t->rank; k++)
            printf("%s%zu", k ? ", " : "", t->shape[k]);
        printf(")\n");
    }
    for (size_t i = 0; i < wanted->count; i++)
        if (!find(file, wanted->tensors[i].name)) {
            missing++;
            printf("%-10s %-5s %s\n", "missing", "", wanted->tensors[i].name);
        }
    printf("%s: safetensors, %s, %zu tensors: %zu used, %zu not, %zu missing\n", path, arch,
           file->count, used, file->count - used, missing);
}

static void print_json(const char *arch, uint64_t hash, const tacit_tensor_source *file,
                       const tacit_tensor_source *wanted)
{
    json_t *tensors = json_array(), *missing = json_array();
    for (size_t i = 0; i < file->count; i++) {
        const tacit_tensor *t = &file->tensors[i];
        json_t *shape = json_array();
        for (unsigned k = 0; k < t->rank; k++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[k]));
        json_array_append_new(tensors, json_pack("{s:s, s:s, s:o, s:s}", "name", t->name, "dtype",
                                                 tacit_dtype_name(t->dtype), "shape", shape, "use",
                                                 use_of(t, wanted)));
    }
    for (size_t i = 0; i < wanted->count; i++)
        if (!find(file, wanted->tensors[i].name))
            json_array_append_new(missing, json_string(wanted->tensors[i].name));
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    json_t *all =
        json_pack("{s:s, s:s?, s:s, s:o, s:o}", "format", "safetensors", "arch",
                  wanted->count ? arch : NULL, "xxh3", hex, "tensors", tensors, "missing", missing);
    json_dumpf(all, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(all);
}

static int run(const tacit_args *args)
{
    tacit_err err;
    if (args->operand_count != 1) {
        tacit_fail(&err, TACIT_EINVAL, "name one file");
        return tacit_cli_usage(args, &err);
    }
    const char *path = args->operands[0];
    tacit_safetensors *file;
    uint64_t hash = 0;
    if (tacit_safetensors_open(&file, path, &err) < 0)
        return tacit_cli_failed(args, &err);
    int status;
    tacit_tensor_source source = tacit_safetensors_source(file), wanted = { 0 };
    tacit_vit_config config;
    char arch[128];
    bool known = tacit_vit_detect(&source, 0, &config, &err) >= 0;
    if (!known)
        snprintf(arch, sizeof arch, "architecture not recognised");
    else
        snprintf(arch, sizeof arch, "%s dim %u depth %u heads %u mlp %u, input %u x %u",
                 config.name ? config.name : "ViT", config.dim, config.depth, config.heads,
                 config.mlp, config.height, config.width);
    if ((known && tacit_vit_seeded(&config, 0, &wanted, &err) < 0) ||
        tacit_safetensors_hash(file, &hash, &err) < 0) {
        status = tacit_cli_failed(args, &err);
    } else {
        if (tacit_flag(args, "json"))
            print_json(arch, hash, &source, &wanted);
        else
            print_text(path, arch, &source, &wanted);
        status = tacit_cli_done(args);
        if (!known)
            fprintf(stderr, "tacit inspect: %s: %s\n", path, err.text);
    }
    if (wanted.count)
        tacit_vit_seeded_close(&wanted);
    tacit_safetensors_close(&file);
    return status;
}

const tacit_command tacit_cmd_inspect = {
    .name = "inspect",
    .operands = "FILE",
    .summary = "show what a checkpoint is, and what would be used of it",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
