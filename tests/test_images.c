/* test_images.c - image decoding: the pixels against Pillow's, and what hostile bytes may cost.
 *
 * Golden tables are made by golden/make_pixels.py. The large data is looked for in TACIT_DATA.
 */
#include "image.h"
#include "mem.h"
#include "pool.h"

#include <check.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <xxhash.h>
#include <zlib.h>

/* Where we end otherwise than Pillow, and why that is right. All other files must end alike. */
static const struct {
    const char *file;
    tacit_status status;
    const char *why;
} differences[] = {
    { "fuzz/gofuzz-9ce6b441dc.png", TACIT_EFORMAT, "ends in the last chunk before IEND" },
    { "image-rs/any-disposal.gif.png", TACIT_OK, "a sound PNG, whatever its name" },
    { "image-rs/oob.gif.png", TACIT_OK, "a sound PNG, whatever its name" },
    { "libpng/badcrc.png", TACIT_EFORMAT, "wrong CRC of IDAT, which Pillow does not check" },
    { "libpng/empty_ancillary_chunks.png", TACIT_OK,
      "Pillow trips over ancillary chunks that are not needed" },
    { "libpng/huge_IDAT.png", TACIT_EFORMAT, "IDAT longer than the file" },
    { "made/bad_compression.png", TACIT_EFORMAT, "compression method 1 does not exist" },
    { "made/bad_idat_crc.png", TACIT_EFORMAT, "wrong CRC of IDAT, which Pillow does not check" },
    { "made/len_overflow.png", TACIT_EFORMAT, "chunk length above 2^31" },
    { "made/no_iend.png", TACIT_EFORMAT, "no IEND: the file was cut" },
    { "made/no_plte.png", TACIT_EFORMAT, "a palette image without a palette" },
    { "made/short_rows.png", TACIT_EFORMAT, "rows are missing, which Pillow fills with black" },
    { "made/unknown_critical.png", TACIT_EFORMAT, "a critical chunk that is not known" },
};

/* Damaged files whose pixels are the library's own affair. */
static const struct {
    const char *file;
    bool x86; /* the same on every x86-64: only there compared */
} odd_pixels[] = {
    /* Scans are missing: how blocks known by their mean are smoothed changed in libjpeg-turbo 3.0.1
     * for images two MCUs wide. */
    { "fuzz/afl-a766fd7fd4.jpg", false },
    /* Coefficients out of range: the DCTs for x86, for Arm and in C overflow differently. */
    { "fuzz/afl-06f919a394.jpg", true },
    { "fuzz/afl-bef8362c16.jpg", true },
    { "fuzz/afl-dc7d20edd8.jpg", true },
    { "jpeg-decoder/crash-dc-predictor-overflow.jpg", true },
    { "jpeg-decoder/crash-subtract-with-overflow.jpg", true },
    { "made/bitrot.jpg", true },
};

static bool pixels_are_defined(const char *name)
{
#if defined(__x86_64__)
    const bool x86 = !getenv("JSIMD_FORCENONE"); /* libjpeg-turbo's switch to plain C */
#else
    const bool x86 = false;
#endif
    for (size_t i = 0; i < sizeof odd_pixels / sizeof *odd_pixels; i++)
        if (!strcmp(name, odd_pixels[i].file))
            return odd_pixels[i].x86 && x86;
    return true;
}

