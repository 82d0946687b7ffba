/* bench_vit.c - our side of a comparison with other engines: stays alive, does what it is told a
 * line at a time, so that the engines can take turns within one run.
 *
 *     open PRECISION FILE          weights                                        -> ok
 *     images N FILE                N planar images, raw float32, for the network  -> ok
 *     vectors BATCH THREADS FILE   writes the published features of all images to FILE       -> ok
 *     forward WARM COUNT BATCH THREADS   the network alone, first WARM times untimed
 *                                                                      -> COUNT times in seconds
 *     photos FILE                  reads the files named in FILE, a path a line   -> ok
 *     pixels FILE                  writes what the photos become, raw float32     -> ok
 *     prepare COUNT                all photos, bytes to planar floats, 1 thread   -> COUNT times
 *     resize COUNT                 the same from decoded pixels                   -> COUNT times
 *     embed COUNT THREADS          all photos, bytes to vectors, one at a time    -> COUNT times
 *     fma THREADS                  GFLOP/s of fused multiply-adds in registers alone
 *
 * What cannot be done is answered by "error: " and a line. End of input ends it.
 */
#include "extractor.h"
#include "measure.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 64
#define MAX_COUNT   10000
#define FMA_SECONDS 0.01

typedef struct photo {
    unsigned char *bytes;
    size_t size;
    tacit_image image;
} photo;

static tacit_model model;
static float *images;
static size_t image_count;
static float *vectors; /* of a batch */
static void *scratch;  /* of a forward; both are kept while the model is, and grow */
static size_t vectors_size, scratch_size;
static photo *photos;
static size_t photo_count;
static tacit_pool *pools[MAX_THREADS + 1];

/* Pools stay open; one that waits sleeps. */
static tacit_status pool_of(unsigned threads, tacit_pool **pool, tacit_err *err)
{
    *pool = NULL;
    if (!threads || threads > MAX_THREADS)
        return tacit_fail(err, TACIT_EINVAL, "%u threads: use 1 to %d", threads, MAX_THREADS);
    tacit_status st = pools[threads] ? TACIT_OK : tacit_pool_open(&pools[threads], threads, err);
    *pool = pools[threads];
    return st;
}

static tacit_status run_fma(unsigned threads, tacit_err *err)
{
    tacit_isa isa = TACIT_ISA_REF;
    tacit_pool *pool;
    tacit_status st = pool_of(threads, &pool, err);
    if (st == TACIT_OK)
        st = tacit_isa_select(NULL, &isa, err);
    if (st == TACIT_OK)
        printf("%.3f\n", tacit_fma_limit(isa, pool, FMA_SECONDS));
    return st;
}

/* The network --------------------------------------------------------------------------------- */

static size_t image_floats(void)
{
    unsigned height, width;
    tacit_backbone_input(tacit_backbone_config_of(model.backbone), &height, &width);
    return (size_t)3 * height * width;
}

static tacit_status open_model(const char *path, const char *precision, tacit_err *err)
{
    unsigned chosen = 0;
    while (tacit_precision_name(chosen) && strcmp(tacit_precision_name(chosen), precision))
        chosen++;
    if (!tacit_precision_name(chosen))
        return tacit_fail(err, TACIT_EINVAL, "no precision '%s'", precision);
    tacit_pool *pool;
    tacit_status st = pool_of(2, &pool, err);
    if (st < 0)
        return st;
    tacit_model_close(&model);
    model = (tacit_model){ 0 };
    tacit_free(images);
    tacit_free(vectors);
    tacit_free(scratch);
    images = vectors = scratch = NULL;
    image_count = vectors_size = scratch_size = 0;
    tacit_model_options options;
    tacit_model_defaults(&options);
    options.weights = path;
    options.precision = (tacit_precision)chosen;
    return tacit_model_open(&model, &options, false, pool, err);
}

static tacit_status read_images(size_t n, const char *path, tacit_err *err)
{
    if (!model.backbone || !n || n > MAX_COUNT)
        return tacit_fail(err, TACIT_EINVAL, "images: first open a model; 1 to %d images",
                          MAX_COUNT);
    size_t each = image_floats() * sizeof(float);
    tacit_free(images);
    image_count = 0;
    images = tacit_alloc(n * each);
    FILE *f = fopen(path, "rb");
    if (images && f && fread(images, each, n, f) == n)
        image_count = n;
    if (f)
        fclose(f);
    return image_count ? TACIT_OK : tacit_fail(err, TACIT_EIO, "%s: cannot be read", path);
}

