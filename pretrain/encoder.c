/* encoder.c - see encoder.h. */
#include "encoder.h"

#include <stdlib.h>
#include <string.h>

/* The size at the end of a name such as vit_tiny_patch4_32; 0: none is said. */
static unsigned size_of(const char *name)
{
    const char *last = strrchr(name, '_');
    char *end = NULL;
    unsigned long size = last ? strtoul(last + 1, &end, 10) : 0;
    return last && last[1] && !*end && size <= 16384 ? (unsigned)size : 0;
}

static tacit_status vit_sizes(const tacit_config *config, tacit_vit_config *vit, tacit_err *err)
{
    unsigned patch = (unsigned)tacit_config_whole(config, "patch");
    unsigned dim = (unsigned)tacit_config_whole(config, "dim");
    unsigned depth = (unsigned)tacit_config_whole(config, "depth");
    unsigned heads = (unsigned)tacit_config_whole(config, "heads");
    if (patch || dim || depth || heads)
        vit->name = NULL;
    vit->patch = patch ? patch : vit->patch;
    if (dim) {
        vit->mlp = 4 * dim;
        vit->dim = dim;
    }
    vit->depth = depth ? depth : vit->depth;
    vit->heads = heads ? heads : vit->heads;
    if (vit->dim % vit->heads)
        return tacit_fail(err, TACIT_EINVAL,
                          "a width of %u does not divide into %u heads: set dim or heads", vit->dim,
                          vit->heads);
    return TACIT_OK;
}

static void resnet_sizes(const tacit_config *config, tacit_resnet_config *r)
{
    unsigned dim = (unsigned)tacit_config_whole(config, "dim");
    unsigned depth = (unsigned)tacit_config_whole(config, "depth");
    if (dim || depth)
        r->name = NULL;
    for (unsigned s = 0; s < 4; s++) {
        unsigned width = dim ? dim << s : r->width[s];
        r->blocks[s] = depth ? depth : r->blocks[s];
        r->width[s] = width;
        r->out[s] = r->bottleneck ? 4 * width : width;
    }
    r->stem = dim ? dim : r->stem;
}

tacit_status tacit_encoder_config(const tacit_config *config, tacit_backbone_config *backbone,
                                  tacit_err *err)
{
    const char *arch = tacit_config_string(config, "arch");
    unsigned size = (unsigned)tacit_config_whole(config, "size"), height, width;
    if (!tacit_backbone_find(arch, backbone))
        return tacit_fail(err, TACIT_EINVAL,
                          "arch = '%.80s': there is no such network; vit_small_patch16_224, "
                          "vit_tiny_patch4_32, resnet50 and resnet18_cifar are some",
                          arch);
    tacit_backbone_input(backbone, &height, &width);
    size = size ? size : size_of(arch) ? size_of(arch) : height;
    if (backbone->family == TACIT_FAMILY_VIT) {
        tacit_vit_config *v = &backbone->vit;
        tacit_status st = vit_sizes(config, v, err);
        if (st < 0)
            return st;
        if (size < v->patch || size % v->patch)
            return tacit_fail(err, TACIT_EINVAL,
                              "size = %u does not divide into patches of %u: set size or patch",
                              size, v->patch);
        v->height = v->width = size;
        v->grid[0] = v->grid[1] = size / v->patch;
        v->resample = TACIT_RESAMPLE_ANTIALIAS;
        return TACIT_OK;
    }
    if (tacit_config_whole(config, "patch") || tacit_config_whole(config, "heads"))
        return tacit_fail(err, TACIT_EINVAL, "patch and heads are a ViT's: arch is %s", arch);
    resnet_sizes(config, &backbone->resnet);
    return tacit_resnet_set_input(&backbone->resnet, size, size, err);
}

tacit_vit_train_config tacit_encoder_vit(const tacit_config *config, const tacit_vit_config *vit)
{
    return (tacit_vit_train_config){ .dim = vit->dim,
                                     .depth = vit->depth,
                                     .heads = vit->heads,
                                     .mlp = vit->mlp,
                                     .patch = vit->patch,
                                     .image = vit->height,
                                     .grid = vit->grid[0],
                                     .eps = 1e-6f,
                                     .no_cls = vit->no_cls,
                                     .no_positions = vit->position == TACIT_POSITION_NONE,
                                     .relative = vit->relative == TACIT_RELATIVE_SHARED,
                                     .drop_path = tacit_config_number(config, "drop_path"),
                                     .recompute = tacit_config_flag(config, "recompute") };
}

size_t tacit_encoder_dim(const tacit_backbone_config *backbone)
{
    return backbone->family == TACIT_FAMILY_VIT ? backbone->vit.dim : backbone->resnet.out[3];
}

