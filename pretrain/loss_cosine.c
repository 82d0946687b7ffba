/* loss_cosine.c - see loss_cosine.h. */
#include "loss_cosine.h"

#include <math.h>

double tacit_cosine_loss(const tacit_work *work, size_t rows, size_t dim, const float *p,
                         float *target, double factor, float *dp)
{
    const tacit_kernels *k = work->kernels;
    double sum = 0;
    k->l2norm_f32(rows, dim, target, dim, target, dim);
    for (size_t i = 0; i < rows; i++) {
        const float *x = p + i * dim;
        float *t = target + i * dim;
        double norm = sqrt(k->dot_f64(dim, x, x));
        sum += 2 - 2 * k->dot_f64(dim, x, t) / (norm > 1e-12 ? norm : 1e-12);
        k->scale_add_f32(dim, t, (float)(-2 * factor), NULL, t);
        k->l2norm_backward_f32(1, dim, x, dim, t, dim, dp + i * dim, dim);
    }
    return factor * sum;
}

/* Each image has a double. */
void tacit_cosine_patches_declare(size_t max_batch, tacit_work *work)
{
    tacit_work_need(&work->partial_floats, 2 * max_batch);
}

typedef struct job {
    const tacit_work *work;
    const uint32_t *first, *patches;
    size_t count, dim, ld;
    double factor;
    float *features, *predictions;
} job;

static void image_chunk(void *ctx, size_t image, unsigned worker)
{
    const job *j = ctx;
    double sum = 0;
    (void)worker;
    for (size_t row = j->first[image]; row < j->first[image + 1]; row++) {
        float *target = j->features + (image * j->count + j->patches[row]) * j->dim;
        float *prediction = j->predictions + row * j->ld;
        sum += tacit_cosine_loss(j->work, 1, j->dim, prediction, target, j->factor, prediction);
    }
    ((double *)(void *)j->work->partial)[image] = sum;
}

double tacit_cosine_patches_loss(const tacit_work *work, size_t batch, const uint32_t *first,
                                 const uint32_t *patches, size_t count, size_t dim, double share,
                                 float *features, float *predictions, size_t ld)
{
    double sum = 0;
    if (!first[batch])
        return 0;
    job j = { work,     first,      patches, count, dim, ld, share / (double)first[batch],
              features, predictions };
    tacit_parallel_for(work->pool, batch, image_chunk, &j);
    for (size_t i = 0; i < batch; i++)
        sum += ((const double *)(const void *)work->partial)[i];
    return sum;
}
