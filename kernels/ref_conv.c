/* ref_conv.c - the definitions of kernels_conv.h in plain C. */
#include "ref.h"
#include "winograd.h"

/* Value of the input, zero in the padding: y and x count from the padding's first row and pixel. */
static float at(const tacit_conv *c, const float *image, size_t y, size_t x, size_t channel)
{
    if (y < c->pad || x < c->pad || y - c->pad >= c->height || x - c->pad >= c->width)
        return 0;
    return image[((y - c->pad) * c->width + x - c->pad) * c->ldx + channel];
}

static const float *image_of(const tacit_conv *c, const float *x, size_t number)
{
    return x + number * c->height * c->width * c->ldx;
}

void tacit_conv_f32_ref(const tacit_conv *c, size_t first, size_t m, size_t n, const float *x,
                        const float *packed, float *y, size_t ldy, const tacit_epilogue *e,
                        float *scratch)
{
    (void)scratch;
    size_t k = c->kernel * c->kernel * c->channels;
    for (size_t i = 0; i < m; i++) {
        const float *image = image_of(c, x, (first + i) / (c->rows * c->columns));
        size_t row = (first + i) / c->columns % c->rows, column = (first + i) % c->columns;
        for (size_t j = 0; j < n; j++) {
            const float *w = packed + j / TACIT_NR * TACIT_NR * k + j % TACIT_NR;
            float sum = 0, chain = 0;
            for (size_t p = 0; p < k; p++) {
                size_t tap = p / c->channels, ky = tap / c->kernel, kx = tap % c->kernel;
                float value =
                    at(c, image, row * c->stride + ky, column * c->stride + kx, p % c->channels);
                if (p % TACIT_KC == 0)
                    chain = 0;
                chain = fmaf(value, w[p * TACIT_NR], chain);
                if (p % TACIT_KC == TACIT_KC - 1 || p == k - 1)
                    sum = p < TACIT_KC ? chain : sum + chain;
            }
            y[i * ldy + j] = finish(sum, e, i, j);
        }
    }
}

void tacit_maxpool_f32_ref(const tacit_conv *c, size_t first, size_t m, const float *x, float *y,
                           size_t ldy)
{
    for (size_t i = 0; i < m; i++) {
        const float *image = image_of(c, x, (first + i) / (c->rows * c->columns));
        size_t row = (first + i) / c->columns % c->rows, column = (first + i) % c->columns;
        for (size_t channel = 0; channel < c->channels; channel++) {
            float *most = NULL;
            for (size_t t = 0; t < c->kernel * c->kernel; t++) {
                size_t v = row * c->stride + t / c->kernel, u = column * c->stride + t % c->kernel;
                if (v < c->pad || u < c->pad || v - c->pad >= c->height || u - c->pad >= c->width)
                    continue;
                float value = at(c, image, v, u, channel);
                float *to = &y[i * ldy + channel];
                *to = most ? ref_max(value, *most) : value;
                most = to;
            }
        }
    }
}

/* B^T d */
static void forward(size_t side, const float *d, float *t)
{
    if (side == 2) {
        t[0] = d[2] - d[0];
        t[1] = d[2] + d[1];
        t[2] = d[2] - d[1];
        t[3] = d[3] - d[1];
        return;
    }
    float even = fmaf(-TACIT_WINOGRAD_Q2, d[2], d[4]), odd = fmaf(-TACIT_WINOGRAD_Q2, d[1], d[3]);
    t[0] = fmaf(TACIT_WINOGRAD_PQ, d[0], fmaf(-TACIT_WINOGRAD_S2, d[2], d[4]));
    t[1] = fmaf(TACIT_WINOGRAD_P, odd, even);
    t[2] = fmaf(-TACIT_WINOGRAD_P, odd, even);
    even = fmaf(-TACIT_WINOGRAD_P2, d[2], d[4]), odd = fmaf(-TACIT_WINOGRAD_P2, d[1], d[3]);
    t[3] = fmaf(TACIT_WINOGRAD_Q, odd, even);
    t[4] = fmaf(-TACIT_WINOGRAD_Q, odd, even);
    t[5] = fmaf(TACIT_WINOGRAD_PQ, d[1], fmaf(-TACIT_WINOGRAD_S2, d[3], d[5]));
}

