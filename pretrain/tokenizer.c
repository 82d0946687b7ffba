/* tokenizer.c - see tokenizer.h. */
#include "tokenizer.h"

#include "backbone_file.h"
#include "tokenizer_dvae.h"
#include "tokenizer_file.h"
#include "tokenizer_published.h"
#include "tokenizer_vqkd.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define GRID 14 /* of BEiT's tokens by DALL-E's tokenizer: of 112 pixels */

enum net { DVAE, VQKD, DALLE };

struct tacit_tokenizer {
    tacit_tokenizer_info info;
    size_t max_batch;
    tacit_params params;
    tacit_work work;
    tacit_arena arena;
    enum net net; /* which of the three */
    tacit_dvae dvae;
    tacit_vqkd vqkd;
    tacit_dalle dalle;
};

/* A file, while it is opened. */
typedef struct source {
    const char *path;
    tacit_checkpoint *file;
    tacit_config config; /* of one that was trained here */
    tacit_published_tokenizer published;
} source;

/* Declaring ----------------------------------------------------------------------------------- */

static tacit_status declare_vqkd(tacit_tokenizer *t, const tacit_vqkd_config *vqkd, tacit_err *err)
{
    t->net = VQKD;
    t->info.size = vqkd->encoder.image;
    t->info.grid = vqkd->encoder.image / vqkd->encoder.patch;
    t->info.codes = vqkd->codes;
    return tacit_vqkd_declare(&t->vqkd, vqkd, t->max_batch, &t->params, &t->work, err);
}

static tacit_status declare_dvae(tacit_tokenizer *t, const tacit_config *config, tacit_err *err)
{
    const tacit_dvae_config dvae = tacit_dvae_of(config, true);
    tacit_status st = tacit_dvae_declare(&t->dvae, &dvae, t->max_batch, &t->params, &t->work, err);
    t->net = DVAE;
    t->info.size = dvae.size;
    t->info.grid = t->dvae.grid;
    t->info.codes = dvae.codes;
    t->info.decodes = true;
    return st;
}

static tacit_status declare_own(tacit_tokenizer *t, const tacit_config *config, tacit_err *err)
{
    tacit_backbone_config backbone;
    snprintf(t->info.kind, sizeof t->info.kind, "%s", config->method->name);
    tacit_normalisation(config, t->info.mean, t->info.std);
    if (config->method == &tacit_discrete_vae)
        return declare_dvae(t, config, err);
    tacit_status st = tacit_encoder_config(config, &backbone, err);
    if (st == TACIT_OK && backbone.family != TACIT_FAMILY_VIT)
        st = tacit_fail(err, TACIT_EINVAL, "its arch is no ViT");
    if (st < 0)
        return st;
    const tacit_vqkd_config vqkd = tacit_vqkd_of(config, &backbone, 0);
    return declare_vqkd(t, &vqkd, err);
}

static tacit_status declare_dalle(tacit_tokenizer *t, const tacit_dalle_config *published,
                                  size_t grid, tacit_err *err)
{
    tacit_dalle_config dalle = *published;
    dalle.size = (grid ? grid : GRID) * TACIT_DALLE_PIXELS;
    t->net = DALLE;
    t->info.size = dalle.size;
    t->info.grid = grid ? grid : GRID;
    t->info.codes = dalle.codes;
    t->info.decodes = dalle.begin > 0;
    return tacit_dalle_declare(&t->dalle, &dalle, &t->params, &t->work, err);
}

/* Pixels x from 0 to 1 become 0.8 x + 0.1 (map_pixels) for DALL-E, 2 x - 1 for VQ-KD. */
static tacit_status declare_published(tacit_tokenizer *t, const tacit_published_tokenizer *p,
                                      size_t grid, tacit_err *err)
{
    bool dalle = p->kind == TACIT_PUBLISHED_DALLE;
    t->info.published = true;
    snprintf(t->info.kind, sizeof t->info.kind, "%s", dalle ? "dall-e" : "vqkd");
    for (size_t c = 0; c < 3; c++) {
        t->info.mean[c] = dalle ? -0.125f : 0.5f;
        t->info.std[c] = dalle ? 1.25f : 0.5f;
    }
    return dalle ? declare_dalle(t, &p->dalle, grid, err) : declare_vqkd(t, &p->vqkd, err);
}

