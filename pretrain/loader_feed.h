/* loader_feed.h - the views of a data set as an engine's batches. */
#ifndef TACIT_LOADER_FEED_H
#define TACIT_LOADER_FEED_H

#include "engine.h"

typedef struct tacit_loader_feed {
    tacit_feed feed;
    tacit_view views[TACIT_METHOD_VIEWS];
    tacit_loader *loader;
    uint64_t epoch, index; /* that the loader gives next */
} tacit_loader_feed;

/* The views of an engine's method with the setting `normalise`: fills views (TACIT_METHOD_VIEWS),
 * and tells how many. */
tacit_status tacit_loader_feed_views(const tacit_engine *engine, tacit_view *views, size_t *count,
                                     tacit_err *err);

/* The setting `images`, for an engine that was declared. bad: as of the loader. Must be closed
 * after a success. */
tacit_status tacit_loader_feed_open(tacit_loader_feed *feed, const tacit_engine *engine,
                                    void (*bad)(void *ctx, const char *line), void *ctx,
                                    tacit_err *err);
void tacit_loader_feed_close(tacit_loader_feed *feed);

#endif
