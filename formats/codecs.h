/* codecs.h - what image.c shares with the decoders it hands bytes to. Not for other folders. */
#ifndef TACIT_CODECS_H
#define TACIT_CODECS_H

#include "image.h"
#include "status.h"

#include <stddef.h>
#include <stdint.h>

/* Checks a size read from a header against the limit, then makes room for it in img and sets its
 * width and height. The one place where pixels are allocated. */
tacit_status tacit__image_shape(tacit_image *img, uint64_t width, uint64_t height,
                                uint64_t max_pixels, tacit_err *err);

/* bytes begins with the format's signature. */
tacit_status tacit__jpeg_decode(tacit_image *img, const unsigned char *bytes, size_t size,
                                uint64_t max_pixels, tacit_err *err);
tacit_status tacit__png_decode(tacit_image *img, const unsigned char *bytes, size_t size,
                               uint64_t max_pixels, tacit_err *err);

#endif
