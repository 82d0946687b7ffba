/* frozen.c - see frozen.h. */
#include "frozen.h"

#include "backbone_file.h"
#include "weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CHUNK 16 /* images that go through at once: more take more memory, and are no faster */

/* Opening ------------------------------------------------------------------------------------- */

static void hash_name(const char *setting, char *name, size_t size)
{
    snprintf(name, size, "%s_xxh3", setting);
}

tacit_status tacit_frozen_pin(tacit_config *config, const char *setting,
                              const tacit_checkpoint *file, tacit_err *err)
{
    char name[64], hex[17];
    uint64_t hash;
    tacit_status st = tacit_checkpoint_hash(file, &hash, err);
    if (st < 0)
        return st;
    hash_name(setting, name, sizeof name);
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    return tacit_config_pin(config, name, hex, err);
}

tacit_status tacit_frozen_none(tacit_config *config, const char *setting, tacit_err *err)
{
    char name[64];
    hash_name(setting, name, sizeof name);
    tacit_status st = tacit_config_pin(config, name, "", err);
    return st < 0 ? tacit_fail_at(err, st, "%s = %.200s", setting,
                                  tacit_config_string(config, setting))
                  : st;
}

/* The input at which there are grid x grid patches: *side pixels. */
static tacit_status fit(tacit_backbone_config *config, size_t grid, size_t *side, tacit_err *err)
{
    bool vit = config->family == TACIT_FAMILY_VIT;
    size_t patch = vit ? config->vit.patch : config->resnet.small_stem ? 8 : 32;
    *side = grid * patch;
    if (*side > 16384)
        return tacit_fail(err, TACIT_EINVAL, "%zu x %zu patches of %zu pixels are too large", grid,
                          grid, patch);
    return tacit_backbone_set_input(config, (unsigned)*side, (unsigned)*side, err);
}

static tacit_status open_backbone(tacit_frozen *f, const tacit_dialect *dialect, size_t grid,
                                  size_t *side, tacit_err *err)
{
    tacit_backbone_config config = dialect->config;
    const tacit_work *work = f->work;
    tacit_status st = fit(&config, grid, side, err);
    if (st == TACIT_OK)
        st = tacit_backbone_open(&f->backbone, &config, &dialect->source, work->kernels, work->pool,
                                 err);
    if (st < 0)
        return st;
    f->patches = grid * grid;
    f->dim = tacit_backbone_feature_count(f->backbone, TACIT_FEATURES_PATCH) / f->patches;
    return f->dim ? TACIT_OK
                  : tacit_fail(err, TACIT_EINVAL, "this network has no features of patches");
}

tacit_status tacit_frozen_declare(tacit_frozen *f, tacit_config *config, const char *setting,
                                  size_t image, size_t grid, size_t max_batch,
                                  const tacit_work *work, tacit_err *err)
{
    const char *path = tacit_config_string(config, setting);
    const tacit_weights_options plain = { 0 };
    tacit_weights weights;
    *f = (tacit_frozen){ .work = work,
                         .max_batch = max_batch,
                         .chunk = max_batch < CHUNK ? max_batch : CHUNK };
    size_t side = 0;
    tacit_status st = tacit_weights_open(&weights, path, &plain, err);
    if (st == TACIT_OK) {
        const tacit_published *published = &weights.dialect.published;
        st = tacit_frozen_pin(config, setting, weights.checkpoint, err);
        if (st == TACIT_OK)
            st = open_backbone(f, &weights.dialect, grid, &side, err);
        if (st < 0)
            tacit_fail_at(err, st, "%s", path);
        tacit_pixel_match_declare(&f->match, config, published->mean, published->std, image, side,
                                  f->chunk, work);
    }
    tacit_weights_close(&weights);
    return st < 0 ? tacit_fail_at(err, st, "%s", setting) : st;
}

void tacit_frozen_close(tacit_frozen *f)
{
    tacit_backbone_close(&f->backbone);
}

/* Memory -------------------------------------------------------------------------------------- */

static size_t scratch_bytes(const tacit_frozen *f)
{
    return tacit_backbone_scratch(f->backbone, f->chunk, f->work->pool);
}

bool tacit_frozen_plan(const tacit_frozen *f, size_t *total)
{
    size_t rows;
    return scratch_bytes(f) > 0 && tacit_arena_plan(total, scratch_bytes(f), 1) &&
           tacit_mul_size(f->max_batch, f->patches, &rows) &&
           tacit_arena_plan(total, rows, f->dim * sizeof *f->features) &&
           tacit_pixel_match_plan(&f->match, total);
}

void tacit_frozen_take(tacit_frozen *f, tacit_arena *arena)
{
    f->scratch = tacit_arena_take(arena, scratch_bytes(f), 1);
    f->features = tacit_arena_take(arena, f->max_batch * f->patches, f->dim * sizeof *f->features);
    tacit_pixel_match_take(&f->match, arena);
}

/* Forward ------------------------------------------------------------------------------------- */

float *tacit_frozen_forward(tacit_frozen *f, const float *images, size_t batch)
{
    size_t pixels = 3 * f->match.image * f->match.image, features = f->patches * f->dim;
    for (size_t i = 0; i < batch; i += f->chunk) {
        size_t count = batch - i < f->chunk ? batch - i : f->chunk;
        const float *input = tacit_pixel_match_forward(&f->match, images + i * pixels, count);
        tacit_backbone_forward(f->backbone, input, count, TACIT_FEATURES_PATCH,
                               f->features + i * features, f->scratch, f->work->pool);
    }
    return f->features;
}

double tacit_frozen_flops(const tacit_frozen *f)
{
    return tacit_backbone_flops(f->backbone);
}
