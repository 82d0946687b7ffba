/* gelu.h - erf(x / sqrt 2) for the exact GELU, as one rational function, and a polynomial for the
 * products that are rounded anyway.
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

/* The same for products of which the next rounds to 8 bits anyway: erf(x / sqrt 2) = x P(x^2) for
 * |x| <= TACIT_ERF_SHORT_MOST, and the sign of x beyond; P is the minimax fit of degree 7 of GELU's
 * absolute error, that is at least 1 at its end. GELU is within 7.4e-5. Without the division it
 * costs half. */
#define TACIT_ERF_SHORT_MOST 4.15f
#define TACIT_ERF_SHORT                                                                            \
    {                                                                                              \
        0.796970129f, -0.131119624f, 0.0186311137f, -0.00191019336f, 0.000134983798f,              \
            -6.16450234e-06f, 1.62186282e-07f, -1.85473048e-09f                                    \
    }

#endif