static const char *source(void)
{
    const char *root = getenv("TACIT_SOURCE");
    ck_assert_ptr_nonnull(root);
    return root;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* A file in a block of its exact size, so that sanitizers see a read past its end. */
static unsigned char *read_file(const char *folder, const char *name, size_t *size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s cannot be opened", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size ? *size : 1);
    ck_assert_uint_eq(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static unsigned char *read_image(const char *name, size_t *size)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/tests/data/images", source());
    return read_file(folder, name, size);
}

static uint64_t hash_of(const tacit_image *img)
{
    return XXH3_64bits(img->rgb, img->width * img->height * 3);
}

static tacit_status decode_file(tacit_image *img, const char *folder, const char *name,
                                tacit_err *err)
{
    size_t size;
    unsigned char *bytes = read_file(folder, name, &size);
    err->text[0] = 0;
    tacit_status st = tacit_image_decode(img, bytes, size, NULL, err);
    ck_assert_msg(st == TACIT_OK || err->text[0], "%s: no message", name);
    ck_assert_msg(st == TACIT_OK || (!img->width && !img->height), "%s: half a picture", name);
    free(bytes);
    return st;
}

/* Calls fn for each line "name width height hash expected" of a golden table. */
struct golden {
    char name[256], hash[32], expected[16];
    size_t width, height;
};

static size_t each_golden(const char *table, void (*fn)(void *ctx, const struct golden *g),
                          void *ctx)
{
    char path[4096], line[1024];
    snprintf(path, sizeof path, "%s/tests/golden/%s", source(), table);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s cannot be opened", path);
    size_t count = 0;
    while (fgets(line, sizeof line, file)) {
        struct golden g;
        ck_assert_msg(sscanf(line, "%255[^\t]\t%zu\t%zu\t%31s\t%15s", g.name, &g.width, &g.height,
                             g.hash, g.expected) == 5,
                      "%s: %s", path, line);
        fn(ctx, &g);
        count++;
    }
    fclose(file);
    return count;
}

struct run {
    tacit_image img;
    const char *folder; /* of the images  */
    const char *photos; /* or NULL        */
    size_t decoded, refused;
};

static void check_one(struct run *run, const struct golden *g)
{
    tacit_err err;
    tacit_status st = decode_file(&run->img, run->folder, g->name, &err);
    bool pillow = strcmp(g->hash, "error") != 0, listed = false;
    *(st == TACIT_OK ? &run->decoded : &run->refused) += 1;
    for (size_t i = 0; i < sizeof differences / sizeof *differences; i++)
        if (!strcmp(g->name, differences[i].file)) {
            listed = true;
            ck_assert_msg(st == differences[i].status, "%s: %d %s (%s)", g->name, st, err.text,
                          differences[i].why);
        }
    if (!strcmp(g->expected, "decodes"))
        ck_assert_msg(st == TACIT_OK, "%s must decode: %s", g->name, err.text);
    else if (!strcmp(g->expected, "error"))
        ck_assert_msg(st < 0, "%s must be refused", g->name);
    else if (!strcmp(g->expected, "unsupported"))
        ck_assert_msg(listed || st == TACIT_EUNSUPPORTED, "%s must be unsupported: %d %s", g->name,
                      st, err.text);
    else if (!listed)
        ck_assert_msg((st == TACIT_OK) == pillow, "%s: not as Pillow: %d %s", g->name, st,
                      err.text);
    if (st < 0 || !pillow)
        return;
    ck_assert_msg(run->img.width == g->width && run->img.height == g->height, "%s: size", g->name);
    char hash[32];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_of(&run->img));
    ck_assert_msg(!pixels_are_defined(g->name) || !strcmp(hash, g->hash),
                  "%s: pixels %s, Pillow's %s", g->name, hash, g->hash);
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void check_folder(struct run *run, const struct golden *g)
{
    char folder[4096], hash[32];
    struct dirent **list;
    snprintf(folder, sizeof folder, "%s/%s", run->photos, g->name + strlen("photos/"));
    int count = scandir(folder, &list, not_hidden, alphasort); /* no locale is set: by bytes */
    ck_assert_msg(count == (int)g->width, "%s: %d files, not %zu", folder, count, g->width);
    uint64_t *hashes = calloc(g->width, sizeof *hashes);
    for (int i = 0; i < count; i++) {
        tacit_err err;
        tacit_status st = decode_file(&run->img, folder, list[i]->d_name, &err);
        ck_assert_msg(st == TACIT_OK, "%s/%s: %s", folder, list[i]->d_name, err.text);
        hashes[i] = hash_of(&run->img);
        run->decoded++;
        free(list[i]);
    }
    snprintf(hash, sizeof hash, "%016llx",
             (unsigned long long)XXH3_64bits(hashes, g->width * sizeof *hashes));
    ck_assert_msg(!strcmp(hash, g->hash), "%s: pixels %s, Pillow's %s", folder, hash, g->hash);
    free(hashes);
    free(list);
}

static void check_golden(void *ctx, const struct golden *g)
{
    struct run *run = ctx;
    if (strncmp(g->name, "photos/", 7))
        check_one(run, g);
    else
        check_folder(run, g);
}

START_TEST(pixels_are_pillows)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/tests/data/images", source());
    struct run run = { .folder = folder };
    ck_assert_uint_gt(each_golden("pixels.tsv", check_golden, &run), 60);
    ck_assert_uint_gt(run.decoded, 40);
    ck_assert_uint_gt(run.refused, 15);
    tacit_image_free(&run.img);
}
END_TEST

START_TEST(large_data_is_pillows)
{
    char data[4096], odd[4200], photos[4200];
    const char *from = getenv("TACIT_DATA");
    if (from)
        snprintf(data, sizeof data, "%s", from);
    else
        snprintf(data, sizeof data, "%s/../shared/data", source());
    snprintf(odd, sizeof odd, "%s/odd-images", data);
    snprintf(photos, sizeof photos, "%s/photos", data);
    if (!is_folder(odd) || !is_folder(photos)) {
        printf("skipped: no odd-images and photos in %s (set TACIT_DATA)\n", data);
        return;
    }
    struct run run = { .folder = odd, .photos = photos };
    each_golden("pixels_large.tsv", check_golden, &run);
    printf("%s: %zu decoded, %zu refused\n", data, run.decoded, run.refused);
    tacit_image_free(&run.img);
}
END_TEST

static const char *const small[] = {
    "made/2x2.jpg",
    "jpeg-decoder/progressive-missing-dc.jpg",
    "jpeg-decoder/partial_progressive.jpg",
    "jpeg-decoder/jpg-cmyk-1.jpg",
    "jpeg-decoder/restarts.jpg",
    "zune/non_interleaved_440_64x64.jpg",
    "pngsuite/basi0g16.png",
    "pngsuite/basi3p04.png",
    "pngsuite/basn0g01.png",
    "pngsuite/basn4a08.png",
    "pngsuite/tbbn3p08.png",
};

START_TEST(every_prefix_is_refused)
{
    tacit_image img = { 0 };
    for (size_t f = 0; f < sizeof small / sizeof *small; f++) {
        size_t size;
        unsigned char *bytes = read_image(small[f], &size);
        for (size_t n = 0; n < size; n++) {
            unsigned char *cut = malloc(n ? n : 1);
            memcpy(cut, bytes, n);
            tacit_err err;
            ck_assert_msg(tacit_image_decode(&img, cut, n, NULL, &err) == TACIT_EFORMAT,
                          "%s cut at %zu", small[f], n);
            free(cut);
        }
        ck_assert_int_eq(tacit_image_decode(&img, bytes, size, NULL, NULL), TACIT_OK);
        free(bytes);
    }
    tacit_image_free(&img);
}
END_TEST

START_TEST(every_bit_flip_is_survived)
{
    const tacit_image_limits limits = { .pixels = 1 << 18 };
    tacit_image img = { 0 };
    for (size_t f = 0; f < sizeof small / sizeof *small; f++) {
        size_t size;
        unsigned char *bytes = read_image(small[f], &size);
        bool png = strstr(small[f], ".png") != NULL;
        for (size_t bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
            tacit_status st = tacit_image_decode(&img, bytes, size, &limits, NULL);
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
            /* every bit of a PNG is under a CRC or fixed */
            ck_assert_msg(!png || st < 0, "%s: flipped bit %zu went unseen", small[f], bit);
            ck_assert_uint_le(img.width * img.height, limits.pixels);
            ck_assert_int_eq(st == TACIT_OK, img.width > 0);
        }
        free(bytes);
    }
    tacit_image_free(&img);
}
END_TEST

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void refuse_by_header(const char *name, const unsigned char *bytes, size_t size)
{
    tacit_image img = { 0 };
    tacit_err err;
    uint64_t before = tacit_alloc_count();
    double start = seconds();
    tacit_status st = tacit_image_decode(&img, bytes, size, NULL, &err);
    ck_assert_msg(st == TACIT_ELIMIT, "%s: %d %s", name, st, err.text);
    ck_assert_msg(tacit_alloc_count() == before, "%s: memory was taken", name);
    ck_assert_msg(seconds() - start < 0.05, "%s: took long", name);
    tacit_image_free(&img);
}

START_TEST(bombs_are_refused_by_their_header)
{
    const char *const files[] = { "made/sof_65500.jpg", "made/huge_ihdr.png",
                                  "made/bomb_20000.png" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t size;
        unsigned char *bytes = read_image(files[i], &size);
        refuse_by_header(files[i], bytes, size);
        free(bytes);
    }
    unsigned char wide[] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xff\xff\0\0\xff\xff\x10\x06\0\0\1";
    refuse_by_header("65535 x 65535", wide, sizeof wide - 1);
    memcpy(wide + 16, "\x0a\0\0\0\0\0\0\1", 8); /* below the pixel limit, but one side is absurd */
    refuse_by_header("167772160 x 1", wide, sizeof wide - 1);
}
END_TEST

/* A progressive file whose last scan is repeated: each costs a pass over the image. */
START_TEST(scans_are_limited)
{
    enum { SCANS = 10000 };
    size_t size;
    unsigned char *bytes = read_image("made/progressive.jpg", &size);
    size_t last = 0;
    for (size_t i = 0; i + 1 < size; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == 0xda)
            last = i;
    size_t scan = size - 2 - last, total = last + SCANS * scan + 2;
    unsigned char *bomb = malloc(total);
    memcpy(bomb, bytes, last);
    for (size_t i = 0; i < SCANS; i++)
        memcpy(bomb + last + i * scan, bytes + last, scan);
    memcpy(bomb + total - 2, "\xff\xd9", 2);
    tacit_image img = { 0 };
    tacit_err err;
    double start = seconds();
    ck_assert_int_eq(tacit_image_decode(&img, bomb, total, NULL, &err), TACIT_ELIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "limit of 100 scans"));
    ck_assert(seconds() - start < 2);
    tacit_image_free(&img);
    free(bytes);
    free(bomb);
}
END_TEST

