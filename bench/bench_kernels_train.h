/* bench_kernels_train.h - the rows of the training kernels; a part of bench_kernels.c. */
#ifndef TACIT_BENCH_KERNELS_TRAIN_H
#define TACIT_BENCH_KERNELS_TRAIN_H

static void run_gemm_pack_t_f32(call *c)
{
    c->k->gemm_pack_t_f32(c->n, c->d, c->b, c->n, c->c);
}

static void bench_gemm_pack_t_f32(call *c)
{
    c->shape = "(96, 192)";
    c->n = 96;
    c->d = 192;
    c->bytes = 8.0 * 96 * 192;
    c->run = run_gemm_pack_t_f32;
}

static void run_attention_backward_f32(call *c)
{
    float *scratch = c->c + c->m * c->n;
    c->k->attention_backward_f32(c->m, c->d, c->a, c->a + c->d, c->a + 2 * c->d, c->n, 0.125f, NULL,
                                 NULL, 0, c->b, c->d, c->c, c->c + c->d, c->c + 2 * c->d, c->n,
                                 scratch);
}

static void bench_attention_backward_f32(call *c)
{
    c->shape = "197 tokens, head of 64";
    c->m = 197;
    c->d = 64;
    c->n = 1152 + 16;
    c->flops = 10.0 * 197 * 197 * 64;
    c->run = run_attention_backward_f32;
}

#define ROWS_OF_768(slot, moved, statement)                                                        \
    static void run_##slot(struct call *c)                                                         \
    {                                                                                              \
        const size_t n = 768, rows = 24, size = n * rows;                                          \
        const tacit_batchnorm norm = { c->a, c->a + n, c->a + 2 * n, c->a + 3 * n, true };         \
        double *sums = (double *)(void *)(c->c + size);                                            \
        (void)size, (void)norm, (void)sums;                                                        \
        statement;                                                                                 \
    }                                                                                              \
    static void bench_##slot(struct call *c)                                                       \
    {                                                                                              \
        c->shape = "24 x 768";                                                                     \
        c->bytes = (moved)*24 * 768;                                                               \
        c->run = run_##slot;                                                                       \
    }
ROWS_OF_768(layernorm_backward_f32, 16.0,
            c->k->layernorm_backward_f32(rows, n, c->a, n, c->b, NULL, 1e-6f, c->a + size, n, c->c,
                                         n, true, c->c + size, c->c + size + n, NULL, 0))
ROWS_OF_768(sum_rows_f32, 4.0, c->k->sum_rows_f32(rows, n, c->a, n, false, c->c))
ROWS_OF_768(l2norm_backward_f32, 12.0,
            c->k->l2norm_backward_f32(rows, n, c->a, n, c->b, n, c->c, n))
ROWS_OF_768(soft_cross_entropy_f32, 12.0,
            c->k->soft_cross_entropy_f32(rows, n, c->a, n, c->b, n, c->c, n, c->c + size))
ROWS_OF_768(moments_f32, 4.0, c->k->moments_f32(rows, n, c->a, n, sums, sums + n))
ROWS_OF_768(batchnorm_f32, 8.0, c->k->batchnorm_f32(rows, n, c->a, n, &norm, NULL, 0, c->c, n))
ROWS_OF_768(batchnorm_sums_f32, 8.0,
            c->k->batchnorm_sums_f32(rows, n, c->a, n, &norm, c->b, n, sums, sums + n))
ROWS_OF_768(batchnorm_backward_f32, 12.0,
            c->k->batchnorm_backward_f32(rows, n, c->a, n, &norm, c->b, n, c->b, c->b + n, c->c, n))

/* A 3 x 3 layer of ResNet-50 with stride 2, and the pooling behind its stem. */
static void run_conv_windows_f32(call *c)
{
    c->k->conv_windows_f32(&bench_stride2, 0, 96, 0, 192, c->a, c->c);
}

static void bench_conv_windows_f32(call *c)
{
    c->shape = "96 x 192 of 3 x 3 / 2";
    c->bytes = 8.0 * 96 * 192;
    c->run = run_conv_windows_f32;
}

