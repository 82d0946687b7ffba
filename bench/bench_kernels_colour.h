/* bench_kernels_colour.h - shapes of the kernels of colour and blur: a view of 224 x 224 pixels. */

#define VIEW_PIXELS 50176

static void run_luma_u8(call *c)
{
    c->k->luma_u8(c->n, (uint8_t *)c->a, c->n, (uint8_t *)c->c);
}

static void bench_luma_u8(call *c)
{
    c->shape = "3 x 50176";
    c->n = VIEW_PIXELS;
    c->bytes = 4.0 * VIEW_PIXELS;
    c->run = run_luma_u8;
}

static void run_blend_u8(call *c)
{
    c->k->blend_u8(c->n, (uint8_t *)c->a, NULL, 100, 1.3f, (uint8_t *)c->c);
}

static void bench_blend_u8(call *c)
{
    c->shape = "150528";
    c->n = 3 * VIEW_PIXELS;
    c->bytes = 6.0 * VIEW_PIXELS;
    c->run = run_blend_u8;
}

static void run_hue_u8(call *c)
{
    c->k->hue_u8(c->n, 20, (uint8_t *)c->a, c->n, (uint8_t *)c->c, c->n);
}

static void bench_hue_u8(call *c)
{
    c->shape = "3 x 50176";
    c->n = VIEW_PIXELS;
    c->bytes = 6.0 * VIEW_PIXELS;
    c->run = run_hue_u8;
}

static void run_solarise_u8(call *c)
{
    c->k->solarise_u8(c->n, 128, (uint8_t *)c->a, (uint8_t *)c->c);
}

static void bench_solarise_u8(call *c)
{
    c->shape = "150528";
    c->n = 3 * VIEW_PIXELS;
    c->bytes = 6.0 * VIEW_PIXELS;
    c->run = run_solarise_u8;
}

/* One pass of three that make a Gaussian of deviation 1. */
static void run_box_blur_u8(call *c)
{
    static const tacit_box box = { 0, 11184810, 2796203 };
    c->k->box_blur_u8(c->m, c->n, &box, (uint8_t *)c->a, c->n, (uint8_t *)c->c, c->n);
}

static void bench_box_blur_u8(call *c)
{
    c->shape = "672 rows of 224, radius 0.25";
    c->m = 672;
    c->n = 224;
    c->bytes = 6.0 * VIEW_PIXELS;
    c->run = run_box_blur_u8;
}
