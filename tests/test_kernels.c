/* test_kernels.c - every kernel of every ISA present, against ref, bit by bit.
 *
 * A case is one call: a shape, operands with strides, and values, all drawn from (seed, row, case).
 * Each operand lies in pages of its own between two inaccessible ones: pushed against the one
 * behind, the one before, or in between at any misalignment. Whatever is not an element of the
 * operand holds a pattern that must survive, inputs must survive too, and results must not depend
 * on what the pattern is. ref goes through the same mill, so its own accesses are checked.
 *
 *   test_kernels [ROW [CASE]]     TACIT_SEED=n   another draw
 *                                TACIT_CASES=n  more of them, or below 200 a short run
 *                                TACIT_SLACK=n  bytes left free before the guards, for qemu 7.2,
 *                                               whose masked loads read the whole vector
 *
 * To test a new row: a family of cases (shape and run), named in kernels.inc.
 */
#include "kernels.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION ((size_t)4 << 20) /* an operand's block; at most half of it is used */
#define MARGIN 512               /* bytes looked at on either side of an operand */
#define MOST   11                /* operands of a case */

static uint64_t seed = 20261123;
static size_t cases = 640, slack;
static const char *only_row;
static size_t only_case = SIZE_MAX;

/* ---- operands and cases */

typedef enum role {
    IN,  /* filled, must not change                                     */
    OUT, /* compared with ref                                           */
    INPUT_AND_OUTPUT,
    WORK,             /* written by run, not compared                              */
    PACKED,           /* the same, of the size that a table packs (n[1], n[2]) to  */
    SCRATCH,          /* the same, of the size that its attention asks for         */
    SCRATCH_BACKWARD, /* the same, for the gradients of attention         */
    SCRATCH_TN,       /* the same, for gemm_tn                            */
} role;

typedef enum type { F32, F64, U32, F16, BF16, I16, U8 } type;

typedef struct operand {
    role role;
    type type;
    size_t rows, cols, ld; /* in elements */
    unsigned char *region; /* between the guards */
    unsigned char *at;     /* the first element */
} operand;

typedef struct testcase {
    uint64_t row, number, draws;
    size_t n[4];    /* sizes, whatever the family calls them */
    float value;    /* an epsilon, a scale */
    unsigned flags; /* of the family */
    tacit_conv conv;
    size_t first; /* output of conv */
    size_t count;
    operand operands[MOST];
} testcase;

typedef void any_fn(void);

typedef struct family {
    void (*shape)(testcase *c);
    void (*run)(const testcase *c, const tacit_kernels *kernels, any_fn *kernel);
} family;

/* One stream of draws for the shape of a case, one for each operand's values, one for places. */
enum { SHAPE, PLACES, VALUES };

static uint64_t stream(const testcase *c, uint64_t which)
{
    return (c->row << 48) + (c->number << 16) + which;
}

static uint32_t draw(testcase *c)
{
    return tacit_rng_u32(seed, stream(c, SHAPE), c->draws++);
}

static size_t below(testcase *c, size_t n)
{
    return draw(c) % n;
}

/* A size up to most: small, beside a multiple of 16, or any. */
static size_t any_size(testcase *c, size_t most)
{
    size_t n;
    switch (below(c, 4)) {
    case 0: n = below(c, 68); break;
    case 1: n = below(c, most / 16 + 1) * 16 + below(c, 3); break;
    case 2: n = most - below(c, most < 40 ? most : 40); break;
    default: n = below(c, most + 1);
    }
    return n < most ? n : most;
}

/* The first cases sweep one size after the other from 0 to 67; the others of those are small. */
static void sizes(testcase *c, size_t count, const size_t *most)
{
    for (size_t i = 0; i < count; i++)
        if (c->number < 68 * count)
            c->n[i] = c->number % count == i ? c->number / count : below(c, 21);
        else
            c->n[i] = any_size(c, most[i]);
    for (size_t i = 0; i < count; i++)
        if (c->n[i] > most[i])
            c->n[i] = most[i];
}

static size_t element_size(type t)
{
    return t == F64 ? 8 : t == F32 || t == U32 ? 4 : t == U8 ? 1 : 2;
}

static size_t extent(const operand *o)
{
    return o->rows && o->cols ? ((o->rows - 1) * o->ld + o->cols) * element_size(o->type) : 0;
}

static void add_operand(testcase *c, role r, type t, size_t rows, size_t cols, size_t ld)
{
    ck_assert_uint_lt(c->count, MOST);
    operand *o = &c->operands[c->count++];
    o->role = r;
    o->type = t;
    o->rows = rows;
    o->cols = cols;
    o->ld = ld;
    ck_assert_uint_le(extent(o), REGION / 2);
}

/* A stride for rows of n: tight, or with a gap. */
static size_t stride(testcase *c, size_t n)
{
    return n + (below(c, 2) ? below(c, 37) : 0);
}

static float *f32(const testcase *c, size_t i)
{
    return (float *)(void *)c->operands[i].at;
}

static double *f64(const testcase *c, size_t i)
{
    return (double *)(void *)c->operands[i].at;
}

static uint32_t *u32(const testcase *c, size_t i)
{
    return (uint32_t *)(void *)c->operands[i].at;
}

static uint16_t *u16(const testcase *c, size_t i)
{
    return (uint16_t *)(void *)c->operands[i].at;
}

/* ---- places and values */

