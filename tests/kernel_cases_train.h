/* kernel_cases_train.h - the families of cases of the training kernels; a part of test_kernels.c.
 */
#ifndef TACIT_TESTS_KERNEL_CASES_TRAIN_H
#define TACIT_TESTS_KERNEL_CASES_TRAIN_H

static void gemm_pack_t_shape(testcase *c)
{
    gemm_pack_shape(c);
    operand *w = &c->operands[0];
    w->rows = c->n[2];
    w->cols = c->n[1];
    w->ld = stride(c, c->n[1]);
}

#define gemm_pack_t_run gemm_pack_run

static void attention_backward_shape(testcase *c)
{
    if (c->number % 50 == 49) /* several blocks of queries */
        sizes(c, 3, (const size_t[]){ 1, 450, 20 });
    else
        sizes(c, 3, (const size_t[]){ 1, 90, 70 });
    size_t tokens = c->n[1] += !c->n[1], dim = c->n[2], ld = stride(c, dim), ldd = stride(c, dim);
    c->value = float_of(0x3d000000 + draw(c) % 0x2800000); /* 2^-5 to 1 */
    for (size_t i = 0; i < 3; i++)
        add_operand(c, IN, F32, tokens, dim, ld);
    add_operand(c, IN, F32, tokens, dim, stride(c, dim));
    for (size_t i = 0; i < 3; i++)
        add_operand(c, OUT, F32, tokens, dim, ldd);
    add_operand(c, SCRATCH_BACKWARD, F32, 1, 0, 0);
    c->flags = draw(c) % 2;
    if (c->flags) {
        size_t ldb = stride(c, tokens);
        add_operand(c, IN, F32, tokens, tokens, ldb);
        add_operand(c, INPUT_AND_OUTPUT, F32, tokens, tokens, ldb);
    }
}

static void attention_backward_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_attention_backward_f32_fn *)kernel)(
        c->n[1], c->n[2], f32(c, 0), f32(c, 1), f32(c, 2), c->operands[0].ld, c->value,
        c->flags ? f32(c, 8) : NULL, c->flags ? f32(c, 9) : NULL, c->flags ? c->operands[8].ld : 0,
        f32(c, 3), c->operands[3].ld, f32(c, 4), f32(c, 5), f32(c, 6), c->operands[4].ld,
        f32(c, 7));
}

/* x and dy (rows, n), and dx of its own, in the place of dy, or added to. */
enum { APART, IN_PLACE, MORE };

static void gradient_shape(testcase *c, size_t ways)
{
    sizes(c, 2, (const size_t[]){ 2500, 6 });
    size_t n = c->n[0], rows = c->n[1] %= 7;
    c->flags = draw(c) % (unsigned)ways;
    c->value = float_of(0x3a000000 + draw(c) % 0x7000000); /* 2^-11 to 8 */
    add_operand(c, IN, F32, rows, n, stride(c, n));
    add_operand(c, c->flags == IN_PLACE ? INPUT_AND_OUTPUT : IN, F32, rows, n, stride(c, n));
    add_operand(c, c->flags == MORE ? INPUT_AND_OUTPUT : OUT, F32, c->flags == IN_PLACE ? 0 : rows,
                n, stride(c, n));
}

static float *gradient(const testcase *c, size_t *ld)
{
    size_t i = c->flags == IN_PLACE ? 1 : 2;
    *ld = c->operands[i].ld;
    return f32(c, i);
}

static void layernorm_backward_shape(testcase *c)
{
    gradient_shape(c, 3);
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, INPUT_AND_OUTPUT, F32, 1, c->n[0], c->n[0]);
    add_operand(c, INPUT_AND_OUTPUT, F32, 1, c->n[0], c->n[0]);
    bool normed = draw(c) % 2;
    add_operand(c, IN, F32, 1, normed ? c->n[0] : 0, c->n[0]);
    add_operand(c, OUT, F32, normed ? c->n[1] : 0, c->n[0], stride(c, c->n[0]));
}

static void layernorm_backward_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t lddx;
    float *dx = gradient(c, &lddx), *normed = c->operands[7].rows ? f32(c, 7) : NULL;
    ((tacit_layernorm_backward_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld,
                                                f32(c, 3), f32(c, 6), c->value, f32(c, 1),
                                                c->operands[1].ld, dx, lddx, c->flags == MORE,
                                                f32(c, 4), f32(c, 5), normed, c->operands[7].ld);
}

static void sum_rows_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 500, 40 });
    c->flags = draw(c) % 2;
    add_operand(c, IN, F32, c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, c->flags ? INPUT_AND_OUTPUT : OUT, F32, 1, c->n[0], c->n[0]);
}