static void run_winograd_weights_f32(call *c)
{
    c->k->winograd_weights_f32(4, 16, 64, c->a, 9 * 64, 64, false, c->c, 64, 16 * 64 + 16);
}

static void bench_winograd_weights_f32(call *c)
{
    c->shape = "16 x 64 windows, tiles of 4 x 4";
    c->bytes = 4.0 * 16 * 64 * (9 + 36);
    c->run = run_winograd_weights_f32;
}

static void run_winograd_weights_backward_f32(call *c)
{
    c->k->winograd_weights_backward_f32(4, 16, 64, c->a, 64, 16 * 64 + 16, c->c, 9 * 64, 64);
}

static void bench_winograd_weights_backward_f32(call *c)
{
    c->shape = "16 x 64 windows, tiles of 4 x 4";
    c->bytes = 4.0 * 16 * 64 * (18 + 36);
    c->run = run_winograd_weights_backward_f32;
}

static void run_winograd_output_backward_f32(call *c)
{
    c->k->winograd_output_backward_f32(&bench_tiles, 4, 14, 14, 64, c->a, 64, c->c, 64, 14 * 64);
}

static void bench_winograd_output_backward_f32(call *c)
{
    c->shape = "14 tiles of 4 x 4, 64 channels";
    c->bytes = 4.0 * 14 * 64 * (16 + 36);
    c->run = run_winograd_output_backward_f32;
}

static void run_conv_scatter_f32(call *c)
{
    c->k->conv_scatter_f32(&bench_stride2, c->a, 1152, c->c);
}

static void bench_conv_scatter_f32(call *c)
{
    c->shape = "56 x 56 x 128 of 3 x 3 / 2";
    c->bytes = 4.0 * (28 * 28 * 1152 + 56 * 56 * 128);
    c->run = run_conv_scatter_f32;
}

static void run_maxpool_backward_f32(call *c)
{
    c->k->maxpool_backward_f32(&bench_pool, c->a, c->b, 64, c->c);
}

static void bench_maxpool_backward_f32(call *c)
{
    c->shape = "112 x 112 x 64, 3 x 3 / 2";
    c->bytes = 4.0 * 64 * (2 * 112 * 112 + 56 * 56);
    c->run = run_maxpool_backward_f32;
}

/* Of parameters: more than the caches hold. */
#define MANY ((size_t)1 << 20)
#define ELEMENTS(slot, count, name, moved, statement)                                              \
    static void run_##slot(struct call *c)                                                         \
    {                                                                                              \
        static const tacit_sgd sgd = { 1e-3f, 0.9f, 1e-4f, 1, false };                             \
        static const tacit_adamw adamw = { 1, 0.1f, 0.999f, 0.001f, 1e-3f, 1, 1e-8f };             \
        const size_t n = count;                                                                    \
        (void)sgd, (void)adamw;                                                                    \
        statement;                                                                                 \
    }                                                                                              \
    static void bench_##slot(struct call *c)                                                       \
    {                                                                                              \
        c->shape = name;                                                                           \
        c->bytes = (moved) * (double)(count);                                                      \
        c->run = run_##slot;                                                                       \
    }
ELEMENTS(gelu_backward_f32, 8192, "8192", 16.0,
         c->k->gelu_backward_f32(n, c->a, c->b, c->c, c->c + n))
ELEMENTS(relu_backward_f32, 8192, "8192", 12.0, c->k->relu_backward_f32(n, c->a, c->b, c->c))
ELEMENTS(scale_add_f32, 8192, "8192", 12.0, c->k->scale_add_f32(n, c->a, 0.5f, c->b, c->c))
ELEMENTS(squared_error_f32, 8192, "8192", 12.0,
         volatile double sum = c->k->squared_error_f32(n, c->a, c->b, 0.5f, c->c);
         (void)sum)
ELEMENTS(sgd_f32, MANY, "1048576", 20.0, c->k->sgd_f32(n, &sgd, c->a, c->c, c->c + n))
ELEMENTS(adamw_f32, MANY, "1048576", 28.0,
         c->k->adamw_f32(n, &adamw, c->a, c->c, c->c + n, c->c + 2 * n))
ELEMENTS(ema_f32, MANY, "1048576", 12.0, c->k->ema_f32(n, 0.01f, c->a, c->c))

#endif
