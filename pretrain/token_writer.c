/* token_writer.c - see token_writer.h. */
#include "token_writer.h"

#include "atomic_file.h"
#include "npy.h"
#include "pictures.h"
#include "samples.h"
#include "tokenizer_file.h"
#include "views.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS 2 /* of a sheet */

typedef struct writer {
    const tacit_token_options *o;
    tacit_token_result *result;
    tacit_tokenizer *tokenizer;
    tacit_dataset *set;
    tacit_sample sample;
    tacit_viewer *viewer;
    tacit_atomic file;
    bool open;
    size_t tokens;
    float *pixels;  /* (batch, 3, size, size) */
    uint32_t *ids;  /* (batch, tokens)        */
    int32_t *rows;  /* the same, as written   */
    bool *usable;   /* (batch)                */
    uint64_t *hits; /* (codes)                */
} writer;

static tacit_status open_writer(writer *w, tacit_err *err)
{
    const tacit_token_options *o = w->o;
    tacit_status st =
        tacit_tokenizer_open(&w->tokenizer, o->tokenizer, 0, o->batch, o->kernels, o->pool, err);
    if (st < 0)
        return st;
    const tacit_tokenizer_info *info = tacit_tokenizer_info_of(w->tokenizer);
    tacit_view view = tacit_view_plain((unsigned)info->size);
    memcpy(view.mean, info->mean, sizeof view.mean);
    memcpy(view.std, info->std, sizeof view.std);
    w->result->info = *info;
    w->tokens = info->grid * info->grid;
    st = tacit_viewer_open(&w->viewer, &view, 1, o->kernels, err);
    if (st == TACIT_OK)
        st = tacit_dataset_open(&w->set, o->images, o->kind, err);
    w->pixels = tacit_calloc(o->batch * 3 * info->size, info->size * sizeof *w->pixels);
    w->ids = tacit_calloc(o->batch * w->tokens, sizeof *w->ids);
    w->rows = tacit_calloc(o->batch * w->tokens, sizeof *w->rows);
    w->usable = tacit_calloc(o->batch, sizeof *w->usable);
    w->hits = tacit_calloc(info->codes, sizeof *w->hits);
    if (st == TACIT_OK && (!w->pixels || !w->ids || !w->rows || !w->usable || !w->hits))
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu images", o->batch);
    if (st == TACIT_OK)
        st = tacit_atomic_open(&w->file, o->out, err);
    w->open = st == TACIT_OK;
    return st;
}

static void close_writer(writer *w)
{
    if (w->open)
        tacit_atomic_abort(&w->file);
    tacit_free(w->pixels);
    tacit_free(w->ids);
    tacit_free(w->rows);
    tacit_free(w->usable);
    tacit_free(w->hits);
    tacit_dataset_close(&w->set);
    tacit_sample_free(&w->sample);
    tacit_viewer_close(&w->viewer);
    tacit_tokenizer_close(&w->tokenizer);
}

/* The sample's centre square, to place `at` of the batch. */
static tacit_status put(writer *w, size_t at, tacit_err *err)
{
    const tacit_sample *from = &w->sample;
    size_t square = from->width < from->height ? from->width : from->height;
    size_t size = w->result->info.size;
    const tacit_view_draws draws = { .left = (uint32_t)(from->width - square) / 2,
                                     .top = (uint32_t)(from->height - square) / 2,
                                     .width = (uint32_t)square,
                                     .height = (uint32_t)square };
    return tacit_view_apply(w->viewer, 0, &draws, from->rgb, from->width, from->height,
                            w->pixels + at * 3 * size * size, err);
}

/* The next image, usable or not, to place `at`; *more is false where there is none. */
static tacit_status next_image(writer *w, size_t at, bool *more, tacit_err *err)
{
    tacit_err why;
    tacit_status st = tacit_dataset_next(w->set, &w->sample.item, more, err);
    if (st < 0 || !*more)
        return st;
    st = tacit_sample_decode(&w->sample, &why);
    w->usable[at] = st == TACIT_OK;
    if (st == TACIT_OK)
        return put(w, at, err);
    if (st == TACIT_ENOMEM)
        return tacit_fail(err, st, "%s", why.text);
    if (w->o->bad)
        w->o->bad(w->o->ctx, why.text);
    w->result->bad++;
    return TACIT_OK;
}

