/* fuzz_image.h - decodes bytes and checks what tacit_image_decode promises of any input. */
#ifndef TACIT_FUZZ_IMAGE_H
#define TACIT_FUZZ_IMAGE_H

#include "fuzz.h"
#include "image.h"

static inline int fuzz_image(const uint8_t *data, size_t size)
{
    const tacit_image_limits limits = { .pixels = 1 << 18 };
    tacit_image img = { 0 };
    tacit_err err = { "" };
    tacit_status st = tacit_image_decode(&img, data, size, &limits, &err);
    if (st == TACIT_OK) {
        FUZZ_CHECK(img.width && img.height && img.width * img.height <= limits.pixels);
        FUZZ_CHECK(img.capacity >= img.width * img.height * 3);
    } else {
        FUZZ_CHECK(st == TACIT_EFORMAT || st == TACIT_EUNSUPPORTED || st == TACIT_ELIMIT);
        FUZZ_CHECK(err.text[0] && !img.width && !img.height);
    }
    tacit_image_free(&img);
    return 0;
}

#endif