static bool grow(void **block, size_t *size, size_t wanted)
{
    if (wanted > *size) {
        tacit_free(*block);
        *block = tacit_alloc(wanted);
        *size = *block ? wanted : 0;
    }
    return *block != NULL;
}

static tacit_status forward_buffers(size_t batch, const tacit_pool *pool, tacit_err *err)
{
    void *v = vectors;
    bool both = grow(&v, &vectors_size, batch * model.dim * sizeof *vectors);
    vectors = v;
    both =
        both && grow(&scratch, &scratch_size, tacit_backbone_scratch(model.backbone, batch, pool));
    return both ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory for batch %zu", batch);
}

static tacit_status forward_pool(size_t batch, unsigned threads, tacit_pool **pool, tacit_err *err)
{
    if (!batch || batch > image_count)
        return tacit_fail(err, TACIT_EINVAL, "batch %zu of %zu images", batch, image_count);
    tacit_status st = pool_of(threads, pool, err);
    return st < 0 ? st : forward_buffers(batch, *pool, err);
}

/* Forwards of the first `batch` images, timed after `warm` that are not. */
static tacit_status run_forward(size_t warm, size_t count, size_t batch, unsigned threads,
                                tacit_err *err)
{
    tacit_pool *pool;
    tacit_status st = forward_pool(batch, threads, &pool, err);
    for (size_t i = 0; st == TACIT_OK && i < warm + count; i++) {
        double start = tacit_now();
        tacit_backbone_forward(model.backbone, images, batch, model.features, vectors, scratch,
                               pool);
        if (i >= warm)
            printf("%.9f ", tacit_now() - start);
    }
    if (st == TACIT_OK)
        puts("");
    return st;
}

static tacit_status write_vectors(size_t batch, unsigned threads, const char *path, tacit_err *err)
{
    tacit_pool *pool;
    tacit_status st = forward_pool(batch, threads, &pool, err);
    if (st < 0)
        return st;
    FILE *f = fopen(path, "wb");
    if (!f)
        return tacit_fail_errno(err, "%s", path);
    for (size_t i = 0; i + batch <= image_count; i += batch) {
        tacit_backbone_forward(model.backbone, images + i * image_floats(), batch, model.features,
                               vectors, scratch, pool);
        fwrite(vectors, model.dim * sizeof *vectors, batch, f);
    }
    return fclose(f) ? tacit_fail_errno(err, "%s", path) : TACIT_OK;
}

/* Photos -------------------------------------------------------------------------------------- */

static tacit_status read_photo(const char *path, photo *p, tacit_err *err)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return tacit_fail_errno(err, "%s", path);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    p->size = size > 0 ? (size_t)size : 0;
    p->bytes = tacit_alloc(p->size);
    bool read = p->bytes && fread(p->bytes, 1, p->size, f) == p->size;
    fclose(f);
    return read ? tacit_image_decode(&p->image, p->bytes, p->size, NULL, err)
                : tacit_fail(err, TACIT_EIO, "%s: cannot be read", path);
}

static void free_photos(void)
{
    for (size_t i = 0; i < photo_count; i++) {
        tacit_free(photos[i].bytes);
        tacit_image_free(&photos[i].image);
    }
    tacit_free(photos);
    photos = NULL;
    photo_count = 0;
}

static tacit_status read_photos(const char *list, tacit_err *err)
{
    free_photos();
    photos = tacit_calloc(MAX_COUNT, sizeof *photos);
    FILE *f = photos ? fopen(list, "r") : NULL;
    if (!f)
        return tacit_fail(err, TACIT_EIO, "%s: cannot be read", list);
    char path[4096];
    tacit_status st = TACIT_OK;
    while (st == TACIT_OK && photo_count < MAX_COUNT && fgets(path, sizeof path, f)) {
        path[strcspn(path, "\n")] = 0;
        st = read_photo(path, &photos[photo_count++], err);
    }
    fclose(f);
    return st;
}