static unsigned char *regions[MOST];

static void map_regions(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < MOST; i++) {
        unsigned char *p = mmap(NULL, REGION + 2 * page, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED || mprotect(p + page, REGION, PROT_READ | PROT_WRITE))
            abort();
        regions[i] = p + page;
    }
}

static unsigned char *margin_begin(const operand *o)
{
    return o->at - o->region < MARGIN ? o->region : o->at - MARGIN;
}

static unsigned char *margin_end(const operand *o)
{
    unsigned char *end = o->at + extent(o);
    return o->region + REGION - end < MARGIN ? o->region + REGION : end + MARGIN;
}

/* Calls for each element, or for each run of bytes that belong to none. */
static bool is_pattern(const unsigned char *from, const unsigned char *to, unsigned char pattern)
{
    for (; from < to; from++)
        if (*from != pattern)
            return false;
    return true;
}

static bool gaps_hold(const operand *o, unsigned char pattern)
{
    size_t size = element_size(o->type);
    if (!is_pattern(margin_begin(o), o->at, pattern) ||
        !is_pattern(o->at + extent(o), margin_end(o), pattern))
        return false;
    for (size_t r = 0; extent(o) && r + 1 < o->rows; r++)
        if (!is_pattern(o->at + (r * o->ld + o->cols) * size, o->at + (r + 1) * o->ld * size,
                        pattern))
            return false;
    return true;
}

/* Zeros, the edges of the normal and subnormal numbers of each type, where exp and the halves
 * overflow and vanish, infinities, NaN of all kinds. */
static const uint32_t special[] = {
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000,
    0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001, 0xffffffff,
    0x3f800000, 0xbf800000, 0x42b17218, 0xc2cff1b5, 0xc2aeac50, 0x477fe000, 0x477ff000, 0x477fefff,
    0x38800000, 0x387fffff, 0x33800000, 0x33000000, 0x33000001, 0x7f7f8000, 0x3f808000, 0x3f818000,
};

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* One value of an operand that is filled in that way. */
static uint32_t value_bits(unsigned way, uint32_t a, uint32_t b)
{
    float x = (float)(int32_t)a * 0x1p-30f; /* in [-2, 2) */
    uint32_t bits;
    switch (way) {
    case 0:
    case 1: break;
    case 2: x = ldexpf(x, (int)(b % 48) - 24); break;
    case 3: return a; /* any bits */
    case 4: return special[b % (sizeof special / sizeof *special)];
    case 5: /* a few special among others */
        if (b % 8 == 0)
            return special[b / 8 % (sizeof special / sizeof *special)];
        break;
    case 6: /* finite special among others */
        if (b % 8 == 0)
            return special[b / 8 % 10];
        break;
    default: x = 0;
    }
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void fill(const testcase *c, size_t index)
{
    const operand *o = &c->operands[index];
    uint64_t s = stream(c, VALUES + index);
    uint32_t block[4];
    tacit_philox(seed, s, 0, block);
    unsigned way = block[0] % 16; /* half of all operands are ordinary */
    size_t i = 0;
    for (size_t r = 0; r < o->rows; r++)
        for (size_t j = 0; j < o->cols; j++, i++) {
            if (i % 2 == 0)
                tacit_philox(seed, s, 1 + i / 2, block);
            uint32_t a = block[i % 2 * 2], b = block[i % 2 * 2 + 1];
            unsigned char *at = o->at + (r * o->ld + j) * element_size(o->type);
            uint32_t bits = value_bits(way < 8 ? way : 0, a, b);
            uint16_t half = (uint16_t)a;
            double wide = (double)float_of(bits);
            if (o->type == F32)
                memcpy(at, &bits, 4);
            else if (o->type == F64)
                memcpy(at, &wide, 8);
            else if (o->type == U32)
                memcpy(at, &a, 4);
            else if (o->type == U8)
                *at = (unsigned char)a;
            else if (o->type == BF16)
                memcpy(at, &(uint16_t){ (uint16_t)(bits >> 16) }, 2);
            else
                memcpy(at, &half, 2);
        }
}

/* Puts every operand somewhere and fills it; `turn` gives other places to the same case. */
static void place(testcase *c, const tacit_kernels *kernels, unsigned turn, unsigned char pattern)
{
    for (size_t i = 0; i < c->count; i++) {
        operand *o = &c->operands[i];
        o->region = regions[i];
        if (o->role == PACKED)
            o->cols = tacit_gemm_packed_size(kernels, c->n[1], c->n[2]);
        if (o->role == SCRATCH)
            o->cols = tacit_attention_scratch(kernels, c->n[1], c->n[2]);
        if (o->role == SCRATCH_BACKWARD)
            o->cols = tacit_attention_backward_scratch(kernels, c->n[1], c->n[2]);
        if (o->role == SCRATCH_TN)
            o->cols = tacit_gemm_tn_scratch(kernels, c->n[0]);
        ck_assert_uint_le(extent(o), REGION / 2);
        uint32_t where[4];
        tacit_philox(seed, stream(c, PLACES), turn * MOST + i, where);
        size_t size = element_size(o->type), room = (REGION - extent(o)) / size;
        switch (where[0] % 3) {
        case 0: o->at = o->region + REGION - slack - extent(o); break;
        case 1: o->at = o->region + slack; break;
        default: o->at = o->region + (room / 2 < 4096 ? room / 2 : 4096 + where[1] % 16) * size;
        }
        memset(margin_begin(o), pattern, (size_t)(margin_end(o) - margin_begin(o)));
        if (o->role == IN || o->role == INPUT_AND_OUTPUT)
            fill(c, i);
    }
}

/* ---- families: the order of operands is the order in which shape adds them */

static void gemm_pack_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 150, 300 });
    size_t n = c->n[0], k = c->n[1];
    c->n[1] = n; /* where place looks for the size of what is packed */
    c->n[2] = k;
    add_operand(c, IN, F32, n, k, stride(c, k));
    add_operand(c, PACKED, F32, 1, 0, 0);
    add_operand(c, OUT, F32, (n + 31) / 32 * 32, k, k);
}

