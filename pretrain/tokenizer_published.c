/* tokenizer_published.c - see tokenizer_published.h. */
#include "tokenizer_published.h"

#include "tokenizer_file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MOST_BLOCKS 64

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* The tensor prefix, name and end; NULL where there is none. */
static const tacit_tensor *find(const tacit_tensor_source *raw, const char *prefix,
                                const char *name, const char *end)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s%s", prefix, name, end);
    for (size_t i = 0; i < raw->count; i++)
        if (!strcmp(raw->tensors[i].name, full))
            return &raw->tensors[i];
    return NULL;
}

/* What stands before `end` in a name that ends so. */
static bool prefix_of(const char *name, const char *end, char *prefix, size_t size)
{
    size_t n = ends_with(name, end) ? strlen(name) - strlen(end) : size;
    if (n >= size || (n && name[n - 1] != '.'))
        return false;
    memcpy(prefix, name, n);
    prefix[n] = 0;
    return true;
}

/* DALL-E -------------------------------------------------------------------------------------- */

static tacit_status open_dalle(tacit_published_tokenizer *p, const tacit_tensor *input,
                               const tacit_tensor *decoder, tacit_err *err)
{
    const tacit_tensor *output =
        input ? find(&p->raw, p->prefix, "blocks.output.conv", ".w") : NULL;
    p->kind = TACIT_PUBLISHED_DALLE;
    if (!input)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "is the decoder of DALL-E's dVAE alone: tokens are made by its encoder");
    if (!output || !output->rank)
        return tacit_fail(err, TACIT_EFORMAT, "there is no %sblocks.output.conv.w", p->prefix);
    p->dalle = (tacit_dalle_config){ .hidden = input->shape[0],
                                     .codes = output->shape[0],
                                     .begin = decoder ? decoder->shape[0] : 0 };
    while (p->dalle.blocks < MOST_BLOCKS) {
        char name[96];
        snprintf(name, sizeof name, "blocks.group_1.block_%zu.res_path.conv_1",
                 p->dalle.blocks + 1);
        if (!find(&p->raw, p->prefix, name, ".w"))
            break;
        p->dalle.blocks++;
    }
    return TACIT_OK;
}

/* Both halves begin with a convolution of the same name: the encoder's sees 7 x 7 pixels. */
static tacit_status look_for_dalle(tacit_published_tokenizer *p, tacit_err *err)
{
    static const char end[] = "blocks.input.w";
    const tacit_tensor *encoder = NULL, *decoder = NULL;
    for (size_t i = 0; i < p->raw.count; i++) {
        const tacit_tensor *t = &p->raw.tensors[i];
        if (!ends_with(t->name, end) || t->rank != 4)
            continue;
        if (t->shape[2] == 7 && t->shape[1] == 3 && !encoder &&
            prefix_of(t->name, end, p->prefix, sizeof p->prefix))
            encoder = t;
        else if (t->shape[2] == 1 && !decoder &&
                 prefix_of(t->name, end, p->decoder_prefix, sizeof p->decoder_prefix))
            decoder = t;
    }
    return encoder || decoder ? open_dalle(p, encoder, decoder, err) : TACIT_OK;
}

/* VQ-KD --------------------------------------------------------------------------------------- */

/* The sizes of a plain ViT; what it is not shows when its tensors are loaded. */
static tacit_status open_vqkd(tacit_published_tokenizer *p, const tacit_tensor *codebook,
                              tacit_err *err)
{
    const tacit_dialect_options options = { .checkpoint_key = "encoder" };
    p->kind = TACIT_PUBLISHED_VQKD;
    tacit_status st = tacit_dialect_open(&p->dialect, &p->raw, &options, err);
    if (st < 0)
        return st;
    const tacit_vit_config *vit = &p->dialect.config.vit;
    if (p->dialect.config.family != TACIT_FAMILY_VIT || vit->height != vit->width ||
        codebook->rank != 2 || codebook->shape[0] > 65536)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "is no VQ-KD of a plain ViT");
    p->vqkd = (tacit_vqkd_config){ .encoder = { .dim = vit->dim,
                                                .depth = vit->depth,
                                                .heads = vit->heads,
                                                .mlp = vit->mlp,
                                                .patch = vit->patch,
                                                .image = vit->height,
                                                .grid = vit->grid[0],
                                                .eps = vit->eps,
                                                .no_cls = vit->no_cls,
                                                .recompute = true },
                                   .codes = codebook->shape[0],
                                   .code_dim = codebook->shape[1] };
    return TACIT_OK;
}

