/* backbone_file.c - see backbone_file.h. */
#include "backbone_file.h"

#include "canonical.h"
#include "meta.h"
#include "param_source.h"
#include "safetensors.h"

#include <stdio.h>
#include <string.h>

void tacit_normalisation(const tacit_config *config, float mean[3], float std[3])
{
    static const float table[][2][3] = {
        { { 0, 0, 0 }, { 1, 1, 1 } },
        { { 0.485f, 0.456f, 0.406f }, { 0.229f, 0.224f, 0.225f } },
        { { 0.4914f, 0.4822f, 0.4465f }, { 0.2023f, 0.1994f, 0.2010f } },
        { { 0.5f, 0.5f, 0.5f }, { 0.5f, 0.5f, 0.5f } },
    };
    unsigned i = tacit_config_choice(config, "normalise");
    memcpy(mean, table[i][0], sizeof table[i][0]);
    memcpy(std, table[i][1], sizeof table[i][1]);
}

static bool of_backbone(const tacit_method *m, const char *name)
{
    for (const char *const *head = m->heads; *head; head++)
        if (!strncmp(name, *head, strlen(*head)))
            return false;
    return true;
}

/* As a checkpoint that tacit convert wrote. Small views are evaluated whole, large ones by the
 * usual crop of 0.875. */
static tacit_dialect dialect_of(const tacit_engine *e, char name[64])
{
    const tacit_backbone_config *backbone = &e->learner.backbone;
    unsigned height, width;
    tacit_backbone_input(backbone, &height, &width);
    snprintf(name, 64, "tacit pretrain %s", e->method->name);
    tacit_dialect d = { .name = name,
                        .config = *backbone,
                        .features = backbone->family == TACIT_FAMILY_VIT ? e->method->features
                                                                         : TACIT_FEATURES_MEAN,
                        .published = { .ratio = height <= 96 ? 1 : 1 / 0.875,
                                       .filter = "bicubic" } };
    tacit_normalisation(e->learner.config, d.published.mean, d.published.std);
    return d;
}

tacit_status tacit_backbone_file_write(const char *path, tacit_engine *e, tacit_err *err)
{
    tacit_param_source tensors;
    char name[64], *text = NULL;
    json_t *note = NULL;
    const tacit_params *params = e->method->by_teacher ? &e->teacher : &e->params;
    tacit_status st = tacit_param_source_open(&tensors, params->count, err);
    if (st == TACIT_OK) {
        for (size_t i = 0; i < params->count; i++)
            if (of_backbone(e->method, params->list[i]->name))
                tacit_param_source_add(&tensors, "", params->list[i], params->list[i]->value);
        tacit_dialect dialect = dialect_of(e, name);
        note = tacit_canonical_json(&dialect, "backbone.safetensors", 0);
        text = note ? tacit_json_dump(note, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
        const char *metadata[] = { "format", "pt", TACIT_CANONICAL_KEY, text, NULL };
        tacit_tensor_source source = tacit_param_source_of(&tensors);
        st = text ? tacit_safetensors_copy(path, &source, metadata, err)
                  : tacit_fail(err, TACIT_ENOMEM, "out of memory for %s", path);
    }
    json_decref(note);
    tacit_free(text);
    tacit_param_source_close(&tensors);
    return st;
}