/* A^T m */
static void inverse(size_t side, const float *m, float *y)
{
    float s1 = m[1] + m[2], d1 = m[1] - m[2];
    if (side == 2) {
        y[0] = m[0] + s1;
        y[1] = m[3] + d1;
        return;
    }
    float s2 = m[3] + m[4], d2 = m[3] - m[4];
    y[0] = m[0] + s1 + s2;
    y[1] = fmaf(TACIT_WINOGRAD_Q, d2, TACIT_WINOGRAD_P * d1);
    y[2] = fmaf(TACIT_WINOGRAD_Q2, s2, TACIT_WINOGRAD_P2 * s1);
    y[3] = fmaf(TACIT_WINOGRAD_Q3, d2, fmaf(TACIT_WINOGRAD_P3, d1, m[5]));
}

/* G g */
static void window_values(size_t side, const float *g, float *u)
{
    if (side == 2) {
        u[0] = 0 - g[0];
        u[1] = (g[0] + g[2] + g[1]) * 0.5f;
        u[2] = (g[0] + g[2] - g[1]) * 0.5f;
        u[3] = g[2];
        return;
    }
    float ends = fmaf(TACIT_WINOGRAD_P2, g[2], g[0]);
    u[0] = g[0] * TACIT_WINOGRAD_SHARE_0;
    u[1] = fmaf(TACIT_WINOGRAD_P, g[1], ends) * TACIT_WINOGRAD_SHARE_P;
    u[2] = fmaf(-TACIT_WINOGRAD_P, g[1], ends) * TACIT_WINOGRAD_SHARE_P;
    ends = fmaf(TACIT_WINOGRAD_Q2, g[2], g[0]);
    u[3] = fmaf(TACIT_WINOGRAD_Q, g[1], ends) * TACIT_WINOGRAD_SHARE_Q;
    u[4] = fmaf(-TACIT_WINOGRAD_Q, g[1], ends) * TACIT_WINOGRAD_SHARE_Q;
    u[5] = g[2];
}

/* G^T u */
static void window_back(size_t side, const float *u, float *g)
{
    if (side == 2) {
        float ends = (u[1] + u[2]) * 0.5f;
        g[0] = ends - u[0];
        g[1] = (u[1] - u[2]) * 0.5f;
        g[2] = ends + u[3];
        return;
    }
    float ends_p = (u[1] + u[2]) * TACIT_WINOGRAD_SHARE_P;
    float odd_p = (u[1] - u[2]) * TACIT_WINOGRAD_SHARE_P;
    float ends_q = (u[3] + u[4]) * TACIT_WINOGRAD_SHARE_Q;
    float odd_q = (u[3] - u[4]) * TACIT_WINOGRAD_SHARE_Q;
    g[0] = fmaf(TACIT_WINOGRAD_SHARE_0, u[0], ends_p + ends_q);
    g[1] = fmaf(TACIT_WINOGRAD_Q, odd_q, TACIT_WINOGRAD_P * odd_p);
    g[2] = fmaf(TACIT_WINOGRAD_Q2, ends_q, fmaf(TACIT_WINOGRAD_P2, ends_p, u[5]));
}

/* A y */
static void outputs_back(size_t side, const float *y, float *z)
{
    z[0] = y[0];
    z[side + 1] = y[side - 1];
    if (side == 2) {
        z[1] = y[0] + y[1];
        z[2] = y[0] - y[1];
        return;
    }
    float even = fmaf(TACIT_WINOGRAD_P2, y[2], y[0]), odd = fmaf(TACIT_WINOGRAD_P2, y[3], y[1]);
    z[1] = fmaf(TACIT_WINOGRAD_P, odd, even);
    z[2] = fmaf(-TACIT_WINOGRAD_P, odd, even);
    even = fmaf(TACIT_WINOGRAD_Q2, y[2], y[0]), odd = fmaf(TACIT_WINOGRAD_Q2, y[3], y[1]);
    z[3] = fmaf(TACIT_WINOGRAD_Q, odd, even);
    z[4] = fmaf(-TACIT_WINOGRAD_Q, odd, even);
}

/* `transform` of each column of x (n, n), then of each row of what is left. */
static void both_ways(void (*transform)(size_t, const float *, float *), size_t side, size_t n,
                      size_t left, const float *x, float *y)
{
    float down[36], in[6], out[6] = { 0 };
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < n; i++)
            in[i] = x[i * n + j];
        transform(side, in, out);
        for (size_t i = 0; i < left; i++)
            down[i * n + j] = out[i];
    }
    for (size_t i = 0; i < left; i++)
        transform(side, down + i * n, y + i * left);
}