static void sum_rows_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_sum_rows_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld, c->flags != 0,
                                      f32(c, 1));
}

static void l2norm_backward_shape(testcase *c)
{
    gradient_shape(c, 2);
}

static void l2norm_backward_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t lddx;
    float *dx = gradient(c, &lddx);
    ((tacit_l2norm_backward_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld,
                                             f32(c, 1), c->operands[1].ld, dx, lddx);
}

static void soft_cross_entropy_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 2500, 6 });
    size_t n = c->n[0] += !c->n[0], rows = c->n[1] %= 7;
    for (size_t i = 0; i < 3; i++)
        add_operand(c, i < 2 ? IN : OUT, F32, rows, n, stride(c, n));
    add_operand(c, OUT, F32, 1, rows, rows);
}

static void soft_cross_entropy_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_soft_cross_entropy_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld,
                                                f32(c, 1), c->operands[1].ld, f32(c, 2),
                                                c->operands[2].ld, f32(c, 3));
}

/* Operands 0 to 3 are mean, rstd, gamma, beta, 4 is x. */
static void batchnorm_operands(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 500, 40 });
    c->flags = draw(c) % 8; /* 1: relu, 2: in place, 4: with something beside */
    for (size_t i = 0; i < 4; i++)
        add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, IN, F32, c->n[1], c->n[0], stride(c, c->n[0]));
}

static tacit_batchnorm batchnorm_of(const testcase *c)
{
    return (tacit_batchnorm){ f32(c, 0), f32(c, 1), f32(c, 2), f32(c, 3), c->flags & 1 };
}

static void moments_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 500, 40 });
    add_operand(c, IN, F32, c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, INPUT_AND_OUTPUT, F64, 1, c->n[0], c->n[0]);
    add_operand(c, INPUT_AND_OUTPUT, F64, 1, c->n[0], c->n[0]);
}

static void moments_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_moments_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld, f64(c, 1),
                                     f64(c, 2));
}

static void batchnorm_shape(testcase *c)
{
    batchnorm_operands(c);
    if (c->flags & 2)
        c->operands[4].role = INPUT_AND_OUTPUT;
    add_operand(c, OUT, F32, c->flags & 2 ? 0 : c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, IN, F32, c->flags & 4 ? c->n[1] : 0, c->n[0], stride(c, c->n[0]));
}

static void batchnorm_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    tacit_batchnorm norm = batchnorm_of(c);
    size_t to = c->flags & 2 ? 4 : 5;
    ((tacit_batchnorm_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 4), c->operands[4].ld, &norm,
                                       c->flags & 4 ? f32(c, 6) : NULL, c->operands[6].ld,
                                       f32(c, to), c->operands[to].ld);
}

static void batchnorm_sums_shape(testcase *c)
{
    batchnorm_operands(c);
    add_operand(c, IN, F32, c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, INPUT_AND_OUTPUT, F64, 1, c->n[0], c->n[0]);
    add_operand(c, INPUT_AND_OUTPUT, F64, 1, c->n[0], c->n[0]);
}

static void batchnorm_sums_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    tacit_batchnorm norm = batchnorm_of(c);
    ((tacit_batchnorm_sums_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 4), c->operands[4].ld, &norm,
                                            f32(c, 5), c->operands[5].ld, f64(c, 6), f64(c, 7));
}

static void batchnorm_backward_shape(testcase *c)
{
    batchnorm_operands(c);
    add_operand(c, c->flags & 2 ? INPUT_AND_OUTPUT : IN, F32, c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, IN, F32, 2, c->n[0], c->n[0]);
    add_operand(c, OUT, F32, c->flags & 2 ? 0 : c->n[1], c->n[0], stride(c, c->n[0]));
}

static void batchnorm_backward_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    tacit_batchnorm norm = batchnorm_of(c);
    size_t to = c->flags & 2 ? 5 : 7;
    ((tacit_batchnorm_backward_f32_fn *)kernel)(
        c->n[1], c->n[0], f32(c, 4), c->operands[4].ld, &norm, f32(c, 5), c->operands[5].ld,
        f32(c, 6), f32(c, 6) + c->n[0], f32(c, to), c->operands[to].ld);
}

