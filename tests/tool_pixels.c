/* tool_pixels.c - for developers: hashes of what the pipeline makes of each file.
 *
 *     tool_pixels RESIZE SQUASH CROP FILTER PILLOW < paths
 *
 * One path a line. Prints a line for each: width, height, XXH3 of the decoded bytes, of the resized
 * and cropped bytes, of the floats normalised with ImageNet's constants; or "-" and the error.
 * reference/check_pixels.py compares the lines with Pillow's.
 */
#include "image.h"
#include "mem.h"
#include "preprocess.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static tacit_status read_file(const char *path, uint8_t **bytes, size_t *size, tacit_err *err)
{
    *bytes = NULL;
    FILE *f = fopen(path, "rb");
    if (!f)
        return tacit_fail_errno(err, "%s", path);
    tacit_status st = TACIT_OK;
    long end = fseek(f, 0, SEEK_END) ? -1 : ftell(f);
    *size = end < 0 ? 0 : (size_t)end;
    if (end < 0 || fseek(f, 0, SEEK_SET) || !(*bytes = tacit_alloc(*size)) ||
        fread(*bytes, 1, *size, f) != *size)
        st = tacit_fail(err, TACIT_EIO, "%s: cannot be read", path);
    fclose(f);
    return st;
}

static tacit_status hash_file(const char *path, tacit_preprocessor *pre, size_t side,
                              tacit_image *image, uint8_t *rgb, float *planar, tacit_err *err)
{
    uint8_t *bytes;
    size_t size = 0, values = 3 * side * side;
    tacit_status st = read_file(path, &bytes, &size, err);
    if (st == TACIT_OK)
        st = tacit_image_decode(image, bytes, size, NULL, err);
    if (st == TACIT_OK)
        st = tacit_preprocess_rgb8(pre, image->rgb, image->width, image->height, rgb, NULL, err);
    if (st == TACIT_OK)
        st = tacit_preprocess(pre, image->rgb, image->width, image->height, planar, NULL, err);
    if (st == TACIT_OK)
        printf("%zu %zu %016llx %016llx %016llx\n", image->width, image->height,
               (unsigned long long)XXH3_64bits(image->rgb, image->width * image->height * 3),
               (unsigned long long)XXH3_64bits(rgb, values),
               (unsigned long long)XXH3_64bits(planar, values * sizeof *planar));
    tacit_free(bytes);
    return st;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: tool_pixels RESIZE SQUASH CROP FILTER PILLOW < paths\n");
        return 2;
    }
    size_t side = strtoul(argv[3], NULL, 10);
    tacit_recipe recipe = { .resize_height = (unsigned)strtoul(argv[1], NULL, 10),
                            .resize_width = (unsigned)strtoul(argv[1], NULL, 10),
                            .squash = strtoul(argv[2], NULL, 10) != 0,
                            .height = (unsigned)side,
                            .width = (unsigned)side,
                            .filter = (tacit_filter)strtoul(argv[4], NULL, 10),
                            .pillow = (unsigned)strtoul(argv[5], NULL, 10),
                            .mean = { 0.485f, 0.456f, 0.406f },
                            .std = { 0.229f, 0.224f, 0.225f } };
    tacit_err err = { "out of memory" };
    tacit_isa isa = TACIT_ISA_REF;
    tacit_preprocessor *pre = NULL;
    tacit_image image = { 0 };
    uint8_t *rgb = tacit_calloc(side * side, 3);
    float *planar = tacit_calloc(side * side, 3 * sizeof *planar);
    bool ready = rgb && planar && tacit_isa_select(NULL, &isa, &err) == TACIT_OK &&
                 tacit_preprocessor_open(&pre, &recipe, tacit_kernels_for(isa), &err) == TACIT_OK;
    if (!ready)
        fprintf(stderr, "tool_pixels: %s\n", err.text);
    char path[4096];
    while (ready && fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        if (hash_file(path, pre, side, &image, rgb, planar, &err) < 0)
            printf("- %s\n", err.text);
    }
    tacit_preprocessor_close(&pre);
    tacit_image_free(&image);
    tacit_free(rgb);
    tacit_free(planar);
    return ready ? 0 : 1;
}
