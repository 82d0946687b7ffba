/* loader_feed.c - see loader_feed.h. */
#include "loader_feed.h"

#include "backbone_file.h"

#define AHEAD 2 /* batches that are made while one is trained on */

static tacit_status next(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                         tacit_err *err)
{
    tacit_loader_feed *f = ctx;
    if (epoch != f->epoch || index != f->index)
        tacit_loader_seek(f->loader, epoch, index);
    f->epoch = epoch + (index + 1 == f->feed.parts);
    f->index = (index + 1) % f->feed.parts;
    return tacit_loader_next(f->loader, batch, err);
}

tacit_status tacit_loader_feed_views(const tacit_engine *e, tacit_view *views, size_t *count,
                                     tacit_err *err)
{
    unsigned height, width;
    tacit_backbone_input(&e->learner.backbone, &height, &width);
    tacit_status st = e->method->views(e->learner.config, height, views, count, err);
    for (size_t i = 0; st == TACIT_OK && i < *count; i++) {
        tacit_normalisation(e->learner.config, views[i].mean, views[i].std);
        st = tacit_view_check(&views[i], err);
    }
    return st;
}

tacit_status tacit_loader_feed_open(tacit_loader_feed *f, const tacit_engine *e,
                                    void (*bad)(void *ctx, const char *line), void *ctx,
                                    tacit_err *err)
{
    size_t count = 0;
    *f = (tacit_loader_feed){ 0 };
    const tacit_config *c = e->learner.config;
    const char *images = tacit_config_string(c, "images"), *name = tacit_config_string(c, "kind");
    tacit_dataset_kind kind = TACIT_DATASET_AUTO;
    if (!*images)
        return tacit_fail(err, TACIT_EINVAL, "--images is missing: where the images are");
    tacit_status st = *name ? tacit_dataset_kind_parse(name, &kind, err) : TACIT_OK;
    if (st == TACIT_OK)
        st = tacit_loader_feed_views(e, f->views, &count, err);
    const tacit_loader_options options = { .path = images,
                                           .kind = kind,
                                           .views = f->views,
                                           .view_count = count,
                                           .batch = e->learner.part,
                                           .seed = e->seed,
                                           .threads = tacit_pool_threads(e->work.pool),
                                           .ahead = AHEAD,
                                           .pool = e->work.pool,
                                           .kernels = e->work.kernels,
                                           .bad = bad,
                                           .ctx = ctx };
    if (st == TACIT_OK)
        st = tacit_loader_open(&f->loader, &options, err);
    if (st == TACIT_OK)
        f->feed = (tacit_feed){ f, tacit_loader_steps(f->loader), next };
    return st;
}

void tacit_loader_feed_close(tacit_loader_feed *f)
{
    tacit_loader_close(&f->loader);
}
