/* test_kernels_ref_conv.c - the reference convolutions against their definitions in double. */
#include "kernels.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define U 0x1p-24 /* half a unit in the last place of 1 */

static const tacit_kernels *ref;
static uint64_t draws;

static float *numbers(size_t n)
{
    float *x = malloc((n + !n) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++)
        x[i] = 4 * tacit_rng_uniform(1, 3, draws++) - 2;
    return x;
}

static tacit_conv conv_of(size_t height, size_t width, size_t channels, size_t kernel,
                          size_t stride, size_t pad)
{
    return (tacit_conv){ .height = height,
                         .width = width,
                         .channels = channels,
                         .ldx = channels + 3,
                         .kernel = kernel,
                         .stride = stride,
                         .pad = pad,
                         .rows = tacit_conv_size(height, kernel, stride, pad),
                         .columns = tacit_conv_size(width, kernel, stride, pad) };
}

/* Output (row, column) of an image with weights w (kernel, kernel, channels), and the sum of the
 * magnitudes behind it. */
static double convolve(const tacit_conv *c, const float *image, const float *w, size_t row,
                       size_t column, double *size)
{
    double sum = 0;
    *size = 0;
    for (size_t ky = 0; ky < c->kernel; ky++)
        for (size_t kx = 0; kx < c->kernel; kx++) {
            ptrdiff_t y = (ptrdiff_t)(row * c->stride + ky) - (ptrdiff_t)c->pad;
            ptrdiff_t x = (ptrdiff_t)(column * c->stride + kx) - (ptrdiff_t)c->pad;
            if (y < 0 || x < 0 || y >= (ptrdiff_t)c->height || x >= (ptrdiff_t)c->width)
                continue;
            for (size_t p = 0; p < c->channels; p++) {
                double term = (double)image[((size_t)y * c->width + (size_t)x) * c->ldx + p] *
                              (double)w[(ky * c->kernel + kx) * c->channels + p];
                sum += term;
                *size += fabs(term);
            }
        }
    return sum;
}

static void check_near(double got, double want, double bound, const char *what, size_t at)
{
    if (!(fabs(got - want) <= bound))
        ck_abort_msg("%s, element %zu: %.9g, should be %.9g within %.3g", what, at, got, want,
                     bound);
}

START_TEST(sizes_are_those_of_pytorch)
{
    ck_assert_uint_eq(tacit_conv_size(224, 7, 2, 3), 112);
    ck_assert_uint_eq(tacit_conv_size(112, 3, 2, 1), 56);
    ck_assert_uint_eq(tacit_conv_size(7, 3, 2, 1), 4);
    ck_assert_uint_eq(tacit_conv_size(1, 3, 2, 1), 1);
    ck_assert_uint_eq(tacit_conv_size(1, 4, 1, 1), 0);
}
END_TEST

START_TEST(conv_is_the_convolution)
{
    const tacit_conv shapes[] = {
        conv_of(9, 7, 5, 3, 1, 1),  conv_of(9, 8, 50, 3, 2, 1), conv_of(15, 16, 3, 7, 2, 3),
        conv_of(5, 6, 20, 1, 2, 0), conv_of(1, 2, 4, 3, 2, 1),
    };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const tacit_conv *c = &shapes[s];
        size_t n = 11, k = c->kernel * c->kernel * c->channels, pixels = c->rows * c->columns;
        size_t image = c->height * c->width * c->ldx, m = 2 * pixels;
        float *x = numbers(2 * image), *w = numbers(n * k), *y = numbers(m * n);
        float *packed = numbers(tacit_gemm_packed_size(ref, n, k)), *scratch = numbers(m * k);
        ref->gemm_pack_f32(n, k, w, k, packed);
        ref->conv_f32(c, 0, m, n, x, packed, y, n, NULL, scratch);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double size, want = convolve(c, x + i / pixels * image, w + j * k,
                                             i % pixels / c->columns, i % c->columns, &size);
                check_near((double)y[i * n + j], want, (double)k * U * size, "conv", i * n + j);
            }
        free(x), free(w), free(y), free(packed), free(scratch);
    }
}
END_TEST

/* The three steps together are the convolution, to within what the transforms magnify: the
 * coefficients' absolute values sum to less than 8 (side 2) or 200 (side 4) over a path. */
