/* isa.h - for the files that are compiled once for each ISA, with TACIT_ISA set to its name. */
#ifndef TACIT_ISA_H
#define TACIT_ISA_H

#define TACIT_PASTE2(a, b) a##_##b
#define TACIT_PASTE(a, b)  TACIT_PASTE2(a, b)
#define TACIT_NAME(name)   TACIT_PASTE(name, TACIT_ISA)

#define TACIT_INLINE static inline __attribute__((always_inline))

#include "kernels.h"

/* Every ISA has every row: tacit_<slot>_<isa>. */
#define TACIT_KERNEL(slot, class, cases) tacit_##slot##_fn TACIT_NAME(tacit_##slot);
#include "kernels.inc"
#undef TACIT_KERNEL

#endif
