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

static tacit_status pin_file(tacit_config *config, const char *setting,
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

/* The input at which there are grid x grid patches. */
static tacit_status fit(tacit_frozen *f, tacit_backbone_config *config, size_t grid, tacit_err *err)
{
    bool vit = config->family == TACIT_FAMILY_VIT;
    size_t patch = vit ? config->vit.patch : config->resnet.small_stem ? 8 : 32;
    f->side = grid * patch;
    if (f->side > 16384)
        return tacit_fail(err, TACIT_EINVAL, "%zu x %zu patches of %zu pixels are too large", grid,
                          grid, patch);
    return tacit_backbone_set_input(config, (unsigned)f->side, (unsigned)f->side, err);
}

/* (x std + mean - its mean) / its std. */
static void match_pixels(tacit_frozen *f, const tacit_config *config,
                         const tacit_published *published)
{
    float mean[3], std[3];
    tacit_normalisation(config, mean, std);
    for (size_t c = 0; c < 3; c++) {
        double theirs = (double)published->std[c];
        f->gain[c] = (float)((double)std[c] / theirs);
        f->offset[c] = (float)(((double)mean[c] - (double)published->mean[c]) / theirs);
    }
}

static tacit_status open_backbone(tacit_frozen *f, const tacit_dialect *dialect, size_t grid,
                                  tacit_err *err)
{
    tacit_backbone_config config = dialect->config;
    const tacit_work *work = f->work;
    tacit_status st = fit(f, &config, grid, err);
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
                         .chunk = max_batch < CHUNK ? max_batch : CHUNK,
                         .image = image };
    tacit_status st = tacit_weights_open(&weights, path, &plain, err);
    if (st == TACIT_OK) {
        match_pixels(f, config, &weights.dialect.published);
        st = pin_file(config, setting, weights.checkpoint, err);
        if (st == TACIT_OK)
            st = open_backbone(f, &weights.dialect, grid, err);
        if (st < 0)
            tacit_fail_at(err, st, "%s", path);
    }
    tacit_weights_close(&weights);
    f->regrid = (tacit_regrid){ .from = { image, image },
                                .to = { f->side, f->side },
                                .dim = 1,
                                .rule = TACIT_RESAMPLE_ANTIALIAS };
    return st < 0 ? tacit_fail_at(err, st, "%s", setting) : st;
}

void tacit_frozen_close(tacit_frozen *f)
{
    tacit_backbone_close(&f->backbone);
}

/* Memory -------------------------------------------------------------------------------------- */

static bool resized(const tacit_frozen *f)
{
    return f->side != f->image;
}

/* Whether a view's pixels are not what the backbone takes. */
static bool converted(const tacit_frozen *f)
{
    bool other = resized(f);
    for (size_t c = 0; c < 3; c++)
        other = other || f->gain[c] != 1 || f->offset[c] != 0;
    return other;
}

static size_t line_values(const tacit_frozen *f)
{
    size_t widest = f->side > f->image ? f->side : f->image;
    return (widest + 7) / 8 * 8; /* no two workers in one cache line */
}

static size_t scratch_bytes(const tacit_frozen *f)
{
    return tacit_backbone_scratch(f->backbone, f->chunk, f->work->pool);
}

static size_t image_values(const tacit_frozen *f)
{
    return 3 * f->side * f->side;
}

bool tacit_frozen_plan(const tacit_frozen *f, size_t *total)
{
    size_t threads = tacit_pool_threads(f->work->pool), rows;
    bool fits = scratch_bytes(f) > 0 && tacit_arena_plan(total, scratch_bytes(f), 1) &&
                tacit_mul_size(f->max_batch, f->patches, &rows) &&
                tacit_arena_plan(total, rows, f->dim * sizeof *f->features);
    if (converted(f))
        fits = fits && tacit_arena_plan(total, f->chunk, image_values(f) * sizeof *f->input);
    if (resized(f))
        fits = fits && tacit_arena_plan(total, threads, line_values(f) * sizeof *f->lines) &&
               tacit_regrid_plan(&f->regrid, total);
    return fits;
}

void tacit_frozen_take(tacit_frozen *f, tacit_arena *arena)
{
    size_t threads = tacit_pool_threads(f->work->pool);
    f->scratch = tacit_arena_take(arena, scratch_bytes(f), 1);
    f->features = tacit_arena_take(arena, f->max_batch * f->patches, f->dim * sizeof *f->features);
    if (converted(f))
        f->input = tacit_arena_take(arena, f->chunk, image_values(f) * sizeof *f->input);
    if (!resized(f))
        return;
    f->lines = tacit_arena_take(arena, threads, line_values(f) * sizeof *f->lines);
    tacit_regrid_take(&f->regrid, arena);
    tacit_regrid_make(&f->regrid);
}

/* Forward ------------------------------------------------------------------------------------- */

typedef struct job {
    const tacit_frozen *f;
    const float *images;
} job;

/* One colour of one image. */
static void plane_chunk(void *ctx, size_t plane, unsigned worker)
{
    const job *j = ctx;
    const tacit_frozen *f = j->f;
    size_t from = f->image * f->image, to = f->side * f->side;
    const float *x = j->images + plane * from;
    float *y = f->input + plane * to, gain = f->gain[plane % 3], offset = f->offset[plane % 3];
    if (resized(f)) {
        tacit_regrid mine = f->regrid;
        mine.line = f->lines + worker * line_values(f);
        tacit_regrid_forward(&mine, x, y);
        x = y;
    }
    for (size_t i = 0; i < to; i++)
        y[i] = x[i] * gain + offset;
}

float *tacit_frozen_forward(tacit_frozen *f, const float *images, size_t batch)
{
    size_t pixels = 3 * f->image * f->image, features = f->patches * f->dim;
    for (size_t i = 0; i < batch; i += f->chunk) {
        size_t count = batch - i < f->chunk ? batch - i : f->chunk;
        job j = { f, images + i * pixels };
        if (f->input)
            tacit_parallel_for(f->work->pool, 3 * count, plane_chunk, &j);
        tacit_backbone_forward(f->backbone, f->input ? f->input : j.images, count,
                               TACIT_FEATURES_PATCH, f->features + i * features, f->scratch,
                               f->work->pool);
    }
    return f->features;
}

double tacit_frozen_flops(const tacit_frozen *f)
{
    return tacit_backbone_flops(f->backbone);
}
