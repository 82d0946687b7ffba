/* bench_kernels.c - every row of kernels.inc on every ISA, and Linear layers on the pool.
 *
 * A row's function sets up one call at a size that a ViT-B (or its preprocessing) has, or where
 * that is more than a core's own caches hold, of a part of it, since what lies beyond is shared:
 * its speed is the neighbours' as much as ours. (Not so the optimisers: there is no part of the
 * parameters that is read twice.) It says what the call does: FLOPs, held against the FMA rate of
 * that ISA, or bytes, held against a copy of as many. Either bound is that of the row's comment in
 * kernels.h.
 */
#include "bench.h"
#include "counts.h"
#include "kernels.h"
#include "linear.h"
#include "measure.h"
#include "mem.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 60
#define SLICE  0.00015 /* seconds: mostly shorter than what a scheduler gives, or a slow spell */

/* A call: sizes, and blocks of memory with room for every case. */
typedef struct call call;
struct call {
    const tacit_kernels *k;
    tacit_pool *pool;
    const char *shape;
    double flops, bytes;
    unsigned slower; /* percent of the calls that are made twice: TACIT_BENCH_SLOW */
    size_t m, n, d;
    float *a, *b, *c; /* BLOCK floats each, a and b filled with values in [-1, 1) */
    tacit_linear layer;
    void (*run)(call *);
};

#define BLOCK ((size_t)4 << 20)
#define SHIFT ((size_t)1 << 18) /* floats by which a turn may shift a block */

/* The rows ------------------------------------------------------------------------------------ */

static void run_gemm_pack_f32(call *c)
{
    c->k->gemm_pack_f32(c->n, c->d, c->b, c->d, c->c);
}

