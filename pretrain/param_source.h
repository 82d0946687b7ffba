/* param_source.h - tensors in training as a source, to be written or read as any other.
 *
 * Values come in the order of a tensor's shape, however they lie; nothing is copied before.
 */
#ifndef TACIT_PARAM_SOURCE_H
#define TACIT_PARAM_SOURCE_H

#include "params.h"
#include "tensor.h"

#define TACIT_PARAM_SOURCE_NAME (TACIT_PARAM_NAME + 16)

typedef struct tacit_param_source {
    tacit_tensor *tensors;
    char (*names)[TACIT_PARAM_SOURCE_NAME];
    tacit_param **params;
    float **values; /* one of a parameter's blocks */
    size_t count, room;
} tacit_param_source;

/* For up to `room` tensors. Must be closed, opened well or badly. */
tacit_status tacit_param_source_open(tacit_param_source *source, size_t room, tacit_err *err);
void tacit_param_source_close(tacit_param_source *source);

/* Adds block `values` of a parameter, named prefix and its name. */
void tacit_param_source_add(tacit_param_source *source, const char *prefix, tacit_param *param,
                            float *values);

/* Reads through, as long as `source` stays. */
tacit_tensor_source tacit_param_source_of(tacit_param_source *source);

#endif
