/* loss_simmim.c - see loss_simmim.h. */
#include "loss_simmim.h"

#include <math.h>

/* A double for each image. */
void tacit_simmim_loss_declare(size_t max_batch, tacit_work *work)
{
    tacit_work_need(&work->partial_floats, 2 * max_batch);
}

typedef struct job {
    const tacit_work *work;
    const float *images;
    size_t image, patch, ld;
    const uint32_t *first, *patches;
    float *predictions, step; /* step: the gradient's length */
} job;

/* The sum over a patch; from: its first pixel in the red plane. */
static double patch_loss(const job *j, const float *from, float *prediction)
{
    size_t plane = j->image * j->image;
    double sum = 0;
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < j->patch; y++)
            for (size_t x = 0; x < j->patch; x++, prediction++) {
                float d = *prediction - from[c * plane + y * j->image + x];
                sum += fabs((double)d);
                *prediction = d > 0 ? j->step : d < 0 ? -j->step : d * 0; /* NaN stays */
            }
    return sum;
}

static void image_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t across = j->image / j->patch, row = j->patch * j->image;
    const float *from = j->images + image * 3 * j->image * j->image;
    double sum = 0;
    for (size_t i = j->first[image]; i < j->first[image + 1]; i++)
        sum +=
            patch_loss(j, from + j->patches[i] / across * row + j->patches[i] % across * j->patch,
                       j->predictions + i * j->ld);
    ((double *)(void *)j->work->partial)[image] = sum;
}

double tacit_simmim_loss(const tacit_work *work, const float *images, size_t image, size_t patch,
                         size_t batch, const uint32_t *first, const uint32_t *patches, double m,
                         float *predictions, size_t ld)
{
    double factor = 1 / (m + 1e-5) / 3, sum = 0;
    job j = { work, images, image, patch, ld, first, patches, predictions, (float)factor };
    tacit_parallel_for(work->pool, batch, image_chunk, &j);
    for (size_t i = 0; i < batch; i++)
        sum += ((const double *)(const void *)work->partial)[i];
    return factor * sum;
}