void tacit_winograd_input_f32_ref(const tacit_conv *c, size_t side, size_t first, size_t count,
                                  const float *x, float *v, size_t ldv, size_t step)
{
    size_t across = (c->columns + side - 1) / side, down = (c->rows + side - 1) / side;
    size_t n = side + 2;
    float tile[36], values[36];
    for (size_t t = 0; t < count; t++) {
        const float *image = image_of(c, x, (first + t) / (across * down));
        size_t top = (first + t) / across % down * side, before = (first + t) % across * side;
        for (size_t channel = 0; channel < c->channels; channel++) {
            for (size_t p = 0; p < n * n; p++)
                tile[p] = at(c, image, top + p / n, before + p % n, channel);
            both_ways(forward, side, n, n, tile, values);
            for (size_t p = 0; p < n * n; p++)
                v[p * step + t * ldv + channel] = values[p];
        }
    }
}

void tacit_winograd_output_f32_ref(const tacit_conv *c, size_t side, size_t first, size_t count,
                                   size_t n, const float *products, size_t ldp, size_t step,
                                   float *y, size_t ldy, const tacit_epilogue *epilogue)
{
    size_t across = (c->columns + side - 1) / side, down = (c->rows + side - 1) / side;
    size_t all = (side + 2) * (side + 2);
    float tile[36], values[16];
    for (size_t t = 0; t < count; t++) {
        size_t image = (first + t) / (across * down);
        size_t top = (first + t) / across % down * side, before = (first + t) % across * side;
        for (size_t j = 0; j < n; j++) {
            for (size_t p = 0; p < all; p++)
                tile[p] = products[p * step + t * ldp + j];
            both_ways(inverse, side, side + 2, side, tile, values);
            for (size_t p = 0; p < side * side; p++) {
                size_t row = top + p / side, column = before + p % side;
                if (row < c->rows && column < c->columns) {
                    size_t pixel = (image * c->rows + row) * c->columns + column;
                    y[pixel * ldy + j] = finish(values[p], epilogue, pixel, j);
                }
            }
        }
    }
}

void tacit_winograd_weights_f32_ref(size_t side, size_t rows, size_t n, const float *w, size_t ldw,
                                    size_t tap, bool turned, float *u, size_t ldu, size_t step)
{
    float window[9], transformed[36];
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            for (size_t t = 0; t < 9; t++)
                window[t] = w[r * ldw + (turned ? 8 - t : t) * tap + i];
            both_ways(window_values, side, 3, side + 2, window, transformed);
            for (size_t p = 0; p < (side + 2) * (side + 2); p++)
                u[p * step + r * ldu + i] = transformed[p];
        }
}

void tacit_winograd_weights_backward_f32_ref(size_t side, size_t rows, size_t n, const float *du,
                                             size_t ldu, size_t step, float *dw, size_t lddw,
                                             size_t tap)
{
    float transformed[36], window[9];
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++) {
            for (size_t p = 0; p < (side + 2) * (side + 2); p++)
                transformed[p] = du[p * step + r * ldu + i];
            both_ways(window_back, side, side + 2, 3, transformed, window);
            for (size_t t = 0; t < 9; t++)
                dw[r * lddw + t * tap + i] += window[t];
        }
}

void tacit_winograd_output_backward_f32_ref(const tacit_conv *c, size_t side, size_t first,
                                            size_t count, size_t n, const float *dy, size_t lddy,
                                            float *z, size_t ldz, size_t step)
{
    size_t across = (c->columns + side - 1) / side, down = (c->rows + side - 1) / side;
    float tile[16], z_of[36];
    for (size_t t = 0; t < count; t++) {
        size_t image = (first + t) / (across * down);
        size_t top = (first + t) / across % down * side, before = (first + t) % across * side;
        for (size_t j = 0; j < n; j++) {
            for (size_t p = 0; p < side * side; p++) {
                size_t row = top + p / side, column = before + p % side;
                bool there = row < c->rows && column < c->columns;
                size_t pixel = (image * c->rows + row) * c->columns + column;
                tile[p] = there ? dy[pixel * lddy + j] : 0;
            }
            both_ways(outputs_back, side, side, side + 2, tile, z_of);
            for (size_t p = 0; p < (side + 2) * (side + 2); p++)
                z[p * step + t * ldz + j] = z_of[p];
        }
    }
}