/* Opening ------------------------------------------------------------------------------------- */

static tacit_status declare(tacit_tokenizer *t, source *from, size_t grid, tacit_err *err)
{
    const tacit_tensor_source raw = tacit_checkpoint_source(from->file);
    tacit_published_tokenizer *p = &from->published;
    tacit_status st = TACIT_OK;
    if (!tacit_tokenizer_file_is(from->file))
        st = tacit_published_tokenizer_open(p, &raw, err);
    if (st == TACIT_OK && p->kind != TACIT_PUBLISHED_NONE)
        st = declare_published(t, p, grid, err);
    if (st < 0 || p->kind != TACIT_PUBLISHED_NONE)
        return st < 0
                   ? tacit_fail_at(err, st == TACIT_EINVAL ? TACIT_EFORMAT : st, "%s", from->path)
                   : st;
    st = tacit_tokenizer_file_settings(from->file, from->path, &from->config, err);
    if (st == TACIT_OK && (st = declare_own(t, &from->config, err)) < 0)
        tacit_fail_at(err, st = st == TACIT_EINVAL ? TACIT_EFORMAT : st, "%s", from->path);
    return st;
}

static tacit_status make_room(tacit_tokenizer *t, tacit_err *err)
{
    size_t total = 0;
    bool fits = t->net == DVAE   ? tacit_dvae_plan(&t->dvae, &total)
                : t->net == VQKD ? tacit_vqkd_plan(&t->vqkd, &total)
                                 : tacit_dalle_plan(&t->dalle, &total);
    if (!fits)
        return tacit_fail(err, TACIT_ELIMIT, "%zu images at a time are too many", t->max_batch);
    tacit_status st = tacit_params_open(&t->params, 0, err);
    if (st == TACIT_OK)
        st = tacit_work_open(&t->work, err);
    if (st == TACIT_OK)
        st = tacit_arena_open(&t->arena, total, err);
    if (st < 0)
        return st;
    switch (t->net) {
    case DVAE: tacit_dvae_take(&t->dvae, &t->arena); break;
    case VQKD: tacit_vqkd_take(&t->vqkd, &t->arena); break;
    case DALLE: tacit_dalle_take(&t->dalle, &t->arena); break;
    }
    return TACIT_OK;
}

static tacit_status load(tacit_tokenizer *t, const source *from, tacit_err *err)
{
    tacit_status st = make_room(t, err);
    if (st == TACIT_OK && t->info.published)
        st = tacit_published_tokenizer_load(&from->published, &t->params, err);
    if (st < 0)
        return tacit_fail_at(err, st, "%s", from->path);
    return t->info.published ? st
                             : tacit_tokenizer_file_load(from->file, from->path, &t->params, err);
}

static tacit_status open_file(tacit_tokenizer *t, const char *path, size_t grid, bool values,
                              tacit_err *err)
{
    source from = { .path = path };
    tacit_status st = tacit_checkpoint_open(&from.file, path, err);
    if (st == TACIT_OK)
        st = declare(t, &from, grid, err);
    if (st == TACIT_OK && values)
        st = load(t, &from, err);
    tacit_published_tokenizer_close(&from.published);
    tacit_config_close(&from.config);
    tacit_checkpoint_close(&from.file);
    return st;
}

