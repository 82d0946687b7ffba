/* bind.h - from the tensors of a source to those of a network: names, shapes, values.
 *
 * Every problem with names and shapes is found and reported before a value is read.
 */
#ifndef TACIT_BIND_H
#define TACIT_BIND_H

#include "kernels.h"
#include "linear.h"
#include "mem.h"
#include "pool.h"
#include "stash.h"
#include "tensor.h"

/* One tensor of a network: its name, its shape, and where its values go. */
typedef struct tacit__slot {
    char name[96];
    unsigned rank;
    size_t shape[4];
    float **vector;       /* stored as it is, or                     */
    tacit_linear *matrix; /* packed, (shape[0], product of the rest) */
} tacit__slot;

size_t tacit__slot_elements(const tacit__slot *slot);

/* NULL where there is none. */
const tacit_tensor *tacit__find_tensor(const tacit_tensor_source *source, const char *name);

/* index[s] becomes the tensor of slot s. All that are missing, mis-shaped, of another type than
 * F32, F16 and BF16, or unexpected are named at once; `unneeded` says what a file may hold beside,
 * of the network's config. */
tacit_status tacit__bind(const tacit__slot *slots, size_t count, const tacit_tensor_source *source,
                         bool (*unneeded)(const void *config, const char *name), const void *config,
                         size_t *index, tacit_err *err);

/* n values of tensor t from element `first` on, as floats; raw has room for n half values.
 * TACIT_EFORMAT where one is not finite. */
tacit_status tacit__read_floats(const tacit_tensor_source *source, size_t t, size_t first, size_t n,
                                const tacit_kernels *kernels, float *to, uint16_t *raw,
                                tacit_err *err);
bool tacit__all_finite(const float *x, size_t n);

/* The memory of a network: what the stash (or NULL) kept, *kept is then set, or new and, where it
 * is to be kept, zeros, so that no byte between the tensors is of anything else. */
tacit_status tacit__take_memory(tacit_arena *arena, size_t size, const tacit_stash *stash,
                                bool *kept, tacit_err *err);

/* Loads pieces [0, count) on the pool, each with a buffer of `size` bytes, 64-byte aligned. Of the
 * pieces that fail, the first one's error is reported. */
typedef tacit_status tacit__piece_fn(void *ctx, size_t piece, void *buffer, tacit_err *err);
tacit_status tacit__load_pieces(tacit_pool *pool, size_t count, size_t size, tacit__piece_fn *load,
                                void *ctx, tacit_err *err);

/* A source of values that are uniform in middle +- spread, by slot: value i of tensor t is draw i
 * of stream t, so any range can be read on its own. */
typedef struct tacit__range {
    float middle, spread;
} tacit__range;

/* Slots, allocated by tacit_calloc, belong to the source from now on, also where this fails. */
tacit_status tacit__seeded_open(tacit_tensor_source *source, tacit__slot *slots, size_t count,
                                tacit__range (*range)(const tacit__slot *slot), uint64_t seed,
                                tacit_err *err);
void tacit__seeded_close(tacit_tensor_source *source);

#endif