static void put_be32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static long peak_kib(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss;
}

/* Text and profiles that inflate to 256 MB are neither inflated nor kept. */
START_TEST(compressed_text_costs_nothing)
{
    enum { CHUNKS = 16 };
    const size_t inflated = (size_t)16 << 20;
    const char *const kinds[] = { "zTXt", "iCCP", "iTXt" };
    const char *const heads[] = { "key\0\0", "key\0\0", "key\0\1\0\0\0" };
    const size_t head_sizes[] = { 5, 5, 8 };
    size_t size;
    unsigned char *bytes = read_image("pngsuite/basn2c08.png", &size);
    unsigned char *zeros = calloc(1, inflated);
    uLongf packed = compressBound(inflated);
    unsigned char *text = malloc(packed);
    ck_assert_int_eq(compress(text, &packed, zeros, inflated), Z_OK);
    free(zeros);
    tacit_image img = { 0 };
    ck_assert_int_eq(tacit_image_decode(&img, bytes, size, NULL, NULL), TACIT_OK);
    uint64_t pixels = hash_of(&img);
    for (size_t k = 0; k < 3; k++) {
        size_t length = head_sizes[k] + packed, total = size + CHUNKS * (length + 12), at = 33;
        unsigned char *bomb = malloc(total);
        memcpy(bomb, bytes, at);
        for (size_t i = 0; i < CHUNKS; i++, at += length + 12) {
            put_be32(bomb + at, (uint32_t)length);
            memcpy(bomb + at + 4, kinds[k], 4);
            memcpy(bomb + at + 8, heads[k], head_sizes[k]);
            memcpy(bomb + at + 8 + head_sizes[k], text, packed);
            put_be32(bomb + at + 8 + length, (uint32_t)crc32(0, bomb + at + 4, (uInt)(length + 4)));
        }
        memcpy(bomb + at, bytes + 33, size - 33);
        tacit_err err;
        double start = seconds();
        long peak = peak_kib();
        tacit_status st = tacit_image_decode(&img, bomb, total, NULL, &err);
        ck_assert_msg(st == TACIT_OK, "%s: %s", kinds[k], err.text);
        ck_assert_uint_eq(hash_of(&img), pixels);
        ck_assert(seconds() - start < 0.05);
        ck_assert_int_lt(peak_kib() - peak, 8 << 10);
        free(bomb);
    }
    free(text);
    free(bytes);
    tacit_image_free(&img);
}
END_TEST

