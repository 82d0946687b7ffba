/* image.h - JPEG and PNG bytes to the RGB8 that Pillow's convert('RGB') gives, byte for byte.
 *
 * Limits are checked on the header, before pixels are allocated or decoded. No file is touched:
 * input is bytes in memory. Nothing in a file reaches an assert or an exit.
 */
#ifndef TACIT_IMAGE_H
#define TACIT_IMAGE_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

/* The most pixels that a picture may have unless it is said otherwise: Pillow's error limit. */
#define TACIT_IMAGE_PIXELS UINT64_C(178956970)

typedef struct tacit_image {
    uint8_t *rgb; /* (height, width, 3), no padding; owned, reused by the next decode */
    size_t width, height;
    size_t capacity; /* bytes behind rgb */
} tacit_image;

typedef struct tacit_image_limits {
    uint64_t pixels; /* width * height; 0 = TACIT_IMAGE_PIXELS */
} tacit_image_limits;

/* Decodes one image. img is zeroed by the caller before its first use; its buffer grows to the
 * largest image seen and is not shrunk. limits may be NULL. On error img holds no picture.
 * TACIT_EUNSUPPORTED: a kind of file or a feature that is not read; TACIT_EFORMAT: damaged;
 * TACIT_ELIMIT: too large; TACIT_ENOMEM. Thread-safe for distinct img. */
tacit_status tacit_image_decode(tacit_image *img, const void *bytes, size_t size,
                                const tacit_image_limits *limits, tacit_err *err);
void tacit_image_free(tacit_image *img);

/* Encodes (height, width, 3) RGB8 as PNG into a block that the caller frees with tacit_free. */
tacit_status tacit_png_encode(const uint8_t *rgb, size_t width, size_t height, void **bytes,
                              size_t *size, tacit_err *err);

#endif