/* The packed weights as kernels.h says where each lies, so that tables can be compared. */
static void gemm_pack_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    size_t n = c->n[1], k = c->n[2], nr = kernels->gemm_nr;
    const float *packed = f32(c, 1);
    ((tacit_gemm_pack_f32_fn *)kernel)(n, k, f32(c, 0), c->operands[0].ld, f32(c, 1));
    for (size_t j = 0; j < (n + 31) / 32 * 32; j++)
        for (size_t p = 0; p < k; p++)
            f32(c, 2)[j * k + p] =
                j < (n + nr - 1) / nr * nr ? packed[j / nr * nr * k + p * nr + j % nr] : 0;
}

enum { BIAS = 1, GELU = 2, SCALE = 4, RESIDUAL = 8, EPILOGUE = 16, RELU = 32 };

static void gemm_shape(testcase *c)
{
    if (c->number % 50 == 49) /* several blocks of k */
        sizes(c, 3, (const size_t[]){ 30, 140, 1100 });
    else
        sizes(c, 3, (const size_t[]){ c->number % 2 ? 4 : 70, 300, 80 });
    size_t m = c->n[0], n = c->n[1], k = c->n[2];
    c->flags = draw(c) % 64;
    add_operand(c, IN, F32, m, k, stride(c, k));
    add_operand(c, IN, F32, n, k, k);
    add_operand(c, PACKED, F32, 1, 0, 0);
    add_operand(c, OUT, F32, m, n, stride(c, n));
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, m, n, stride(c, n));
}

static tacit_epilogue epilogue_of(const testcase *c, size_t bias, size_t scale, size_t residual)
{
    return (tacit_epilogue){
        .bias = c->flags & BIAS ? f32(c, bias) : NULL,
        .gelu = (c->flags & GELU) != 0,
        .scale = c->flags & SCALE ? f32(c, scale) : NULL,
        .residual = c->flags & RESIDUAL ? f32(c, residual) : NULL,
        .ldr = c->operands[residual].ld,
        .relu = (c->flags & RELU) != 0,
    };
}

static void gemm_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    size_t m = c->n[0], n = c->n[1], k = c->n[2];
    tacit_epilogue epilogue = epilogue_of(c, 4, 5, 6);
    kernels->gemm_pack_f32(n, k, f32(c, 1), k, f32(c, 2));
    ((tacit_gemm_f32_fn *)kernel)(m, n, k, f32(c, 0), c->operands[0].ld, f32(c, 2), f32(c, 3),
                                  c->operands[3].ld, c->flags & EPILOGUE ? &epilogue : NULL);
}

static uint8_t *u8(const testcase *c, size_t i)
{
    return c->operands[i].at;
}

static void quantise_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 12, 400 });
    size_t m = c->n[0], n = c->n[1], whole = 4 * TACIT_INT8_GROUPS(n);
    add_operand(c, IN, F32, m, n, stride(c, n));
    add_operand(c, OUT, U8, m, whole, stride(c, whole));
    add_operand(c, OUT, F32, 1, m, m);
    c->flags = draw(c) % 2;
}

static void quantise_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_quantise_u8_fn *)kernel)(c->n[0], c->n[1], f32(c, 0), c->operands[0].ld,
                                     c->flags ? TACIT_INT8_MIDDLE : 0, u8(c, 1), c->operands[1].ld,
                                     f32(c, 2));
}

enum { NO_DOT = 64, MIDDLE = TACIT_INT8_MIDDLE, BYTES = 256 };

static void gemm_u8s8_shape(testcase *c)
{
    sizes(c, 3, (const size_t[]){ c->number % 2 ? 4 : 70, 200, 300 });
    size_t m = c->n[0], n = c->n[1], k = c->n[2];
    size_t whole = 4 * TACIT_INT8_GROUPS(k), rows = (n + 15) / 16 * 16;
    c->flags = draw(c) % 512;
    add_operand(c, IN, U8, m, whole, stride(c, whole));
    add_operand(c, IN, F32, n, k, k);
    add_operand(c, WORK, U8, 1, rows * whole, rows * whole);
    add_operand(c, OUT, F32, m, n, stride(c, n));
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, m, n, stride(c, n));
    add_operand(c, IN, F32, 1, m, m);
    add_operand(c, WORK, F32, 1, rows, rows);
    add_operand(c, WORK, U32, 1, rows, rows);
    add_operand(c, IN, U8, m, n, stride(c, n));
}

