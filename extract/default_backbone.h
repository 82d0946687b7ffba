/* default_backbone.h - the backbone that is part of the program, for a first try without a file.
 *
 * backbone/README.md tells what it is, how it was trained, on what, and how well it does.
 */
#ifndef TACIT_DEFAULT_BACKBONE_H
#define TACIT_DEFAULT_BACKBONE_H

#include <stddef.h>

/* The bytes of a safetensors file, as `tacit convert` writes it. */
const void *tacit__default_backbone(size_t *size);

#endif
