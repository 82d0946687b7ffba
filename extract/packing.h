/* packing.h - a data set into a pack (pack.h): decoded, and made smaller where that is asked for.
 *
 * Pictures that cannot be used are left out, the others keep their order. The file has the same
 * bytes for any number of threads. It appears under its name when it is whole and synced; after an
 * error or a stop nothing is left of it, and what had the name before is untouched.
 */
#ifndef TACIT_PACKING_H
#define TACIT_PACKING_H

#include "dataset.h"
#include "kernels.h"
#include "pack.h"
#include "pool.h"
#include "run.h"

typedef struct tacit_packing_options {
    /* 0: pictures stay as they are. Else the shorter side in pixels, where it is longer: Pillow's
     * bicubic resize, by which the longer side becomes floor(size * longer / shorter), as
     * torchvision's Resize(size) has it. No picture is enlarged. */
    unsigned size;
    unsigned pillow; /* 13: order of passes as Pillow 13; 12: as 12.1 and before */
    bool strict;     /* the first unusable input is an error */
    const tacit_kernels *kernels;
    tacit_pool *pool;
    const atomic_int *stop; /* not 0: end soon, leave nothing; may be NULL */
    void *ctx;
    /* Called in input order, one call at a time; may be NULL. total 0: not known. */
    void (*bad)(void *ctx, const char *line);
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
} tacit_packing_options;

typedef struct tacit_packing_result {
    uint64_t inputs, resized;        /* resized: of those that were packed */
    uint64_t reasons[TACIT_REASONS]; /* inputs by status */
    tacit_pack_totals totals;
    double wall; /* seconds */
} tacit_packing_result;

/* Packs set, from where it stands, into the file `out`. TACIT_EFORMAT where not one input is
 * usable, TACIT_ECANCELLED after a stop, or the error with which the set ended early. The result is
 * filled in any case, its totals only where all went well. */
tacit_status tacit_pack_dataset(const tacit_packing_options *options, tacit_dataset *set,
                                const char *out, tacit_packing_result *result, tacit_err *err);

#endif
