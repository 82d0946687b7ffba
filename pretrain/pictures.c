/* pictures.c - see pictures.h. */
#include "pictures.h"

#include "atomic_file.h"
#include "loader_feed.h"
#include "samples.h"

#include <assert.h>
#include <string.h>

#define LEAST       96 /* width of a panel in pixels     */
#define GAP         4  /* between the panels of an image */
#define MARGIN      12 /* around images                  */
#define MOST_PIXELS ((size_t)1 << 27)

typedef struct sheet {
    const tacit_picture_options *o;
    const tacit_engine *e;
    tacit_sheet_size *size;
    tacit_view views[TACIT_METHOD_VIEWS];
    size_t view_count;
    size_t batch;       /* images that go forward together         */
    size_t side, scale; /* of a panel, in its pixels; enlargement  */
    size_t panel_count, columns;
    size_t width, height; /* room, in pixels */
    tacit_arena arena;
    float *inputs[TACIT_METHOD_VIEWS]; /* (batch, 3, size, size)                  */
    float *panels;                     /* (panel_count, 3, side, side), one image */
    uint32_t *samples;                 /* (batch)          */
    uint8_t *rgb;                      /* (height, width, 3) */
    tacit_dataset *images;
    tacit_sample sample;
    tacit_viewer *viewer;
    tacit_err why; /* of the last bad image */
} sheet;

/* Sizes --------------------------------------------------------------------------------------- */

static size_t group_width(const sheet *s)
{
    return s->panel_count * (s->side * s->scale + GAP) - GAP;
}

static size_t width_of(const sheet *s, size_t columns)
{
    return MARGIN + columns * (group_width(s) + MARGIN);
}

static size_t height_of(const sheet *s, size_t images)
{
    size_t rows = (images + s->columns - 1) / s->columns;
    return MARGIN + rows * (s->side * s->scale + MARGIN);
}

static tacit_status measure(sheet *s, tacit_err *err)
{
    const tacit_engine *e = s->e;
    size_t count = s->o->count, columns = s->o->columns;
    assert(count && columns);
    tacit_status st = tacit_pictures_method(e->learner.config, err);
    if (st == TACIT_OK)
        st = tacit_loader_feed_views(e, s->views, &s->view_count, err);
    if (st < 0)
        return st;
    while (e->method->panels[s->panel_count])
        s->panel_count++;
    s->batch = count < e->learner.part ? count : e->learner.part;
    s->columns = columns < count ? columns : count;
    s->side = s->views[0].size;
    s->scale = (LEAST + s->side - 1) / s->side;
    s->width = width_of(s, s->columns);
    s->height = height_of(s, count);
    if (s->width > MOST_PIXELS || s->height > MOST_PIXELS / s->width)
        return tacit_fail(err, TACIT_ELIMIT,
                          "a sheet of %zu images, %zu x %zu pixels, is too large: show fewer",
                          count, s->width, s->height);
    return TACIT_OK;
}

static bool plan(const sheet *s, size_t *total)
{
    bool fits = true;
    for (size_t v = 0; v < s->view_count; v++)
        fits = fits && tacit_arena_plan(total, s->batch * 3 * s->views[v].size,
                                        s->views[v].size * sizeof(float));
    return fits && tacit_arena_plan(total, s->panel_count * 3 * s->side, s->side * sizeof(float)) &&
           tacit_arena_plan(total, s->batch, sizeof(uint32_t)) &&
           tacit_arena_plan(total, s->height * s->width, 3);
}

bool tacit_pictures_plan(const tacit_engine *engine, const tacit_picture_options *options,
                         size_t *bytes)
{
    sheet s = { .o = options, .e = engine };
    return measure(&s, NULL) == TACIT_OK && plan(&s, bytes);
}

static tacit_status open_sheet(sheet *s, tacit_err *err)
{
    size_t total = 0;
    tacit_status st = measure(s, err);
    if (st == TACIT_OK && !plan(s, &total))
        st = tacit_fail(err, TACIT_ELIMIT, "%zu pictures are too many", s->o->count);
    if (st == TACIT_OK && (st = tacit_arena_open(&s->arena, total, err)) < 0)
        tacit_fail_at(err, st, "pictures");
    if (st == TACIT_OK)
        st = tacit_viewer_open(&s->viewer, s->views, s->view_count, s->e->work.kernels, err);
    if (st == TACIT_OK)
        st = tacit_dataset_open(&s->images, s->o->images, s->o->kind, err);
    if (st < 0)
        return st;
    for (size_t v = 0; v < s->view_count; v++)
        s->inputs[v] = tacit_arena_take(&s->arena, s->batch * 3 * s->views[v].size,
                                        s->views[v].size * sizeof(float));
    s->panels = tacit_arena_take(&s->arena, s->panel_count * 3 * s->side, s->side * sizeof(float));
    s->samples = tacit_arena_take(&s->arena, s->batch, sizeof(uint32_t));
    s->rgb = tacit_arena_take(&s->arena, s->height * s->width, 3);
    memset(s->rgb, 255, 3 * s->height * s->width);
    return TACIT_OK;
}

static void close_sheet(sheet *s)
{
    tacit_dataset_close(&s->images);
    tacit_sample_free(&s->sample);
    tacit_viewer_close(&s->viewer);
    tacit_arena_close(&s->arena);
}

/* Images -------------------------------------------------------------------------------------- */

