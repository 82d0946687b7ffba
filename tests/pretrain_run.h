/* pretrain_run.h - whole runs of tiny networks, from a file of images to a folder, for the suites
 * pretrain and monitors. */
#ifndef TACIT_TESTS_PRETRAIN_RUN_H
#define TACIT_TESTS_PRETRAIN_RUN_H

#include "pretrain_feed.h"
#include "scratch.h"
#include "trainer.h"

/* The ISAs that this CPU has, the best one last. */
static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

enum { IMAGES = 43, RECORD = 3073, EPOCH = IMAGES / 8, STEPS = 4 * EPOCH };

/* CIFAR-10's file: a class decides a picture's colours, draws do the rest. */
static inline void make_images(const char *path, size_t count)
{
    unsigned char *bytes = malloc(count * RECORD);
    for (size_t i = 0; i < count; i++) {
        unsigned class = (unsigned)(i % 3);
        bytes[i * RECORD] = (unsigned char)class;
        for (size_t p = 0; p < RECORD - 1; p++)
            bytes[i * RECORD + 1 + p] =
                (unsigned char)((p / 1024 == class ? 150 : 20) + tacit_rng_u32(3, i, p) % 100);
    }
    file_put(path, bytes, count * RECORD);
    free(bytes);
}

static char images[1024];

static inline void setup(void)
{
    isa_count = 0;
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    scratch_open();
    snprintf(images, sizeof images, "%s", scratch("images.bin"));
    make_images(images, IMAGES);
}

typedef struct run {
    tacit_config config;
    tacit_trainer_options o;
    tacit_trainer_result result;
    tacit_err err;
    atomic_int stop;
    uint64_t stop_at;        /* a step, behind which the stop is asked for */
    uint64_t allocations[2]; /* behind the first step and the last */
    char out[1024], said[16384];
} run;

static inline void on_say(void *ctx, const char *line)
{
    run *r = ctx;
    size_t n = strlen(r->said);
    snprintf(r->said + n, sizeof r->said - n, "%s\n", line);
}

static inline void on_progress(void *ctx, const tacit_progress *p)
{
    run *r = ctx;
    if (p->step->step == 1)
        r->allocations[0] = tacit_alloc_count();
    r->allocations[1] = tacit_alloc_count();
    if (p->step->step == r->stop_at)
        atomic_store(&r->stop, 1);
}

static inline void run_open(run *r, size_t method, const char *out)
{
    *r = (run){ 0 };
    snprintf(r->out, sizeof r->out, "%s", out);
    config_open(&r->config, tiny[method].method, tiny[method].settings);
    char text[1100];
    snprintf(text, sizeof text, "images=%s", images);
    config_set(&r->config, text);
    r->o = (tacit_trainer_options){ .config = &r->config,
                                    .out = r->out,
                                    .kernels = tacit_kernels_for(isas[isa_count - 1]),
                                    .stop = &r->stop,
                                    .ctx = r,
                                    .say = on_say,
                                    .progress = on_progress };
}

static inline tacit_status run_go(run *r, unsigned threads)
{
    tacit_pool *pool = NULL;
    ck_assert_int_eq(tacit_pool_open(&pool, threads, NULL), TACIT_OK);
    r->o.pool = pool;
    atomic_store(&r->stop, 0);
    r->said[0] = r->err.text[0] = 0;
    tacit_status st = tacit_train(&r->o, &r->result, &r->err);
    tacit_pool_close(&pool);
    return st;
}

static inline const char *in(const char *folder, const char *name)
{
    char both[256];
    snprintf(both, sizeof both, "%s/%s", strrchr(folder, '/') + 1, name);
    return scratch(both);
}

#endif
