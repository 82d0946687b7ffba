/* test_conv_train.c - convolutions in training: by tiles, windows and plain products, against their
 * definition in double; the same bits for every ISA and number of threads.
 */
#include "conv_train.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <string.h>

/* Of the largest value: the error of one layer. */
#define TOLERANCE 4e-6

static const struct shape {
    size_t height, width, in, out, kernel, stride, batch, side;
} shapes[] = {
    { 9, 7, 20, 24, 3, 1, 3, 4 },    /* edges, channels that fill no vector and no panel */
    { 8, 8, 40, 130, 3, 1, 5, 4 },   /* more channels than a chunk has                   */
    { 4, 4, 10, 130, 3, 1, 790, 4 }, /* two slabs of tiles, three of the weights         */
    { 2, 2, 24, 20, 3, 1, 6, 2 },    /* tiles of 2 x 2                                   */
    { 2, 6, 200, 136, 3, 1, 2, 2 },  /* of more channels than a block has                */
    { 12, 10, 4, 5, 3, 1, 4, 0 },    /* windows                                          */
    { 9, 8, 20, 24, 3, 2, 3, 0 },    /* a stride                                         */
    { 13, 14, 3, 20, 7, 2, 2, 0 },   /* a stem                                           */
    { 6, 5, 20, 24, 1, 1, 3, 0 },    /* a product                                        */
    { 6, 5, 20, 24, 1, 2, 3, 0 },    { 8, 10, 20, 24, 4, 2, 3, 0 }, /* of a discrete VAE */
};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

typedef struct layer {
    const struct shape *s;
    tacit_params params;
    tacit_work work;
    tacit_convolution conv;
    size_t inputs, outputs, weights;
    float *x, *dy, *y, *dx, *beside;
} layer;

static float *numbers(uint64_t stream, size_t n)
{
    float *x = tacit_alloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++)
        x[i] = tacit_rng_uniform(11, stream, i) * 2 - 1;
    return x;
}

/* A forward and a backward of a layer, whose gradients begin at 1. */
static void run(layer *l, const struct shape *s, tacit_isa isa, tacit_pool *pool)
{
    tacit_err err;
    *l = (layer){ .s = s, .work = { .kernels = tacit_kernels_for(isa), .pool = pool } };
    ck_assert_msg(!tacit_convolution_declare(&l->conv, "conv", s->height, s->width, s->in, s->out,
                                             s->kernel, s->stride, (s->kernel - 1) / 2, s->batch,
                                             &l->params, &l->work, &err),
                  "%s", err.text);
    ck_assert_int_eq(tacit_params_open(&l->params, 0, &err), TACIT_OK);
    ck_assert_int_eq(tacit_work_open(&l->work, &err), TACIT_OK);
    ck_assert_uint_eq(l->conv.side, s->side);
    l->inputs = s->batch * s->height * s->width * s->in;
    l->outputs = s->batch * tacit_convolution_size(&l->conv);
    l->weights = s->out * s->in * s->kernel * s->kernel;
    l->x = numbers(1, l->inputs);
    l->dy = numbers(2, l->outputs);
    l->y = numbers(3, l->outputs);
    l->dx = numbers(4, l->inputs);
    l->beside = numbers(6, l->inputs);
    for (size_t i = 0; i < l->weights; i++) {
        l->conv.dense.w->value[i] = tacit_rng_uniform(11, 5, i) * 2 - 1;
        l->conv.dense.w->grad[i] = 1;
    }
    tacit_convolution_forward(&l->conv, s->batch, l->x, l->y);
    tacit_convolution_backward(&l->conv, s->batch, l->x, l->dy, l->dx, l->beside);
}

static void finish(layer *l)
{
    tacit_free(l->x);
    tacit_free(l->dy);
    tacit_free(l->y);
    tacit_free(l->dx);
    tacit_free(l->beside);
    tacit_work_close(&l->work);
    tacit_params_close(&l->params);
}

/* The definition, from where an output's window has its place: what x, w and y mean to it is added
 * to y, dx and dw. */