START_TEST(winograd_is_the_convolution)
{
    const tacit_conv shapes[] = { conv_of(8, 8, 16, 3, 1, 1), conv_of(7, 10, 21, 3, 1, 1),
                                  conv_of(1, 1, 3, 3, 1, 1), conv_of(6, 5, 4, 3, 1, 0) };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t side = 2; side <= 4; side += 2) {
            const tacit_conv *c = &shapes[s];
            size_t n = 11, k = c->channels, products = (side + 2) * (side + 2), images = 2;
            size_t tiles =
                images * ((c->rows + side - 1) / side) * ((c->columns + side - 1) / side);
            size_t pixels = c->rows * c->columns, image = c->height * c->width * c->ldx;
            float *x = numbers(images * image), *w = numbers(n * 9 * k);
            float *v = numbers(products * tiles * k), *y = numbers(images * pixels * n);
            float *m = numbers(products * tiles * n), *u = numbers(products * n * k);
            float *packed = numbers(tacit_gemm_packed_size(ref, n, k));
            for (size_t i = 0; i < n * k; i++) {
                double g[9], transformed[36];
                for (size_t t = 0; t < 9; t++)
                    g[t] = (double)w[(i / k * 9 + t) * k + i % k];
                tacit_winograd_weights(side, g, transformed, 1);
                for (size_t p = 0; p < products; p++)
                    u[p * n * k + i] = (float)transformed[p];
            }
            ref->winograd_input_f32(c, side, 0, tiles, x, v, k, tiles * k);
            for (size_t p = 0; p < products; p++) {
                ref->gemm_pack_f32(n, k, u + p * n * k, k, packed);
                ref->gemm_f32(tiles, n, k, v + p * tiles * k, k, packed, m + p * tiles * n, n,
                              NULL);
            }
            ref->winograd_output_f32(c, side, 0, tiles, n, m, n, tiles * n, y, n, NULL);
            for (size_t i = 0; i < images * pixels; i++)
                for (size_t j = 0; j < n; j++) {
                    double size, want = convolve(c, x + i / pixels * image, w + j * 9 * k,
                                                 i % pixels / c->columns, i % c->columns, &size);
                    /* of a whole tile, where the output itself reads few values */
                    size += (double)k;
                    check_near((double)y[i * n + j], want, (side == 2 ? 8 : 200) * U * size,
                               "winograd", i * n + j);
                }
            free(x), free(w), free(v), free(y), free(m), free(u), free(packed);
        }
}
END_TEST

/* The gradients of a 3 x 3 convolution at stride 1 by Winograd's tiles: dx is the convolution of dy
 * with the weights turned and transposed, dw comes by way of its transform. */
typedef struct gradients {
    const tacit_conv *c;
    size_t side, products, n, images, tiles, pixels, image;
    float *x, *w, *dy;
} gradients;

static size_t tiles_of(const tacit_conv *c, size_t side)
{
    return ((c->rows + side - 1) / side) * ((c->columns + side - 1) / side);
}

static void check_weights_turned(const gradients *g)
{
    size_t k = g->c->channels, windows = g->n * k;
    float *u = numbers(g->products * windows);
    ref->winograd_weights_f32(g->side, g->n, k, g->w, 9 * k, k, true, u, k, windows);
    for (size_t i = 0; i < windows; i++) {
        double window[9], want[36], size = 0;
        for (size_t t = 0; t < 9; t++) {
            window[t] = (double)g->w[i / k * 9 * k + (8 - t) * k + i % k];
            size += fabs(window[t]);
        }
        tacit_winograd_weights(g->side, window, want, 1);
        for (size_t p = 0; p < g->products; p++)
            check_near((double)u[p * windows + i], want[p], 16 * U * size, "weights", i);
    }
    free(u);
}

