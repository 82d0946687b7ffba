/* gumbel.h - noise of Gumbel's distribution, -log(-log u) of a uniform u (Jang et al. 2016,
 * arXiv:1611.01144). */
#ifndef TACIT_GUMBEL_H
#define TACIT_GUMBEL_H

#include <stddef.h>
#include <stdint.h>

/* n values, one of each word of the stream: u = (word / 512 + 1/2) / 2^23, whole division. Within
 * 1e-6 of the exact ones, and the same bits on every CPU. */
void tacit_gumbel(uint64_t seed, uint64_t stream, size_t n, float *out);

#endif