START_TEST(other_formats_are_named)
{
    static const struct {
        const char *bytes, *word;
        size_t size;
        tacit_status status;
    } cases[] = {
        { "", "empty", 0, TACIT_EFORMAT },
        { "GIF89a", "GIF", 6, TACIT_EUNSUPPORTED },
        { "RIFF\0\0\0\0WEBPVP8 ", "WebP", 16, TACIT_EUNSUPPORTED },
        { "BM\0\0", "BMP", 4, TACIT_EUNSUPPORTED },
        { "MM\0*\0\0", "TIFF", 6, TACIT_EUNSUPPORTED },
        { "II*\0\0\0", "TIFF", 6, TACIT_EUNSUPPORTED },
        { "\0\0\0\x20"
          "ftypavif",
          "AVIF", 12, TACIT_EUNSUPPORTED },
        { "P6\n1 1 255", "PNM", 10, TACIT_EUNSUPPORTED },
        { "<html>", "not a JPEG or PNG", 6, TACIT_EFORMAT },
        { "\xff\xd8", "not a JPEG or PNG", 2, TACIT_EFORMAT },
        { "\x89PNG\r\n\x1a", "not a JPEG or PNG", 7, TACIT_EFORMAT },
        { "\x89PNG\r\n\x1a\n", "IHDR", 8, TACIT_EFORMAT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tacit_image img = { 0 };
        tacit_err err;
        ck_assert_int_eq(tacit_image_decode(&img, cases[i].bytes, cases[i].size, NULL, &err),
                         cases[i].status);
        ck_assert_msg(strstr(err.text, cases[i].word) != NULL, "%zu: %s", i, err.text);
        ck_assert_ptr_null(img.rgb);
        tacit_image_free(&img);
    }
}
END_TEST

/* What the library cannot do, or not here, is refused as such: the frame header of a baseline file
 * changed to 12 bits and to a hierarchical frame. */
START_TEST(unsupported_jpeg)
{
    size_t size;
    unsigned char *bytes = read_image("made/2x2.jpg", &size);
    size_t sof = 0;
    while (sof + 1 < size && (bytes[sof] != 0xff || bytes[sof + 1] != 0xc0))
        sof++;
    static const struct {
        size_t at;
        unsigned char value;
    } changes[] = { { 4, 12 }, { 1, 0xc5 } };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        unsigned char *byte = bytes + sof + changes[i].at, kept = *byte;
        tacit_image img = { 0 };
        tacit_err err;
        *byte = changes[i].value;
        ck_assert_int_eq(tacit_image_decode(&img, bytes, size, NULL, &err), TACIT_EUNSUPPORTED);
        *byte = kept;
        tacit_image_free(&img);
    }
    free(bytes);
}
END_TEST

