/* batch.c - see batch.h. */
#include "batch.h"

#include "dataset.h"
#include "mem.h"

#include <assert.h>
#include <string.h>

/* What one thread needs to bring one image to pixels. */
struct decoder {
    tacit_item file;
    tacit_image image;
    tacit_preprocessor *pre;
};

struct tacit_batch {
    tacit_session session; /* its buffers for pixels and for the network */
    tacit_pool *pool;
    size_t place; /* floats of one image's pixels */
    float *rows;  /* (most, dim): what the network gives */
    tacit_input *const *inputs;
    size_t decoders_count;
    struct decoder decoders[];
};

tacit_status tacit_batch_open(tacit_batch **out, const tacit_model *model, size_t most,
                              tacit_pool *pool, tacit_err *err)
{
    *out = NULL;
    size_t decoders = most > 1 ? tacit_pool_threads(pool) : 1, size, rows;
    tacit_batch *b = NULL;
    if (tacit_mul_size(decoders, sizeof *b->decoders, &size) &&
        tacit_add_size(size, sizeof *b, &size))
        b = tacit_calloc(1, size);
    if (!b)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    b->pool = pool;
    b->place = (size_t)3 * model->recipe.height * model->recipe.width;
    b->decoders_count = decoders;
    tacit_status st = tacit_session_open(&b->session, model, most, pool, err);
    bool fits = tacit_mul_size(most, model->dim, &rows);
    if (st >= 0 && !(b->rows = fits ? tacit_calloc(rows, sizeof *b->rows) : NULL))
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for batches of %zu images: use fewer",
                        most);
    for (size_t i = 0; st >= 0 && i < decoders; i++)
        st = tacit_preprocessor_open(&b->decoders[i].pre, &model->recipe, model->kernels, err);
    if (st < 0)
        tacit_batch_close(&b);
    *out = b;
    return st;
}

void tacit_batch_close(tacit_batch **p)
{
    tacit_batch *b = *p;
    *p = NULL;
    if (!b)
        return;
    for (size_t i = 0; i < b->decoders_count; i++) {
        tacit_item_free(&b->decoders[i].file);
        tacit_image_free(&b->decoders[i].image);
        tacit_preprocessor_close(&b->decoders[i].pre);
    }
    tacit_session_close(&b->session);
    tacit_free(b->rows);
    tacit_free(b);
}

size_t tacit_batch_most(const tacit_batch *batch)
{
    return batch->session.batch;
}

static tacit_status load(struct decoder *d, tacit_input *input)
{
    d->file.form = TACIT_ITEM_FILE;
    d->file.file = (char *)input->path; /* read only, and lent for this call */
    tacit_status st = tacit_item_load(&d->file, &input->err);
    d->file.file = NULL;
    return st;
}

static tacit_status decode(struct decoder *d, tacit_input *input)
{
    tacit_status st = input->path ? load(d, input) : TACIT_OK;
    if (st < 0)
        return st;
    st = tacit_image_decode(&d->image, input->path ? d->file.bytes : input->bytes,
                            input->path ? d->file.size : input->size, NULL, &input->err);
    if (st < 0 && input->path)
        tacit_fail_at(&input->err, st, "%s", input->path);
    return st;
}

/* An input to its place among the pixels; pool: works inside the image. */
static void prepare(tacit_batch *b, size_t at, unsigned worker, tacit_pool *pool)
{
    tacit_input *input = b->inputs[at];
    struct decoder *d = &b->decoders[worker];
    float *place = b->session.planar + at * b->place;
    bool pixels = !input->path && (input->width || input->height);
    input->err.text[0] = 0;
    if (pixels && (!input->width || !input->height)) {
        input->status = tacit_fail(&input->err, TACIT_EINVAL, "an image of %zu x %zu", input->width,
                                   input->height);
        return;
    }
    input->status = pixels ? TACIT_OK : decode(d, input);
    if (input->status < 0)
        return;
    input->status = pixels ? tacit_preprocess(d->pre, input->bytes, input->width, input->height,
                                              place, pool, &input->err)
                           : tacit_preprocess(d->pre, d->image.rgb, d->image.width, d->image.height,
                                              place, pool, &input->err);
    if (input->status < 0 && input->path)
        tacit_fail_at(&input->err, input->status, "%s", input->path);
}

static void prepare_chunk(void *ctx, size_t chunk, unsigned worker)
{
    prepare(ctx, chunk, worker, NULL);
}

void tacit_batch_run(tacit_batch *b, tacit_input *const *inputs, size_t count)
{
    assert(count <= b->session.batch);
    const tacit_model *model = b->session.model;
    size_t usable = 0, row = 0;
    b->inputs = inputs;
    if (count == 1)
        prepare(b, 0, 0, b->pool);
    else
        tacit_parallel_for(b->pool, count, prepare_chunk, b);
    for (size_t i = 0; i < count; i++) { /* the pixels of usable ones, one behind the other */
        if (inputs[i]->status < 0)
            continue;
        if (usable < i)
            memcpy(b->session.planar + usable * b->place, b->session.planar + i * b->place,
                   b->place * sizeof *b->session.planar);
        usable++;
    }
    tacit_session_embed(&b->session, usable, b->rows);
    for (size_t i = 0; i < count; i++) {
        tacit_input *input = inputs[i];
        if (input->status < 0)
            continue;
        float *features = b->rows + row++ * model->dim;
        input->status = tacit_model_finish(model, features, &input->err);
        if (input->status >= 0 && input->vector)
            memcpy(input->vector, features, model->dim * sizeof *features);
        else if (input->status < 0 && input->path)
            tacit_fail_at(&input->err, input->status, "%s", input->path);
    }
}

void tacit_batch_warm(tacit_batch *b)
{
    static const uint8_t blank[32 * 32 * 3];
    const tacit_model *model = b->session.model;
    memset(b->session.planar, 0, b->session.batch * b->place * sizeof *b->session.planar);
    memset(b->session.scratch, 0,
           tacit_backbone_scratch(model->backbone, b->session.batch, b->pool));
    tacit_input input = { .bytes = blank, .width = 32, .height = 32 };
    tacit_batch_run(b, &(tacit_input *){ &input }, 1);
}

unsigned tacit_batch_default(unsigned threads)
{
    return threads < 8 ? threads : 8;
}