/* What the transform of dy and that of dw magnify: as in winograd_is_the_convolution. */
static void check_weight_gradient(const gradients *g)
{
    const tacit_conv *c = g->c;
    size_t k = c->channels, windows = g->n * k;
    float *v = numbers(g->products * g->tiles * k), *z = numbers(g->products * g->tiles * g->n);
    float *du = numbers(g->products * windows), *dw = numbers(9 * windows),
          *before = numbers(9 * windows);
    for (size_t i = 0; i < 9 * windows; i++)
        before[i] = dw[i];
    ref->winograd_input_f32(c, g->side, 0, g->tiles, g->x, v, k, g->tiles * k);
    ref->winograd_output_backward_f32(c, g->side, 0, g->tiles, g->n, g->dy, g->n, z, g->n,
                                      g->tiles * g->n);
    for (size_t p = 0; p < g->products; p++)
        ref->gemm_tn_f32(g->n, k, g->tiles, z + p * g->tiles * g->n, g->n, v + p * g->tiles * k, k,
                         du + p * windows, k, false, NULL);
    ref->winograd_weights_backward_f32(g->side, g->n, k, du, k, windows, dw, 9 * k, k);
    for (size_t i = 0; i < 9 * windows; i++) {
        size_t o = i / (9 * k), tap = i / k % 9;
        double want = (double)before[i], size = 1 + (double)(g->images * g->pixels);
        for (size_t p = 0; p < g->images * g->pixels; p++) {
            size_t y = p % g->pixels / c->columns + tap / 3 - c->pad; /* wraps below 0 */
            size_t x = p % c->columns + tap % 3 - c->pad;
            if (y < c->height && x < c->width)
                want +=
                    (double)g->dy[p * g->n + o] *
                    (double)g->x[p / g->pixels * g->image + (y * c->width + x) * c->ldx + i % k];
        }
        check_near((double)dw[i], want, (g->side == 2 ? 8 : 200) * U * size, "dw", i);
    }
    free(v), free(z), free(du), free(dw), free(before);
}

START_TEST(winograd_gradients_are_those_of_the_convolution)
{
    const tacit_conv shapes[] = { conv_of(8, 8, 16, 3, 1, 1), conv_of(7, 10, 21, 3, 1, 1),
                                  conv_of(1, 1, 3, 3, 1, 1), conv_of(6, 5, 4, 3, 1, 0) };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t side = 2; side <= 4; side += 2) {
            const tacit_conv *c = &shapes[s];
            gradients g = { .c = c,
                            .side = side,
                            .products = (side + 2) * (side + 2),
                            .n = 11,
                            .images = 2,
                            .tiles = 2 * tiles_of(c, side),
                            .pixels = c->rows * c->columns,
                            .image = c->height * c->width * c->ldx };
            g.x = numbers(2 * g.image);
            g.w = numbers(g.n * 9 * c->channels);
            g.dy = numbers(2 * g.pixels * g.n);
            check_weights_turned(&g);
            check_weight_gradient(&g);
            free(g.x), free(g.w), free(g.dy);
        }
}
END_TEST

START_TEST(maxpool_takes_the_largest)
{
    tacit_conv c = conv_of(7, 8, 5, 3, 2, 1);
    size_t image = c.height * c.width * c.ldx, pixels = c.rows * c.columns;
    float *x = numbers(2 * image), *y = numbers(2 * pixels * 5);
    ref->maxpool_f32(&c, 0, 2 * pixels, x, y, 5);
    for (size_t i = 0; i < 2 * pixels; i++)
        for (size_t j = 0; j < 5; j++) {
            float most = -INFINITY;
            size_t row = i % pixels / c.columns * 2, column = i % c.columns * 2;
            for (size_t v = row; v < row + 3; v++)
                for (size_t u = column; u < column + 3; u++)
                    if (v >= 1 && u >= 1 && v <= c.height && u <= c.width) {
                        float value =
                            x[i / pixels * image + ((v - 1) * c.width + u - 1) * c.ldx + j];
                        most = value > most ? value : most;
                    }
            ck_assert(y[i * 5 + j] == most);
        }
    free(x), free(y);
}
END_TEST

int main(void)
{
    ref = tacit_kernels_for(TACIT_ISA_REF);
    Suite *suite = suite_create("kernels_ref_conv");
    TCase *t = tcase_create("kernels_ref_conv");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, sizes_are_those_of_pytorch);
    tcase_add_test(t, conv_is_the_convolution);
    tcase_add_test(t, winograd_is_the_convolution);
    tcase_add_test(t, winograd_gradients_are_those_of_the_convolution);
    tcase_add_test(t, maxpool_takes_the_largest);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
