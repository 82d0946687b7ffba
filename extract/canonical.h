/* canonical.h - what `tacit convert` notes in a checkpoint, so that it is read as its source was.
 *
 * Under the key "tacit" of a safetensors' __metadata__: the network's whole configuration, its
 * dialect, the published preprocessing and feature, and where it came from. The tensors beside it
 * have canonical names and shapes and need no dialect.
 */
#ifndef TACIT_CANONICAL_H
#define TACIT_CANONICAL_H

#include "dialect.h"

#include <jansson.h>

#define TACIT_CANONICAL_KEY "tacit"

/* The note; from: as the source was named, hash: its bytes' XXH3. NULL where memory is short. */
json_t *tacit_canonical_json(const tacit_dialect *dialect, const char *from, uint64_t hash);

/* The strings that a note gives. */
typedef struct tacit_canonical {
    char name[64], filter[16];
} tacit_canonical;

/* Sets config, features, published and name, which is in `strings`. */
tacit_status tacit_canonical_parse(const char *note, tacit_dialect *dialect,
                                   tacit_canonical *strings, tacit_err *err);

#endif
