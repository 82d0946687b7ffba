/* bench_kernels_conv.h - the rows of the convolution kernels; a part of bench_kernels.c.
 *
 * Of ResNet-50 at 224: a chunk of a 3 x 3 layer with stride 2, a row of tiles of the first stage,
 * and the pooling behind the stem. */
#ifndef TACIT_BENCH_KERNELS_CONV_H
#define TACIT_BENCH_KERNELS_CONV_H

static const tacit_conv bench_stride2 = { 56, 56, 128, 128, 3, 2, 1, 28, 28 };
static const tacit_conv bench_tiles = { 56, 56, 64, 64, 3, 1, 1, 56, 56 };
static const tacit_conv bench_pool = { 112, 112, 64, 64, 3, 2, 1, 56, 56 };

static void run_conv_f32(call *c)
{
    c->k->conv_f32(&bench_stride2, 112, c->m, c->n, c->a, c->b, c->c, c->n, NULL,
                   c->c + c->m * c->n);
}

static void bench_conv_f32(call *c)
{
    c->shape = "3 x 3 / 2, 112 x 128 x 1152";
    c->m = 112;
    c->n = 128;
    c->flops = 2.0 * 112 * 128 * 1152;
    c->run = run_conv_f32;
}

static void run_conv_windows_u8(call *c)
{
    static const tacit_conv stem = { 224, 224, 3, 3, 7, 2, 3, 112, 112 };
    c->k->conv_windows_u8(&stem, 448, 448, TACIT_INT8_MIDDLE, (const uint8_t *)c->a,
                          (uint8_t *)c->c, 192);
}

static void bench_conv_windows_u8(call *c)
{
    c->shape = "7 x 7 / 2 of 3 channels, 448";
    c->bytes = 2.0 * 448 * 147;
    c->run = run_conv_windows_u8;
}

static void run_winograd_input_f32(call *c)
{
    c->k->winograd_input_f32(&bench_tiles, 4, 14, 14, c->a, c->c, 64, 14 * 64);
}

static void bench_winograd_input_f32(call *c)
{
    c->shape = "14 tiles of 4 x 4, 64 channels";
    c->bytes = 4.0 * 14 * 64 * (16 + 36);
    c->run = run_winograd_input_f32;
}

static void run_winograd_output_f32(call *c)
{
    const tacit_epilogue e = { .bias = c->b, .relu = true };
    c->k->winograd_output_f32(&bench_tiles, 4, 14, 14, 64, c->a, 64, 14 * 64, c->c, 64, &e);
}

static void bench_winograd_output_f32(call *c)
{
    c->shape = "14 tiles of 4 x 4, 64 channels";
    c->bytes = 4.0 * 14 * 64 * (16 + 36);
    c->run = run_winograd_output_f32;
}

static void run_maxpool_f32(call *c)
{
    c->k->maxpool_f32(&bench_pool, 0, c->m, c->a, c->c, 64);
}

static void bench_maxpool_f32(call *c)
{
    c->shape = "3 x 3 / 2, 112 x 112 x 64";
    c->m = (size_t)56 * 56;
    c->bytes = 4.0 * 64 * (112 * 112 + 56 * 56);
    c->run = run_maxpool_f32;
}

#endif