static void define(const layer *l, double *y, double *dx, double *dw)
{
    const tacit_conv *c = &l->conv.shape;
    const float *w = l->conv.dense.w->value;
    size_t pixels = c->rows * c->columns, out = l->s->out, in = c->channels;
    for (size_t i = 0; i < l->s->batch * pixels; i++)
        for (size_t tap = 0; tap < c->kernel * c->kernel; tap++) {
            size_t row = i % pixels / c->columns * c->stride + tap / c->kernel - c->pad;
            size_t column = i % c->columns * c->stride + tap % c->kernel - c->pad;
            size_t at = ((i / pixels * c->height + row) * c->width + column) * in;
            if (row >= c->height || column >= c->width) /* wraps below 0 */
                continue;
            for (size_t o = 0; o < out; o++)
                for (size_t p = 0; p < in; p++) {
                    size_t weight = (o * c->kernel * c->kernel + tap) * in + p;
                    y[i * out + o] += (double)l->x[at + p] * (double)w[weight];
                    dx[at + p] += (double)l->dy[i * out + o] * (double)w[weight];
                    dw[weight] += (double)l->dy[i * out + o] * (double)l->x[at + p];
                }
        }
}

static double *zeros(size_t n)
{
    double *x = tacit_calloc(n, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

static void check(const char *what, const float *got, const double *want, size_t n, double more)
{
    double largest = 0, error = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - want[i] - more), size = fabs(want[i]);
        ck_assert(isfinite(got[i]));
        if (size > largest)
            largest = size;
        if (off > error)
            error = off;
    }
    ck_assert_msg(error <= TOLERANCE * largest, "%s: off by %.3g of %.3g", what, error, largest);
}

START_TEST(as_defined)
{
    layer l;
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    run(&l, &shapes[_i], isa, NULL);
    double *y = zeros(l.outputs), *dx = zeros(l.inputs), *dw = zeros(l.weights);
    for (size_t i = 0; i < l.inputs; i++)
        dx[i] = (double)l.beside[i];
    define(&l, y, dx, dw);
    check("y", l.y, y, l.outputs, 0);
    check("dx", l.dx, dx, l.inputs, 0);
    check("dw", l.conv.dense.w->grad, dw, l.weights, 1);
    if (l.s->stride > 1) { /* the transposed one is the same, the other way round */
        for (size_t i = 0; i < l.inputs; i++)
            dx[i] -= (double)l.beside[i];
        for (size_t i = 0; i < l.weights; i++)
            l.conv.dense.w->grad[i] = 1;
        tacit_convolution_transposed(&l.conv, l.s->batch, l.dy, l.dx);
        tacit_convolution_transposed_backward(&l.conv, l.s->batch, l.dy, l.x, l.y);
        check("transposed y", l.dx, dx, l.inputs, 0);
        check("transposed dx", l.y, y, l.outputs, 0);
        check("transposed dw", l.conv.dense.w->grad, dw, l.weights, 1);
    }
    tacit_free(y);
    tacit_free(dx);
    tacit_free(dw);
    finish(&l);
}
END_TEST

START_TEST(same_bits)
{
    static const unsigned threads[] = { 1, 3 };
    layer want, got;
    run(&want, &shapes[_i], TACIT_ISA_REF, NULL);
    for (int isa = 1; isa < TACIT_ISA_COUNT; isa++)
        for (size_t t = 0; tacit_isa_available((tacit_isa)isa) && t < 2; t++) {
            tacit_pool *pool;
            ck_assert_int_eq(tacit_pool_open(&pool, threads[t], NULL), TACIT_OK);
            run(&got, &shapes[_i], (tacit_isa)isa, pool);
            ck_assert(!memcmp(got.y, want.y, want.outputs * sizeof *got.y));
            ck_assert(!memcmp(got.dx, want.dx, want.inputs * sizeof *got.dx));
            ck_assert(!memcmp(got.conv.dense.w->grad, want.conv.dense.w->grad,
                              want.weights * sizeof *got.dx));
            finish(&got);
            tacit_pool_close(&pool);
        }
    finish(&want);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("conv_train");
    TCase *t = tcase_create("conv_train");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, as_defined, 0, SHAPES);
    tcase_add_loop_test(t, same_bits, 0, SHAPES);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
