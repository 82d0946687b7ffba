/* loss_hog.c - see loss_hog.h. */
#include "loss_hog.h"

#define BINS TACIT_HOG_BINS

size_t tacit_hog_values(const tacit_hog_target *t)
{
    size_t cells = t->patch / t->cell;
    return 3 * BINS * cells * cells;
}

size_t tacit_hog_image_values(const tacit_hog_target *t)
{
    size_t cells = t->image / t->cell;
    return 3 * BINS * cells * cells;
}

void tacit_hog_image(const tacit_hog_target *t, const tacit_kernels *k, const float *image,
                     float *cells)
{
    size_t side = t->image / t->cell, count = side * side;
    for (size_t c = 0; c < 3; c++, image += t->image * t->image, cells += count * BINS) {
        k->hog_f32(t->image, t->image, t->cell, image, t->image, cells, BINS);
        k->l2norm_f32(count, BINS, cells, BINS, cells, BINS);
    }
}

void tacit_hog_patch(const tacit_hog_target *t, const float *cells, size_t index, float *values)
{
    size_t side = t->image / t->cell, n = t->patch / t->cell, grid = t->image / t->patch;
    cells += (index / grid * n * side + index % grid * n) * BINS;
    for (size_t c = 0; c < 3; c++, cells += side * side * BINS)
        for (size_t bin = 0; bin < BINS; bin++)
            for (size_t y = 0; y < n; y++)
                for (size_t x = 0; x < n; x++)
                    *values++ = cells[(y * side + x) * BINS + bin];
}

/* Each worker has an image's cells and a patch's target; each image a double. */
void tacit_hog_loss_declare(const tacit_hog_target *t, size_t max_batch, tacit_work *work)
{
    tacit_work_need(&work->worker_floats, tacit_hog_image_values(t) + tacit_hog_values(t));
    tacit_work_need(&work->partial_floats, 2 * max_batch);
}

typedef struct job {
    const tacit_hog_target *target;
    const tacit_work *work;
    const float *images;
    const uint32_t *first, *patches;
    float *predictions, scale;
    size_t ld;
} job;

static void image_chunk(void *ctx, size_t image, unsigned worker)
{
    const job *j = ctx;
    const tacit_hog_target *t = j->target;
    size_t values = tacit_hog_values(t);
    float *cells = j->work->worker + worker * j->work->worker_floats;
    float *target = cells + tacit_hog_image_values(t);
    double sum = 0;
    if (j->first[image] < j->first[image + 1])
        tacit_hog_image(t, j->work->kernels, j->images + image * 3 * t->image * t->image, cells);
    for (size_t row = j->first[image]; row < j->first[image + 1]; row++) {
        float *prediction = j->predictions + row * j->ld;
        tacit_hog_patch(t, cells, j->patches[row], target);
        sum +=
            j->work->kernels->squared_error_f32(values, prediction, target, j->scale, prediction);
    }
    ((double *)(void *)j->work->partial)[image] = sum;
}

double tacit_hog_loss(const tacit_hog_target *target, const tacit_work *work, const float *images,
                      size_t batch, const uint32_t *first, const uint32_t *patches, double share,
                      float *predictions, size_t ld)
{
    double count = (double)first[batch] * (double)tacit_hog_values(target), sum = 0;
    if (!first[batch])
        return 0;
    job j = { .target = target,
              .work = work,
              .images = images,
              .first = first,
              .patches = patches,
              .predictions = predictions,
              .scale = (float)(2 * share / count),
              .ld = ld };
    tacit_parallel_for(work->pool, batch, image_chunk, &j);
    for (size_t i = 0; i < batch; i++)
        sum += ((const double *)(const void *)work->partial)[i];
    return share * sum / count;
}
