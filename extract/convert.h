/* convert.h - any checkpoint that is read to a safetensors file with canonical names. */
#ifndef TACIT_CONVERT_H
#define TACIT_CONVERT_H

#include "kernels.h"
#include "weights.h"

/* Writes path atomically, a MiB at a time: the tensors that are used, as dtype (F32, F16 or BF16,
 * rounded to nearest even; or I8: as quantised.h has them, the others as F32), and canonical.h's
 * note, by which the file gives the same features as its source; in the same bits with F32, and
 * with I8 in int8. TACIT_ELIMIT where a value does not fit F16. */
tacit_status tacit_convert(const tacit_weights *weights, const char *from, const char *path,
                           tacit_dtype dtype, const tacit_kernels *kernels, tacit_err *err);

#endif
