/* scene.h - a small network and a folder of images, for the tests of extraction. */
#ifndef TACIT_TESTS_SCENE_H
#define TACIT_TESTS_SCENE_H

#include "image.h"
#include "mem.h"
#include "rng.h"
#include "safetensors.h"
#include "scratch.h"
#include "vit.h"

#include <sys/stat.h>

/* 32 x 32 pixels in 16 patches, 2 blocks. */
static const tacit_vit_config scene_vit = {
    .dim = 64,
    .depth = 2,
    .heads = 1,
    .mlp = 128,
    .patch = 8,
    .height = 32,
    .width = 32,
    .eps = 1e-6f,
};

/* Writes the seeded weights of config, one value of which is replaced where poison is not NULL:
 * that of the tensor of this name. */
static inline void scene_weights(const char *path, const tacit_vit_config *config, uint64_t seed,
                                 const char *poison, float value)
{
    tacit_tensor_source source;
    tacit_err err;
    ck_assert_msg(tacit_vit_seeded(config, seed, &source, &err) == TACIT_OK, "%s", err.text);
    tacit_safetensors_entry *entries = calloc(source.count, sizeof *entries);
    for (size_t i = 0; i < source.count; i++) {
        void *data = malloc(source.tensors[i].bytes);
        ck_assert_int_eq(source.read(source.ctx, i, 0, source.tensors[i].bytes, data, &err),
                         TACIT_OK);
        if (poison && !strcmp(source.tensors[i].name, poison))
            memcpy(data, &value, sizeof value);
        entries[i] = (tacit_safetensors_entry){ source.tensors[i], data };
    }
    ck_assert_msg(tacit_safetensors_write(path, entries, source.count, NULL, &err) == TACIT_OK,
                  "%s", err.text);
    for (size_t i = 0; i < source.count; i++)
        free((void *)entries[i].data);
    free(entries);
    tacit_vit_seeded_close(&source);
}

/* A PNG of smooth colours and some noise. */
static inline void scene_png(const char *path, unsigned seed, size_t width, size_t height)
{
    unsigned char *rgb = malloc(3 * width * height);
    for (size_t i = 0; i < 3 * width * height; i++)
        rgb[i] = (unsigned char)(i / 3 % width * 255 / width + 40 * (i % 3) + seed * 16 +
                                 tacit_rng_u32(seed, 0, i) % 32);
    void *bytes;
    size_t size;
    tacit_err err;
    ck_assert_int_eq(tacit_png_encode(rgb, width, height, &bytes, &size, &err), TACIT_OK);
    file_put(path, bytes, size);
    tacit_free(bytes);
    free(rgb);
}

/* count usable images of different sizes in folders a and b, and between them 6 that are not: a
 * PNG cut off, text, nothing, a FIFO, a broken link, and one that may not be this large. */
static inline void scene_images(const char *folder, unsigned count)
{
    char path[600];
    mkdir(folder, 0777);
    for (const char *c = "ab"; *c; c++) {
        snprintf(path, sizeof path, "%s/%c", folder, *c);
        mkdir(path, 0777);
    }
    for (unsigned i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%c/%03u.png", folder, "ab"[i % 2], i);
        scene_png(path, i, 20 + i * 7 % 50, 20 + i * 11 % 60);
    }
    size_t size;
    snprintf(path, sizeof path, "%s/a/000.png", folder);
    unsigned char *png = file_get(path, &size);
    snprintf(path, sizeof path, "%s/a/005 cut.png", folder);
    file_put(path, png, size / 2);
    memcpy(png + 16, "\x7f\xff\xff\xff\x7f\xff\xff\xff", 8);
    memcpy(png + 29, "\x7e\xda\x18\x6c", 4);
    snprintf(path, sizeof path, "%s/b/bomb.png", folder);
    file_put(path, png, size);
    free(png);
    snprintf(path, sizeof path, "%s/a/text.jpg", folder);
    file_put(path, "not a picture\n", 14);
    snprintf(path, sizeof path, "%s/b/empty.jpg", folder);
    file_put(path, "", 0);
    snprintf(path, sizeof path, "%s/b/fifo.jpg", folder);
    ck_assert_int_eq(mkfifo(path, 0666), 0);
    snprintf(path, sizeof path, "%s/a/gone.png", folder);
    ck_assert_int_eq(symlink("nowhere", path), 0);
}

#define SCENE_BAD 6

#endif
