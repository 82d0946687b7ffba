/* table.c - the table of one ISA. Compiled once for each. */
#include "isa.h"
#include "tile.h"

#define TACIT_STRING2(x) #x
#define TACIT_STRING(x)  TACIT_STRING2(x)

extern const tacit_kernels TACIT_NAME(tacit_kernels);
const tacit_kernels TACIT_NAME(tacit_kernels) = {
    .isa = TACIT_TILE_ISA,
    .gemm_mr = TACIT_MR,
    .gemm_nr = TACIT_NR,
#define TACIT_KERNEL(slot, class, cases) .slot = TACIT_NAME(tacit_##slot),
#include "kernels.inc"
#undef TACIT_KERNEL
};