static void gemm_u8s8_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    size_t m = c->n[0], n = c->n[1], k = c->n[2];
    tacit_epilogue epilogue = epilogue_of(c, 4, 5, 6);
    if (c->flags & BYTES) {
        epilogue.residual = NULL;
        epilogue.residual8 = u8(c, 10);
        epilogue.ldr = c->operands[10].ld;
        epilogue.residual_scale = f32(c, 7);
    }
    int8_t *packed = (int8_t *)u8(c, 2);
    int32_t *minus = (int32_t *)u32(c, 9);
    tacit_gemm_pack_s8(kernels, n, k, f32(c, 1), k, packed, f32(c, 8), minus);
    tacit__cpu_dots_hide((c->flags & NO_DOT) != 0);
    ((tacit_gemm_u8s8_fn *)kernel)(
        m, n, k, u8(c, 0), c->operands[0].ld, f32(c, 7), (uint8_t)(c->flags & MIDDLE), packed,
        f32(c, 8), minus, f32(c, 3), c->operands[3].ld, c->flags & EPILOGUE ? &epilogue : NULL);
    tacit__cpu_dots_hide(false);
}

static void gemm_bf16_shape(testcase *c)
{
    sizes(c, 3, (const size_t[]){ c->number % 2 ? 4 : 40, 150, 150 });
    size_t m = c->n[0], n = c->n[1], k = c->n[2], whole = 2 * TACIT_BF16_PAIRS(k);
    c->flags = draw(c) % 128;
    add_operand(c, IN, BF16, m, whole, stride(c, whole));
    add_operand(c, IN, F32, n, k, k);
    add_operand(c, WORK, BF16, 1, tacit_gemm_bf16_size(n, k), tacit_gemm_bf16_size(n, k));
    add_operand(c, OUT, F32, m, n, stride(c, n));
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, 1, n, n);
    add_operand(c, IN, F32, m, n, stride(c, n));
}

static void gemm_bf16_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    size_t m = c->n[0], n = c->n[1], k = c->n[2];
    tacit_epilogue epilogue = epilogue_of(c, 4, 5, 6);
    tacit_gemm_pack_bf16(kernels, n, k, f32(c, 1), k, u16(c, 2));
    tacit__cpu_dots_hide((c->flags & NO_DOT) != 0);
    ((tacit_gemm_bf16_fn *)kernel)(m, n, k, u16(c, 0), c->operands[0].ld, u16(c, 2), f32(c, 3),
                                   c->operands[3].ld, c->flags & EPILOGUE ? &epilogue : NULL);
    tacit__cpu_dots_hide(false);
}

static void gemm_tn_shape(testcase *c)
{
    if (c->number % 50 == 49) /* several blocks of k */
        sizes(c, 3, (const size_t[]){ 30, 70, 1100 });
    else
        sizes(c, 3, (const size_t[]){ 70, 200, 80 });
    size_t m = c->n[0], n = c->n[1], k = c->n[2];
    c->flags = draw(c) % 4; /* bit 0: adds to c; bit 1: with scratch */
    add_operand(c, IN, F32, k, m, stride(c, m));
    add_operand(c, IN, F32, k, n, stride(c, n));
    add_operand(c, c->flags & 1 ? INPUT_AND_OUTPUT : OUT, F32, m, n, stride(c, n));
    add_operand(c, SCRATCH_TN, F32, 1, 0, 0);
}

static void gemm_tn_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_gemm_tn_f32_fn *)kernel)(c->n[0], c->n[1], c->n[2], f32(c, 0), c->operands[0].ld,
                                     f32(c, 1), c->operands[1].ld, f32(c, 2), c->operands[2].ld,
                                     (c->flags & 1) != 0, c->flags & 2 ? f32(c, 3) : NULL);
}

static void dot_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, U32, 1, 2, 2);
}

/* The bits of the double; any NaN is one NaN. */
static void dot_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    double sum = ((tacit_dot_f64_fn *)kernel)(c->n[0], f32(c, 0), f32(c, 1));
    if (isnan(sum))
        memset(&sum, 0xff, sizeof sum);
    memcpy(u32(c, 2), &sum, sizeof sum);
}

static void attention_shape(testcase *c)
{
    sizes(c, 3, (const size_t[]){ 33, 200, 70 });
    size_t rows = c->n[0], tokens = c->n[1] += !c->n[1], dim = c->n[2], ld = stride(c, dim);
    c->value = float_of(0x3d000000 + draw(c) % 0x2800000); /* 2^-5 to 1 */
    add_operand(c, IN, F32, rows, dim, ld);
    add_operand(c, IN, F32, tokens, dim, ld);
    add_operand(c, IN, F32, tokens, dim, ld);
    add_operand(c, OUT, F32, rows, dim, stride(c, dim));
    add_operand(c, SCRATCH, F32, 1, 0, 0);
    c->flags = draw(c) % 2;
    if (c->flags)
        add_operand(c, IN, F32, rows, tokens, stride(c, tokens));
}

static void attention_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_attention_f32_fn *)kernel)(c->n[0], c->n[1], c->n[2], f32(c, 0), f32(c, 1), f32(c, 2),
                                       c->operands[0].ld, c->value, c->flags ? f32(c, 5) : NULL,
                                       c->flags ? c->operands[5].ld : 0, f32(c, 3),
                                       c->operands[3].ld, f32(c, 4));
}

