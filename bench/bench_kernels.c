/* bench_kernels.c - every row of kernels.inc on every ISA, and Linear layers on the pool.
 *
 * A row's function sets up one call at a size that a ViT-B (or its preprocessing) has, and says
 * what the call does: FLOPs, held against the FMA rate of that ISA, or bytes, held against a copy
 * of as many. Either bound is that of the row's comment in kernels.h.
 */
#include "bench.h"
#include "kernels.h"
#include "linear.h"
#include "measure.h"
#include "mem.h"
#include "rng.h"

#include <string.h>

#define ROUNDS 15
#define SLICE  0.004 /* seconds */

/* A call: sizes, and blocks of memory with room for every case. */
typedef struct call call;
struct call {
    const tacit_kernels *k;
    tacit_pool *pool;
    const char *shape;
    double flops, bytes;
    size_t m, n, d;
    float *a, *b, *c; /* BLOCK floats each, a and b filled with values in [-1, 1) */
    tacit_linear layer;
    void (*run)(call *);
};

#define BLOCK ((size_t)4 << 20)

/* The rows ------------------------------------------------------------------------------------ */

static void run_gemm_pack_f32(call *c)
{
    c->k->gemm_pack_f32(c->n, c->d, c->b, c->d, c->c);
}

static void bench_gemm_pack_f32(call *c)
{
    c->shape = "(768, 768)";
    c->n = c->d = 768;
    c->bytes = 8.0 * 768 * 768;
    c->run = run_gemm_pack_f32;
}

static void run_gemm_f32(call *c)
{
    c->k->gemm_f32(c->m, c->n, c->d, c->a, c->d, c->b, c->c, c->n, NULL);
}

static void bench_gemm_f32(call *c)
{
    c->shape = "98 x 128 x 768, warm";
    c->m = 98;
    c->n = 128;
    c->d = 768;
    c->flops = 2.0 * 98 * 128 * 768;
    c->run = run_gemm_f32;
}

static void run_gemm_tn_f32(call *c)
{
    c->k->gemm_tn_f32(c->m, c->n, c->d, c->a, c->m, c->b, c->n, c->c, c->n, true,
                      c->c + c->m * c->n);
}

static void bench_gemm_tn_f32(call *c)
{
    c->shape = "196 x 192 x 384, warm";
    c->m = 196;
    c->n = 192;
    c->d = 384;
    c->flops = 2.0 * 196 * 192 * 384;
    c->run = run_gemm_tn_f32;
}

static void run_dot_f64(call *c)
{
    volatile double sum = c->k->dot_f64(c->n, c->a, c->b);
    (void)sum;
}

static void bench_dot_f64(call *c)
{
    c->shape = "65536";
    c->n = 65536;
    c->bytes = 8.0 * 65536;
    c->run = run_dot_f64;
}

static void run_attention_f32(call *c)
{
    c->k->attention_f32(c->m, c->m, c->d, c->a, c->a + c->d, c->a + 2 * c->d, c->n, 0.125f, NULL, 0,
                        c->c, c->d, c->b);
}

static void bench_attention_f32(call *c)
{
    c->shape = "197 tokens, head of 64";
    c->m = 197;
    c->d = 64;
    c->n = 2304 + 16;
    c->flops = 4.0 * 197 * 197 * 64;
    c->run = run_attention_f32;
}

static void run_layernorm_f32(call *c)
{
    c->k->layernorm_f32(c->m, c->n, c->a, c->n, c->b, c->b + c->n, 1e-6f, c->c, c->n);
}

static void bench_layernorm_f32(call *c)
{
    c->shape = "197 x 768";
    c->m = 197;
    c->n = 768;
    c->bytes = 8.0 * 197 * 768;
    c->run = run_layernorm_f32;
}

static void run_softmax_f32(call *c)
{
    c->k->softmax_f32(c->m, c->n, c->a, c->n, 0.125f, c->c, c->n);
}

static void bench_softmax_f32(call *c)
{
    c->shape = "197 x 197";
    c->m = c->n = 197;
    c->bytes = 8.0 * 197 * 197;
    c->run = run_softmax_f32;
}

static void run_cross_entropy_f32(call *c)
{
    static const uint32_t labels[197];
    c->k->cross_entropy_f32(c->m, c->n, c->a, c->n, labels, c->c, c->n, c->c + c->m * c->n);
}