START_TEST(pixel_limit_is_exact)
{
    const char *const files[] = { "made/gray.jpg", "made/cmyk.jpg" }; /* 160 x 212 */
    for (size_t i = 0; i < 2; i++) {
        size_t size;
        unsigned char *bytes = read_image(files[i], &size);
        tacit_image img = { 0 };
        tacit_image_limits limits = { .pixels = 160 * 212 };
        ck_assert_int_eq(tacit_image_decode(&img, bytes, size, &limits, NULL), TACIT_OK);
        limits.pixels--;
        ck_assert_int_eq(tacit_image_decode(&img, bytes, size, &limits, NULL), TACIT_ELIMIT);
        ck_assert_uint_eq(img.width, 0);
        tacit_image_free(&img);
        free(bytes);
    }
}
END_TEST

START_TEST(buffer_is_reused)
{
    size_t size;
    unsigned char *bytes = read_image("made/sub_420.jpg", &size);
    tacit_image img = { 0 };
    ck_assert_int_eq(tacit_image_decode(&img, bytes, size, NULL, NULL), TACIT_OK);
    const uint8_t *rgb = img.rgb;
    size_t capacity = img.capacity;
    uint64_t before = tacit_alloc_count(), pixels = hash_of(&img);
    size_t other_size;
    unsigned char *other = read_image("made/2x2.jpg", &other_size);
    ck_assert_int_eq(tacit_image_decode(&img, other, other_size, NULL, NULL), TACIT_OK);
    ck_assert_uint_eq(img.width, 2);
    ck_assert_int_lt(tacit_image_decode(&img, other, other_size / 2, NULL, NULL), 0);
    ck_assert_int_eq(tacit_image_decode(&img, bytes, size, NULL, NULL), TACIT_OK);
    ck_assert_uint_eq(tacit_alloc_count(), before);
    ck_assert_ptr_eq(img.rgb, rgb);
    ck_assert_uint_eq(img.capacity, capacity);
    ck_assert_uint_eq(hash_of(&img), pixels);
    free(bytes);
    free(other);
    tacit_image_free(&img);
    ck_assert_ptr_null(img.rgb);
}
END_TEST

