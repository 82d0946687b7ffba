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
