/* tile.h - the size of the register tile of each ISA: MR rows by NR columns of accumulators.
 *
 * avx512: 14 x 32 is 28 of 32 registers, 2 for the columns, 1 for a broadcast value: 28 FMA for 16
 *         loads, so a core with two 512-bit FMA ports needs 1.15 loads a cycle of its 2.
 * avx2:   6 x 16 is 12 of 16 registers: 12 FMA for 8 loads.
 * neon:   6 x 16 is 24 of 32 registers: 24 FMA for 10 loads.
 * ref:    any; small, so that tests see partial tiles.
 */
#ifndef TACIT_TILE_H
#define TACIT_TILE_H

#include "isa.h"

#define TACIT_ISA_IS_ref    0
#define TACIT_ISA_IS_avx2   1
#define TACIT_ISA_IS_avx512 2
#define TACIT_ISA_IS_neon   3
#define TACIT_ISA_NUMBER    TACIT_PASTE(TACIT_ISA_IS, TACIT_ISA)

#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512
#define TACIT_TILE_ISA TACIT_ISA_AVX512
#define TACIT_MR       14
#define TACIT_NR       32
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx2
#define TACIT_TILE_ISA TACIT_ISA_AVX2
#define TACIT_MR       6
#define TACIT_NR       16
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_neon
#define TACIT_TILE_ISA TACIT_ISA_NEON
#define TACIT_MR       6
#define TACIT_NR       16
#else
#define TACIT_TILE_ISA TACIT_ISA_REF
#define TACIT_MR       4
#define TACIT_NR       8
#endif

#endif
