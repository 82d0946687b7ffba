/* bench_views.c - our side of peers/views.py: stays alive and does a pass a line, on one thread.
 *
 *     bench_views RECIPE PATH...
 *
 * RECIPE is mae, simclr or dino. Lines: "decoded N" makes all views of all photos in the draws of
 * epoch N, "jpeg N" the same from the files' bytes; each is answered by its seconds.
 */
#include "dataset.h"
#include "image.h"
#include "measure.h"
#include "mem.h"
#include "views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_VIEWS 10

typedef struct photo {
    tacit_item item;
    tacit_image image;
} photo;

static tacit_view views[MAX_VIEWS];
static unsigned view_count;
static photo *photos;
static size_t photo_count;
static tacit_image decoded;
static float planar[3 * 224 * 224];

/* ColorJitter with probability 0.8, gray with 0.2. */
static void colour(tacit_view *v, float bright, float saturation, float hue)
{
    v->jitter = 0.8f;
    v->brightness = v->contrast = bright;
    v->saturation = saturation;
    v->hue = hue;
    v->gray = 0.2f;
}

static void make_recipe(const char *name)
{
    bool dino = !strcmp(name, "dino"), simclr = !strcmp(name, "simclr");
    view_count = dino ? 10 : simclr ? 2 : 1;
    for (unsigned i = 0; i < view_count; i++) {
        tacit_view *v = &views[i];
        *v = tacit_view_plain(dino && i > 1 ? 96 : 224);
        if (simclr) {
            colour(v, 0.8f, 0.8f, 0.2f);
            v->blur = 0.5f;
        } else if (dino) { /* main_dino.py's DataAugmentationDINO */
            colour(v, 0.4f, 0.2f, 0.1f);
            v->scale[0] = i > 1 ? 0.05f : 0.4f;
            v->scale[1] = i > 1 ? 0.4f : 1;
            v->blur = i == 0 ? 1 : i == 1 ? 0.1f : 0.5f;
            v->solarise = i == 1 ? 0.2f : 0;
        } else
            v->scale[0] = 0.2f;
    }
}

static tacit_status pass(tacit_viewer *viewer, bool jpeg, uint64_t epoch, tacit_err *err)
{
    for (size_t i = 0; i < photo_count; i++) {
        const tacit_image *image = &photos[i].image;
        tacit_status st = TACIT_OK;
        if (jpeg) {
            image = &decoded;
            st = tacit_image_decode(&decoded, photos[i].item.bytes, photos[i].item.size, NULL, err);
        }
        for (unsigned v = 0; st == TACIT_OK && v < view_count; v++) {
            tacit_view_draws draws;
            tacit_view_draw(&views[v], image->width, image->height, 1, epoch, i, v, &draws);
            st = tacit_view_apply(viewer, v, &draws, image->rgb, image->width, image->height,
                                  planar, err);
        }
        if (st < 0)
            return st;
    }
    return TACIT_OK;
}

int main(int argc, char **argv)
{
    tacit_err err = { "" };
    tacit_isa isa;
    tacit_viewer *viewer = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_views mae|simclr|dino PATH...\n");
        return 2;
    }
    make_recipe(argv[1]);
    tacit_status st = tacit_isa_select(getenv("TACIT_CPU"), &isa, &err);
    if (st == TACIT_OK)
        st = tacit_viewer_open(&viewer, views, view_count, tacit_kernels_for(isa), &err);
    photos = tacit_calloc((size_t)argc, sizeof *photos);
    if (st == TACIT_OK && !photos)
        st = tacit_fail(&err, TACIT_ENOMEM, "out of memory");
    for (int i = 2; st == TACIT_OK && i < argc; i++) {
        photo *p = &photos[photo_count++];
        p->item.form = TACIT_ITEM_FILE;
        p->item.file = tacit_strdup(argv[i]);
        st = p->item.file ? tacit_item_load(&p->item, &err) : TACIT_ENOMEM;
        if (st == TACIT_OK)
            st = tacit_image_decode(&p->image, p->item.bytes, p->item.size, NULL, &err);
    }
    char line[64], what[16];
    unsigned long long epoch;
    while (st == TACIT_OK && fgets(line, sizeof line, stdin) &&
           sscanf(line, "%15s %llu", what, &epoch) == 2) {
        double start = tacit_now();
        st = pass(viewer, !strcmp(what, "jpeg"), epoch, &err);
        printf("%.9f\n", tacit_now() - start);
        fflush(stdout);
    }
    if (st < 0)
        fprintf(stderr, "bench_views: %s\n", err.text);
    for (size_t i = 0; i < photo_count; i++) {
        tacit_item_free(&photos[i].item);
        tacit_image_free(&photos[i].image);
    }
    tacit_free(photos);
    tacit_image_free(&decoded);
    tacit_viewer_close(&viewer);
    return st < 0;
}