static uint8_t *noise(size_t width, size_t height)
{
    uint8_t *rgb = malloc(width * height * 3);
    uint32_t x = 1;
    for (size_t i = 0; i < width * height * 3; i++) {
        x = x * 1664525 + 1013904223;
        rgb[i] = (uint8_t)(x >> 24);
    }
    return rgb;
}

START_TEST(png_round_trip)
{
    static const size_t sides[][2] = { { 1, 1 }, { 7, 3 }, { 1, 300 }, { 300, 1 }, { 257, 129 } };
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        size_t w = sides[i][0], h = sides[i][1], size;
        uint8_t *rgb = noise(w, h);
        void *png;
        tacit_image img = { 0 };
        ck_assert_int_eq(tacit_png_encode(rgb, w, h, &png, &size, NULL), TACIT_OK);
        ck_assert_int_eq(tacit_image_decode(&img, png, size, NULL, NULL), TACIT_OK);
        ck_assert_uint_eq(img.width, w);
        ck_assert_uint_eq(img.height, h);
        ck_assert_mem_eq(img.rgb, rgb, w * h * 3);
        tacit_free(png);
        tacit_image_free(&img);
        free(rgb);
    }
    void *png;
    size_t size;
    ck_assert_int_eq(tacit_png_encode(NULL, 0, 5, &png, &size, NULL), TACIT_EINVAL);
    ck_assert_int_eq(tacit_png_encode(NULL, 5, (size_t)1 << 40, &png, &size, NULL), TACIT_EINVAL);
    ck_assert_ptr_null(png);
}
END_TEST

