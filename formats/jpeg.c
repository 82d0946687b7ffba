/* jpeg.c - JPEG to RGB8 through libjpeg-turbo, with the settings and the verdicts of Pillow.
 *
 * Accurate integer DCT, fancy upsampling and block smoothing (the library's defaults) give Pillow's
 * pixels. Four components become CMYK, which is always taken as inverted, and then RGB. As in
 * Pillow, warnings (damaged entropy-coded data) are passed over, and bytes that end before the EOI
 * marker are an error.
 *
 * Two kinds of damaged file have pixels that depend on the library: where coefficients are out of
 * range, on its SIMD variant; where a progressive file lacks scans and is two MCUs wide, on its
 * version (3.0.1 changed the smoothing).
 *
 * Bounded before decoding starts: pixels by the header, the library's memory by those pixels. While
 * it runs: the number of scans, which each cost a pass over the whole image however few bytes they
 * have.
 */
#include "codecs.h"

#include <limits.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>

#include <jerror.h>
#include <jpeglib.h>

/* Real progressive files have about ten scans. The larger the image, the fewer may it have: 22 at
 * the default limit of pixels. */
#define MAX_SCANS   100
#define MIN_SCANS   20
#define MAX_SCANNED ((uint64_t)4000000000) /* pixels times scans */

#define ROWS_AT_ONCE 8 /* more than the library hands out in one call */

/* The library's own memory: progressive files keep 16-bit coefficients, of up to 4 components that
 * are not subsampled, and borders to the next multiple of 32 pixels. */
#define MEMORY_BASE      ((uint64_t)64 << 20)
#define MEMORY_PER_PIXEL 10

struct jpeg {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    tacit_status status;
    tacit_err *err;
    tacit_image *img;
    uint64_t max_pixels;
    int max_scans;
};

static tacit_status status_of(int code)
{
    switch (code) {
    case JERR_OUT_OF_MEMORY: return TACIT_ENOMEM;
    case JERR_IMAGE_TOO_BIG:
    case JERR_WIDTH_OVERFLOW:
    case JERR_NO_BACKING_STORE: /* above max_memory_to_use */ return TACIT_ELIMIT;
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CCIR601_NOTIMPL:
    case JERR_COMPONENT_COUNT:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_NOTIMPL:
    case JERR_NOT_COMPILED:
    case JERR_SOF_UNSUPPORTED: return TACIT_EUNSUPPORTED;
    default: return TACIT_EFORMAT;
    }
}

/* The library's way out: it must not return. */
static void on_error(j_common_ptr info)
{
    struct jpeg *jpeg = info->client_data;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    jpeg->status = tacit_fail(jpeg->err, status_of(info->err->msg_code), "JPEG: %s", text);
    longjmp(jpeg->failed, 1);
}

static void on_message(j_common_ptr info, int level)
{
    if (level < 0)
        info->err->num_warnings++;
}

static void no_output(j_common_ptr info)
{
    (void)info;
}

static void no_source_change(j_decompress_ptr info)
{
    (void)info;
}

static boolean past_the_end(j_decompress_ptr info)
{
    ERREXIT(info, JERR_INPUT_EOF);
    return FALSE;
}

static void skip_bytes(j_decompress_ptr info, long count)
{
    if (count <= 0)
        return;
    if ((size_t)count > info->src->bytes_in_buffer)
        ERREXIT(info, JERR_INPUT_EOF);
    info->src->next_input_byte += count;
    info->src->bytes_in_buffer -= (size_t)count;
}

static void check_scans(j_common_ptr info)
{
    struct jpeg *jpeg = info->client_data;
    if (jpeg->info.input_scan_number <= jpeg->max_scans)
        return;
    jpeg->status = tacit_fail(jpeg->err, TACIT_ELIMIT, "JPEG: more than the limit of %d scans",
                              jpeg->max_scans);
    longjmp(jpeg->failed, 1);
}