enum stage { PREPARE, RESIZE, EMBED, PIXELS };

/* All photos, one at a time, `count` times. */
static tacit_status pass(tacit_session *s, enum stage stage, float *out, FILE *f, tacit_err *err)
{
    for (size_t i = 0; i < photo_count; i++) {
        const photo *p = &photos[i];
        tacit_status st =
            stage == RESIZE
                ? tacit_session_put_rgb8(s, 0, p->image.rgb, p->image.width, p->image.height, err)
                : tacit_session_put(s, 0, p->bytes, p->size, err);
        if (st < 0)
            return st;
        if (stage == EMBED)
            tacit_session_embed(s, 1, out);
        if (stage == PIXELS)
            fwrite(s->planar, image_floats() * sizeof(float), 1, f);
    }
    return TACIT_OK;
}

static tacit_status run_photos(size_t count, unsigned threads, enum stage stage, const char *path,
                               tacit_err *err)
{
    if (!model.backbone || !photo_count || count > MAX_COUNT)
        return tacit_fail(err, TACIT_EINVAL, "first open a model and read photos");
    tacit_pool *pool;
    tacit_session session;
    tacit_status st = pool_of(threads, &pool, err);
    if (st < 0 || (st = tacit_session_open(&session, &model, 1, pool, err)) < 0)
        return st;
    float *out = tacit_alloc(model.dim * sizeof *out);
    FILE *f = path ? fopen(path, "wb") : NULL;
    if (!out || (path && !f))
        st = tacit_fail(err, TACIT_EIO, "out of memory, or a file cannot be written");
    /* the first pass brings the buffers to their size */
    if (st == TACIT_OK)
        st = pass(&session, stage, out, f, err);
    for (size_t i = 0; st == TACIT_OK && i < count; i++) {
        double start = tacit_now();
        st = pass(&session, stage, out, f, err);
        printf("%.9f ", tacit_now() - start);
    }
    if (st == TACIT_OK)
        puts(path ? "ok" : "");
    if (f)
        fclose(f);
    tacit_free(out);
    tacit_session_close(&session);
    return st;
}

static tacit_status obey(char *line, tacit_err *err)
{
    char path[4096], precision[16];
    size_t n = 0, warm = 0, batch = 0;
    unsigned threads = 0;
    tacit_status st;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "open %15s %4095[^\n]", precision, path) == 2)
        st = open_model(path, precision, err);
    else if (sscanf(line, "images %zu %4095[^\n]", &n, path) == 2)
        st = read_images(n, path, err);
    else if (sscanf(line, "photos %4095[^\n]", path) == 1)
        st = read_photos(path, err);
    else if (sscanf(line, "vectors %zu %u %4095[^\n]", &batch, &threads, path) == 3)
        st = write_vectors(batch, threads, path, err);
    else if (sscanf(line, "forward %zu %zu %zu %u", &warm, &n, &batch, &threads) == 4)
        return run_forward(warm, n, batch, threads, err);
    else if (sscanf(line, "pixels %4095[^\n]", path) == 1)
        return run_photos(0, 1, PIXELS, path, err);
    else if (sscanf(line, "prepare %zu", &n) == 1)
        return run_photos(n, 1, PREPARE, NULL, err);
    else if (sscanf(line, "resize %zu", &n) == 1)
        return run_photos(n, 1, RESIZE, NULL, err);
    else if (sscanf(line, "embed %zu %u", &n, &threads) == 2)
        return run_photos(n, threads, EMBED, NULL, err);
    else if (sscanf(line, "fma %u", &threads) == 1)
        return run_fma(threads, err);
    else
        return tacit_fail(err, TACIT_EINVAL, "no command '%.80s'", line);
    if (st == TACIT_OK)
        puts("ok");
    return st;
}

int main(void)
{
    static char line[8192];
    tacit_err err;
    while (fgets(line, sizeof line, stdin)) {
        if (obey(line, &err) < 0)
            printf("error: %s\n", err.text);
        fflush(stdout);
    }
    tacit_model_close(&model);
    tacit_free(images);
    tacit_free(vectors);
    tacit_free(scratch);
    free_photos();
    for (unsigned i = 0; i <= MAX_THREADS; i++)
        tacit_pool_close(&pools[i]);
    return 0;
}