/* The Nth allocation fails, for every N until none is left to fail. */
START_TEST(every_allocation_may_fail)
{
    const char *const files[] = { "made/sub_420.jpg", "made/cmyk.jpg", "pngsuite/basi3p04.png",
                                  "pngsuite/basn0g16.png" };
    uint8_t *rgb = noise(200, 200);
    for (size_t f = 0; f < 5; f++)
        for (int persist = 0; persist < 2; persist++) {
            tacit_status st = TACIT_ENOMEM;
            uint64_t n = 0;
            while (st < 0) {
                size_t size = 0;
                unsigned char *bytes = f < 4 ? read_image(files[f], &size) : NULL;
                tacit_image img = { 0 };
                tacit_err err = { "" };
                void *png = NULL;
                uint64_t before = tacit_alloc_count();
                tacit_alloc_fail_at(++n, persist);
                st = f < 4 ? tacit_image_decode(&img, bytes, size, NULL, &err)
                           : tacit_png_encode(rgb, 200, 200, &png, &size, &err);
                tacit_alloc_fail_at(0, false);
                /* zlib may do with less, and then nothing was missed */
                ck_assert_msg(st == TACIT_OK || st == TACIT_ENOMEM, "%zu, %d: %s", f, (int)n,
                              err.text);
                ck_assert(st == TACIT_OK || err.text[0]);
                ck_assert(n < 100 && (st < 0 || tacit_alloc_count() - before >= n - 1));
                tacit_free(png);
                tacit_image_free(&img);
                free(bytes);
            }
            ck_assert_uint_gt(n, 1);
        }
    free(rgb);
}
END_TEST

struct parallel {
    const unsigned char *bytes[4];
    size_t size[4];
    uint64_t hash[64];
};

static void decode_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    struct parallel *p = ctx;
    tacit_image img = { 0 };
    if (tacit_image_decode(&img, p->bytes[chunk % 4], p->size[chunk % 4], NULL, NULL) == TACIT_OK)
        p->hash[chunk] = hash_of(&img);
    tacit_image_free(&img);
}

START_TEST(threads_agree)
{
    const char *const files[] = { "made/progressive.jpg", "pngsuite/basi6a08.png", "made/cmyk.jpg",
                                  "made/truncated_10.jpg" };
    struct parallel p = { .hash = { 0 } };
    for (size_t i = 0; i < 4; i++)
        p.bytes[i] = read_image(files[i], &p.size[i]);
    tacit_pool *pool;
    ck_assert_int_eq(tacit_pool_open(&pool, 4, NULL), TACIT_OK);
    tacit_parallel_for(pool, 64, decode_chunk, &p);
    tacit_pool_close(&pool);
    for (size_t i = 0; i < 64; i++) {
        ck_assert_uint_eq(p.hash[i], p.hash[i % 4]);
        ck_assert_int_eq(p.hash[i] != 0, i % 4 != 3);
    }
    for (size_t i = 0; i < 4; i++)
        free((void *)p.bytes[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("images");
    TCase *t = tcase_create("images");
    tcase_set_timeout(t, 240);
    tcase_add_test(t, pixels_are_pillows);
    tcase_add_test(t, large_data_is_pillows);
    tcase_add_test(t, every_prefix_is_refused);
    tcase_add_test(t, every_bit_flip_is_survived);
    tcase_add_test(t, bombs_are_refused_by_their_header);
    tcase_add_test(t, scans_are_limited);
    tcase_add_test(t, compressed_text_costs_nothing);
    tcase_add_test(t, other_formats_are_named);
    tcase_add_test(t, unsupported_jpeg);
    tcase_add_test(t, pixel_limit_is_exact);
    tcase_add_test(t, buffer_is_reused);
    tcase_add_test(t, png_round_trip);
    tcase_add_test(t, every_allocation_may_fail);
    tcase_add_test(t, threads_agree);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