static void bench_cross_entropy_f32(call *c)
{
    c->shape = "197 x 1000";
    c->m = 197;
    c->n = 1000;
    c->bytes = 8.0 * 197 * 1000;
    c->run = run_cross_entropy_f32;
}

static void run_l2norm_f32(call *c)
{
    c->k->l2norm_f32(c->m, c->n, c->a, c->n, c->c, c->n);
}

static void bench_l2norm_f32(call *c)
{
    c->shape = "197 x 768";
    c->m = 197;
    c->n = 768;
    c->bytes = 8.0 * 197 * 768;
    c->run = run_l2norm_f32;
}

static void run_mean_rows_f32(call *c)
{
    c->k->mean_rows_f32(c->m, c->n, c->a, c->n, c->c);
}

static void bench_mean_rows_f32(call *c)
{
    c->shape = "196 x 768";
    c->m = 196;
    c->n = 768;
    c->bytes = 4.0 * 196 * 768;
    c->run = run_mean_rows_f32;
}

static void run_gelu_f32(call *c)
{
    c->k->gelu_f32(c->n, c->a, c->c);
}

static void bench_gelu_f32(call *c)
{
    c->shape = "65536";
    c->n = 65536;
    c->bytes = 8.0 * 65536;
    c->run = run_gelu_f32;
}

static void run_swish_f32(call *c)
{
    c->k->swish_f32(c->n, 1.0f, c->a, c->b, c->c);
}

static void bench_swish_f32(call *c)
{
    c->shape = "65536";
    c->n = 65536;
    c->bytes = 12.0 * 65536;
    c->run = run_swish_f32;
}

static void run_add_f32(call *c)
{
    c->k->add_f32(c->n, c->a, c->b, c->c);
}

static void bench_add_f32(call *c)
{
    c->shape = "65536";
    c->n = 65536;
    c->bytes = 12.0 * 65536;
    c->run = run_add_f32;
}

static void run_above_f32(call *c)
{
    volatile size_t count = c->k->above_f32(c->n, c->a, 0.999f, (uint32_t *)(void *)c->c);
    (void)count;
}

static void bench_above_f32(call *c)
{
    c->shape = "65536, 1 of 2000 found";
    c->n = 65536;
    c->bytes = 4.0 * 65536;
    c->run = run_above_f32;
}

#define CONVERSION(slot, from_type, to_type)                                                       \
    static void run_##slot(call *c)                                                                \
    {                                                                                              \
        c->k->slot(c->n, (from_type *)(void *)c->a, (to_type *)(void *)c->c);                      \
    }                                                                                              \
    static void bench_##slot(call *c)                                                              \
    {                                                                                              \
        c->shape = "65536";                                                                        \
        c->n = 65536;                                                                              \
        c->bytes = 6.0 * 65536;                                                                    \
        c->run = run_##slot;                                                                       \
    }
CONVERSION(f16_to_f32, uint16_t, float)
CONVERSION(f32_to_f16, float, uint16_t)
CONVERSION(bf16_to_f32, uint16_t, float)
CONVERSION(f32_to_bf16, float, uint16_t)

static void run_patchify_f32(call *c)
{
    c->k->patchify_f32(224, 224, 16, c->a, (size_t)224 * 224, c->c, 784);
}

static void bench_patchify_f32(call *c)
{
    c->shape = "224 x 224, patch 16";
    c->bytes = 8.0 * 3 * 224 * 224;
    c->run = run_patchify_f32;
}

static void run_hog_f32(call *c)
{
    c->k->hog_f32(224, 224, 8, c->a, 224, c->c, TACIT_HOG_BINS);
}

static void bench_hog_f32(call *c)
{
    c->shape = "224 x 224, cells of 8";
    c->bytes = 4.0 * 224 * 224;
    c->run = run_hog_f32;
}

static void run_transpose_u8(call *c)
{
    c->k->transpose_u8(c->m, c->n, (uint8_t *)c->a, c->n, (uint8_t *)c->c, c->m);
}

static void bench_transpose_u8(call *c)
{
    c->shape = "375 x 1500";
    c->m = 375;
    c->n = 1500;
    c->bytes = 2.0 * 375 * 1500;
    c->run = run_transpose_u8;
}

