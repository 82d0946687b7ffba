/* mem.c - heap and arenas. See mem.h. */
#include "mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From this size on a block is aligned to, and asks for, 2 MiB pages: first touch is then 2 to 3
 * times as fast and large weights need fewer TLB entries. */
#define HUGE_PAGE ((size_t)2 << 20)

static _Atomic uint64_t alloc_count, alloc_bytes;
static _Atomic uint64_t fail_at; /* calls left until the failing one; 0 = off */
static _Atomic bool fail_persist;

void tacit_alloc_fail_at(uint64_t n, bool persist)
{
    atomic_store(&fail_persist, persist);
    atomic_store(&fail_at, n);
}

uint64_t tacit_alloc_count(void)
{
    return atomic_load(&alloc_count);
}

uint64_t tacit_alloc_bytes(void)
{
    return atomic_load(&alloc_bytes);
}

static bool must_fail(void)
{
    uint64_t left = atomic_load(&fail_at);
    while (left) {
        if (left == 1 && atomic_load(&fail_persist))
            return true;
        if (atomic_compare_exchange_weak(&fail_at, &left, left - 1))
            return left == 1;
    }
    return false;
}

void *tacit_alloc(size_t size)
{
    if (must_fail() || size > SIZE_MAX - HUGE_PAGE)
        return NULL;
    size_t align = size >= 2 * HUGE_PAGE ? HUGE_PAGE : TACIT_ALIGN;
    size_t rounded = (size + align - 1) / align * align;
    void *p = aligned_alloc(align, rounded ? rounded : align);
    if (!p)
        return NULL;
    if (align == HUGE_PAGE)
        (void)madvise(p, rounded, MADV_HUGEPAGE); /* advice: nothing is lost where it is refused */
    atomic_fetch_add(&alloc_count, 1);
    atomic_fetch_add(&alloc_bytes, size);
    return p;
}

void *tacit_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!tacit_mul_size(count, size, &bytes))
        return NULL;
    void *p = tacit_alloc(bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void *tacit_realloc(void *p, size_t old_size, size_t new_size)
{
    void *q = tacit_alloc(new_size);
    if (!q)
        return NULL;
    size_t keep = old_size < new_size ? old_size : new_size;
    if (keep)
        memcpy(q, p, keep);
    tacit_free(p);
    return q;
}

void *tacit_renew(void *p, size_t *room, size_t size)
{
    if (p && size <= *room)
        return p;
    tacit_free(p);
    p = tacit_add_size(size, size / 8, &size) ? tacit_alloc(size) : NULL;
    *room = p ? size : 0;
    return p;
}

char *tacit_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = tacit_alloc(n);
    if (copy)
        memcpy(copy, s, n);
    return copy;
}

void tacit_free(void *p)
{
    free(p);
}

bool tacit_add_size(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

bool tacit_mul_size(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

/* count * size rounded up to the alignment; false on overflow. */
static bool block_size(size_t count, size_t size, size_t *out)
{
    size_t bytes;
    if (!tacit_mul_size(count, size, &bytes) || !tacit_add_size(bytes, TACIT_ALIGN - 1, &bytes))
        return false;
    *out = bytes / TACIT_ALIGN * TACIT_ALIGN;
    return true;
}

bool tacit_arena_plan(size_t *total, size_t count, size_t size)
{
    size_t bytes;
    return block_size(count, size, &bytes) && tacit_add_size(*total, bytes, total);
}

tacit_status tacit_arena_open(tacit_arena *arena, size_t size, tacit_err *err)
{
    *arena = (tacit_arena){ .base = tacit_alloc(size), .size = size };
    if (!arena->base)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory: %zu bytes were asked for", size);
    return TACIT_OK;
}

void *tacit_arena_take(tacit_arena *arena, size_t count, size_t size)
{
    size_t bytes = 0;
    bool fits = block_size(count, size, &bytes) && bytes <= arena->size - arena->used;
    assert(fits);
    if (!fits)
        return NULL;
    void *p = arena->base + arena->used;
    arena->used += bytes;
    return p;
}

void tacit_arena_close(tacit_arena *arena)
{
    if (!arena->borrowed)
        tacit_free(arena->base);
    *arena = (tacit_arena){ 0 };
}
