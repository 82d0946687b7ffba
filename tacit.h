/* tacit.h - images to vectors, inside another program. Link with -ltacit (pkg-config tacit).
 *
 * An extractor holds a backbone, the recipe of its pixels, threads and buffers. Open it once, give
 * it images one after the other, close it. The vector of an image is a function of the image and
 * of the options alone: it has the same bits on every CPU, for every number of threads.
 *
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *     #include <tacit.h>
 *
 *     int embed_file(const char *weights, const void *jpeg, size_t size)
 *     {
 *         tacit_err err;
 *         tacit_options options = TACIT_OPTIONS_INIT;
 *         options.weights = weights;
 *         tacit_extractor *extractor;
 *         if (tacit_extractor_open(&extractor, &options, &err) < 0) {
 *             fprintf(stderr, "%s\n", err.text);
 *             return -1;
 *         }
 *         size_t n = tacit_extractor_dim(extractor);
 *         float *vector = (float *)malloc(n * sizeof *vector);
 *         tacit_status st = TACIT_ENOMEM;
 *         if (vector)
 *             st = tacit_extractor_embed(extractor, jpeg, size, vector, &err);
 *         if (st == TACIT_OK)
 *             printf("%zu values, the first is %g\n", n, vector[0]);
 *         free(vector);
 *         tacit_extractor_close(&extractor);
 *         return st;
 *     }
 *
 * Errors. Functions that can fail return a tacit_status, 0 for success, and write one line of text
 * to *err, which may be NULL. A failed open leaves nothing to close and sets the handle to NULL; a
 * failed embed leaves the extractor as good as before. status.h lists the statuses:
 * TACIT_EFORMAT for damaged bytes, TACIT_EUNSUPPORTED for a kind that is not read, TACIT_ELIMIT
 * for an image beyond 178956970 pixels, and so on.
 *
 * Threads. One extractor serves one call at a time. A server takes calls from any thread at once:
 * what waits when its network becomes free goes through it together, so that a single call never
 * waits for company; its latencies are counted. Nothing is allocated by either once images of these
 * sizes were seen.
 *
 * Versions. Set struct_size (TACIT_OPTIONS_INIT does): options added by later versions then keep
 * their defaults.
 */
#ifndef TACIT_H
#define TACIT_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0 or NULL is the default of every member but struct_size: for the features and all about pixels,
 * what was published with the weights. */
typedef struct tacit_options {
    size_t struct_size;
    const char *weights;  /* a published checkpoint (.safetensors, .pth, .npz, ...), or a hub's
                             folder; NULL or "default": a small one that is part of the library */
    const char *arch;     /* timm's name of the architecture; NULL: what the tensors say        */
    const char *features; /* "cls", "mean", "cls+mean", "patch" or "last4"                      */
    unsigned size;        /* height of the input, and its width unless size_width says it       */
    unsigned resize;      /* the shorter side before the centre crop; with resize_width: height */
    const char *filter;   /* "bilinear", "bicubic" or "lanczos"                                 */
    unsigned pillow;      /* the release whose resize is matched: 12 or 13 (default)            */
    const float *mean;    /* 3 values each, of pixels in [0, 1]                                 */
    const float *std;
    unsigned threads; /* 0: what the machine allows this process */
    int normalize;    /* not 0: each vector, or each patch's, is brought to length 1 */
    unsigned size_width, resize_width;
    double crop_pct;            /* the input's size over that of the resized picture */
    const char *crop_mode;      /* "center", or "squash": the aspect is not kept */
    const char *resize_by;      /* "pillow", "tensor" or "tensor-u8" */
    const char *checkpoint_key; /* the network to take of several, such as "teacher" */
    int allow_partial;          /* not 0: leave unknown tensors, make up missing ones */
    size_t batch; /* images that go through the network together, at most; changes no bit; 0: one,
                     and in a server as many as threads, up to 8 */
    unsigned blocks;       /* of a ViT, the first that run, before its last norm; 0: all */
    const char *precision; /* of the network's products: "fp32", "int8" or, on CPUs with
                              AVX512_BF16, "bf16": faster, and vectors that are near but not the
                              same; tacit drift tells how near */
    const char *cache;     /* an existing folder in which packed weights are kept, and mapped the
                              next time; NULL: packed each time */
} tacit_options;