/* The rows of `count` images. What stands in the place of an unusable one is encoded, too. */
static tacit_status write_rows(writer *w, size_t count, tacit_err *err)
{
    tacit_tokenizer_encode(w->tokenizer, w->pixels, count, w->ids);
    for (size_t i = 0; i < count; i++)
        for (size_t k = i * w->tokens; k < (i + 1) * w->tokens; k++) {
            w->rows[k] = w->usable[i] ? (int32_t)w->ids[k] : -1;
            w->hits[w->ids[k]] += w->usable[i];
        }
    w->result->images += count;
    return tacit_write_all(w->file.fd, w->rows, count * w->tokens * sizeof *w->rows, w->o->out,
                           err);
}

static void tell_use(writer *w)
{
    double all = 0, used = 0, entropy = 0;
    size_t codes = w->result->info.codes;
    for (size_t k = 0; k < codes; k++)
        all += (double)w->hits[k];
    for (size_t k = 0; k < codes; k++) {
        double p = all > 0 ? (double)w->hits[k] / all : 0;
        used += p > 0;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    w->result->codes_used = used / (double)codes;
    w->result->perplexity = exp(entropy);
}

static tacit_status write_all(writer *w, tacit_err *err)
{
    const tacit_token_options *o = w->o;
    char header[TACIT_NPY_HEADER];
    uint64_t total = tacit_dataset_count(w->set);
    const uint64_t begun[] = { 0, w->tokens };
    tacit_npy_header(header, TACIT_I32, begun, 2);
    tacit_status st = tacit_write_all(w->file.fd, header, sizeof header, o->out, err);
    for (bool more = true; st == TACIT_OK && more;) {
        size_t n = 0;
        while (st == TACIT_OK && more && n < o->batch) {
            st = next_image(w, n, &more, err);
            n += st == TACIT_OK && more;
        }
        if (st == TACIT_OK && n)
            st = write_rows(w, n, err);
        if (st == TACIT_OK && o->stop && atomic_load(o->stop))
            st = tacit_fail(err, TACIT_ECANCELLED, "stopped: nothing is written");
        if (st == TACIT_OK && o->progress)
            o->progress(o->ctx, w->result->images, total == UINT64_MAX ? 0 : total);
    }
    const uint64_t shape[] = { w->result->images, w->tokens };
    tacit_npy_header(header, TACIT_I32, shape, 2);
    if (st == TACIT_OK)
        st = tacit_pwrite_all(w->file.fd, header, sizeof header, 0, o->out, err);
    tell_use(w);
    return st;
}

tacit_status tacit_tokens_write(const tacit_token_options *options, tacit_token_result *result,
                                tacit_err *err)
{
    writer w = { .o = options, .result = result };
    *result = (tacit_token_result){ 0 };
    tacit_status st = open_writer(&w, err);
    if (st == TACIT_OK)
        st = write_all(&w, err);
    if (st == TACIT_OK) {
        w.open = false;
        st = tacit_atomic_commit(&w.file, err);
    }
    close_writer(&w);
    return st;
}

/* As the sheet of a run that has these weights. */
tacit_status tacit_token_pictures(const tacit_token_options *o, const char *out, size_t count,
                                  tacit_err *err)
{
    const tacit_picture_options options = {
        .images = o->images, .kind = o->kind, .count = count, .columns = COLUMNS
    };
    tacit_checkpoint *file = NULL;
    tacit_config config = { 0 };
    tacit_engine engine = { 0 };
    tacit_sheet_size size;
    tacit_tokenizer_info info;
    char batch[32];
    snprintf(batch, sizeof batch, "batch=%zu", count);
    tacit_status st = tacit_tokenizer_peek(o->tokenizer, &info, err);
    if (st == TACIT_OK && info.published)
        st = tacit_fail(err, TACIT_EUNSUPPORTED,
                        "%s: was not trained here; pictures are drawn of those that were: leave "
                        "--pictures out",
                        o->tokenizer);
    if (st == TACIT_OK)
        st = tacit_checkpoint_open(&file, o->tokenizer, err);
    if (st == TACIT_OK)
        st = tacit_tokenizer_file_settings(file, o->tokenizer, &config, err);
    if (st == TACIT_OK)
        st = tacit_pictures_method(&config, err);
    if (st == TACIT_OK)
        st = tacit_config_set(&config, batch, err);
    if (st == TACIT_OK)
        st = tacit_config_set(&config, "accumulate=1", err);
    if (st == TACIT_OK)
        st = tacit_engine_declare(&engine, &config, o->kernels, o->pool, err);
    if (st == TACIT_OK)
        st = tacit_engine_open(&engine, err);
    if (st == TACIT_OK)
        st = tacit_tokenizer_file_load(file, o->tokenizer, &engine.params, err);
    if (st == TACIT_OK)
        st = tacit_pictures_write(out, &engine, &options, &size, err);
    tacit_engine_close(&engine);
    tacit_config_close(&config);
    tacit_checkpoint_close(&file);
    return st;
}
