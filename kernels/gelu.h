/* gelu.h - erf(x / sqrt 2) for the exact GELU, as one rational function.
 *
 * erf(x / sqrt 2) = x P(x^2) / Q(x^2) for |x| <= TACIT_ERF_MOST, and the sign of x beyond, where it
 * is 1 to float precision. P and Q are the minimax fit of degree 5 by 5 in relative error (1.8e-8
 * before rounding), in Horner's order with fma; the quotient is cut to [-1, 1]. Within 5 ulp of
 * erf, 0.6 on average; GELU is within 1.1e-6 of the exact one in absolute error, the worst where it
 * is about 4.
 *
 * SLEEF's erff (1 ulp) costs four times as much, since it works in pairs of floats; it took 12 % of
 * ViT-Ti's time. Embeddings are no farther from those of double precision with this.
 */
#ifndef TACIT_GELU_H
#define TACIT_GELU_H

#define TACIT_ERF_MOST 5.53f
#define TACIT_ERF_P                                                                                \
    {                                                                                              \
        0.797884524f, 0.0671910942f, 0.00931774732f, 0.000331655348f, 1.25936394e-05f,             \
            4.54752893e-08f                                                                        \
    }
#define TACIT_ERF_Q                                                                                \
    {                                                                                              \
        1.0f, 0.250877917f, 0.0284917969f, 0.00186778593f, 7.24994316e-05f, 1.19303729e-06f        \
    }

#endif
