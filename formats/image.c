/* image.c - which decoder reads these bytes, and the limits that hold for all of them.
 *
 * A file is what its first bytes say; names and extensions count for nothing.
 */
#include "image.h"

#include "codecs.h"
#include "mem.h"

#include <inttypes.h>
#include <string.h>

/* Formats that are recognised in order to be refused by name. */
static const struct {
    const char *name;
    unsigned offset, length;
    const char *magic;
} others[] = {
    { "GIF", 0, 4, "GIF8" },
    { "WebP", 8, 4, "WEBP" },
    { "BMP", 0, 2, "BM" },
    { "TIFF", 0, 4, "II*\0" },
    { "TIFF", 0, 4, "MM\0*" },
    { "BigTIFF", 0, 4, "II+\0" },
    { "BigTIFF", 0, 4, "MM\0+" },
    { "AVIF", 4, 8, "ftypavif" },
    { "AVIF", 4, 8, "ftypavis" },
    { "HEIF", 4, 7, "ftyphei" },
    { "HEIF", 4, 7, "ftyphev" },
    { "HEIF", 4, 7, "ftypmif" },
    { "JPEG 2000", 0, 8, "\0\0\0\x0cjP  " },
    { "JPEG 2000", 0, 4, "\xff\x4f\xff\x51" },
    { "JPEG XL", 0, 8, "\0\0\0\x0cJXL " },
    { "JPEG XL", 0, 2, "\xff\x0a" },
    { "ICO", 0, 4, "\0\0\1\0" },
    { "PSD", 0, 4, "8BPS" },
    { "QOI", 0, 4, "qoif" },
    { "DDS", 0, 4, "DDS " },
    { "SGI", 0, 2, "\x01\xda" },
    { "OpenEXR", 0, 4, "\x76\x2f\x31\x01" },
    { "Radiance HDR", 0, 2, "#?" },
    { "farbfeld", 0, 8, "farbfeld" },
    { "MNG", 0, 8, "\x8aMNG\r\n\x1a\n" },
    { "JNG", 0, 8, "\x8bJNG\r\n\x1a\n" },
    { "PDF", 0, 4, "%PDF" },
};

static tacit_status refuse(const unsigned char *bytes, size_t size, tacit_err *err)
{
    if (!size)
        return tacit_fail(err, TACIT_EFORMAT, "empty file, not a JPEG or PNG image");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (size >= others[i].offset + others[i].length &&
            !memcmp(bytes + others[i].offset, others[i].magic, others[i].length))
            return tacit_fail(err, TACIT_EUNSUPPORTED,
                              "unsupported format %s: convert it to PNG or JPEG", others[i].name);
    if (size >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '7' &&
        (bytes[2] == ' ' || (bytes[2] >= '\t' && bytes[2] <= '\r')))
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "unsupported format PNM: convert it to PNG or JPEG");
    return tacit_fail(err, TACIT_EFORMAT, "not a JPEG or PNG image");
}

tacit_status tacit__image_shape(tacit_image *img, uint64_t width, uint64_t height,
                                uint64_t max_pixels, tacit_err *err)
{
    /* Both are below 2^31, so the product is exact. */
    if (width * height > max_pixels)
        return tacit_fail(err, TACIT_ELIMIT,
                          "%" PRIu64 " x %" PRIu64 " pixels are above the limit of %" PRIu64, width,
                          height, max_pixels);
    size_t bytes;
    if (!tacit_mul_size((size_t)(width * height), 3, &bytes))
        bytes = SIZE_MAX; /* cannot be had */
    if (bytes > img->capacity) {
        tacit_free(img->rgb);
        img->rgb = tacit_alloc(bytes);
        img->capacity = img->rgb ? bytes : 0;
        if (!img->rgb)
            return tacit_fail(err, TACIT_ENOMEM,
                              "out of memory: image of %" PRIu64 " x %" PRIu64 " pixels", width,
                              height);
    }
    img->width = (size_t)width;
    img->height = (size_t)height;
    return TACIT_OK;
}

tacit_status tacit_image_decode(tacit_image *img, const void *bytes, size_t size,
                                const tacit_image_limits *limits, tacit_err *err)
{
    uint64_t max_pixels = limits && limits->pixels ? limits->pixels : TACIT_IMAGE_PIXELS;
    tacit_status st;
    img->width = img->height = 0;
    if (size >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3))
        st = tacit__jpeg_decode(img, bytes, size, max_pixels, err);
    else if (size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8))
        st = tacit__png_decode(img, bytes, size, max_pixels, err);
    else
        st = refuse(bytes, size, err);
    if (st < 0)
        img->width = img->height = 0;
    return st;
}

void tacit_image_free(tacit_image *img)
{
    tacit_free(img->rgb);
    *img = (tacit_image){ 0 };
}
