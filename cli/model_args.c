/* model_args.c - see model_args.h. */
#include "model_args.h"

#include "kernels.h"

#include <stdio.h>
#include <string.h>

/* "N" or "HxW". */
static tacit_status read_size(const tacit_args *args, const char *name, unsigned size[2],
                              tacit_err *err)
{
    const char *text = tacit_arg(args, name), *x = text ? strchr(text, 'x') : NULL;
    char height[16];
    snprintf(height, sizeof height, "%.*s", x ? (int)(x - text < 15 ? x - text : 15) : 15,
             text ? text : "");
    if (!text || (tacit_parse_unsigned(height, 1, 16384, &size[0]) == TACIT_OK &&
                  tacit_parse_unsigned(x ? x + 1 : height, 1, 16384, &size[1]) == TACIT_OK))
        return TACIT_OK;
    return tacit_fail(err, TACIT_EINVAL,
                      "--%s '%s': use pixels from 1 to 16384, such as 224 or, height before width, "
                      "224x448",
                      name, text);
}

/* The choice, or -1 where none was made. */
static tacit_status read_choice(const tacit_args *args, const char *name, int *out, tacit_err *err)
{
    unsigned at = 0;
    tacit_status st = tacit_arg_choice(args, name, &at, err);
    *out = tacit_arg(args, name) ? (int)at : -1;
    return st;
}

static tacit_status read_recipe(const tacit_args *args, tacit_model_args *s, tacit_err *err)
{
    tacit_recipe_options *r = &s->model.recipe;
    unsigned pillow = 0, count;
    tacit_status st;
    if ((st = read_size(args, "size", s->model.size, err)) < 0 ||
        (st = read_size(args, "resize", r->resize, err)) < 0 ||
        (st = tacit_arg_numbers(args, "crop-pct", 0.01, 100, false, 1, &r->crop_pct, &count, err)) <
            0 ||
        (st = read_choice(args, "crop-mode", &r->crop_mode, err)) < 0 ||
        (st = read_choice(args, "filter", &r->filter, err)) < 0 ||
        (st = read_choice(args, "resize-by", &r->resampler, err)) < 0 ||
        (st = tacit_arg_choice(args, "pillow", &pillow, err)) < 0 ||
        (st = tacit_arg_floats(args, "mean", 3, s->mean, err)) < 0 ||
        (st = tacit_arg_floats(args, "std", 3, s->std, err)) < 0)
        return st;
    r->pillow = pillow == 0 ? 12 : 13;
    r->mean = tacit_arg(args, "mean") ? s->mean : NULL;
    r->std = tacit_arg(args, "std") ? s->std : NULL;
    if (r->resize[0] && r->crop_pct > 0)
        return tacit_fail(err, TACIT_EINVAL, "--resize and --crop-pct say the same: use one");
    for (int i = 0; r->std && i < 3; i++)
        if (!(r->std[i] > 0))
            return tacit_fail(err, TACIT_EINVAL, "--std '%s': use numbers above 0",
                              tacit_arg(args, "std"));
    return TACIT_OK;
}

tacit_status tacit_model_args_read(const tacit_args *args, tacit_model_args *s, tacit_err *err)
{
    tacit_model_defaults(&s->model);
    s->model.weights = tacit_arg(args, "weights");
    s->model.how.arch = tacit_arg(args, "arch");
    s->model.how.checkpoint_key = tacit_arg(args, "checkpoint-key");
    s->model.how.allow_partial = tacit_flag(args, "allow-partial");
    s->model.normalize = tacit_flag(args, "normalize");
    s->model.cache = tacit_arg(args, "cache");
    unsigned precision = TACIT_PRECISION_FP32;
    tacit_status st;
    if ((st = read_choice(args, "features", &s->model.features, err)) < 0 ||
        (st = tacit_arg_unsigned(args, "blocks", 1, 1024, &s->model.blocks, err)) < 0 ||
        (st = tacit_arg_choice(args, "precision", &precision, err)) < 0)
        return st;
    s->model.precision = (tacit_precision)precision; /* choices are in its order */
    return read_recipe(args, s, err);
}

void tacit_model_say(const tacit_args *args, const tacit_model *model)
{
    char recipe[128];
    tacit_recipe_text(&model->recipe, recipe, sizeof recipe);
    fprintf(stderr, "tacit %s: %s (%s), %s%s%s%s, %s; %s%s%s\n", args->command->name, model->arch,
            model->dialect, tacit_features_name(model->features),
            model->normalize ? " normalized" : "", model->precision ? ", " : "",
            model->precision ? tacit_precision_name(model->precision) : "",
            tacit_isa_name(model->kernels->isa), recipe, *model->pixels ? ", by " : "",
            model->pixels);
    if (model->precision == TACIT_PRECISION_BF16 &&
        (model->kernels->isa != TACIT_ISA_AVX512 || !tacit_cpu_bf16()))
        fprintf(stderr,
                "tacit %s: note: without AVX512_BF16, bf16 takes many times as long as fp32\n",
                args->command->name);
    if (*model->note)
        fprintf(stderr, "tacit %s: note: %s\n", args->command->name, model->note);
    if (model->cache && *model->cache->note)
        fprintf(stderr, "tacit %s: note: %s\n", args->command->name, model->cache->note);
}
