/* int8.h - rounding to 8 bits, for the definitions and for packing. */
#ifndef TACIT_INT8_H
#define TACIT_INT8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Least and largest value that a row is scaled by. */
#define TACIT_INT8_TINY 1e-30f
#define TACIT_INT8_HUGE 3e38f

/* Added to a whole number of at most 2^21, it leaves 128 more than it in the lowest byte, and
 * rounds to nearest even what is not whole: 1.5 x 2^23 + 128. */
#define TACIT_INT8_MAGIC 12583040.0f

/* What exp(0) is as a whole number of 14 bits. */
#define TACIT_INT8_EXP 16383.0f

/* steps / most, and 0 where that is no use. */
static inline float tacit_int8_inverse_of(float steps, float most)
{
    return most > TACIT_INT8_TINY && most < TACIT_INT8_HUGE ? steps / most : 0;
}

static inline float tacit_int8_scale_of(float steps, float most)
{
    return most > TACIT_INT8_TINY && most < TACIT_INT8_HUGE ? most / steps : 0;
}

static inline float tacit_int8_inverse(float most)
{
    return tacit_int8_inverse_of(127, most);
}

static inline float tacit_int8_scale(float most)
{
    return tacit_int8_scale_of(127, most);
}

/* Whether the exponentials of a row, the largest of which is 1, come to so much together that 8
 * bits are enough of each; given 1 / their sum. What is rounded off is at most 1 / 16 of it. */
static inline bool tacit_int8_spread(size_t tokens, float inverse)
{
    return (float)tokens * inverse <= 32;
}

/* By the byte that stands for 0. */
static inline float tacit_int8_steps(uint8_t zero)
{
    return zero ? 127 : 255;
}

/* 128 + round(x inverse); 1 where that is NaN. */
static inline uint8_t tacit_int8_byte(float x, float inverse)
{
    float v = x * inverse;
    uint32_t bits;
    v = v > -127.0f ? v : -127.0f;
    v = 127.0f < v ? 127.0f : v;
    v += TACIT_INT8_MAGIC;
    memcpy(&bits, &v, sizeof bits);
    return (uint8_t)bits;
}

#endif
