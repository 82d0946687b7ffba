/* png.c - PNG to RGB8 through libpng's row interface, with the pixels of Pillow, and RGB8 to PNG.
 *
 * As Pillow's convert('RGB'): alpha and tRNS are dropped, never composited; no gamma, no profile;
 * 16-bit samples lose their low byte, except 16-bit gray, which is clamped to 255; an index past
 * the palette is black; an animation is its default image.
 *
 * Stricter than Pillow: every CRC must be right, palette images need a palette, the file must end
 * in IEND. Ancillary chunks are passed over unread, so a compressed text or profile costs nothing.
 */
#include "codecs.h"
#include "mem.h"

#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

#include <png.h>

#define MAX_SIDE    1000000u /* libpng's own default: bounds its two row buffers to 8 MB each */
#define MAX_CHUNK   ((size_t)8 << 20) /* memory for one chunk; only PLTE (768 bytes) is kept */
#define FIRST_BLOCK ((size_t)64 << 10)

struct png {
    png_structp png;
    png_infop info;
    jmp_buf failed;
    tacit_status status;
    tacit_err *err;
    bool no_memory;
    const unsigned char *in; /* reading: what is left */
    size_t left;
    unsigned char *out; /* writing: what is there so far */
    size_t size, capacity;
};

/* The way out for libpng and for our own checks alike. */
static _Noreturn void leave(struct png *p, tacit_status status)
{
    p->status = status;
    longjmp(p->failed, 1);
}

