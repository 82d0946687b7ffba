/* tokenizer_file.c - see tokenizer_file.h. */
#include "tokenizer_file.h"

#include "param_source.h"
#include "safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY    "tacit.tokenizer"
#define FORMAT "1"

static tacit_status out_of_memory(const char *path, tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
}

/* Of the lines of all settings those that are not free. */
static void keep_settings(const tacit_config *config, char *text)
{
    char *to = text;
    const char *from = text;
    for (size_t i = 0; i < config->count; i++) {
        size_t n = strcspn(from, "\n") + 1;
        if (!config->values[i].setting->free) {
            memmove(to, from, n);
            to += n;
        }
        from += n;
    }
    *to = 0;
}

tacit_status tacit_tokenizer_file_write(const char *path, tacit_engine *e, tacit_err *err)
{
    tacit_param_source tensors;
    const tacit_config *config = e->learner.config;
    char *text = tacit_config_text(config);
    tacit_status st = tacit_param_source_open(&tensors, e->params.count, err);
    if (st == TACIT_OK && !text)
        st = out_of_memory(path, err);
    if (st == TACIT_OK) {
        for (size_t i = 0; i < e->params.count; i++)
            tacit_param_source_add(&tensors, "", e->params.list[i], e->params.list[i]->value);
        keep_settings(config, text);
        const char *metadata[] = { "format",        "pt",     KEY,  FORMAT, "method",
                                   e->method->name, "config", text, NULL };
        tacit_tensor_source source = tacit_param_source_of(&tensors);
        st = tacit_safetensors_copy(path, &source, metadata, err);
    }
    tacit_free(text);
    tacit_param_source_close(&tensors);
    return st;
}

bool tacit_tokenizer_file_is(const tacit_checkpoint *file)
{
    return tacit_checkpoint_metadata(file, KEY) != NULL;
}

tacit_status tacit_tokenizer_file_settings(const tacit_checkpoint *file, const char *path,
                                           tacit_config *config, tacit_err *err)
{
    const char *format = tacit_checkpoint_metadata(file, KEY);
    const char *name = tacit_checkpoint_metadata(file, "method");
    const char *text = tacit_checkpoint_metadata(file, "config");
    *config = (tacit_config){ 0 };
    if (!format || !name || !text)
        return tacit_fail(err, TACIT_EFORMAT,
                          "%s: is no tokenizer of 'tacit tokenizer train', DALL-E or BEiT v2",
                          path);
    const tacit_method *method = tacit_method_find(name);
    if (strcmp(format, FORMAT) || !method || !method->tokenizer)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "%s: a tokenizer '%.40s' of format %.20s", path,
                          name, format);
    tacit_status st = tacit_config_open(config, method, err);
    if (st == TACIT_OK && (st = tacit_config_parse(config, text, path, err)) == TACIT_EINVAL)
        st = TACIT_EFORMAT;
    return st;
}

static tacit_status load_tensor(const tacit_tensor_source *source, size_t at, tacit_param *p,
                                tacit_err *err)
{
    const tacit_tensor *t = &source->tensors[at];
    if (t->dtype != TACIT_F32 || t->rank != p->rank ||
        memcmp(t->shape, p->shape, p->rank * sizeof *p->shape))
        return tacit_fail(err, TACIT_EFORMAT, "%s has another shape or type", t->name);
    float *values = tacit_alloc(t->bytes);
    if (!values)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %s", p->name);
    tacit_status st = source->read(source->ctx, at, 0, t->bytes, values, err);
    for (size_t i = 0; st == TACIT_OK && i < p->count; i++)
        if (!isfinite(values[i]))
            st = tacit_fail(err, TACIT_EFORMAT, "%s holds a value that is not finite", t->name);
    if (st == TACIT_OK)
        tacit_param_copy_in(p, values);
    tacit_free(values);
    return st;
}

tacit_status tacit_tokenizer_file_tensor(const tacit_tensor_source *source, const char *name,
                                         tacit_param *param, tacit_err *err)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, name))
            return load_tensor(source, i, param, err);
    return tacit_fail(err, TACIT_EFORMAT, "there is no %s", name);
}

tacit_status tacit_tokenizer_file_load(const tacit_checkpoint *file, const char *path,
                                       tacit_params *params, tacit_err *err)
{
    tacit_tensor_source source = tacit_checkpoint_source(file);
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < params->count; i++)
        st = tacit_tokenizer_file_tensor(&source, params->list[i]->name, params->list[i], err);
    return st < 0 ? tacit_fail_at(err, st, "%s", path) : st;
}