static tacit_status look_for_vqkd(tacit_published_tokenizer *p, tacit_err *err)
{
    for (size_t i = 0; i < p->raw.count; i++) {
        const tacit_tensor *t = &p->raw.tensors[i];
        if (prefix_of(t->name, "quantize.embedding.weight", p->prefix, sizeof p->prefix) &&
            find(&p->raw, p->prefix, "encode_task_layer.0", ".weight") &&
            find(&p->raw, p->prefix, "encoder.patch_embed.proj", ".weight"))
            return open_vqkd(p, t, err);
    }
    return TACIT_OK;
}

tacit_status tacit_published_tokenizer_open(tacit_published_tokenizer *p,
                                            const tacit_tensor_source *raw, tacit_err *err)
{
    *p = (tacit_published_tokenizer){ .raw = *raw };
    tacit_status st = look_for_dalle(p, err);
    return st == TACIT_OK && p->kind == TACIT_PUBLISHED_NONE ? look_for_vqkd(p, err) : st;
}

void tacit_published_tokenizer_close(tacit_published_tokenizer *p)
{
    tacit_dialect_close(&p->dialect);
    *p = (tacit_published_tokenizer){ 0 };
}

/* Loading ------------------------------------------------------------------------------------- */

/* "encoder.blocks.input.weight" is <prefix>blocks.input.w. */
static tacit_status load_dalle(const tacit_published_tokenizer *p, tacit_param *param,
                               tacit_err *err)
{
    char name[512];
    bool decoder = !strncmp(param->name, "decoder.", 8), weight = ends_with(param->name, ".weight");
    const char *bare = param->name + 8;
    snprintf(name, sizeof name, "%s%.*s.%c", decoder ? p->decoder_prefix : p->prefix,
             (int)(strlen(bare) - (weight ? 7 : 5)), bare, weight ? 'w' : 'b');
    return tacit_tokenizer_file_tensor(&p->raw, name, param, err);
}

static bool is_quantiser(const char *name)
{
    return !strncmp(name, "encode_task_layer.", 18) || !strncmp(name, "quantize.", 9);
}

/* The norm of each patch is "fc_norm" there. */
static tacit_status load_vqkd(const tacit_published_tokenizer *p, tacit_param *param,
                              tacit_err *err)
{
    char name[512];
    if (is_quantiser(param->name)) {
        snprintf(name, sizeof name, "%s%s", p->prefix, param->name);
        return tacit_tokenizer_file_tensor(&p->raw, name, param, err);
    }
    bool norm =
        !strncmp(param->name, "norm.", 5) && p->dialect.config.vit.last_norm == TACIT_NORM_MEAN;
    snprintf(name, sizeof name, "%s%s", norm ? "fc_" : "", param->name);
    return tacit_tokenizer_file_tensor(&p->dialect.source, name, param, err);
}

/* The nearest code is the one with the largest product only if all are of one length. */
static tacit_status check_codes(const tacit_param *codes, tacit_err *err)
{
    for (size_t row = 0, n = codes->shape[1]; row < codes->shape[0]; row++) {
        double square = 0;
        for (size_t i = 0; i < n; i++)
            square += (double)codes->value[row * n + i] * (double)codes->value[row * n + i];
        if (fabs(square - 1) > 1e-3)
            return tacit_fail(err, TACIT_EFORMAT, "%s: code %zu has length %g, not 1", codes->name,
                              row, sqrt(square));
    }
    return TACIT_OK;
}

/* Whether the network has what the encoder's file has. */
static tacit_status check_encoder(const tacit_published_tokenizer *p, const tacit_params *params,
                                  tacit_err *err)
{
    for (size_t i = 0; i < p->dialect.source.count; i++) {
        const char *name = p->dialect.source.tensors[i].name;
        if (!tacit_params_find(params, !strncmp(name, "fc_norm.", 8) ? name + 3 : name))
            return tacit_fail(err, TACIT_EUNSUPPORTED, "is no VQ-KD of a plain ViT: it has %s",
                              name);
    }
    return TACIT_OK;
}

tacit_status tacit_published_tokenizer_load(const tacit_published_tokenizer *p,
                                            tacit_params *params, tacit_err *err)
{
    bool vqkd = p->kind == TACIT_PUBLISHED_VQKD;
    tacit_status st = vqkd ? check_encoder(p, params, err) : TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < params->count; i++)
        st = vqkd ? load_vqkd(p, params->list[i], err) : load_dalle(p, params->list[i], err);
    if (st == TACIT_OK && vqkd)
        st = check_codes(tacit_params_find(params, "quantize.embedding.weight"), err);
    return st;
}
