/* batcher.c - see batcher.h. */
#include "batcher.h"

#include "mem.h"

#include <pthread.h>
#include <string.h>

struct tacit_batcher {
    tacit_batch *batch;
    size_t most;
    tacit_input **inputs;     /* (most): of the batch that is computed */
    tacit_request **requests; /* (most): the same */
    pthread_t thread;

    pthread_mutex_t lock; /* guards all below, and next and cancelled of requests that wait */
    pthread_cond_t more;
    tacit_request *first, **last;
    bool closing;
    uint64_t *sizes; /* (most + 1) */
};

static tacit_request *take(tacit_batcher *b)
{
    tacit_request *r = b->first;
    b->first = r->next;
    if (!b->first)
        b->last = &b->first;
    return r;
}

/* Waits for requests: up to a batch of them, and before those the cancelled ones as a list. False
 * where there will be none. */
static bool next_batch(tacit_batcher *b, size_t *count, tacit_request **cancelled)
{
    tacit_request **end = cancelled;
    *count = 0;
    pthread_mutex_lock(&b->lock);
    while (!b->first && !b->closing)
        pthread_cond_wait(&b->more, &b->lock);
    bool any = b->first != NULL;
    while (b->first && *count < b->most) {
        tacit_request *r = take(b);
        if (r->cancelled) {
            *end = r;
            end = &r->next;
        } else {
            b->requests[(*count)++] = r;
        }
    }
    *end = NULL;
    b->sizes[*count] += *count > 0;
    pthread_mutex_unlock(&b->lock);
    return any;
}

static void *serve(void *arg)
{
    tacit_batcher *b = arg;
    tacit_request *cancelled;
    for (size_t count; next_batch(b, &count, &cancelled);) {
        while (cancelled) {
            tacit_request *r = cancelled;
            cancelled = r->next; /* done may free it */
            r->input.status = tacit_fail(&r->input.err, TACIT_ECANCELLED, "cancelled");
            r->done(r);
        }
        for (size_t i = 0; i < count; i++)
            b->inputs[i] = &b->requests[i]->input;
        tacit_batch_run(b->batch, b->inputs, count);
        for (size_t i = 0; i < count; i++)
            b->requests[i]->done(b->requests[i]);
    }
    return NULL;
}

static void free_all(tacit_batcher *b)
{
    tacit_free(b->inputs);
    tacit_free(b->requests);
    tacit_free(b->sizes);
    tacit_free(b);
}

tacit_status tacit_batcher_open(tacit_batcher **out, tacit_batch *batch, tacit_err *err)
{
    *out = NULL;
    tacit_batcher *b = tacit_calloc(1, sizeof *b);
    if (!b)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    b->batch = batch;
    b->most = tacit_batch_most(batch);
    b->last = &b->first;
    b->inputs = tacit_calloc(b->most, sizeof *b->inputs);
    b->requests = tacit_calloc(b->most, sizeof *b->requests);
    b->sizes = tacit_calloc(b->most + 1, sizeof *b->sizes);
    if (!b->inputs || !b->requests || !b->sizes) {
        free_all(b);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    }
    if (pthread_mutex_init(&b->lock, NULL))
        goto no_lock;
    if (pthread_cond_init(&b->more, NULL))
        goto no_cond;
    if (pthread_create(&b->thread, NULL, serve, b))
        goto no_thread;
    *out = b;
    return TACIT_OK;

no_thread:
    pthread_cond_destroy(&b->more);
no_cond:
    pthread_mutex_destroy(&b->lock);
no_lock:
    free_all(b);
    return tacit_fail(err, TACIT_ENOMEM, "the system gives no thread for the network");
}

void tacit_batcher_close(tacit_batcher **p)
{
    tacit_batcher *b = *p;
    *p = NULL;
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->closing = true;
    pthread_cond_signal(&b->more);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    pthread_cond_destroy(&b->more);
    pthread_mutex_destroy(&b->lock);
    free_all(b);
}

void tacit_batcher_submit(tacit_batcher *b, tacit_request *request)
{
    request->next = NULL;
    request->cancelled = false;
    pthread_mutex_lock(&b->lock);
    *b->last = request;
    b->last = &request->next;
    pthread_cond_signal(&b->more);
    pthread_mutex_unlock(&b->lock);
}

void tacit_batcher_cancel(tacit_batcher *b, tacit_request *request)
{
    pthread_mutex_lock(&b->lock);
    request->cancelled = true;
    pthread_mutex_unlock(&b->lock);
}

void tacit_batcher_sizes(tacit_batcher *b, uint64_t *sizes)
{
    pthread_mutex_lock(&b->lock);
    memcpy(sizes, b->sizes, (b->most + 1) * sizeof *sizes);
    pthread_mutex_unlock(&b->lock);
}