/* Operand 0 is x, operand 1 is y where y is another block. */
static void rows_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 2500, 6 });
    size_t n = c->n[0], rows = c->n[1] %= 7;
    bool in_place = draw(c) % 4 == 0;
    add_operand(c, in_place ? INPUT_AND_OUTPUT : IN, F32, rows, n, stride(c, n));
    if (in_place)
        add_operand(c, IN, F32, 0, 0, 0);
    else
        add_operand(c, OUT, F32, rows, n, stride(c, n));
    c->flags = in_place;
    c->value = float_of(0x3a000000 + draw(c) % 0x7000000); /* 2^-11 to 8 */
}

static float *result(const testcase *c, size_t *ld)
{
    size_t i = c->flags ? 0 : 1;
    *ld = c->operands[i].ld;
    return f32(c, i);
}

static void layernorm_shape(testcase *c)
{
    rows_shape(c);
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
}

static void layernorm_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t ldy;
    float *y = result(c, &ldy);
    ((tacit_layernorm_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld, f32(c, 2),
                                       f32(c, 3), c->value, y, ldy);
}

#define softmax_shape rows_shape
static void softmax_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t ldy;
    float *y = result(c, &ldy);
    ((tacit_softmax_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld, c->value, y,
                                     ldy);
}

static void cross_entropy_shape(testcase *c)
{
    rows_shape(c);
    c->n[0] += !c->n[0];
    for (size_t i = 0; i < 2; i++) /* rows_shape may have drawn 0 columns */
        if (c->operands[i].rows)
            c->operands[i].cols += !c->operands[i].cols;
    for (size_t i = 0; i < 2; i++)
        c->operands[i].ld += !c->operands[i].ld;
    add_operand(c, WORK, U32, 1, c->n[1], c->n[1]);
    add_operand(c, OUT, F32, 1, c->n[1], c->n[1]);
}

static void cross_entropy_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t ldy;
    float *y = result(c, &ldy);
    for (size_t r = 0; r < c->n[1]; r++)
        u32(c, 2)[r] = tacit_rng_u32(seed, stream(c, VALUES + MOST), r) % (uint32_t)c->n[0];
    ((tacit_cross_entropy_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld,
                                           u32(c, 2), y, ldy, f32(c, 3));
}

#define l2norm_shape rows_shape
static void l2norm_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t ldy;
    float *y = result(c, &ldy);
    ((tacit_l2norm_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld, y, ldy);
}

static void mean_rows_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 500, 40 });
    add_operand(c, IN, F32, c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, OUT, F32, 1, c->n[0], c->n[0]);
}

static void mean_rows_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_mean_rows_f32_fn *)kernel)(c->n[1], c->n[0], f32(c, 0), c->operands[0].ld, f32(c, 1));
}

static void gelu_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->flags = draw(c) % 4 == 0;
    add_operand(c, c->flags ? INPUT_AND_OUTPUT : IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, F32, 1, c->flags ? 0 : c->n[0], c->n[0]);
}

static void gelu_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t ld;
    ((tacit_gelu_f32_fn *)kernel)(c->n[0], f32(c, 0), result(c, &ld));
}

/* With y or without. */
static void swish_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->flags = draw(c) % 2;
    c->value = draw(c) % 2 ? 1.0f : 1.702f;
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, F32, 1, c->n[0], c->n[0]);
    if (c->flags)
        add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
}

static void swish_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_swish_f32_fn *)kernel)(c->n[0], c->value, f32(c, 0), c->flags ? f32(c, 2) : NULL,
                                   f32(c, 1));
}

static void add_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, F32, 1, c->n[0], c->n[0]);
}

static void add_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_add_f32_fn *)kernel)(c->n[0], f32(c, 0), f32(c, 1), f32(c, 2));
}

static void above_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->value = (float)(int32_t)draw(c) * 0x1p-30f;
    if (draw(c) % 4 == 0)
        c->value = draw(c) % 2 ? INFINITY : -INFINITY;
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, U32, 1, c->n[0] + 1, c->n[0] + 1);
}

/* The indices, what is left of their room set to one value, and how many they are. */
static void above_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    size_t n = c->n[0];
    size_t count = ((tacit_above_f32_fn *)kernel)(n, f32(c, 0), c->value, u32(c, 1));
    for (size_t i = count; i < n; i++)
        u32(c, 1)[i] = UINT32_MAX;
    u32(c, 1)[n] = (uint32_t)count;
}

static void widen16_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    add_operand(c, IN, F16, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, F32, 1, c->n[0], c->n[0]);
}

static void widen16_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_f16_to_f32_fn *)kernel)(c->n[0], u16(c, 0), f32(c, 1));
}

static void narrow16_shape(testcase *c, type t)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    add_operand(c, IN, F32, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, t, 1, c->n[0], c->n[0]);
}

static void to_f16_shape(testcase *c)
{
    narrow16_shape(c, F16);
}

static void to_bf16_shape(testcase *c)
{
    narrow16_shape(c, BF16);
}

static void to_f16_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_f32_to_f16_fn *)kernel)(c->n[0], f32(c, 0), u16(c, 1));
}
#define to_bf16_run to_f16_run

static void patchify_shape(testcase *c)
{
    sizes(c, 3, (const size_t[]){ 100, 100, 36 });
    size_t height = c->n[0], width = c->n[1], patch = c->n[2] += !c->n[2];
    size_t n = 3 * patch * patch;
    add_operand(c, IN, F32, 3, height * width, stride(c, height * width));
    add_operand(c, OUT, F32, (height / patch) * (width / patch), n, stride(c, n));
}