static void on_error(png_structp png, png_const_charp text)
{
    struct png *p = png_get_error_ptr(png);
    leave(p, tacit_fail(p->err, p->no_memory ? TACIT_ENOMEM : TACIT_EFORMAT, "PNG: %s",
                        p->no_memory ? "out of memory" : text));
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static png_voidp get_block(png_structp png, png_alloc_size_t size)
{
    struct png *p = png_get_mem_ptr(png);
    void *block = tacit_alloc(size);
    if (!block)
        p->no_memory = true;
    return block;
}

static void free_block(png_structp png, png_voidp block)
{
    (void)png;
    tacit_free(block);
}

static void read_bytes(png_structp png, png_bytep to, size_t size)
{
    struct png *p = png_get_io_ptr(png);
    if (size > p->left)
        png_error(png, "premature end of file");
    memcpy(to, p->in, size);
    p->in += size;
    p->left -= size;
}

/* One row of big-endian 16-bit gray, clamped to 8 bits and tripled in place, from the right. */
static void clamp_gray16(uint8_t *row, size_t width)
{
    for (size_t x = width; x-- > 0;) {
        uint8_t value = row[2 * x] ? 255 : row[2 * x + 1];
        row[3 * x] = row[3 * x + 1] = row[3 * x + 2] = value;
    }
}

static void decode(struct png *p, tacit_image *img)
{
    /* All ancillary chunks that libpng may know; those it does not know it passes over anyhow. */
    static const png_byte unread[] = "bKGD\0cHRM\0cICP\0cLLI\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0mDCV\0"
                                     "oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0sTER\0tEXt\0tIME\0"
                                     "tRNS\0zTXt";
    p->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, p, on_error, on_warning, p, get_block,
                                      free_block);
    p->info = p->png ? png_create_info_struct(p->png) : NULL;
    if (!p->info)
        leave(p, tacit_fail(p->err, TACIT_ENOMEM, "PNG: out of memory"));
    png_set_read_fn(p->png, p, read_bytes);
    png_set_user_limits(p->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_chunk_cache_max(p->png, 1);
    png_set_chunk_malloc_max(p->png, MAX_CHUNK);
    png_set_keep_unknown_chunks(p->png, PNG_HANDLE_CHUNK_NEVER, unread, sizeof unread / 5);
    png_set_crc_action(p->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_check_for_invalid_index(p->png, 0);
    png_read_info(p->png, p->info);

    png_uint_32 width = png_get_image_width(p->png, p->info);
    png_uint_32 height = png_get_image_height(p->png, p->info);
    int depth = png_get_bit_depth(p->png, p->info), type = png_get_color_type(p->png, p->info);
    bool gray16 = type == PNG_COLOR_TYPE_GRAY && depth == 16;
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(p->png);
    else if (depth < 8)
        png_set_expand_gray_1_2_4_to_8(p->png);
    if (!gray16) {
        if (depth == 16)
            png_set_strip_16(p->png);
        if (!(type & PNG_COLOR_MASK_COLOR))
            png_set_gray_to_rgb(p->png);
        if (type & PNG_COLOR_MASK_ALPHA)
            png_set_strip_alpha(p->png);
    }
    int passes = png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);
    if (png_get_rowbytes(p->png, p->info) != (size_t)width * (gray16 ? 2 : 3))
        png_error(p->png, "rows of an unexpected size");

    for (int pass = 0; pass < passes; pass++)
        for (png_uint_32 y = 0; y < height; y++)
            png_read_row(p->png, img->rgb + (size_t)y * width * 3, NULL);
    png_read_end(p->png, NULL);
    for (png_uint_32 y = 0; gray16 && y < height; y++)
        clamp_gray16(img->rgb + (size_t)y * width * 3, width);
}

static uint32_t be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

tacit_status tacit__png_decode(tacit_image *img, const unsigned char *bytes, size_t size,
                               uint64_t max_pixels, tacit_err *err)
{
    /* signature 8, length 4, "IHDR" 4, width 4, height 4: the size decides before libpng starts */
    if (size < 24 || memcmp(bytes + 8, "\0\0\0\x0dIHDR", 8))
        return tacit_fail(err, TACIT_EFORMAT, "PNG: does not begin with an IHDR chunk");
    uint32_t width = be32(bytes + 16), height = be32(bytes + 20);
    if (!width || !height || width > PNG_UINT_31_MAX || height > PNG_UINT_31_MAX)
        return tacit_fail(err, TACIT_EFORMAT, "PNG: invalid size %" PRIu32 " x %" PRIu32, width,
                          height);
    if (width > MAX_SIDE || height > MAX_SIDE)
        return tacit_fail(err, TACIT_ELIMIT,
                          "PNG: size %" PRIu32 " x %" PRIu32 " is above the limit of %u a side",
                          width, height, MAX_SIDE);
    tacit_status st = tacit__image_shape(img, width, height, max_pixels, err);
    if (st < 0)
        return st;
    struct png p = { .err = err, .in = bytes, .left = size };
    if (!setjmp(p.failed))
        decode(&p, img);
    png_destroy_read_struct(&p.png, &p.info, NULL);
    return p.status;
}

static void write_bytes(png_structp png, png_bytep from, size_t size)
{
    struct png *p = png_get_io_ptr(png);
    size_t needed;
    if (!tacit_add_size(p->size, size, &needed))
        png_error(png, "too large");
    if (needed > p->capacity) {
        size_t capacity = p->capacity > SIZE_MAX / 2 ? needed : 2 * p->capacity;
        if (capacity < needed)
            capacity = needed;
        if (capacity < FIRST_BLOCK)
            capacity = FIRST_BLOCK;
        unsigned char *out = tacit_realloc(p->out, p->size, capacity);
        if (!out) {
            p->no_memory = true;
            png_error(png, "out of memory");
        }
        p->out = out;
        p->capacity = capacity;
    }
    memcpy(p->out + p->size, from, size);
    p->size = needed;
}

static void no_flush(png_structp png)
{
    (void)png;
}

static void encode(struct png *p, const uint8_t *rgb, png_uint_32 width, png_uint_32 height)
{
    p->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, p, on_error, on_warning, p, get_block,
                                       free_block);
    p->info = p->png ? png_create_info_struct(p->png) : NULL;
    if (!p->info)
        leave(p, tacit_fail(p->err, TACIT_ENOMEM, "PNG: out of memory"));
    png_set_write_fn(p->png, p, write_bytes, no_flush);
    png_set_IHDR(p->png, p->info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(p->png, p->info);
    for (png_uint_32 y = 0; y < height; y++)
        png_write_row(p->png, rgb + (size_t)y * width * 3);
    png_write_end(p->png, NULL);
}

tacit_status tacit_png_encode(const uint8_t *rgb, size_t width, size_t height, void **bytes,
                              size_t *size, tacit_err *err)
{
    *bytes = NULL;
    *size = 0;
    if (!width || !height || width > MAX_SIDE || height > MAX_SIDE)
        return tacit_fail(err, TACIT_EINVAL, "PNG: size %zu x %zu is not within 1 to %u", width,
                          height, MAX_SIDE);
    struct png p = { .err = err };
    if (!setjmp(p.failed))
        encode(&p, rgb, (png_uint_32)width, (png_uint_32)height);
    png_destroy_write_struct(&p.png, &p.info);
    if (p.status < 0) {
        tacit_free(p.out);
        return p.status;
    }
    *bytes = p.out;
    *size = p.size;
    return TACIT_OK;
}