static tacit_status open_tokenizer(tacit_tokenizer **tokenizer, const char *path, size_t grid,
                                   size_t max_batch, const tacit_kernels *kernels, tacit_pool *pool,
                                   bool values, tacit_err *err)
{
    tacit_tokenizer *t = *tokenizer = tacit_calloc(1, sizeof *t);
    if (!t)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    t->max_batch = max_batch;
    t->params.fixed = true;
    t->work = (tacit_work){ .kernels = kernels, .pool = pool };
    tacit_status st = open_file(t, path, grid, values, err);
    if (st < 0)
        tacit_tokenizer_close(tokenizer);
    return st;
}

tacit_status tacit_tokenizer_open(tacit_tokenizer **tokenizer, const char *path, size_t grid,
                                  size_t max_batch, const tacit_kernels *kernels, tacit_pool *pool,
                                  tacit_err *err)
{
    return open_tokenizer(tokenizer, path, grid, max_batch, kernels, pool, true, err);
}

tacit_status tacit_tokenizer_peek(const char *path, tacit_tokenizer_info *info, tacit_err *err)
{
    tacit_tokenizer *t;
    tacit_status st =
        open_tokenizer(&t, path, 0, 1, tacit_kernels_for(TACIT_ISA_REF), NULL, false, err);
    if (st == TACIT_OK)
        *info = t->info;
    tacit_tokenizer_close(&t);
    return st;
}

void tacit_tokenizer_close(tacit_tokenizer **tokenizer)
{
    tacit_tokenizer *t = *tokenizer;
    if (!t)
        return;
    tacit_dvae_close(&t->dvae);
    tacit_vqkd_close(&t->vqkd);
    tacit_dalle_close(&t->dalle);
    tacit_arena_close(&t->arena);
    tacit_work_close(&t->work);
    tacit_params_close(&t->params);
    tacit_free(t);
    *tokenizer = NULL;
}

const tacit_tokenizer_info *tacit_tokenizer_info_of(const tacit_tokenizer *t)
{
    return &t->info;
}

size_t tacit_tokenizer_bytes(const tacit_tokenizer *t)
{
    return t->params.arena.size + t->work.arena.size + t->arena.size;
}

void tacit_tokenizer_encode(tacit_tokenizer *t, const float *images, size_t batch, uint32_t *ids)
{
    assert(batch && batch <= t->max_batch);
    switch (t->net) {
    case DVAE:
        tacit_dvae_encode(&t->dvae, images, batch);
        tacit_dvae_tokens(&t->dvae, batch * t->dvae.tokens, t->dvae.logits, ids);
        break;
    case VQKD:
        tacit_vqkd_encode(&t->vqkd, images, batch, false);
        tacit_vqkd_quantise(&t->vqkd);
        memcpy(ids, t->vqkd.ids, batch * t->vqkd.patches * sizeof *ids);
        break;
    case DALLE:
        for (size_t i = 0; i < batch; i++)
            tacit_dalle_encode(&t->dalle, images + i * 3 * t->info.size * t->info.size,
                               ids + i * t->dalle.tokens);
    }
}

double tacit_tokenizer_flops(const tacit_tokenizer *t)
{
    if (t->net == VQKD)
        return tacit_vqkd_encode_flops(&t->vqkd);
    return t->net == DVAE ? tacit_dvae_encoder_flops(&t->dvae)
                          : tacit_dalle_encoder_flops(&t->dalle);
}

void tacit_tokenizer_decode(tacit_tokenizer *t, const uint32_t *ids, size_t batch, float *images)
{
    size_t plane = t->info.size * t->info.size;
    assert(t->info.decodes && batch && batch <= t->max_batch);
    for (size_t image = 0; image < batch; image++, images += 3 * plane) {
        if (t->net == DALLE) {
            tacit_dalle_decode(&t->dalle, ids + image * t->dalle.tokens, images);
            continue;
        }
        tacit_dvae_decode(&t->dvae, ids + image * t->dvae.tokens, 1);
        for (size_t p = 0; p < plane; p++)
            for (size_t c = 0; c < 3; c++)
                images[c * plane + p] = t->dvae.result[3 * p + c];
    }
}