static void patchify_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_patchify_f32_fn *)kernel)(c->n[0], c->n[1], c->n[2], f32(c, 0), c->operands[0].ld,
                                      f32(c, 1), c->operands[1].ld);
}

static void hog_shape(testcase *c)
{
    sizes(c, 3, (const size_t[]){ 100, 100, 36 });
    size_t height = c->n[0], width = c->n[1], cell = c->n[2] += !c->n[2];
    add_operand(c, IN, F32, height, width, stride(c, width));
    add_operand(c, OUT, F32, (height / cell) * (width / cell), TACIT_HOG_BINS,
                stride(c, TACIT_HOG_BINS));
}

static void hog_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_hog_f32_fn *)kernel)(c->n[0], c->n[1], c->n[2], f32(c, 0), c->operands[0].ld, f32(c, 1),
                                 c->operands[1].ld);
}

static void transpose_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 200, 200 });
    add_operand(c, IN, U8, c->n[0], c->n[1], stride(c, c->n[1]));
    add_operand(c, OUT, U8, c->n[1], c->n[0], stride(c, c->n[0]));
}

static void transpose_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_transpose_u8_fn *)kernel)(c->n[0], c->n[1], c->operands[0].at, c->operands[0].ld,
                                      c->operands[1].at, c->operands[1].ld);
}

/* What output i of a resize reads of n[2] inputs. */
static tacit_taps taps_of(const testcase *c, size_t i)
{
    uint32_t w[4];
    tacit_philox(seed, stream(c, VALUES + MOST), i, w);
    size_t inputs = c->n[2], most = w[0] % 8 && inputs > 9 ? 9 : inputs;
    tacit_taps taps = { .count = 1 + w[1] % most };
    taps.first = w[2] % (inputs - taps.count + 1);
    return taps;
}

static void resample_shape(testcase *c)
{
    sizes(c, 3, (const size_t[]){ 700, 40, 60 });
    c->n[2] += !c->n[2];
    size_t weights = 0;
    for (size_t i = 0; i < c->n[1]; i++)
        weights += (taps_of(c, i).count + 1) / 2 * 4;
    c->flags = draw(c) % 2;
    add_operand(c, OUT, U8, c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, IN, U8, c->n[2], c->n[0], stride(c, c->n[0]));
    add_operand(c, WORK, I16, 1, weights, weights);
}

static void resample_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    tacit_taps taps[40];
    int16_t *weights = (int16_t *)(void *)c->operands[2].at;
    uint64_t word = 0;
    for (size_t i = 0; i < c->n[1]; i++) {
        taps[i] = taps_of(c, i);
        taps[i].weights = weights;
        for (size_t j = 0; j < taps[i].count; j++) {
            int32_t k = (int32_t)(tacit_rng_u32(seed, stream(c, VALUES + 2), word++) >> 5);
            k -= 1 << 26; /* the whole range, or sums near one */
            if (c->flags)
                k = (k + (1 << 25)) / (int32_t)(4 * taps[i].count);
            weights[j / 2 * 4 + j % 2] = (int16_t)(k >> 11);
            weights[j / 2 * 4 + 2 + j % 2] = (int16_t)(k & 2047);
        }
        if (taps[i].count % 2)
            weights[taps[i].count / 2 * 4 + 1] = weights[taps[i].count / 2 * 4 + 3] = 0;
        weights += (taps[i].count + 1) / 2 * 4;
    }
    ((tacit_resample_u8_fn *)kernel)(c->n[1], taps, c->n[0], c->operands[1].at, c->operands[1].ld,
                                     c->operands[0].at, c->operands[0].ld);
}

static void weighted_rows_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 700, 60 });
    add_operand(c, OUT, F32, 1, c->n[0], c->n[0]);
    add_operand(c, IN, U8, c->n[1], c->n[0], stride(c, c->n[0]));
    add_operand(c, IN, F32, 1, c->n[1], c->n[1]);
}

static void weighted_rows_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_weighted_rows_u8_fn *)kernel)(c->n[1], f32(c, 2), c->n[0], c->operands[1].at,
                                          c->operands[1].ld, f32(c, 0));
}

static void normalize_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->flags = draw(c) % 4;
    add_operand(c, IN, U8, 3, c->n[0], stride(c, c->n[0]));
    add_operand(c, OUT, F32, 3, c->n[0], stride(c, c->n[0]));
}

static void normalize_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    static tacit_normalize normalize;
    float mean[3] = { 0.485f, 0.456f, 0.406f }, std[3] = { 0.229f, 0.224f, 0.225f };
    for (size_t i = 0; c->flags && i < 3; i++) {
        mean[i] = c->flags > 1 ? tacit_rng_uniform(seed, stream(c, VALUES + MOST), i) : 0.5f;
        std[i] =
            c->flags > 1 ? 0.01f + tacit_rng_uniform(seed, stream(c, VALUES + MOST), 4 + i) : 0.5f;
    }
    tacit_normalize_init(&normalize, mean, std);
    if (c->flags == 3)
        normalize.fma = false;
    ((tacit_normalize_u8_fn *)kernel)(c->n[0], c->operands[0].at, c->operands[0].ld, &normalize,
                                      f32(c, 1), c->operands[1].ld);
}

#include "kernel_cases_colour.h"
#include "kernel_cases_conv.h"
#include "kernel_cases_train.h"

/* ---- the mill */

#define EXACT  0
#define ULP(n) n

