/* pixel_match.c - see pixel_match.h. */
#include "pixel_match.h"

#include "backbone_file.h"

/* (x std + mean - its mean) / its std. */
void tacit_pixel_match_between(tacit_pixel_match *m, const float own_mean[3],
                               const float own_std[3], const float mean[3], const float std[3],
                               size_t image, size_t side, size_t chunk, const tacit_work *work)
{
    *m = (tacit_pixel_match){ .work = work, .chunk = chunk, .image = image, .side = side };
    m->regrid = (tacit_regrid){
        .from = { image, image }, .to = { side, side }, .dim = 1, .rule = TACIT_RESAMPLE_ANTIALIAS
    };
    for (size_t c = 0; c < 3; c++) {
        m->gain[c] = (float)((double)own_std[c] / (double)std[c]);
        m->offset[c] = (float)(((double)own_mean[c] - (double)mean[c]) / (double)std[c]);
    }
}

void tacit_pixel_match_declare(tacit_pixel_match *m, const tacit_config *config,
                               const float mean[3], const float std[3], size_t image, size_t side,
                               size_t chunk, const tacit_work *work)
{
    float own_mean[3], own_std[3];
    tacit_normalisation(config, own_mean, own_std);
    tacit_pixel_match_between(m, own_mean, own_std, mean, std, image, side, chunk, work);
}

static bool resized(const tacit_pixel_match *m)
{
    return m->side != m->image;
}

/* Whether a view's pixels are not what is wanted. */
static bool converted(const tacit_pixel_match *m)
{
    bool other = resized(m);
    for (size_t c = 0; c < 3; c++)
        other = other || m->gain[c] != 1 || m->offset[c] != 0;
    return other;
}

static size_t line_values(const tacit_pixel_match *m)
{
    size_t widest = m->side > m->image ? m->side : m->image;
    return (widest + 7) / 8 * 8; /* no two workers in one cache line */
}

static size_t image_values(const tacit_pixel_match *m)
{
    return 3 * m->side * m->side;
}

bool tacit_pixel_match_plan(const tacit_pixel_match *m, size_t *total)
{
    size_t threads = tacit_pool_threads(m->work->pool);
    return (!converted(m) ||
            tacit_arena_plan(total, m->chunk, image_values(m) * sizeof *m->input)) &&
           (!resized(m) || (tacit_arena_plan(total, threads, line_values(m) * sizeof *m->lines) &&
                            tacit_regrid_plan(&m->regrid, total)));
}

void tacit_pixel_match_take(tacit_pixel_match *m, tacit_arena *arena)
{
    if (converted(m))
        m->input = tacit_arena_take(arena, m->chunk, image_values(m) * sizeof *m->input);
    if (!resized(m))
        return;
    size_t threads = tacit_pool_threads(m->work->pool);
    m->lines = tacit_arena_take(arena, threads, line_values(m) * sizeof *m->lines);
    tacit_regrid_take(&m->regrid, arena);
    tacit_regrid_make(&m->regrid);
}

typedef struct job {
    const tacit_pixel_match *m;
    const float *images;
} job;

/* One colour of one image. */
static void plane_chunk(void *ctx, size_t plane, unsigned worker)
{
    const job *j = ctx;
    const tacit_pixel_match *m = j->m;
    size_t from = m->image * m->image, to = m->side * m->side;
    const float *x = j->images + plane * from;
    float *y = m->input + plane * to, gain = m->gain[plane % 3], offset = m->offset[plane % 3];
    if (resized(m)) {
        tacit_regrid mine = m->regrid;
        mine.line = m->lines + worker * line_values(m);
        tacit_regrid_forward(&mine, x, y);
        x = y;
    }
    for (size_t i = 0; i < to; i++)
        y[i] = x[i] * gain + offset;
}

const float *tacit_pixel_match_forward(tacit_pixel_match *m, const float *images, size_t count)
{
    job j = { m, images };
    if (!m->input)
        return images;
    tacit_parallel_for(m->work->pool, 3 * count, plane_chunk, &j);
    return m->input;
}