/* Inverted CMYK (as stored) to RGB with Pillow's rounding of a * b / 255. */
static void cmyk_to_rgb(uint8_t *restrict rgb, const uint8_t *restrict cmyk, size_t width)
{
    for (size_t x = 0; x < width; x++, rgb += 3, cmyk += 4) {
        unsigned light = cmyk[3];
        for (int i = 0; i < 3; i++) {
            unsigned t = (255u - cmyk[i]) * light + 128;
            rgb[i] = (uint8_t)(light - (((t >> 8) + t) >> 8));
        }
    }
}

static void read_rgb(struct jpeg *jpeg)
{
    j_decompress_ptr info = &jpeg->info;
    size_t stride = jpeg->img->width * 3;
    while (info->output_scanline < info->output_height) {
        JSAMPROW rows[ROWS_AT_ONCE];
        JDIMENSION left = info->output_height - info->output_scanline;
        JDIMENSION count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
        for (JDIMENSION i = 0; i < count; i++)
            rows[i] = jpeg->img->rgb + (info->output_scanline + i) * stride;
        jpeg_read_scanlines(info, rows, count);
    }
}

static void read_cmyk(struct jpeg *jpeg)
{
    j_decompress_ptr info = &jpeg->info;
    size_t width = jpeg->img->width;
    JSAMPARRAY row =
        info->mem->alloc_sarray((j_common_ptr)info, JPOOL_IMAGE, info->output_width * 4, 1);
    while (info->output_scanline < info->output_height) {
        uint8_t *rgb = jpeg->img->rgb + info->output_scanline * width * 3;
        jpeg_read_scanlines(info, row, 1);
        cmyk_to_rgb(rgb, row[0], width);
    }
}

/* Leaves by longjmp where something is wrong. */
static void decode(struct jpeg *jpeg)
{
    j_decompress_ptr info = &jpeg->info;
    jpeg_create_decompress(info);
    info->src = &jpeg->source;
    info->progress = &jpeg->progress;
    jpeg_read_header(info, TRUE);

    if (info->data_precision != 8)
        ERREXIT1(info, JERR_BAD_PRECISION, info->data_precision);
    bool cmyk = info->num_components == 4;
    if (!cmyk && info->num_components != 3 && info->num_components != 1) {
        jpeg->status = tacit_fail(jpeg->err, TACIT_EUNSUPPORTED, "JPEG: %d colour components",
                                  info->num_components);
        longjmp(jpeg->failed, 1);
    }
    uint64_t pixels = (uint64_t)info->image_width * info->image_height;
    jpeg->status = tacit__image_shape(jpeg->img, info->image_width, info->image_height,
                                      jpeg->max_pixels, jpeg->err);
    if (jpeg->status < 0)
        longjmp(jpeg->failed, 1);
    uint64_t memory = MEMORY_BASE + pixels * MEMORY_PER_PIXEL;
    info->mem->max_memory_to_use = memory > LONG_MAX ? LONG_MAX : (long)memory;

    uint64_t scans = MAX_SCANNED / pixels;
    jpeg->max_scans = scans < MIN_SCANS ? MIN_SCANS : scans < MAX_SCANS ? (int)scans : MAX_SCANS;

    info->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(info);
    if (cmyk)
        read_cmyk(jpeg);
    else
        read_rgb(jpeg);
    jpeg_finish_decompress(info);
}

tacit_status tacit__jpeg_decode(tacit_image *img, const unsigned char *bytes, size_t size,
                                uint64_t max_pixels, tacit_err *err)
{
    struct jpeg jpeg = {
        .source = { .next_input_byte = bytes,
                    .bytes_in_buffer = size,
                    .init_source = no_source_change,
                    .fill_input_buffer = past_the_end,
                    .skip_input_data = skip_bytes,
                    .resync_to_restart = jpeg_resync_to_restart,
                    .term_source = no_source_change },
        .progress = { .progress_monitor = check_scans },
        .err = err,
        .img = img,
        .max_pixels = max_pixels,
    };
    jpeg.info.err = jpeg_std_error(&jpeg.errors);
    jpeg.errors.error_exit = on_error;
    jpeg.errors.emit_message = on_message;
    jpeg.errors.output_message = no_output;
    jpeg.info.client_data = &jpeg;
    if (!setjmp(jpeg.failed))
        decode(&jpeg);
    jpeg_destroy_decompress(&jpeg.info);
    return jpeg.status;
}
