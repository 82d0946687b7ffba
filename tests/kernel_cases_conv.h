/* kernel_cases_conv.h - the families of cases of the convolution kernels; a part of test_kernels.c.
 */
#ifndef TACIT_TESTS_KERNEL_CASES_CONV_H
#define TACIT_TESTS_KERNEL_CASES_CONV_H

/* An input of up to `side` pixels a side, whose windows fit. Its pixels may have a gap behind them.
 * All sizes but the number of images are above 0. */
static tacit_conv any_conv(testcase *c, size_t side, size_t channels, size_t kernel, size_t step)
{
    tacit_conv conv = { .channels = channels, .kernel = kernel, .stride = step };
    conv.pad = kernel > 1 ? below(c, kernel / 2 + 1) : 0;
    size_t least = kernel - 2 * conv.pad;
    least += !least;
    conv.height = least + below(c, side);
    conv.width = least + below(c, side);
    conv.ldx = stride(c, channels);
    conv.rows = tacit_conv_size(conv.height, kernel, step, conv.pad);
    conv.columns = tacit_conv_size(conv.width, kernel, step, conv.pad);
    return conv;
}

static void add_pixels(testcase *c, const tacit_conv *conv, size_t images)
{
    add_operand(c, IN, F32, images * conv->height * conv->width, conv->channels, conv->ldx);
}

/* Some outputs, beginning anywhere, of a few images. */
static void conv_shape(testcase *c)
{
    static const size_t kernels[] = { 1, 2, 3, 3, 5, 7 };
    bool deep = c->number % 50 == 49; /* several blocks of k */
    sizes(c, 3, (const size_t[]){ deep ? 30 : 70, deep ? 30 : 140, deep ? 300 : 40 });
    size_t m = c->n[0], n = c->n[1], images = 1 + below(c, 3);
    c->conv = any_conv(c, 8, c->n[2] + !c->n[2], kernels[below(c, 6)], 1 + below(c, 3));
    size_t all = images * c->conv.rows * c->conv.columns;
    c->n[0] = m = m < all ? m : all;
    c->first = below(c, all - m + 1);
    size_t k = c->n[2] = c->conv.kernel * c->conv.kernel * c->conv.channels;
    c->flags = draw(c) % 64;
    add_pixels(c, &c->conv, images);
    add_operand(c, IN, F32, n, k, k);
    add_operand(c, PACKED, F32, 1, 0, 0);
    add_operand(c, OUT, F32, m, n, stride(c, n));
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, m, n, stride(c, n));
    add_operand(c, WORK, F32, 1, m * (k < TACIT_KC ? k : TACIT_KC), 0);
}

/* All bytes of some windows. */
static void conv_windows8_shape(testcase *c)
{
    static const size_t kernels[] = { 1, 2, 3, 3, 5, 7 };
    sizes(c, 2, (const size_t[]){ 70, 40 });
    size_t m = c->n[0], images = 1 + below(c, 3);
    c->conv = any_conv(c, 8, c->n[1] + !c->n[1], kernels[below(c, 6)], 1 + below(c, 3));
    size_t all = images * c->conv.rows * c->conv.columns;
    size_t whole = 4 * TACIT_INT8_GROUPS(c->conv.kernel * c->conv.kernel * c->conv.channels);
    c->n[0] = m = m < all ? m : all;
    c->first = below(c, all - m + 1);
    c->flags = draw(c) % 256;
    add_operand(c, IN, U8, images * c->conv.height * c->conv.width, c->conv.channels, c->conv.ldx);
    add_operand(c, OUT, U8, m, whole, stride(c, whole));
}

static void conv_windows8_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_conv_windows_u8_fn *)kernel)(&c->conv, c->first, c->n[0], (uint8_t)c->flags, u8(c, 0),
                                         u8(c, 1), c->operands[1].ld);
}

static void conv_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    size_t m = c->n[0], n = c->n[1], k = c->n[2];
    tacit_epilogue epilogue = epilogue_of(c, 4, 5, 6);
    kernels->gemm_pack_f32(n, k, f32(c, 1), k, f32(c, 2));
    ((tacit_conv_f32_fn *)kernel)(&c->conv, c->first, m, n, f32(c, 0), f32(c, 2), f32(c, 3),
                                  c->operands[3].ld, c->flags & EPILOGUE ? &epilogue : NULL,
                                  f32(c, 7));
}

/* n[0]: tiles, n[1]: channels, n[2]: the side of a tile. */
static size_t winograd_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 20, 90 });
    size_t side = 2 + 2 * below(c, 2), images = 1 + below(c, 3);
    c->n[1] += !c->n[1];
    c->n[2] = side;
    c->conv = any_conv(c, 14, c->n[1], 3, 1);
    size_t tiles =
        images * ((c->conv.rows + side - 1) / side) * ((c->conv.columns + side - 1) / side);
    c->n[0] = c->n[0] < tiles ? c->n[0] : tiles;
    c->first = below(c, tiles - c->n[0] + 1);
    return images;
}

static void winograd_input_shape(testcase *c)
{
    size_t images = winograd_shape(c), products = (c->n[2] + 2) * (c->n[2] + 2);
    add_pixels(c, &c->conv, images);
    add_operand(c, OUT, F32, products * c->n[0], c->n[1], stride(c, c->n[1]));
}

static void winograd_input_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t ld = c->operands[1].ld;
    ((tacit_winograd_input_f32_fn *)kernel)(&c->conv, c->n[2], c->first, c->n[0], f32(c, 0),
                                            f32(c, 1), ld, c->n[0] * ld);
}

/* The outputs are all pixels; those of other tiles keep what they held. */
static void winograd_output_shape(testcase *c)
{
    size_t images = winograd_shape(c), products = (c->n[2] + 2) * (c->n[2] + 2);
    size_t n = c->n[1], pixels = images * c->conv.rows * c->conv.columns;
    c->flags = draw(c) % 64 & ~(unsigned)(GELU | SCALE);
    add_operand(c, IN, F32, products * c->n[0], n, stride(c, n));
    add_operand(c, INPUT_AND_OUTPUT, F32, pixels, n, stride(c, n));
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, pixels, n, stride(c, n));
}

static void winograd_output_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t ld = c->operands[0].ld;
    tacit_epilogue epilogue = epilogue_of(c, 2, 2, 3);
    ((tacit_winograd_output_f32_fn *)kernel)(
        &c->conv, c->n[2], c->first, c->n[0], c->n[1], f32(c, 0), ld, c->n[0] * ld, f32(c, 1),
        c->operands[1].ld, c->flags & EPILOGUE ? &epilogue : NULL);
}

static void maxpool_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 40, 90 });
    size_t images = 1 + below(c, 3), channels = c->n[1] + !c->n[1];
    c->conv = any_conv(c, 12, channels, 1 + below(c, 4), 1 + below(c, 3));
    size_t all = images * c->conv.rows * c->conv.columns;
    c->n[0] = c->n[0] < all ? c->n[0] : all;
    c->first = below(c, all - c->n[0] + 1);
    add_pixels(c, &c->conv, images);
    add_operand(c, OUT, F32, c->n[0], channels, stride(c, channels));
}

static void maxpool_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_maxpool_f32_fn *)kernel)(&c->conv, c->first, c->n[0], f32(c, 0), f32(c, 1),
                                     c->operands[1].ld);
}

#endif
