/* exp.h - exp(x) in single precision, for softmax and the gradient of GELU.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n (1 + r + r^2 P(r)); P is the minimax fit of
 * degree 4 of the relative error (3.1e-9 before rounding), in Horner's order with fma. n comes out
 * of the sum x / ln 2 + TACIT_EXP_SHIFT, in whose last bits it is rounded to an integer and already
 * has the bias of an exponent: shifted to the exponent's place they are 2^n, 0 for n = -127 and
 * infinity for n = 128. Within 1.01 ulp from -87.33 (with fewer bits -87.68) to 88.37; 0 below,
 * infinity above, a NaN stays one.
 *
 * SLEEF's expf costs twice as much: it is a call for each vector, with care for numbers below
 * 2^-126 that a softmax has no use for. It took 7 % of a ViT-S with 1370 tokens.
 */
#ifndef TACIT_EXP_H
#define TACIT_EXP_H

#define TACIT_EXP_LEAST -88.0f
#define TACIT_EXP_MOST  89.0f
#define TACIT_EXP_SHIFT 12583039.0f /* 3 * 2^22 + 127 */
#define TACIT_EXP_LOG2E 1.44269504f
/* ln 2 in two parts, their signs turned. */
#define TACIT_EXP_LN2_HIGH -0.693147182f
#define TACIT_EXP_LN2_LOW  1.90465421e-09f
#define TACIT_EXP_P                                                                                \
    {                                                                                              \
        0.499999940f, 0.166665211f, 0.0416682661f, 0.00836867560f, 0.00138206896f                  \
    }

#endif
