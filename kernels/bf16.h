/* bf16.h - bfloat16 as kernels_bf16.h multiplies it, for the definitions. */
#ifndef TACIT_BF16_H
#define TACIT_BF16_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* What is smaller than a normal number becomes a zero of its sign. */
static inline float tacit_bf16_flush(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

/* The value of a bfloat16 that is to be multiplied. */
static inline float tacit_bf16_value(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return tacit_bf16_flush(value);
}

#endif
