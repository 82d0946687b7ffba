/* mem.h - the one door to the heap, checked sizes, and arenas.
 *
 * All heap memory of the project comes through tacit_alloc, so that a test can make the Nth call
 * fail. Blocks are 64-byte aligned; large ones ask for huge pages. An arena is planned first
 * (tacit_arena_plan adds up what will be taken), made once, and then only handed out: taking from
 * it never fails and never calls the heap.
 */
#ifndef TACIT_MEM_H
#define TACIT_MEM_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TACIT_ALIGN 64

/* size bytes, 64-byte aligned, not cleared; NULL where memory is short. size 0 gives a block that
 * may be freed. Owned by the caller until tacit_free. */
void *tacit_alloc(size_t size);
/* count * size bytes, cleared; NULL also where the product overflows. */
void *tacit_calloc(size_t count, size_t size);
/* A block of new_size bytes with the first min(old_size, new_size) bytes of p; p is freed only
 * when it succeeds. p may be NULL with old_size 0. */
void *tacit_realloc(void *p, size_t old_size, size_t new_size);
/* p, or in its place a block of at least `size` bytes, *room then being its size; contents are
 * lost. NULL where memory is short. An eighth more than asked for, so that sizes which vary a
 * little settle soon. */
void *tacit_renew(void *p, size_t *room, size_t size);
char *tacit_strdup(const char *s);
void tacit_free(void *p);

/* Sum and product of sizes; false where they overflow, *out is then untouched. */
bool tacit_add_size(size_t a, size_t b, size_t *out);
bool tacit_mul_size(size_t a, size_t b, size_t *out);

/* For tests. From now on the nth call to the heap (1 = the next) fails, and with `persist` every
 * one after it; n = 0 turns it off. Counts are process-wide. */
void tacit_alloc_fail_at(uint64_t n, bool persist);
/* Successful heap calls so far: a test subtracts two readings. */
uint64_t tacit_alloc_count(void);
/* The bytes that they asked for together, the same way. */
uint64_t tacit_alloc_bytes(void);

typedef struct tacit_arena {
    unsigned char *base;
    size_t size, used;
    bool borrowed; /* base is not freed with it */
} tacit_arena;

/* Adds a block of count elements of size bytes to *total, rounded up to 64; false on overflow. */
bool tacit_arena_plan(size_t *total, size_t count, size_t size);
tacit_status tacit_arena_open(tacit_arena *arena, size_t size, tacit_err *err);
/* The next block; the sum of takes must have been planned (asserted). 64-byte aligned. */
void *tacit_arena_take(tacit_arena *arena, size_t count, size_t size);
void tacit_arena_close(tacit_arena *arena);

#endif