static void bench_gemm_pack_f32(call *c)
{
    c->shape = "(96, 192)";
    c->n = 96;
    c->d = 192;
    c->bytes = 8.0 * 96 * 192;
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

static void run_quantise_u8(call *c)
{
    c->k->quantise_u8(c->m, c->n, c->a, c->n, TACIT_INT8_MIDDLE, (uint8_t *)c->c, c->n, c->b);
}

static void bench_quantise_u8(call *c)
{
    c->shape = "8 x 768";
    c->m = 8;
    c->n = 768;
    c->bytes = 5.0 * 8 * 768;
    c->run = run_quantise_u8;
}

/* Of any bits: bytes and scales are. */
static void run_gemm_u8s8(call *c)
{
    c->k->gemm_u8s8(c->m, c->n, c->d, (const uint8_t *)c->a, c->d, c->a, TACIT_INT8_MIDDLE,
                    (const int8_t *)c->b, c->b, (const int32_t *)(const void *)c->b, c->c, c->n,
                    NULL);
}

/* Against the FMA rate of floats: with VNNI the limit is 400 %. */
static void bench_gemm_u8s8(call *c)
{
    c->shape = "98 x 128 x 768, warm";
    c->m = 98;
    c->n = 128;
    c->d = 768;
    c->flops = 2.0 * 98 * 128 * 768;
    c->run = run_gemm_u8s8;
}

static void run_gemm_bf16(call *c)
{
    c->k->gemm_bf16(c->m, c->n, c->d, (const uint16_t *)c->a, c->d, (const uint16_t *)c->b, c->c,
                    c->n, NULL);
}

/* Against the FMA rate of floats: with AVX512_BF16 the limit is 200 %. */
static void bench_gemm_bf16(call *c)
{
    bench_gemm_u8s8(c);
    c->run = run_gemm_bf16;
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
    c->shape = "8192";
    c->n = 8192;
    c->bytes = 8.0 * 8192;
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

static void run_attention_u8s8(call *c)
{
    c->k->attention_u8s8(c->m, c->m, c->d, c->a, c->a + c->d, c->a + 2 * c->d, c->n, 0.125f, NULL,
                         0, c->c, c->d, c->b);
}

static void bench_attention_u8s8(call *c)
{
    bench_attention_f32(c);
    c->run = run_attention_u8s8;
}

static void run_attention_bf16(call *c)
{
    c->k->attention_bf16(c->m, c->m, c->d, c->a, c->a + c->d, c->a + 2 * c->d, c->n, 0.125f, NULL,
                         0, c->c, c->d, c->b);
}

static void bench_attention_bf16(call *c)
{
    bench_attention_f32(c);
    c->run = run_attention_bf16;
}

static void run_layernorm_f32(call *c)
{
    c->k->layernorm_f32(c->m, c->n, c->a, c->n, c->b, c->b + c->n, 1e-6f, c->c, c->n);
}

static void bench_layernorm_f32(call *c)
{
    c->shape = "24 x 768";
    c->m = 24;
    c->n = 768;
    c->bytes = 8.0 * 24 * 768;
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
    static const uint32_t labels[24];
    c->k->cross_entropy_f32(c->m, c->n, c->a, c->n, labels, c->c, c->n, c->c + c->m * c->n);
}

static void bench_cross_entropy_f32(call *c)
{
    c->shape = "24 x 1000";
    c->m = 24;
    c->n = 1000;
    c->bytes = 8.0 * 24 * 1000;
    c->run = run_cross_entropy_f32;
}

static void run_l2norm_f32(call *c)
{
    c->k->l2norm_f32(c->m, c->n, c->a, c->n, c->c, c->n);
}

static void bench_l2norm_f32(call *c)
{
    c->shape = "24 x 768";
    c->m = 24;
    c->n = 768;
    c->bytes = 8.0 * 24 * 768;
    c->run = run_l2norm_f32;
}

static void run_mean_rows_f32(call *c)
{
    c->k->mean_rows_f32(c->m, c->n, c->a, c->n, c->c);
}

static void bench_mean_rows_f32(call *c)
{
    c->shape = "24 x 768";
    c->m = 24;
    c->n = 768;
    c->bytes = 4.0 * 24 * 768;
    c->run = run_mean_rows_f32;
}

static void run_gelu_f32(call *c)
{
    c->k->gelu_f32(c->n, c->a, c->c);
}

static void bench_gelu_f32(call *c)
{
    c->shape = "8192";
    c->n = 8192;
    c->bytes = 8.0 * 8192;
    c->run = run_gelu_f32;
}

static void run_swish_f32(call *c)
{
    c->k->swish_f32(c->n, 1.0f, c->a, c->b, c->c);
}

static void bench_swish_f32(call *c)
{
    c->shape = "8192";
    c->n = 8192;
    c->bytes = 12.0 * 8192;
    c->run = run_swish_f32;
}

static void run_add_f32(call *c)
{
    c->k->add_f32(c->n, c->a, c->b, c->c);
}

static void bench_add_f32(call *c)
{
    c->shape = "8192";
    c->n = 8192;
    c->bytes = 12.0 * 8192;
    c->run = run_add_f32;
}

static void run_above_f32(call *c)
{
    volatile size_t count = c->k->above_f32(c->n, c->a, 0.999f, (uint32_t *)(void *)c->c);
    (void)count;
}

static void bench_above_f32(call *c)
{
    c->shape = "8192, 1 of 2000 found";
    c->n = 8192;
    c->bytes = 4.0 * 8192;
    c->run = run_above_f32;
}

#define CONVERSION(slot, from_type, to_type)                                                       \
    static void run_##slot(call *c)                                                                \
    {                                                                                              \
        c->k->slot(c->n, (from_type *)(void *)c->a, (to_type *)(void *)c->c);                      \
    }                                                                                              \
    static void bench_##slot(call *c)                                                              \
    {                                                                                              \
        c->shape = "8192";                                                                         \
        c->n = 8192;                                                                               \
        c->bytes = 6.0 * 8192;                                                                     \
        c->run = run_##slot;                                                                       \
    }
CONVERSION(f16_to_f32, uint16_t, float)
CONVERSION(f32_to_f16, float, uint16_t)
CONVERSION(bf16_to_f32, uint16_t, float)
CONVERSION(f32_to_bf16, float, uint16_t)

static void run_patchify_f32(call *c)
{
    c->k->patchify_f32(16, 224, 16, c->a, 16 * 224, c->c, 784);
}

static void bench_patchify_f32(call *c)
{
    c->shape = "16 x 224, patch 16";
    c->bytes = 8.0 * 3 * 16 * 224;
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
    c->shape = "375 x 96";
    c->m = 375;
    c->n = 96;
    c->bytes = 2.0 * 375 * 96;
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

#define MOST_ROUNDS 64
#define PASSES      6
#define PASS        0.3 /* seconds that a pass takes at least: slow spells last */
#define MOST_LINES  512

/* A row of the report, and its measurements so far. */
typedef struct line {
    const char *name;
    char shape[64];
    call c;
    tacit_clock *clock;
    double slice; /* seconds of what takes turns: as long as the others, to meet as much */
    size_t calls, rounds, done;
    double seconds[MOST_ROUNDS], fma[MOST_ROUNDS], copy[MOST_ROUNDS];
} line;

typedef struct report {
    const tacit_bench_options *o;
    FILE *out;
    call base; /* its blocks are shifted for each turn */
    line *lines;
    size_t count;
} report;

/* Seconds of a call, of n in a row behind one that warms the caches. A slow-down on purpose goes on
 * for that share of what they took. */
static double seconds_a_call(tacit_clock *clock, call *c, size_t n)
{
    c->run(c);
    double start = clock(), now;
    for (size_t i = 0; i < n; i++)
        c->run(c);
    double end = now = clock();
    while (now < end + (end - start) * c->slower / 100)
        now = clock();
    return (now - start) / (double)n;
}

/* How many calls make a slice, and how many turns there will be: fewer where they are long. */
static void plan_line(const report *r, line *l)
{
    l->clock = tacit_pool_threads(l->c.pool) > 1 ? tacit_now : tacit_thread_now;
    double least = seconds_a_call(l->clock, &l->c, 1);
    for (int i = 0; i < 2 && least < SLICE; i++)
        least = fmin(least, seconds_a_call(l->clock, &l->c, 1));
    l->calls = (size_t)(SLICE / fmax(least, 1e-9)) + 1;
    l->slice = fmax(SLICE, least);
    l->rounds = r->o->rounds ? r->o->rounds : (size_t)fmax(12, fmin(ROUNDS, 0.1 / l->slice));
    if (l->rounds > MOST_ROUNDS)
        l->rounds = MOST_ROUNDS;
}

/* Where operands lie to each other and to the sets of the caches is luck that a process keeps: each
 * turn draws anew. */
static void shift_blocks(call *c, const call *base, size_t turn)
{
    c->a = base->a + 16 * (tacit_rng_u32(2, 0, turn) % (SHIFT / 16));
    c->b = base->b + 16 * (tacit_rng_u32(2, 1, turn) % (SHIFT / 16));
    c->c = base->c + 16 * (tacit_rng_u32(2, 2, turn) % (SHIFT / 16));
}

static void print_line(const report *r, line *l)
{
    const call *c = &l->c;
    bool flops = c->flops > 0;
    double work = flops ? c->flops : c->bytes, shares[MOST_ROUNDS];
    for (size_t t = 0; t < l->rounds; t++) {
        double limit = flops ? l->fma[t] : l->copy[t];
        shares[t] = limit > 0 ? work / l->seconds[t] * 1e-9 / limit : 0;
    }
    double seconds = tacit_quantile(l->seconds, l->rounds, 0.5), rate = work / seconds * 1e-9;
    double limit = tacit_quantile(flops ? l->fma : l->copy, l->rounds, 0.5);
    double share = tacit_quantile(shares, l->rounds, 0.5);
    double least = tacit_quantile(l->seconds, l->rounds, 0.05);
    unsigned threads = tacit_pool_threads(c->pool);
    const char *isa = tacit_isa_name(c->k->isa), *unit = flops ? "GFLOP/s" : "GB/s";
    if (r->o->json) {
        fprintf(r->out,
                "{\"kernel\":\"%s\",\"shape\":\"%s\",\"isa\":\"%s\",\"threads\":%u,"
                "\"time_s\":%.9g,\"%s\":%.4g,\"limit\":%.4g,\"share\":%.4g,"
                "\"fma_cost\":%.9g,\"copy_cost\":%.9g}\n",
                l->name, l->shape, isa, threads, seconds, flops ? "gflops" : "gbytes_s", rate,
                limit, share, least * tacit_quantile(l->fma, l->rounds, 0.95),
                least * tacit_quantile(l->copy, l->rounds, 0.95));
        return;
    }
    fprintf(r->out, "%-29s %-32s %-7s %2u %11.3f %9.2f %-8s ", l->name, l->shape, isa, threads,
            seconds * 1e6, rate, unit);
    fprintf(r->out, limit > 0 ? "%6.1f %%\n" : "     -\n", 100 * share);
}

/* A few turns of the limits and the kernel. */
static void measure_some(const report *r, line *l, size_t turns)
{
    call *c = &l->c;
    memset(r->base.c, 0,
           BLOCK * sizeof *r->base.c); /* what others left may be slow to compute with */
    for (; turns && l->done < l->rounds; turns--) {
        size_t t = l->done++;
        shift_blocks(c, &r->base, t);
        l->fma[t] = tacit_fma_limit_by(l->clock, c->k->isa, c->pool, l->slice);
        if (c->bytes > 0)
            l->copy[t] = tacit_copy_limit_by(l->clock, c->a, (size_t)c->bytes, l->slice);
        l->seconds[t] = seconds_a_call(l->clock, c, l->calls);
    }
}

/* All lines a few turns each, then all again: a slow spell of the machine meets none of them for
 * long. */
static void measure_lines(const report *r)
{
    for (size_t i = 0; i < r->count; i++)
        plan_line(r, &r->lines[i]);
    for (size_t pass = 0; pass < PASSES; pass++) {
        double start = tacit_now(), left;
        for (size_t i = 0; i < r->count; i++)
            measure_some(r, &r->lines[i], (r->lines[i].rounds + PASSES - 1) / PASSES);
        left = start + PASS - tacit_now();
        if (left > 0 && pass + 1 < PASSES && !r->o->rounds) /* who gives rounds is in a hurry */
            usleep((useconds_t)(left * 1e6));
    }
    for (size_t i = 0; i < r->count; i++)
        print_line(r, &r->lines[i]);
    fflush(r->out);
}

/* Whether the options ask for a row: its name and shape hold one of the filters. */
static bool chosen(const tacit_bench_options *o, const char *name, const char *shape)
{
    char text[128];
    snprintf(text, sizeof text, "%s %s", name, shape);
    return tacit_bench_chosen(o, text);
}

static void add_line(report *r, const char *name, const call *c)
{
    if (r->count == MOST_LINES || !chosen(r->o, name, c->shape))
        return;
    line *l = &r->lines[r->count++];
    *l = (line){ .name = name, .c = *c };
    snprintf(l->shape, sizeof l->shape, "%s", c->shape);
}

static void run_call(void *of)
{
    call *c = of;
    c->run(c);
}

/* What is counted is told before: its name, its shape, and how many calls, which is one (a counter
 * may take a second for it), or as many as a slow-down on purpose needs to be a call. */
static void count_lines(const report *r)
{
    for (size_t i = 0; i < r->count; i++) {
        call *c = &r->lines[i].c;
        size_t calls = c->slower ? 100 / c->slower : 1, slower = c->slower ? 1 : 0;
        c->run(c);
        fprintf(r->out, "%s\t%s\t%zu\n", r->lines[i].name, r->lines[i].shape, calls);
        fflush(r->out);
        tacit_bench_counted(run_call, c, calls + slower);
    }
}

static const struct {
    const char *name;
    void (*set_up)(call *);
} kernel_rows[] = {
#define TACIT_KERNEL(slot, class, cases) { #slot, bench_##slot },
#include "kernels.inc"
#undef TACIT_KERNEL
};

#define ROWS (sizeof kernel_rows / sizeof *kernel_rows)

/* By how many percent a kernel is to be slower on purpose: TACIT_BENCH_SLOW=gemm_f32:5, which is
 * for trying whether it is noticed. */
static unsigned slower_of(const char *name)
{
    const char *slow = getenv("TACIT_BENCH_SLOW");
    size_t n = strlen(name);
    unsigned percent = 0;
    if (slow && !strncmp(slow, name, n) && slow[n] == ':')
        percent = (unsigned)strtoul(slow + n + 1, NULL, 10);
    return percent <= 100 ? percent : 0;
}

static tacit_status check_slower(tacit_err *err)
{
    if (!getenv("TACIT_BENCH_SLOW"))
        return TACIT_OK;
    for (size_t i = 0; i < ROWS; i++)
        if (slower_of(kernel_rows[i].name))
            return TACIT_OK;
    return tacit_fail(err, TACIT_EINVAL, "TACIT_BENCH_SLOW is '%.80s': use KERNEL:PERCENT",
                      getenv("TACIT_BENCH_SLOW"));
}

static void run_linear(call *c)
{
    c->layer.packed = c->b;
    c->layer.bias = c->a;
    tacit_linear_forward(&c->layer, c->k, 0, c->m, c->a, c->layer.in + 16, NULL, c->c,
                         c->layer.out + 16, NULL, c->pool);
}

/* The products of ViT-Ti, S, B and L for one image: (out, in) of qkv, proj, fc1, fc2. */
static const size_t vit_layers[][2] = {
    { 576, 192 },   { 192, 192 },   { 768, 192 },   { 192, 768 },   { 1152, 384 }, { 384, 384 },
    { 1536, 384 },  { 384, 1536 },  { 2304, 768 },  { 768, 768 },   { 3072, 768 }, { 768, 3072 },
    { 3072, 1024 }, { 1024, 1024 }, { 4096, 1024 }, { 1024, 4096 },
};

static void add_linear(report *r, const call *with)
{
    for (size_t i = 0; i < sizeof vit_layers / sizeof *vit_layers; i++) {
        size_t n = vit_layers[i][0], k = vit_layers[i][1];
        call c = *with;
        char shape[64];
        snprintf(shape, sizeof shape, "197 x %zu x %zu", n, k);
        c.shape = shape;
        c.m = 197;
        c.flops = 2.0 * 197 * (double)n * (double)k;
        c.layer = (tacit_linear){ .in = k, .out = n };
        c.run = run_linear;
        add_line(r, "linear", &c);
    }
}

/* The rows of kernels.inc, on each ISA that is asked for. */
static void add_rows(report *r)
{
    for (size_t i = 0; i < ROWS; i++)
        for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++) {
            if (!tacit_isa_available((tacit_isa)isa) || (r->o->isa && isa != *r->o->isa))
                continue;
            call c = r->base;
            c.k = tacit_kernels_for((tacit_isa)isa);
            c.slower = slower_of(kernel_rows[i].name);
            kernel_rows[i].set_up(&c);
            add_line(r, kernel_rows[i].name, &c);
        }
}

/* Values in [-1, 1); the same again and again, as a repeat and a counter of instructions wait. */
static void fill(float *x, size_t n, uint64_t stream)
{
    const size_t period = 1 << 16;
    for (size_t i = 0; i < period; i++)
        x[i] = tacit_rng_uniform(1, stream, i) * 2 - 1;
    for (size_t i = period; i < n; i += period)
        memcpy(x + i, x, (n - i < period ? n - i : period) * sizeof *x);
}

tacit_status tacit_bench_kernels(const tacit_bench_options *o, FILE *out, tacit_err *err)
{
    tacit_threads threads;
    tacit_pool *pool = NULL;
    tacit_isa used;
    tacit_status st = tacit_threads_select(o->threads, &threads, err);
    if (st < 0 || (st = tacit_isa_select(NULL, &used, err)) < 0 || (st = check_slower(err)) < 0)
        return st;
    report r = { .o = o, .out = out };
    tacit_arena arena = { 0 };
    size_t total = 0, size = BLOCK + BLOCK / 2 + SHIFT;
    for (int i = 0; i < 3; i++)
        tacit_arena_plan(&total, size, sizeof(float));
    if ((st = tacit_arena_open(&arena, total, err)) < 0 ||
        (st = tacit_pool_open(&pool, threads.use, err)) < 0)
        goto end;
    r.lines = tacit_calloc(MOST_LINES, sizeof *r.lines);
    if (!r.lines) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for measurements");
        goto end;
    }
    call *base = &r.base;
    base->a = tacit_arena_take(&arena, size, sizeof(float));
    base->b = tacit_arena_take(&arena, size, sizeof(float));
    base->c = tacit_arena_take(&arena, size, sizeof(float));
    fill(base->a, size, 0);
    fill(base->b, size, 1);
    memset(base->c, 0, size * sizeof *base->c);
    if (!o->json && !o->count)
        fprintf(out, "%-29s %-32s %-7s %2s %11s %9s %-8s %8s\n", "kernel", "shape", "isa", "T",
                "us", "rate", "", "of limit");
    add_rows(&r);
    base->k = tacit_kernels_for(o->isa ? *o->isa : used);
    if (base->k->isa != TACIT_ISA_REF && !o->count) {
        add_linear(&r, base);
        base->pool = pool;
        if (tacit_pool_threads(pool) > 1)
            add_linear(&r, base);
        base->pool = NULL;
    }
    (o->count ? count_lines : measure_lines)(&r);
end:
    tacit_free(r.lines);
    tacit_pool_close(&pool);
    tacit_arena_close(&arena);
    return st;
}
