/* tool_views.c - for developers: hashes of views of files, made by given draws.
 *
 * Standard input has two lines for each: a path, and what view_line.h says. Prints the XXH3 of the
 * view's bytes and of its floats, or "-" and the error. reference/views.py compares them with
 * torchvision's.
 */
#include "dataset.h"
#include "image.h"
#include "mem.h"
#include "view_line.h"

#include <xxhash.h>

static tacit_status hash_view(const char *path, const char *line, tacit_image *image,
                              tacit_item *item, const tacit_kernels *kernels, tacit_err *err)
{
    tacit_view view;
    tacit_view_draws draws;
    tacit_viewer *viewer = NULL;
    if (!view_line(line, &view, &draws))
        return tacit_fail(err, TACIT_EINVAL, "no view: %s", line);
    item->form = TACIT_ITEM_FILE;
    item->file = (char *)(uintptr_t)path;
    tacit_status st = tacit_item_load(item, err);
    item->file = NULL;
    if (st == TACIT_OK)
        st = tacit_image_decode(image, item->bytes, item->size, NULL, err);
    if (st == TACIT_OK)
        st = tacit_viewer_open(&viewer, &view, 1, kernels, err);
    if (st < 0)
        return st;
    size_t n = 3 * (size_t)view.size * view.size;
    uint8_t *bytes = tacit_alloc(n);
    float *floats = tacit_calloc(n, sizeof *floats);
    if (!bytes || !floats)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory");
    if (st == TACIT_OK)
        st = tacit_view_pixels(viewer, 0, &draws, image->rgb, image->width, image->height, bytes,
                               err);
    if (st == TACIT_OK)
        st = tacit_view_apply(viewer, 0, &draws, image->rgb, image->width, image->height, floats,
                              err);
    if (st == TACIT_OK)
        printf("%016llx %016llx\n", (unsigned long long)XXH3_64bits(bytes, n),
               (unsigned long long)XXH3_64bits(floats, n * sizeof *floats));
    tacit_free(bytes);
    tacit_free(floats);
    tacit_viewer_close(&viewer);
    return st;
}

int main(void)
{
    static char path[8192], line[1024];
    tacit_isa isa;
    tacit_err err;
    tacit_image image = { 0 };
    tacit_item item = { 0 };
    if (tacit_isa_select(getenv("TACIT_CPU"), &isa, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    while (fgets(path, sizeof path, stdin) && fgets(line, sizeof line, stdin)) {
        path[strcspn(path, "\n")] = 0;
        if (hash_view(path, line, &image, &item, tacit_kernels_for(isa), &err) < 0)
            printf("- %s\n", err.text);
    }
    tacit_image_free(&image);
    tacit_item_free(&item);
    return 0;
}