static bool is_vit(const tacit_encoder *e)
{
    return e->family == TACIT_FAMILY_VIT;
}

tacit_status tacit_encoder_declare(tacit_encoder *e, const tacit_config *config,
                                   const tacit_backbone_config *backbone, size_t max_batch,
                                   tacit_params *params, tacit_work *work, tacit_err *err)
{
    *e = (tacit_encoder){ .family = backbone->family, .max_batch = max_batch };
    if (is_vit(e)) {
        tacit_vit_train_config vit = tacit_encoder_vit(config, &backbone->vit);
        tacit_status st = tacit_vit_train_declare(&e->vit, &vit, max_batch, 0, params, work, err);
        e->dim = vit.dim;
        e->ld = e->vit.trunk.ld;
        return st;
    }
    tacit_status st = tacit_resnet_train_declare(&e->resnet, &backbone->resnet,
                                                 tacit_config_flag(config, "zero_init"), max_batch,
                                                 params, work, err);
    e->dim = e->ld = e->resnet.dim;
    return st;
}

tacit_status tacit_encoder_declare_again(tacit_encoder *e, const tacit_config *config,
                                         const tacit_backbone_config *backbone, unsigned size,
                                         size_t max_batch, tacit_params *params, tacit_work *work,
                                         tacit_err *err)
{
    tacit_backbone_config other = *backbone;
    *e = (tacit_encoder){ .family = backbone->family };
    tacit_status st = tacit_backbone_set_input(&other, size, size, err);
    if (st < 0)
        return tacit_fail_at(err, st, "local_size = %u", size);
    params->again = true;
    st = tacit_encoder_declare(e, config, &other, max_batch, params, work, err);
    params->again = false;
    return st;
}

void tacit_encoder_split(tacit_encoder *e, size_t groups, size_t pooled)
{
    if (!is_vit(e))
        tacit_resnet_train_split(&e->resnet, groups, pooled);
}

tacit_status tacit_encoder_as_moco(tacit_encoder *e, bool freeze, tacit_err *err)
{
    return is_vit(e) ? tacit_vit_train_as_moco(&e->vit, freeze, err) : TACIT_OK;
}

void tacit_encoder_close(tacit_encoder *e)
{
    if (is_vit(e))
        tacit_vit_train_close(&e->vit);
    else
        tacit_resnet_train_close(&e->resnet);
}

bool tacit_encoder_plan(const tacit_encoder *e, size_t *total)
{
    return is_vit(e) ? tacit_arena_plan(total, e->max_batch, sizeof *e->wanted) &&
                           tacit_vit_train_plan(&e->vit, total)
                     : tacit_resnet_train_plan(&e->resnet, total);
}

void tacit_encoder_take(tacit_encoder *e, tacit_arena *arena)
{
    if (!is_vit(e)) {
        tacit_resnet_train_take(&e->resnet, arena);
        return;
    }
    e->wanted = tacit_arena_take(arena, e->max_batch, sizeof *e->wanted);
    tacit_vit_train_take(&e->vit, arena);
}

const float *tacit_encoder_forward(tacit_encoder *e, const float *images, size_t batch,
                                   uint64_t seed, const uint64_t *draws)
{
    if (!is_vit(e))
        return tacit_resnet_train_forward(&e->resnet, images, batch);
    bool drop = draws && e->vit.config.drop_path > 0;
    for (size_t i = 0; drop && i < batch; i++)
        tacit_trunk_draw(&e->vit.trunk, i, seed, draws[i]);
    for (size_t i = 0; i < batch; i++)
        e->wanted[i] = (uint32_t)(i * (1 + e->vit.patches));
    tacit_trunk_want(&e->vit.trunk, e->wanted, batch);
    return tacit_vit_train_forward(&e->vit, images, batch, NULL, 0, drop);
}

float *tacit_encoder_gradient(const tacit_encoder *e)
{
    return is_vit(e) ? e->vit.d : e->resnet.d;
}

void tacit_encoder_backward(tacit_encoder *e)
{
    if (is_vit(e))
        tacit_vit_train_backward(&e->vit);
    else
        tacit_resnet_train_backward(&e->resnet);
}

double tacit_encoder_flops(const tacit_encoder *e)
{
    if (is_vit(e))
        return tacit_vit_train_flops(&e->vit.config, 0, 1);
    const tacit_convolution *stem = &e->resnet.stem.conv; /* its backward ends at its weights */
    return 3 * tacit_resnet_flops(&e->resnet.config) -
           2.0 * (double)tacit_convolution_size(stem) * (double)stem->dense.in;
}