/* x, dy, y, dx; with flags 1 y is x, with 2 dx is dy. */
static void gelu_backward_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    size_t n = c->n[0];
    c->flags = draw(c) % 4;
    add_operand(c, c->flags & 1 ? INPUT_AND_OUTPUT : IN, F32, 1, n, n);
    add_operand(c, c->flags & 2 ? INPUT_AND_OUTPUT : IN, F32, 1, n, n);
    add_operand(c, OUT, F32, 1, c->flags & 1 ? 0 : n, n);
    add_operand(c, OUT, F32, 1, c->flags & 2 ? 0 : n, n);
}

static void gelu_backward_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_gelu_backward_f32_fn *)kernel)(
        c->n[0], f32(c, 0), f32(c, 1), f32(c, c->flags & 1 ? 0 : 2), f32(c, c->flags & 2 ? 1 : 3));
}

/* x, y, z, of which z is x (1), y (2) or its own; with 3 there is no y. */
static void two_and_result(testcase *c, unsigned ways)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    size_t n = c->n[0];
    c->flags = draw(c) % ways;
    c->value = (float)(int32_t)draw(c) * 0x1p-30f;
    add_operand(c, c->flags == 1 ? INPUT_AND_OUTPUT : IN, F32, 1, n, n);
    add_operand(c, c->flags == 2 ? INPUT_AND_OUTPUT : IN, F32, 1, n, n);
    add_operand(c, OUT, F32, 1, c->flags % 3 ? 0 : n, n);
}

static void scale_add_shape(testcase *c)
{
    two_and_result(c, 4);
}

static float *in_place(const testcase *c)
{
    return f32(c, c->flags % 3 ? c->flags - 1 : 2);
}

static void scale_add_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_scale_add_f32_fn *)kernel)(c->n[0], f32(c, 0), c->value,
                                       c->flags == 3 ? NULL : f32(c, 1), in_place(c));
}

static void squared_error_shape(testcase *c)
{
    two_and_result(c, 3);
    add_operand(c, OUT, F64, 1, 1, 1);
}

static void squared_error_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    *f64(c, 3) = ((tacit_squared_error_f32_fn *)kernel)(c->n[0], f32(c, 0), f32(c, 1), c->value,
                                                        in_place(c));
}

/* Some terms of some windows, beginning anywhere. */
static void conv_windows_shape(testcase *c)
{
    static const size_t kernels[] = { 1, 2, 3, 3, 5, 7 };
    sizes(c, 2, (const size_t[]){ 70, 40 });
    size_t m = c->n[0], images = 1 + below(c, 3);
    c->conv = any_conv(c, 8, c->n[1] + !c->n[1], kernels[below(c, 6)], 1 + below(c, 3));
    size_t all = images * c->conv.rows * c->conv.columns;
    size_t k = c->conv.kernel * c->conv.kernel * c->conv.channels;
    c->n[0] = m = m < all ? m : all;
    c->first = below(c, all - m + 1);
    c->n[1] = below(c, k + 1);           /* p  */
    c->n[2] = below(c, k - c->n[1] + 1); /* kc */
    add_pixels(c, &c->conv, images);
    add_operand(c, OUT, F32, m, c->n[2], c->n[2]);
}

static void conv_windows_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_conv_windows_f32_fn *)kernel)(&c->conv, c->first, c->n[0], c->n[1], c->n[2], f32(c, 0),
                                          f32(c, 1));
}

static void conv_scatter_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 70 });
    c->conv = any_conv(c, 9, c->n[0] + !c->n[0], 1 + below(c, 5), 1 + below(c, 3));
    size_t k = c->conv.kernel * c->conv.kernel * c->conv.channels;
    add_operand(c, IN, F32, c->conv.rows * c->conv.columns, k, stride(c, k));
    add_operand(c, OUT, F32, c->conv.height * c->conv.width, c->conv.channels, c->conv.ldx);
}

static void conv_scatter_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_conv_scatter_f32_fn *)kernel)(&c->conv, f32(c, 0), c->operands[0].ld, f32(c, 1));
}

/* n[0]: rows, n[1]: windows, n[2]: the side of a tile. The nine places of a window lie `tap` apart.
 */
static size_t winograd_weights_sizes(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 9, 90 });
    c->n[2] = 2 + 2 * below(c, 2);
    c->flags = draw(c) % 2; /* turned */
    return (c->n[2] + 2) * (c->n[2] + 2);
}

static void winograd_weights_shape(testcase *c)
{
    size_t products = winograd_weights_sizes(c);
    add_operand(c, IN, F32, 9 * c->n[0], c->n[1], stride(c, c->n[1]));
    add_operand(c, OUT, F32, products * c->n[0], c->n[1], stride(c, c->n[1]));
}

