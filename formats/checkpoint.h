/* checkpoint.h - weights from outside, in whatever container they come.
 *
 * The container is told by the bytes: safetensors, alone or in shards; what torch.save writes, as a
 * zip archive (since PyTorch 1.6) or in the form before it; NumPy's .npz. A pickle is read without
 * executing it (pickle.h). The names of nested dictionaries are joined with dots.
 */
#ifndef TACIT_CHECKPOINT_H
#define TACIT_CHECKPOINT_H

#include "status.h"
#include "tensor.h"

#include <stdint.h>

typedef struct tacit_checkpoint tacit_checkpoint;

/* path: a file, the index of sharded safetensors, or a folder as the hub's, in which
 * model.safetensors, model.safetensors.index.json and pytorch_model.bin are looked for. Everything
 * but the values is read and checked. */
tacit_status tacit_checkpoint_open(tacit_checkpoint **checkpoint, const char *path, tacit_err *err);
/* Of the bytes of a safetensors file, which must stay; name is for messages. */
tacit_status tacit_checkpoint_open_bytes(tacit_checkpoint **checkpoint, const char *name,
                                         const void *bytes, size_t size, tacit_err *err);
void tacit_checkpoint_close(tacit_checkpoint **checkpoint);

/* Reading is safe from many threads. Values come in row-major order and little-endian, however
 * they are stored. */
tacit_tensor_source tacit_checkpoint_source(const tacit_checkpoint *checkpoint);

/* "safetensors", "sharded safetensors", "PyTorch zip", "PyTorch legacy" or "npz". */
const char *tacit_checkpoint_container(const tacit_checkpoint *checkpoint);

/* The file that was opened: path, or what was found in it. */
const char *tacit_checkpoint_path(const tacit_checkpoint *checkpoint);

/* The value of a key of a safetensors' __metadata__, NULL where there is none. */
const char *tacit_checkpoint_metadata(const tacit_checkpoint *checkpoint, const char *key);

/* XXH3-64 of the file's bytes; of shards, of the shards' hashes (little-endian) in the order of
 * their names. The sums of a zip archive's entries are checked on the way: a file whose hash was
 * taken holds the values that were written. */
tacit_status tacit_checkpoint_hash(const tacit_checkpoint *checkpoint, uint64_t *hash,
                                   tacit_err *err);

#endif