static const struct row {
    const char *name;
    uint32_t ulp;
    size_t slot; /* where in the table */
    family family;
} rows[] = {
#define TACIT_KERNEL(slot, class, cases)                                                           \
    { #slot, class, offsetof(tacit_kernels, slot), { cases##_shape, cases##_run } },
#include "kernels.inc"
#undef TACIT_KERNEL
};

#define ROWS (sizeof rows / sizeof *rows)

static tacit_isa isas[TACIT_ISA_COUNT]; /* those of this machine */
static size_t isa_count;

/* What is running, for the line that a stray access prints. */
static struct {
    const char *row, *isa;
    size_t number;
} now;

static void stray(int signal_number)
{
    char line[300];
    int n =
        snprintf(line, sizeof line,
                 "%s_%s touches memory that is not its own (signal %d): "
                 "TACIT_SEED=%llu test_kernels %s %zu\n",
                 now.row, now.isa, signal_number, (unsigned long long)seed, now.row, now.number);
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        _exit(2);
    _exit(1);
}

static uint64_t bits_at(const operand *o, const unsigned char *base, size_t r, size_t j)
{
    const unsigned char *at = base + (r * o->ld + j) * element_size(o->type);
    uint64_t bits = 0;
    uint32_t word;
    uint16_t half;
    if (o->type == F64) {
        memcpy(&bits, at, 8);
    } else if (o->type == F32 || o->type == U32) {
        memcpy(&word, at, 4);
        bits = word;
    } else if (o->type == U8) {
        bits = *at;
    } else {
        memcpy(&half, at, 2);
        bits = half;
    }
    return bits;
}

static bool is_nan(type t, uint64_t bits)
{
    switch (t) {
    case F64: return (bits & INT64_MAX) > 0x7ff0000000000000;
    case F32: return (bits & 0x7fffffff) > 0x7f800000;
    case F16: return (bits & 0x7fff) > 0x7c00;
    case BF16: return (bits & 0x7fff) > 0x7f80;
    default: return false;
    }
}

/* Steps between two finite numbers; the zeros are one step apart, so that they differ. */
static uint32_t steps(type t, uint64_t a, uint64_t b)
{
    if (t == F64)
        return a != b ? UINT32_MAX : 0;
    uint64_t sign = t == F32 ? 0x80000000 : 0x8000;
    int64_t x = a & sign ? -1 - (int64_t)(a & ~sign) : (int64_t)a,
            y = b & sign ? -1 - (int64_t)(b & ~sign) : (int64_t)b;
    int64_t d = x > y ? x - y : y - x;
    return d < UINT32_MAX ? (uint32_t)d : UINT32_MAX;
}

static char problem[600];

#define PROBLEM(c, ...)                                                                            \
    (snprintf(problem + snprintf(problem, sizeof problem,                                          \
                                 "%s_%s, sizes %zu %zu %zu, flags %u "                             \
                                 "(TACIT_SEED=%llu test_kernels %s %zu): ",                        \
                                 now.row, now.isa, (c)->n[0], (c)->n[1], (c)->n[2], (c)->flags,    \
                                 (unsigned long long)seed, now.row, now.number),                   \
              200, __VA_ARGS__),                                                                   \
     false)

/* Copies of the blocks of ref's results, with its strides. */
static unsigned char *expected[MOST];

/* Runs one case on one table and looks at everything but the values. */
static bool run_case(testcase *c, const struct row *row, const tacit_kernels *kernels,
                     unsigned turn)
{
    unsigned char pattern = turn ? 0xff : 0x7f; /* as floats: two NaN */
    any_fn *kernel;
    memcpy(&kernel, (const char *)kernels + row->slot, sizeof kernel);
    now.isa = tacit_isa_name(kernels->isa);
    place(c, kernels, turn, pattern);
    static unsigned char *before[MOST];
    for (size_t i = 0; i < c->count; i++) {
        const operand *o = &c->operands[i];
        if (!before[i])
            before[i] = malloc(REGION);
        ck_assert_ptr_nonnull(before[i]);
        if (o->role == IN)
            memcpy(before[i], o->at, extent(o));
    }
    row->family.run(c, kernels, kernel);
    for (size_t i = 0; i < c->count; i++) {
        const operand *o = &c->operands[i];
        if (!gaps_hold(o, pattern))
            return PROBLEM(c, "operand %zu: bytes beside its elements are changed", i);
        if (o->role == IN && memcmp(before[i], o->at, extent(o)))
            return PROBLEM(c, "operand %zu: an input is changed", i);
    }
    return true;
}

static bool same_results(const testcase *c, const struct row *row)
{
    for (size_t i = 0; i < c->count; i++) {
        const operand *o = &c->operands[i];
        if (o->role != OUT && o->role != INPUT_AND_OUTPUT)
            continue;
        for (size_t r = 0; r < o->rows; r++)
            for (size_t j = 0; j < o->cols; j++) {
                uint64_t want = bits_at(o, expected[i], r, j), got = bits_at(o, o->at, r, j);
                if (want == got || (is_nan(o->type, want) && is_nan(o->type, got)))
                    continue;
                if (is_nan(o->type, want) || is_nan(o->type, got) ||
                    steps(o->type, want, got) > row->ulp)
                    return PROBLEM(c, "element (%zu, %zu) is %08llx, ref has %08llx", r, j,
                                   (unsigned long long)got, (unsigned long long)want);
            }
    }
    return true;
}

START_TEST(against_ref)
{
    const struct row *row = &rows[(size_t)_i / isa_count];
    const tacit_kernels *ref = tacit_kernels_for(TACIT_ISA_REF);
    const tacit_kernels *kernels = tacit_kernels_for(isas[(size_t)_i % isa_count]);
    now.row = row->name;
    for (size_t number = 0; number < cases; number++) {
        if (only_case != SIZE_MAX && number != only_case)
            continue;
        testcase c = { .row = (uint64_t)(row - rows), .number = number };
        row->family.shape(&c);
        now.number = number;
        bool good = run_case(&c, row, ref, 0);
        for (size_t i = 0; good && i < c.count; i++)
            memcpy(expected[i], c.operands[i].at, extent(&c.operands[i]));
        good = good && run_case(&c, row, kernels, 1) && same_results(&c, row);
        ck_assert_msg(good, "%s", problem);
    }
}
END_TEST

/* The first place where two rows differ, n where they do not. */
static size_t first_difference(size_t n, const float *x, const float *y)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&x[i], &y[i], sizeof *x) && !(isnan(x[i]) && isnan(y[i])))
            return i;
    return n;
}