/* 500 rows to 341, four taps of a bicubic: about what the longer side of a photo gets. */
static void run_resample_u8(call *c)
{
    static const int16_t weights[8] = { 256, 768, 0, 0, 768, 256, 0, 0 };
    tacit_taps taps[341];
    for (size_t i = 0; i < c->m; i++)
        taps[i] = (tacit_taps){ i * 496 / 341, 4, weights };
    c->k->resample_u8(c->m, taps, c->n, (uint8_t *)c->a, c->n, (uint8_t *)c->c, c->n);
}

static void bench_resample_u8(call *c)
{
    c->shape = "500 to 341 rows of 375, 4 taps";
    c->m = 341;
    c->n = 375;
    c->bytes = 841.0 * 375;
    c->run = run_resample_u8;
}

/* One row of 500 pixels from five: about what a photo gets on its way to 256. */
static void run_weighted_rows_u8(call *c)
{
    static const float weights[5] = { 0.1f, 0.2f, 0.4f, 0.2f, 0.1f };
    c->k->weighted_rows_u8(c->m, weights, c->n, (uint8_t *)c->a, c->n, c->c);
}

static void bench_weighted_rows_u8(call *c)
{
    c->shape = "5 rows of 1500";
    c->m = 5;
    c->n = 1500;
    c->flops = 2.0 * 5 * 1500;
    c->run = run_weighted_rows_u8;
}

static void run_normalize_u8(call *c)
{
    static tacit_normalize normalize; /* the same values from every caller */
    const float mean[3] = { 0.485f, 0.456f, 0.406f }, std[3] = { 0.229f, 0.224f, 0.225f };
    if (normalize.std[0] == 0)
        tacit_normalize_init(&normalize, mean, std);
    c->k->normalize_u8(c->n, (uint8_t *)c->a, c->n, &normalize, c->c, c->n);
}

static void bench_normalize_u8(call *c)
{
    c->shape = "3 x 50176";
    c->n = 50176;
    c->bytes = 15.0 * 50176;
    c->run = run_normalize_u8;
}

#include "bench_kernels_colour.h"
#include "bench_kernels_conv.h"
#include "bench_kernels_train.h"

/* Measuring ----------------------------------------------------------------------------------- */

static double seconds_a_call(call *c)
{
    double start = tacit_now(), now;
    size_t calls = 0;
    do {
        c->run(c);
        calls++;
        now = tacit_now();
    } while (now - start < SLICE);
    return (now - start) / (double)calls;
}

static void print_row(const tacit_bench_options *o, FILE *out, const char *name, const call *c,
                      unsigned threads, double seconds, double limit, double share)
{
    bool flops = c->flops > 0;
    double rate = (flops ? c->flops : c->bytes) / seconds * 1e-9;
    const char *isa = tacit_isa_name(c->k->isa), *unit = flops ? "GFLOP/s" : "GB/s";
    if (o->json)
        fprintf(out,
                "{\"kernel\":\"%s\",\"shape\":\"%s\",\"isa\":\"%s\",\"threads\":%u,"
                "\"time_s\":%.9g,\"%s\":%.4g,\"limit\":%.4g,\"share\":%.4g}\n",
                name, c->shape, isa, threads, seconds, flops ? "gflops" : "gbytes_s", rate, limit,
                share);
    else if (limit > 0)
        fprintf(out, "%-22s %-32s %-7s %2u %11.3f %9.2f %-8s %6.1f %%\n", name, c->shape, isa,
                threads, seconds * 1e6, rate, unit, 100 * share);
    else
        fprintf(out, "%-22s %-32s %-7s %2u %11.3f %9.2f %-8s      -\n", name, c->shape, isa,
                threads, seconds * 1e6, rate, unit);
    fflush(out);
}

/* One row on one ISA: the limit and the kernel take turns. */
static void measure(const tacit_bench_options *o, FILE *out, const char *name, call *c,
                    unsigned threads)
{
    double seconds[64], limits[64], shares[64];
    size_t rounds = o->rounds ? o->rounds : ROUNDS;
    if (rounds > 64)
        rounds = 64;
    c->run(c);
    for (size_t r = 0; r < rounds; r++) {
        limits[r] = c->flops > 0 ? tacit_fma_limit(c->k->isa, c->pool, SLICE)
                                 : tacit_copy_limit(c->a, (size_t)c->bytes, SLICE);
        seconds[r] = seconds_a_call(c);
        double rate = (c->flops > 0 ? c->flops : c->bytes) / seconds[r] * 1e-9;
        shares[r] = limits[r] > 0 ? rate / limits[r] : 0;
    }
    print_row(o, out, name, c, threads, tacit_quantile(seconds, rounds, 0.5),
              tacit_quantile(limits, rounds, 0.5), tacit_quantile(shares, rounds, 0.5));
}

