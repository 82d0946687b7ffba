/* safetensors.h - a hardened reader and an atomic writer of the safetensors format.
 *
 * Format: github.com/huggingface/safetensors, README "Format". Stricter than that library in one
 * point: a duplicate name is an error.
 */
#ifndef TACIT_SAFETENSORS_H
#define TACIT_SAFETENSORS_H

#include "status.h"
#include "tensor.h"

#include <stddef.h>
#include <stdint.h>

typedef struct tacit_safetensors tacit_safetensors;

/* Reads and checks the whole header: every rule is checked before a tensor can be read. */
tacit_status tacit_safetensors_open(tacit_safetensors **file, const char *path, tacit_err *err);
/* The same of a file's bytes in memory, which must stay; name is for messages. */
tacit_status tacit_safetensors_open_bytes(tacit_safetensors **file, const char *name,
                                          const void *bytes, size_t size, tacit_err *err);
void tacit_safetensors_close(tacit_safetensors **file);

/* The tensors in order of their bytes; reading uses pread, safe from many threads. */
tacit_tensor_source tacit_safetensors_source(const tacit_safetensors *file);

/* The value of a __metadata__ key, NULL where there is none. */
const char *tacit_safetensors_metadata(const tacit_safetensors *file, const char *key);

/* XXH3-64 of the whole file's bytes, read in order. */
tacit_status tacit_safetensors_hash(const tacit_safetensors *file, uint64_t *hash, tacit_err *err);

typedef struct tacit_safetensors_entry {
    tacit_tensor tensor; /* bytes is computed from shape */
    const void *data;    /* little-endian, row-major */
} tacit_safetensors_entry;

/* Writes path atomically. metadata: pairs of strings, NULL at the end; may be NULL. Tensors are
 * laid out as the reference writer does: by descending element size, then by name, the header
 * padded to a multiple of 8. */
tacit_status tacit_safetensors_write(const char *path, const tacit_safetensors_entry *entries,
                                     size_t count, const char *const *metadata, tacit_err *err);
/* The same from a source, whose reads must start and end at whole elements only; a MiB at a time.
 */
tacit_status tacit_safetensors_copy(const char *path, const tacit_tensor_source *source,
                                    const char *const *metadata, tacit_err *err);

#endif