/* Written so that it is valid C and C++. */
#define TACIT_OPTIONS_INIT                                                                         \
    {                                                                                              \
        sizeof(tacit_options), NULL, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0, NULL,   \
            NULL, NULL, 0, 0, 0, NULL, NULL                                                        \
    }

typedef struct tacit_extractor tacit_extractor;

TACIT_API tacit_status tacit_extractor_open(tacit_extractor **extractor,
                                            const tacit_options *options, tacit_err *err);

/* Floats in the vector of one image. */
TACIT_API size_t tacit_extractor_dim(const tacit_extractor *extractor);

/* The name of the architecture; valid until the extractor is closed. */
TACIT_API const char *tacit_extractor_arch(const tacit_extractor *extractor);

/* The vector of a JPEG or PNG image in memory. */
TACIT_API tacit_status tacit_extractor_embed(tacit_extractor *extractor, const void *bytes,
                                             size_t size, float *vector, tacit_err *err);

/* The vector of (height, width, 3) bytes: red, green, blue, rows without gaps. */
TACIT_API tacit_status tacit_extractor_embed_rgb8(tacit_extractor *extractor, const uint8_t *rgb,
                                                  size_t width, size_t height, float *vector,
                                                  tacit_err *err);

/* One image of several, wherever it is, and what came of it. All zero is a good start. */
typedef struct tacit_input {
    const char *path;     /* a JPEG or PNG file; NULL: the bytes                               */
    const void *bytes;    /* a JPEG or PNG in memory; with width and height: pixels, as above  */
    size_t size;          /* of a JPEG or PNG in memory                                        */
    size_t width, height; /* of pixels, else 0                                                 */
    float *vector;        /* gets the vector, if status is TACIT_OK                            */
    tacit_status status;  /* set by the call: each image has its own                           */
    tacit_err err;
} tacit_input;

/* The vectors of count inputs, options.batch at a time. Gives the first status that is not
 * TACIT_OK, and its line; the others are computed nevertheless. */
TACIT_API tacit_status tacit_extractor_embed_batch(tacit_extractor *extractor, tacit_input *inputs,
                                                   size_t count, tacit_err *err);

/* Closes and sets the handle to NULL; NULL inside is allowed. */
TACIT_API void tacit_extractor_close(tacit_extractor **extractor);

/* An extractor for many threads, with a thread of its own that feeds the network. */
typedef struct tacit_server tacit_server;

TACIT_API tacit_status tacit_server_open(tacit_server **server, const tacit_options *options,
                                         tacit_err *err);

/* Floats in the vector of one image. */
TACIT_API size_t tacit_server_dim(const tacit_server *server);

/* The vector of one image, from any thread; comes back when it is there. Gives input->status. */
TACIT_API tacit_status tacit_server_embed(tacit_server *server, tacit_input *input);

/* Of the calls so far that gave a vector: seconds from call to return, within 0.8 %. */
typedef struct tacit_latency {
    uint64_t count;
    double p50_s, p99_s, p999_s, max_s;
    uint64_t batches; /* that the network was given, for these and for bad images */
} tacit_latency;

TACIT_API void tacit_server_latency(tacit_server *server, tacit_latency *latency);

/* Closes and sets the handle to NULL; NULL inside is allowed. No call may be under way. */
TACIT_API void tacit_server_close(tacit_server **server);

/* "0.1.0" */
TACIT_API const char *tacit_version(void);

#ifdef __cplusplus
}
#endif
#endif
