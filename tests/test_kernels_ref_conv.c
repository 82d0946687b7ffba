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
    tcase_add_test(t, maxpool_takes_the_largest);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
