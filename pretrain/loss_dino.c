/* loss_dino.c - see loss_dino.h.
 *
 * All pairs of one student's crop have the same log p: their targets are added up first, to a q of
 * the mass m = 1 or 2, and the gradient of a crop's logits is (m p - q) / (T_s 2 (V - 1) N).
 */
#include "loss_dino.h"

#include <assert.h>

void tacit_dino_declare(tacit_dino *loss, size_t crops, size_t dim, double student_temperature,
                        size_t max_images, tacit_work *work)
{
    *loss = (tacit_dino){ crops, dim, student_temperature, work };
    tacit_work_need(&work->worker_floats, 2 * dim);
    tacit_work_need(&work->partial_floats, 2 * max_images); /* a double of each */
}

typedef struct job {
    const tacit_dino *l;
    size_t images;
    double teacher_temperature;
    const float *centre;
    float *teacher, *student, factor;
} job;

static double *sums_of(const tacit_dino *l)
{
    return (double *)(void *)l->work->partial;
}

static void image_chunk(void *ctx, size_t image, unsigned worker)
{
    const job *j = ctx;
    const tacit_dino *l = j->l;
    const tacit_kernels *k = l->work->kernels;
    size_t dim = l->dim, apart = j->images * dim;
    float *both = l->work->worker + worker * l->work->worker_floats, *logits = both + dim;
    float *q = j->teacher + image * dim;
    for (size_t v = 0; v < TACIT_DINO_GLOBAL; v++) {
        float *t = q + v * apart;
        k->scale_add_f32(dim, j->centre, -1, t, t);
        k->softmax_f32(1, dim, t, dim, (float)(1 / j->teacher_temperature), t, dim);
    }
    k->add_f32(dim, q, q + apart, both);
    double sum = 0;
    for (size_t v = 0; v < l->crops; v++) {
        const float *target = v < TACIT_DINO_GLOBAL ? q + (1 - v) * apart : both;
        float *s = j->student + v * apart + image * dim, loss;
        k->scale_add_f32(dim, s, (float)(1 / l->student_temperature), NULL, logits);
        k->soft_cross_entropy_f32(1, dim, logits, dim, target, dim, s, dim, &loss);
        k->scale_add_f32(dim, s, j->factor, NULL, s);
        sum += (double)loss;
    }
    sums_of(l)[image] = sum;
}

double tacit_dino_loss(const tacit_dino *loss, size_t images, size_t of, double teacher_temperature,
                       const float *centre, float *teacher, float *student)
{
    double pairs = (double)(TACIT_DINO_GLOBAL * (loss->crops - 1)), terms = pairs * (double)of;
    job j = { .l = loss,
              .images = images,
              .teacher_temperature = teacher_temperature,
              .centre = centre,
              .teacher = teacher,
              .student = student,
              .factor = (float)(1 / (loss->student_temperature * terms)) };
    double sum = 0;
    assert(loss->crops >= TACIT_DINO_GLOBAL && images <= of);
    tacit_parallel_for(loss->work->pool, images, image_chunk, &j);
    for (size_t i = 0; i < images; i++)
        sum += sums_of(loss)[i];
    return sum / terms;
}

#define COLUMNS 1024 /* of a chunk */

typedef struct sum_job {
    const tacit_dino *l;
    size_t rows;
    const float *teacher;
    bool more;
    float *sum;
} sum_job;

static void sum_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const sum_job *j = ctx;
    size_t from = chunk * COLUMNS, left = j->l->dim - from;
    j->l->work->kernels->sum_rows_f32(j->rows, left < COLUMNS ? left : COLUMNS, j->teacher + from,
                                      j->l->dim, j->more, j->sum + from);
}

void tacit_dino_sum(const tacit_dino *loss, size_t rows, const float *teacher, bool more,
                    float *sum)
{
    sum_job j = { loss, rows, teacher, more, sum };
    tacit_parallel_for(loss->work->pool, (loss->dim + COLUMNS - 1) / COLUMNS, sum_chunk, &j);
}

void tacit_dino_move(const tacit_dino *loss, double momentum, size_t rows, const float *sum,
                     float *centre)
{
    const tacit_kernels *k = loss->work->kernels;
    k->scale_add_f32(loss->dim, centre, (float)momentum, NULL, centre);
    k->scale_add_f32(loss->dim, sum, (float)((1 - momentum) / (double)rows), centre, centre);
}

double tacit_dino_temperature(double start, double final, double warmup, double epoch)
{
    if (epoch >= warmup)
        return final;
    return warmup > 1 ? start + (final - start) * epoch / (warmup - 1) : start;
}
