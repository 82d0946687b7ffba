/* weights.c - see weights.h. */
#include "weights.h"

#include "default_backbone.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

/* The width of the features, which configurations tell. */
static unsigned width_of(const tacit_backbone_config *config)
{
    return config->family == TACIT_FAMILY_VIT ? config->vit.dim : config->resnet.out[3];
}

/* A config.json in a folder of many checkpoints is of one of them. Where it does not fit this one,
 * it is left alone. */
static tacit_status explain(tacit_weights *w, const tacit_weights_options *options, tacit_err *err)
{
    tacit_dialect_options o = { .arch = options->arch,
                                .checkpoint_key = options->checkpoint_key,
                                .allow_partial = options->allow_partial,
                                .hints = w->beside.hints };
    tacit_status st = tacit_dialect_open(&w->dialect, &w->raw, &o, err);
    unsigned said = w->beside.dim;
    if (st == TACIT_ENOMEM || !said || (st >= 0 && width_of(&w->dialect.config) == said))
        return st;
    tacit_err other;
    tacit_dialect plain;
    o.hints = (tacit_hints){ 0 };
    tacit_status again = tacit_dialect_open(&plain, &w->raw, &o, &other);
    if (again < 0 || width_of(&plain.config) == said) {
        tacit_dialect_close(&plain);
        return st;
    }
    tacit_dialect_close(&w->dialect);
    w->dialect = plain;
    snprintf(w->note, sizeof w->note,
             "the configuration beside it is of a network of width %u, not %u: it is not used",
             said, width_of(&plain.config));
    tacit_sidecar_clear(&w->beside);
    return again;
}

static tacit_status open_checkpoint(tacit_weights *w, const char *path, tacit_err *err)
{
    size_t size;
    if (strcmp(path, TACIT_WEIGHTS_DEFAULT))
        return tacit_checkpoint_open(&w->checkpoint, path, err);
    const void *bytes = tacit__default_backbone(&size);
    return tacit_checkpoint_open_bytes(&w->checkpoint, path, bytes, size, err);
}

static bool has_bytes(const tacit_tensor_source *source)
{
    for (size_t i = 0; i < source->count; i++)
        if (source->tensors[i].dtype == TACIT_I8)
            return true;
    return false;
}

tacit_status tacit_weights_open(tacit_weights *w, const char *path,
                                const tacit_weights_options *options, tacit_err *err)
{
    *w = (tacit_weights){ 0 };
    tacit_status st = open_checkpoint(w, path, err);
    if (st < 0)
        return st;
    w->raw = tacit_checkpoint_source(w->checkpoint);
    const char *note = tacit_checkpoint_metadata(w->checkpoint, TACIT_CANONICAL_KEY);
    if (note) {
        st = tacit_canonical_parse(note, &w->dialect, &w->strings, err);
        w->converted = st >= 0;
        w->dialect.source = w->raw;
        if (st >= 0 && has_bytes(&w->raw)) {
            st = tacit_dequantise(&w->quantised, &w->raw, err);
            if (st >= 0)
                w->dialect.source = tacit_quantised_source(w->quantised);
        }
        return st < 0 ? tacit_fail_at(err, st, "%s", path) : TACIT_OK;
    }
    if ((st = tacit_sidecar_read(&w->beside, tacit_checkpoint_path(w->checkpoint), err)) < 0)
        return st;
    if ((st = explain(w, options, err)) < 0)
        return tacit_fail_at(err, st, "%s", path);
    tacit_sidecar_apply(&w->beside, &w->dialect.published);
    w->pixels = w->beside.pixels;
    if (w->beside.features >= 0)
        w->dialect.features = (tacit_features)w->beside.features;
    if (!w->note[0])
        snprintf(w->note, sizeof w->note, "%s", w->dialect.note);
    return TACIT_OK;
}

void tacit_weights_close(tacit_weights *w)
{
    tacit_dialect_close(&w->dialect);
    tacit_quantised_close(&w->quantised);
    tacit_checkpoint_close(&w->checkpoint);
    *w = (tacit_weights){ 0 };
}