/* Every 16-bit pattern, and single-precision numbers from end to end: conversions, GELU, and exp by
 * way of softmax. */
START_TEST(whole_range)
{
    enum { N = 65536 };
    static uint16_t half[2][N];
    static float x[N], y[2][N];
    const tacit_kernels *ref = tacit_kernels_for(TACIT_ISA_REF);
    const tacit_kernels *k = tacit_kernels_for(isas[_i]);
    for (size_t i = 0; i < N; i++)
        half[0][i] = (uint16_t)i;
    ref->bf16_to_f32(N, half[0], y[0]);
    k->bf16_to_f32(N, half[0], y[1]);
    ck_assert_uint_eq(first_difference(N, y[0], y[1]), N);
    ref->f16_to_f32(N, half[0], y[0]);
    k->f16_to_f32(N, half[0], y[1]);
    ck_assert_uint_eq(first_difference(N, y[0], y[1]), N);

    const uint32_t step = 1021; /* prime: all low bits are met */
    for (uint64_t from = 0; from <= UINT32_MAX; from += (uint64_t)N * step) {
        for (size_t i = 0; i < N; i++)
            x[i] = float_of((uint32_t)(from + i * step));
        ref->gelu_f32(N, x, y[0]);
        k->gelu_f32(N, x, y[1]);
        size_t at = first_difference(N, y[0], y[1]);
        ck_assert_msg(at == N, "gelu of %a", (double)x[at % N]);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            (bf16 ? ref->f32_to_bf16 : ref->f32_to_f16)(N, x, half[0]);
            (bf16 ? k->f32_to_bf16 : k->f32_to_f16)(N, x, half[1]);
            for (at = 0; at < N && (half[0][at] == half[1][at] || isnan(x[at]));)
                at++;
            ck_assert_msg(at == N, "%a to 16 bits", (double)x[at % N]);
        }
        for (size_t i = 0; i < N; i++) /* the largest of the row is 0, so exp(x) is seen */
            x[i] = isfinite(x[i]) && x[i] < 0 ? x[i] : 0;
        ref->softmax_f32(1, N, x, N, 1, y[0], N);
        k->softmax_f32(1, N, x, N, 1, y[1], N);
        at = first_difference(N, y[0], y[1]);
        ck_assert_msg(at == N, "softmax at %a", (double)x[at % N]);
    }
}
END_TEST

int main(int argc, char **argv)
{
    const char *s = getenv("TACIT_SEED"), *n = getenv("TACIT_CASES");
    const char *free_bytes = getenv("TACIT_SLACK");
    if (s)
        seed = strtoull(s, NULL, 0);
    if (n)
        cases = strtoull(n, NULL, 0);
    if (free_bytes)
        slack = strtoull(free_bytes, NULL, 0);
    only_row = argc > 1 ? argv[1] : NULL;
    only_case = argc > 2 ? strtoull(argv[2], NULL, 0) : SIZE_MAX;
    if (only_case != SIZE_MAX && cases <= only_case)
        cases = only_case + 1;
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i)) {
            printf("%s%s ", tacit_isa_name((tacit_isa)i),
                   tacit_cpu_dot8((tacit_isa)i) ? " (bytes by one instruction, and without)" : "");
            isas[isa_count++] = (tacit_isa)i;
        }
    printf("with TACIT_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);

    map_regions();
    for (size_t i = 0; i < MOST; i++)
        if (!(expected[i] = malloc(REGION)))
            return 2;
    struct sigaction action = { .sa_handler = stray };
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);

    Suite *suite = suite_create("kernels");
    TCase *t = tcase_create("kernels");
    tcase_set_timeout(t, 0);
    for (size_t r = 0; r < ROWS; r++)
        if (!only_row || !strcmp(only_row, rows[r].name))
            tcase_add_loop_test(t, against_ref, (int)(r * isa_count), (int)((r + 1) * isa_count));
    if (!only_row && cases >= 200)
        tcase_add_loop_test(t, whole_range, 1, (int)isa_count); /* the first is ref */
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner), ran = srunner_ntests_run(runner);
    srunner_free(runner);
    if (!ran)
        fprintf(stderr, "no kernel is called %s\n", only_row);
    return failed || !ran;
}
