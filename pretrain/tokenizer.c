/* tokenizer.c - see tokenizer.h. */
#include "tokenizer.h"

#include "backbone_file.h"
#include "tokenizer_dvae.h"
#include "tokenizer_file.h"
#include "tokenizer_vqkd.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct tacit_tokenizer {
    tacit_tokenizer_info info;
    size_t max_batch;
    tacit_params params;
    tacit_work work;
    tacit_arena arena;
    bool pixels;     /* the dVAE, else VQ-KD */
    tacit_dvae dvae; /* one of the two */
    tacit_vqkd vqkd;
};

static tacit_status declare_dvae(tacit_tokenizer *t, const tacit_config *config, tacit_err *err)
{
    const tacit_dvae_config dvae = tacit_dvae_of(config, true);
    tacit_status st = tacit_dvae_declare(&t->dvae, &dvae, t->max_batch, &t->params, &t->work, err);
    t->info.size = dvae.size;
    t->info.grid = t->dvae.grid;
    t->info.codes = dvae.codes;
    return st;
}

static tacit_status declare_vqkd(tacit_tokenizer *t, const tacit_config *config, tacit_err *err)
{
    tacit_backbone_config backbone;
    tacit_status st = tacit_encoder_config(config, &backbone, err);
    if (st == TACIT_OK && backbone.family != TACIT_FAMILY_VIT)
        st = tacit_fail(err, TACIT_EINVAL, "its arch is no ViT");
    if (st < 0)
        return st;
    const tacit_vqkd_config vqkd = tacit_vqkd_of(config, &backbone, 0);
    t->info.size = backbone.vit.height;
    t->info.grid = backbone.vit.height / backbone.vit.patch;
    t->info.codes = vqkd.codes;
    return tacit_vqkd_declare(&t->vqkd, &vqkd, t->max_batch, &t->params, &t->work, err);
}

static tacit_status declare(tacit_tokenizer *t, const tacit_config *config, tacit_err *err)
{
    t->pixels = config->method == &tacit_discrete_vae;
    snprintf(t->info.kind, sizeof t->info.kind, "%s", config->method->name);
    tacit_normalisation(config, t->info.mean, t->info.std);
    return t->pixels ? declare_dvae(t, config, err) : declare_vqkd(t, config, err);
}

static tacit_status make_room(tacit_tokenizer *t, const char *path, tacit_err *err)
{
    size_t total = 0;
    if (!(t->pixels ? tacit_dvae_plan(&t->dvae, &total) : tacit_vqkd_plan(&t->vqkd, &total)))
        return tacit_fail(err, TACIT_ELIMIT, "%s: %zu images at a time are too many", path,
                          t->max_batch);
    tacit_status st = tacit_params_open(&t->params, 0, err);
    if (st == TACIT_OK)
        st = tacit_work_open(&t->work, err);
    if (st == TACIT_OK)
        st = tacit_arena_open(&t->arena, total, err);
    if (st < 0)
        return tacit_fail_at(err, st, "%s", path);
    if (t->pixels)
        tacit_dvae_take(&t->dvae, &t->arena);
    else
        tacit_vqkd_take(&t->vqkd, &t->arena);
    return TACIT_OK;
}

static tacit_status open_file(tacit_tokenizer *t, const char *path, tacit_err *err)
{
    tacit_safetensors *file = NULL;
    tacit_config config = { 0 };
    tacit_status st = tacit_safetensors_open(&file, path, err);
    if (st == TACIT_OK)
        st = tacit_tokenizer_file_settings(file, path, &config, err);
    if (st == TACIT_OK && (st = declare(t, &config, err)) < 0)
        tacit_fail_at(err, st = st == TACIT_EINVAL ? TACIT_EFORMAT : st, "%s", path);
    if (st == TACIT_OK)
        st = make_room(t, path, err);
    if (st == TACIT_OK)
        st = tacit_tokenizer_file_load(file, path, &t->params, err);
    tacit_config_close(&config);
    tacit_safetensors_close(&file);
    return st;
}

tacit_status tacit_tokenizer_open(tacit_tokenizer **tokenizer, const char *path, size_t max_batch,
                                  const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    tacit_tokenizer *t = *tokenizer = tacit_calloc(1, sizeof *t);
    if (!t)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    t->max_batch = max_batch;
    t->params.fixed = true;
    t->work = (tacit_work){ .kernels = kernels, .pool = pool };
    tacit_status st = open_file(t, path, err);
    if (st < 0)
        tacit_tokenizer_close(tokenizer);
    return st;
}

void tacit_tokenizer_close(tacit_tokenizer **tokenizer)
{
    tacit_tokenizer *t = *tokenizer;
    if (!t)
        return;
    tacit_dvae_close(&t->dvae);
    tacit_vqkd_close(&t->vqkd);
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
    if (t->pixels) {
        tacit_dvae_encode(&t->dvae, images, batch);
        tacit_dvae_tokens(&t->dvae, batch * t->dvae.tokens, t->dvae.logits, ids);
    } else {
        tacit_vqkd_encode(&t->vqkd, images, batch, false);
        tacit_vqkd_quantise(&t->vqkd);
        memcpy(ids, t->vqkd.ids, batch * t->vqkd.patches * sizeof *ids);
    }
}

bool tacit_tokenizer_may_decode(const char *path)
{
    tacit_safetensors *file = NULL;
    tacit_config config = { 0 };
    bool known = *path && tacit_safetensors_open(&file, path, NULL) == TACIT_OK &&
                 tacit_tokenizer_file_settings(file, path, &config, NULL) == TACIT_OK;
    bool decodes = !known || config.method == &tacit_discrete_vae;
    tacit_config_close(&config);
    tacit_safetensors_close(&file);
    return decodes;
}

bool tacit_tokenizer_decodes(const tacit_tokenizer *t)
{
    return t->pixels;
}

void tacit_tokenizer_decode(tacit_tokenizer *t, const uint32_t *ids, size_t batch, float *images)
{
    size_t plane = t->info.size * t->info.size;
    assert(t->pixels && batch && batch <= t->max_batch);
    for (size_t image = 0; image < batch; image++, images += 3 * plane) {
        tacit_dvae_decode(&t->dvae, ids + image * t->dvae.tokens, 1);
        for (size_t p = 0; p < plane; p++)
            for (size_t c = 0; c < 3; c++)
                images[c * plane + p] = t->dvae.result[3 * p + c];
    }
}
