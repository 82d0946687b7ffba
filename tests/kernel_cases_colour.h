/* kernel_cases_colour.h - families of test cases for kernels_colour.h; part of test_kernels.c. */

static uint8_t *bytes(const testcase *c, size_t i)
{
    return c->operands[i].at;
}

static void luma_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ draw(c) % 8 ? 4000 : 200000 });
    add_operand(c, IN, U8, 3, c->n[0], stride(c, c->n[0]));
    add_operand(c, OUT, U8, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, U32, 1, 1, 1);
}

static void luma_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    u32(c, 2)[0] = (uint32_t)((tacit_luma_u8_fn *)kernel)(c->n[0], bytes(c, 0), c->operands[0].ld,
                                                          bytes(c, 1));
}

static void blend_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->flags = draw(c) % 4;
    c->value = (float)(draw(c) % 1000) / 400;
    if (draw(c) % 8 == 0)
        c->value = (float)(draw(c) % 2);
    add_operand(c, IN, U8, 1, c->n[0], c->n[0]);
    add_operand(c, IN, U8, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, U8, 1, c->n[0], c->n[0]);
}

static void blend_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    uint8_t d = (uint8_t)tacit_rng_u32(seed, stream(c, VALUES + MOST), 0);
    ((tacit_blend_u8_fn *)kernel)(c->n[0], bytes(c, 0), c->flags ? bytes(c, 1) : NULL, d, c->value,
                                  bytes(c, 2));
}

static void hue_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->flags = draw(c) % 256;
    add_operand(c, IN, U8, 3, c->n[0], stride(c, c->n[0]));
    add_operand(c, OUT, U8, 3, c->n[0], stride(c, c->n[0]));
}

static void hue_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_hue_u8_fn *)kernel)(c->n[0], c->flags, bytes(c, 0), c->operands[0].ld, bytes(c, 1),
                                c->operands[1].ld);
}

static void solarise_shape(testcase *c)
{
    sizes(c, 1, (const size_t[]){ 4000 });
    c->flags = draw(c) % 257;
    add_operand(c, IN, U8, 1, c->n[0], c->n[0]);
    add_operand(c, OUT, U8, 1, c->n[0], c->n[0]);
}

static void solarise_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    ((tacit_solarise_u8_fn *)kernel)(c->n[0], c->flags, bytes(c, 0), bytes(c, 1));
}

static void box_blur_shape(testcase *c)
{
    sizes(c, 2, (const size_t[]){ 70, 300 });
    c->flags = draw(c) % 4 ? draw(c) % 3 : draw(c) % 100;
    add_operand(c, IN, U8, c->n[0], c->n[1], stride(c, c->n[1]));
    add_operand(c, OUT, U8, c->n[0], c->n[1], stride(c, c->n[1]));
}

static void box_blur_run(const testcase *c, const tacit_kernels *kernels, any_fn *kernel)
{
    (void)kernels;
    /* the radius and a fraction */
    uint32_t most = (1u << 24) / (2 * c->flags + 1), least = (1u << 24) / (2 * c->flags + 3);
    tacit_box box = { .radius = c->flags };
    box.whole = most - tacit_rng_u32(seed, stream(c, VALUES + MOST), 0) % (most - least + 1);
    box.part = ((1u << 24) - (2 * c->flags + 1) * box.whole) / 2;
    ((tacit_box_blur_u8_fn *)kernel)(c->n[0], c->n[1], &box, bytes(c, 0), c->operands[0].ld,
                                     bytes(c, 1), c->operands[1].ld);
}