static void winograd_weights_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t tap = c->operands[0].ld, ld = c->operands[1].ld;
    ((tacit_winograd_weights_f32_fn *)kernel)(c->n[2], c->n[0], c->n[1], f32(c, 0), 9 * tap, tap,
                                              c->flags != 0, f32(c, 1), ld, c->n[0] * ld);
}

static void winograd_weights_backward_shape(testcase *c)
{
    size_t products = winograd_weights_sizes(c);
    add_operand(c, IN, F32, products * c->n[0], c->n[1], stride(c, c->n[1]));
    add_operand(c, INPUT_AND_OUTPUT, F32, 9 * c->n[0], c->n[1], stride(c, c->n[1]));
}

static void winograd_weights_backward_run(const testcase *c, const tacit_kernels *kernels,
                                          any_fn *kernel)
{
    (void)kernels;
    size_t ld = c->operands[0].ld, tap = c->operands[1].ld;
    ((tacit_winograd_weights_backward_f32_fn *)kernel)(c->n[2], c->n[0], c->n[1], f32(c, 0), ld,
                                                       c->n[0] * ld, f32(c, 1), 9 * tap, tap);
}

static void winograd_output_backward_shape(testcase *c)
{
    size_t images = winograd_shape(c), products = (c->n[2] + 2) * (c->n[2] + 2), n = c->n[1];
    add_operand(c, IN, F32, images * c->conv.rows * c->conv.columns, n, stride(c, n));
    add_operand(c, OUT, F32, products * c->n[0], n, stride(c, n));
}

static void winograd_output_backward_run(const testcase *c, const tacit_kernels *kernels,
                                         any_fn *kernel)
{
    (void)kernels;
    size_t ld = c->operands[1].ld;
    ((tacit_winograd_output_backward_f32_fn *)kernel)(&c->conv, c->n[2], c->first, c->n[0], c->n[1],
                                                      f32(c, 0), c->operands[0].ld, f32(c, 1), ld,
                                                      c->n[0] * ld);
}

static void maxpool_backward_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 70 });
    c->conv = any_conv(c, 9, c->n[0] + !c->n[0], 1 + below(c, 4), 1 + below(c, 3));
    size_t channels = c->conv.channels;
    add_pixels(c, &c->conv, 1);
    add_operand(c, IN, F32, c->conv.rows * c->conv.columns, channels, stride(c, channels));
    add_operand(c, OUT, F32, c->conv.height * c->conv.width, channels, c->conv.ldx);
}

static void maxpool_backward_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_maxpool_backward_f32_fn *)kernel)(&c->conv, f32(c, 0), f32(c, 1), c->operands[1].ld,
                                              f32(c, 2));
}

static void relu_backward_shape(testcase *c)
{
    two_and_result(c, 3);
    if (c->flags == 1) { /* dx is never y */
        c->operands[0].role = IN;
        c->operands[2].cols = c->n[0];
        c->flags = 0;
    }
}

static void relu_backward_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_relu_backward_f32_fn *)kernel)(c->n[0], f32(c, 0), f32(c, 1), in_place(c));
}

static void steps_shape(testcase *c, size_t states)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->flags = draw(c) % 2;
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    for (size_t i = 0; i < states; i++)
        add_operand(c, INPUT_AND_OUTPUT, F32, 1, c->n[0], c->n[0]);
}

static float coefficient(const testcase *c, uint64_t i)
{
    return tacit_rng_uniform(seed, stream(c, VALUES + MOST), i);
}

static void sgd_shape(testcase *c)
{
    steps_shape(c, 2);
}

static void sgd_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    tacit_sgd sgd = { coefficient(c, 0), coefficient(c, 1), coefficient(c, 2), coefficient(c, 3),
                      c->flags != 0 };
    ((tacit_sgd_f32_fn *)kernel)(c->n[0], &sgd, f32(c, 0), f32(c, 1), f32(c, 2));
}

static void adamw_shape(testcase *c)
{
    steps_shape(c, 3);
}

static void adamw_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    tacit_adamw adamw =
        tacit_adamw_step((double)coefficient(c, 0), (double)coefficient(c, 1), 0.9,
                         c->flags ? 0.95 : 0.999, 1e-8, 1 + tacit_rng_u32(seed, 9, c->number) % 50);
    ((tacit_adamw_f32_fn *)kernel)(c->n[0], &adamw, f32(c, 0), f32(c, 1), f32(c, 2), f32(c, 3));
}

static void ema_shape(testcase *c)
{
    steps_shape(c, 1);
}

static void ema_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_ema_f32_fn *)kernel)(c->n[0], coefficient(c, 0), f32(c, 0), f32(c, 1));
}

#endif