static const struct {
    const char *name;
    void (*set_up)(call *);
} kernel_rows[] = {
#define TACIT_KERNEL(slot, class, cases) { #slot, bench_##slot },
#include "kernels.inc"
#undef TACIT_KERNEL
};

static void run_linear(call *c)
{
    tacit_linear_forward(&c->layer, c->k, 0, c->m, c->a, c->layer.in + 16, c->c, c->layer.out + 16,
                         NULL, c->pool);
}

/* The products of ViT-Ti, S, B and L for one image: (out, in) of qkv, proj, fc1, fc2. */
static const size_t vit_layers[][2] = {
    { 576, 192 },   { 192, 192 },   { 768, 192 },   { 192, 768 },   { 1152, 384 }, { 384, 384 },
    { 1536, 384 },  { 384, 1536 },  { 2304, 768 },  { 768, 768 },   { 3072, 768 }, { 768, 3072 },
    { 3072, 1024 }, { 1024, 1024 }, { 4096, 1024 }, { 1024, 4096 },
};

static void bench_linear(const tacit_bench_options *o, FILE *out, call *c, unsigned threads)
{
    for (size_t i = 0; i < sizeof vit_layers / sizeof *vit_layers; i++) {
        size_t n = vit_layers[i][0], k = vit_layers[i][1];
        char shape[64];
        snprintf(shape, sizeof shape, "197 x %zu x %zu", n, k);
        c->shape = shape;
        c->m = 197;
        c->flops = 2.0 * 197 * (double)n * (double)k;
        c->bytes = 0;
        c->layer = (tacit_linear){ .in = k, .out = n, .packed = c->b, .bias = c->a };
        c->run = run_linear;
        measure(o, out, "linear", c, threads);
    }
}

tacit_status tacit_bench_kernels(const tacit_bench_options *o, FILE *out, tacit_err *err)
{
    tacit_threads threads;
    tacit_pool *pool = NULL;
    tacit_isa used;
    tacit_status st = tacit_threads_select(o->threads, &threads, err);
    if (st < 0 || (st = tacit_isa_select(NULL, &used, err)) < 0)
        return st;
    tacit_arena arena = { 0 };
    size_t total = 0;
    for (int i = 0; i < 3; i++)
        tacit_arena_plan(&total, BLOCK + BLOCK / 2, sizeof(float));
    if ((st = tacit_arena_open(&arena, total, err)) < 0 ||
        (st = tacit_pool_open(&pool, threads.use, err)) < 0)
        goto end;
    call base = { 0 };
    base.a = tacit_arena_take(&arena, BLOCK + BLOCK / 2, sizeof(float));
    base.b = tacit_arena_take(&arena, BLOCK + BLOCK / 2, sizeof(float));
    base.c = tacit_arena_take(&arena, BLOCK + BLOCK / 2, sizeof(float));
    for (size_t i = 0; i < BLOCK + BLOCK / 2; i++) {
        base.a[i] = tacit_rng_uniform(1, 0, i) * 2 - 1;
        base.b[i] = tacit_rng_uniform(1, 1, i) * 2 - 1;
        base.c[i] = 0;
    }
    if (!o->json)
        fprintf(out, "%-22s %-32s %-7s %2s %11s %9s %-8s %8s\n", "kernel", "shape", "isa", "T",
                "us", "rate", "", "of limit");
    for (size_t i = 0; i < sizeof kernel_rows / sizeof *kernel_rows; i++)
        for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++) {
            if (!tacit_isa_available((tacit_isa)isa) ||
                (o->filter && !strstr(kernel_rows[i].name, o->filter)))
                continue;
            call c = base;
            c.k = tacit_kernels_for((tacit_isa)isa);
            kernel_rows[i].set_up(&c);
            measure(o, out, kernel_rows[i].name, &c, 1);
        }
    if (used != TACIT_ISA_REF && (!o->filter || strstr("linear", o->filter))) {
        call c = base;
        c.k = tacit_kernels_for(used);
        bench_linear(o, out, &c, 1);
        c.pool = pool;
        if (tacit_pool_threads(pool) > 1)
            bench_linear(o, out, &c, tacit_pool_threads(pool));
    }
end:
    tacit_pool_close(&pool);
    tacit_arena_close(&arena);
    return st;
}
