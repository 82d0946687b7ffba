/* token_targets.c - see token_targets.h. */
#include "token_targets.h"

#include "frozen.h"

#define CHUNK 16 /* images that go through at once */

static tacit_status pin(tacit_config *config, const char *setting, const char *path, tacit_err *err)
{
    tacit_checkpoint *file = NULL;
    tacit_status st = tacit_checkpoint_open(&file, path, err);
    if (st == TACIT_OK)
        st = tacit_frozen_pin(config, setting, file, err);
    tacit_checkpoint_close(&file);
    return st;
}

tacit_status tacit_token_targets_declare(tacit_token_targets *t, tacit_config *config,
                                         const char *setting, size_t image, size_t grid,
                                         size_t max_batch, const tacit_work *work, tacit_err *err)
{
    static const float zero[3] = { 0, 0, 0 }, one[3] = { 1, 1, 1 };
    const char *path = tacit_config_string(config, setting);
    size_t chunk = max_batch < CHUNK ? max_batch : CHUNK;
    *t = (tacit_token_targets){ .max_batch = max_batch };
    if (!*path)
        return tacit_fail(err, TACIT_EINVAL,
                          "%s is empty: name the tokenizer.safetensors of a run of 'tacit "
                          "tokenizer train', or DALL-E's or BEiT v2's",
                          setting);
    tacit_status st =
        tacit_tokenizer_open(&t->tokenizer, path, grid, chunk, work->kernels, work->pool, err);
    if (st == TACIT_OK && (st = pin(config, setting, path, err)) < 0)
        tacit_fail_at(err, st, "%s", path);
    if (st < 0)
        return tacit_fail_at(err, st, "%s", setting);
    const tacit_tokenizer_info *info = tacit_tokenizer_info_of(t->tokenizer);
    if (info->grid != grid)
        return tacit_fail(err, TACIT_EINVAL,
                          "%s = %s has %zu x %zu tokens of an image, which has %zu x %zu patches: "
                          "set patch or size, or train another",
                          setting, path, info->grid, info->grid, grid, grid);
    t->tokens = grid * grid;
    t->codes = info->codes;
    tacit_pixel_match_declare(&t->match, config, info->mean, info->std, image, info->size, chunk,
                              work);
    tacit_pixel_match_between(&t->panel, info->mean, info->std, zero, one, info->size, image, 1,
                              work);
    return TACIT_OK;
}

void tacit_token_targets_close(tacit_token_targets *t)
{
    tacit_tokenizer_close(&t->tokenizer);
}

static size_t drawn_values(const tacit_token_targets *t)
{
    return tacit_tokenizer_info_of(t->tokenizer)->decodes ? 3 * t->panel.image * t->panel.image : 0;
}

bool tacit_token_targets_plan(const tacit_token_targets *t, size_t *total)
{
    return tacit_arena_plan(total, t->max_batch, t->tokens * sizeof *t->ids) &&
           tacit_pixel_match_plan(&t->match, total) &&
           (!drawn_values(t) || (tacit_arena_plan(total, drawn_values(t), sizeof *t->drawn) &&
                                 tacit_pixel_match_plan(&t->panel, total)));
}

void tacit_token_targets_take(tacit_token_targets *t, tacit_arena *arena)
{
    t->ids = tacit_arena_take(arena, t->max_batch, t->tokens * sizeof *t->ids);
    tacit_pixel_match_take(&t->match, arena);
    if (drawn_values(t)) {
        t->drawn = tacit_arena_take(arena, drawn_values(t), sizeof *t->drawn);
        tacit_pixel_match_take(&t->panel, arena);
    }
}

const uint32_t *tacit_token_targets_forward(tacit_token_targets *t, const float *images,
                                            size_t batch)
{
    size_t pixels = 3 * t->match.image * t->match.image;
    for (size_t i = 0; i < batch; i += t->match.chunk) {
        size_t count = batch - i < t->match.chunk ? batch - i : t->match.chunk;
        tacit_tokenizer_encode(t->tokenizer,
                               tacit_pixel_match_forward(&t->match, images + i * pixels, count),
                               count, t->ids + i * t->tokens);
    }
    return t->ids;
}

const float *tacit_token_targets_draw(tacit_token_targets *t, const uint32_t *ids)
{
    tacit_tokenizer_decode(t->tokenizer, ids, 1, t->drawn);
    return tacit_pixel_match_forward(&t->panel, t->drawn, 1);
}
