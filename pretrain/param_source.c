/* param_source.c - see param_source.h. */
#include "param_source.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

tacit_status tacit_param_source_open(tacit_param_source *s, size_t room, tacit_err *err)
{
    *s = (tacit_param_source){ .room = room };
    s->tensors = tacit_calloc(room, sizeof *s->tensors);
    s->names = tacit_calloc(room, sizeof *s->names);
    s->params = tacit_calloc(room, sizeof *s->params);
    s->values = tacit_calloc(room, sizeof *s->values);
    if (!s->tensors || !s->names || !s->params || !s->values)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", room);
    return TACIT_OK;
}

void tacit_param_source_close(tacit_param_source *s)
{
    tacit_free(s->tensors);
    tacit_free(s->names);
    tacit_free(s->params);
    tacit_free(s->values);
    *s = (tacit_param_source){ 0 };
}

void tacit_param_source_add(tacit_param_source *s, const char *prefix, tacit_param *p,
                            float *values)
{
    size_t i = s->count++;
    assert(i < s->room);
    snprintf(s->names[i], sizeof s->names[i], "%.15s%s", prefix, p->name);
    s->params[i] = p;
    s->values[i] = values;
    s->tensors[i] = (tacit_tensor){
        .name = s->names[i], .dtype = TACIT_F32, .rank = p->rank, .bytes = p->count * sizeof(float)
    };
    memcpy(s->tensors[i].shape, p->shape, p->rank * sizeof *p->shape);
}

static tacit_status read_values(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const tacit_param_source *s = ctx;
    const tacit_param *p = s->params[i];
    size_t from = offset / sizeof(float), n = size / sizeof(float);
    float *to = dst;
    (void)err;
    if (!p->channels_last)
        memcpy(to, s->values[i] + from, size);
    else
        for (size_t k = 0; k < n; k++)
            to[k] = s->values[i][tacit_param_place(p, from + k)];
    return TACIT_OK;
}

tacit_tensor_source tacit_param_source_of(tacit_param_source *s)
{
    return (tacit_tensor_source){ s->tensors, s->count, read_values, s };
}
