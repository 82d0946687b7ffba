/* most.h - the place of the largest of some numbers, the first of equals. */
#ifndef TACIT_MOST_H
#define TACIT_MOST_H

#include <stddef.h>

static inline size_t tacit_most(size_t n, const float *x)
{
    size_t most = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[most])
            most = i;
    return most;
}

#endif
