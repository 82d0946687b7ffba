/* quantised.h - weights in whole numbers of 8 bits, with a scale for each output.
 *
 * The matrices that --precision int8 multiplies in 8 bits, "<name>.weight", are stored as I8, and
 * beside each is "<name>.weight_scale", F32, one for each row. They read back as floats, number
 * times scale, which are quantised to the same numbers and scales again: where a scale is
 * float(most / 127), float(127 scale) / 127 rounds to it, as most itself lies within 63.5 units in
 * the last place of 127 scale, nearer than half a unit of its own.
 */
#ifndef TACIT_QUANTISED_H
#define TACIT_QUANTISED_H

#include "tensor.h"

#include <stdbool.h>

typedef struct tacit_quantised tacit_quantised;

/* from's tensors, all F32 of canonical names, with its matrices as I8 and their scales; reads every
 * matrix once. What `from` points to must stay. TACIT_EFORMAT where a value is not finite. */
tacit_status tacit_quantise(tacit_quantised **quantised, const tacit_tensor_source *from,
                            tacit_err *err);

/* The other way round: every I8 tensor that has scales as F32, and no scales. TACIT_EFORMAT where
 * those do not fit it. */
tacit_status tacit_dequantise(tacit_quantised **quantised, const tacit_tensor_source *from,
                              tacit_err *err);

tacit_tensor_source tacit_quantised_source(const tacit_quantised *quantised);
/* How many are or were I8. */
size_t tacit_quantised_count(const tacit_quantised *quantised);
void tacit_quantised_close(tacit_quantised **quantised);

#endif
