/* loss_mae.c - see loss_mae.h. */
#include "loss_mae.h"

#include <math.h>

static size_t values_of(const tacit_mae_target *t)
{
    return 3 * t->patch * t->patch;
}

/* Each worker has a target, and the gain and offset of its normalisation; each image a double. */
void tacit_mae_loss_declare(const tacit_mae_target *target, size_t max_batch, tacit_work *work)
{
    tacit_work_need(&work->worker_floats, 3 * values_of(target));
    tacit_work_need(&work->partial_floats, 2 * max_batch);
}

typedef struct job {
    const tacit_mae_target *target;
    const tacit_work *work;
    const float *images;
    const uint32_t *mask;
    size_t masked, ld;
    float *predictions, scale;
} job;

/* A patch's first pixel in the red plane. */
static const float *corner(const tacit_mae_target *t, const float *image, size_t index)
{
    size_t side = t->image / t->patch;
    return image + index / side * t->patch * t->image + index % side * t->patch;
}

/* The pixels of a patch, channels last. */
static void take_patch(const tacit_mae_target *t, const float *image, size_t index, float *to)
{
    size_t plane = t->image * t->image;
    const float *from = corner(t, image, index);
    for (size_t y = 0; y < t->patch; y++, from += t->image)
        for (size_t x = 0; x < t->patch; x++)
            for (size_t c = 0; c < 3; c++)
                *to++ = from[c * plane + x];
}

static void image_chunk(void *ctx, size_t image, unsigned worker)
{
    const job *j = ctx;
    const tacit_kernels *k = j->work->kernels;
    size_t values = values_of(j->target), pixels = 3 * j->target->image * j->target->image;
    float *target = j->work->worker + worker * j->work->worker_floats;
    float *gain = target + values, *offset = gain + values;
    /* (x - mean) / sqrt(var n / (n - 1) + eps) is layer norm with this eps and gain */
    double biased = (double)(values - 1) / (double)values, sum = 0;
    for (size_t i = 0; i < values; i++) {
        gain[i] = (float)sqrt(biased);
        offset[i] = 0;
    }
    for (size_t i = image * j->masked; i < (image + 1) * j->masked; i++) {
        float *row = j->predictions + i * j->ld;
        take_patch(j->target, j->images + image * pixels, j->mask[i], target);
        if (j->target->normalised)
            k->layernorm_f32(1, values, target, values, gain, offset, (float)(1e-6 * biased),
                             target, values);
        sum += k->squared_error_f32(values, row, target, j->scale, row);
    }
    ((double *)(void *)j->work->partial)[image] = sum;
}

double tacit_mae_loss(const tacit_mae_target *target, const tacit_work *work, const float *images,
                      size_t batch, const uint32_t *mask, size_t masked, size_t of,
                      float *predictions, size_t ld)
{
    double count = (double)of * (double)masked * (double)values_of(target), sum = 0;
    job j = { target, work, images, mask, masked, ld, predictions, (float)(2 / count) };
    tacit_parallel_for(work->pool, batch, image_chunk, &j);
    for (size_t i = 0; i < batch; i++)
        sum += ((const double *)(const void *)work->partial)[i];
    return sum / count;
}

void tacit_mae_pixels(const tacit_mae_target *target, const float *image, size_t index,
                      float *prediction)
{
    const float *from = corner(target, image, index);
    size_t values = values_of(target);
    double n = (double)values, sum = 0, squares = 0;
    if (!target->normalised)
        return;
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < target->patch; y++)
            for (size_t x = 0; x < target->patch; x++) {
                double value = (double)from[(c * target->image + y) * target->image + x];
                sum += value;
                squares += value * value;
            }
    double mean = sum / n, deviation = sqrt((squares - sum * mean) / (n - 1) + 1e-6);
    for (size_t i = 0; i < values; i++)
        prediction[i] = (float)((double)prediction[i] * deviation + mean);
}