/* The sample's centre square, as each view, into place `at` of the batch. */
static tacit_status put(sheet *s, size_t at, tacit_err *err)
{
    const tacit_sample *from = &s->sample;
    size_t square = from->width < from->height ? from->width : from->height;
    const tacit_view_draws draws = { .left = (uint32_t)(from->width - square) / 2,
                                     .top = (uint32_t)(from->height - square) / 2,
                                     .width = (uint32_t)square,
                                     .height = (uint32_t)square };
    tacit_status st = TACIT_OK;
    s->samples[at] = (uint32_t)from->item.index;
    for (unsigned v = 0; st == TACIT_OK && v < s->view_count; v++)
        st = tacit_view_apply(s->viewer, v, &draws, from->rgb, from->width, from->height,
                              s->inputs[v] + at * 3 * s->views[v].size * s->views[v].size, err);
    return st;
}

/* The next usable image into place `at` of the batch; *more is false where there is none. */
static tacit_status next_image(sheet *s, size_t at, bool *more, tacit_err *err)
{
    for (;;) {
        tacit_status st = tacit_dataset_next(s->images, &s->sample.item, more, err);
        if (st < 0 || !*more)
            return st;
        st = tacit_sample_decode(&s->sample, &s->why);
        if (st == TACIT_OK)
            return put(s, at, err);
        if (st == TACIT_ENOMEM)
            return tacit_fail(err, st, "%s", s->why.text);
        s->size->bad++;
    }
}

/* The sheet ----------------------------------------------------------------------------------- */

/* Of a number that is none, too. */
static uint8_t to_byte(float value)
{
    return value > 0 ? value < 1 ? (uint8_t)(255 * value + 0.5f) : 255 : 0;
}

static void draw_panel(const sheet *s, const float *panel, size_t left, size_t top)
{
    size_t plane = s->side * s->side, wide = s->side * s->scale;
    for (size_t y = 0; y < wide; y++) {
        const float *row = panel + y / s->scale * s->side;
        uint8_t *to = s->rgb + 3 * ((top + y) * s->width + left);
        for (size_t x = 0; x < wide; x++)
            for (size_t c = 0; c < 3; c++)
                *to++ = to_byte(row[c * plane + x / s->scale]);
    }
}

/* The panels of the next image. */
static void draw_image(const sheet *s)
{
    size_t wide = s->side * s->scale, column = s->size->images % s->columns;
    size_t left = MARGIN + column * (group_width(s) + MARGIN);
    size_t top = MARGIN + s->size->images / s->columns * (wide + MARGIN);
    for (size_t p = 0; p < s->panel_count; p++)
        draw_panel(s, s->panels + p * 3 * s->side * s->side, left + p * (wide + GAP), top);
    s->size->images++;
}

static void draw_batch(const sheet *s, size_t images)
{
    const tacit_engine *e = s->e;
    const tacit_batch batch = { .samples = s->samples, .views = (const float *const *)s->inputs };
    const tacit_part part = { .batch = &batch, .images = images, .count = 1, .seed = e->seed };
    e->method->forward(e->state, &part);
    for (size_t i = 0; i < images; i++) {
        e->method->picture(e->state, &part, i, s->panels);
        draw_image(s);
    }
}

static tacit_status draw_all(sheet *s, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    for (bool more = true; st == TACIT_OK && more && s->size->images < s->o->count;) {
        size_t n = 0, left = s->o->count - s->size->images,
               most = left < s->batch ? left : s->batch;
        while (st == TACIT_OK && more && n < most) {
            st = next_image(s, n, &more, err);
            n += st == TACIT_OK && more;
        }
        if (st == TACIT_OK && n)
            draw_batch(s, n);
    }
    if (st == TACIT_OK && !s->size->images)
        st = tacit_fail(err, TACIT_EINVAL, "%s: not one image can be used%s%.800s", s->o->images,
                        s->size->bad ? ": " : "", s->size->bad ? s->why.text : "");
    return st;
}

/* Leaves out the room that fewer images than asked for did not take. */
static void cut(const sheet *s)
{
    size_t images = s->size->images;
    s->size->height = height_of(s, images);
    s->size->width = width_of(s, images < s->columns ? images : s->columns);
    for (size_t y = 1; s->size->width < s->width && y < s->size->height; y++)
        memmove(s->rgb + 3 * y * s->size->width, s->rgb + 3 * y * s->width, 3 * s->size->width);
}

tacit_status tacit_pictures_write(const char *path, tacit_engine *engine,
                                  const tacit_picture_options *options, tacit_sheet_size *size,
                                  tacit_err *err)
{
    sheet s = { .o = options, .e = engine, .size = size };
    void *png = NULL;
    size_t bytes = 0;
    *size = (tacit_sheet_size){ 0 };
    tacit_status st = open_sheet(&s, err);
    if (st == TACIT_OK)
        st = draw_all(&s, err);
    if (st == TACIT_OK) {
        cut(&s);
        st = tacit_png_encode(s.rgb, size->width, size->height, &png, &bytes, err);
    }
    if (st == TACIT_OK)
        st = tacit_file_replace(path, png, bytes, err);
    tacit_free(png);
    close_sheet(&s);
    return st;
}

/* What is known before ------------------------------------------------------------------------- */

tacit_status tacit_pictures_method(const tacit_config *config, tacit_err *err)
{
    const tacit_method *m = config->method;
    return tacit_method_draws(config)
               ? TACIT_OK
               : tacit_fail(err, TACIT_EUNSUPPORTED, "%s does not reconstruct%s", m->name,
                            m->picture ? " with these settings" : "");
}

tacit_status tacit_pictures_check(const char *path, tacit_err *err)
{
    tacit_dataset *images = NULL;
    tacit_status st = tacit_dataset_open(&images, path, TACIT_DATASET_AUTO, err);
    tacit_dataset_close(&images);
    return st < 0 ? tacit_fail_at(err, st, "pictures") : st;
}
