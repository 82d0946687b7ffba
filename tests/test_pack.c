/* test_pack.c - packs: the format against files of another hand and hostile ones, packs as data
 * sets, and 'tacit pack' as users meet it. */
#include "dataset.h"
#include "kernels.h"
#include "mem.h"
#include "pack.h"
#include "packing.h"
#include "preprocess.h"
#include "program.h"
#include "samples.h"
#include "scene.h"

#include <check.h>
#include <jansson.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

static tacit_err err;

static void setup(void)
{
    scratch_open();
    scene_weights(scratch("w.safetensors"), &scene_vit, 7, NULL, 0);
    ck_assert_int_eq(chdir(scratch_folder), 0);
    scene_images("images", 12);
    ck_assert_int_eq(system("mkdir good && cp -r images/a images/b good && rm good/a/*cut* "
                            "good/a/gone* good/a/text* good/b/bomb* good/b/empty* good/b/fifo*"),
                     0);
}

static void teardown(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    scratch_close();
}

/* ---- the format ---- */

/* As tests/golden/make_packs.py has them. */
static void make_pixels(uint8_t *rgb, size_t count, size_t seed)
{
    for (size_t i = 0; i < count; i++)
        rgb[i] = (uint8_t)(seed + 7 * i + i * i / 11);
}

static const struct sample {
    const char *path, *label;
    size_t width, height, seed;
} small[] = {
    { "cat/0.jpg", "cat", 5, 3, 0 },
    { "dog/1.jpg", "dog", 8, 8, 50 },
    { "2.jpg", NULL, 3, 7, 100 },
    { "cat/\xff 3.jpg", "cat", 1, 30, 150 },
};
enum { SMALL = sizeof small / sizeof *small };

static tacit_status write_pack(const char *path, const struct sample *samples, size_t count)
{
    tacit_packer *packer = NULL;
    tacit_pack_totals totals;
    tacit_status st = tacit_packer_open(&packer, path, &err);
    for (size_t i = 0; st == TACIT_OK && i < count; i++) {
        uint8_t rgb[1024];
        ck_assert_uint_le(3 * samples[i].width * samples[i].height, sizeof rgb);
        make_pixels(rgb, 3 * samples[i].width * samples[i].height, samples[i].seed);
        st = tacit_packer_add(packer, samples[i].path, samples[i].label, rgb, samples[i].width,
                              samples[i].height, &err);
    }
    if (st == TACIT_OK)
        st = tacit_packer_commit(packer, &totals, &err);
    ck_assert(st < 0 || totals.samples == count);
    tacit_packer_close(&packer);
    return st;
}

/* Whether the index-th picture of a pack is that sample; a picture that is not is an error line. */
static bool holds(const tacit_pack *pack, size_t index, const struct sample *want)
{
    tacit_pack_sample sample;
    uint8_t rgb[1024], made[1024];
    tacit_pack_describe(pack, index, &sample);
    ck_assert_str_eq(sample.path, want->path);
    ck_assert_int_eq(sample.label != NULL, want->label != NULL);
    if (want->label)
        ck_assert_str_eq(sample.label, want->label);
    ck_assert_uint_eq(sample.width, want->width);
    ck_assert_uint_eq(sample.height, want->height);
    ck_assert_uint_le(sample.room, sizeof rgb);
    err.text[0] = 0;
    tacit_status st = tacit_pack_read(pack, index, rgb, &err);
    if (st < 0) {
        ck_assert_int_eq(st, TACIT_EFORMAT);
        ck_assert_ptr_nonnull(strstr(err.text, want->path));
        return false;
    }
    make_pixels(made, 3 * want->width * want->height, want->seed);
    ck_assert_mem_eq(rgb, made, 3 * want->width * want->height);
    return true;
}

static tacit_pack *open_pack(const char *path)
{
    tacit_pack *pack;
    ck_assert_msg(tacit_pack_open(&pack, path, &err) == TACIT_OK, "%s", err.text);
    return pack;
}

START_TEST(another_hand_writes_the_same_bytes)
{
    size_t size, want_size;
    unsigned char *want = file_get(golden("packs/small.pack"), &want_size);
    ck_assert_int_eq(write_pack("small.pack", small, SMALL), TACIT_OK);
    unsigned char *bytes = file_get("small.pack", &size);
    ck_assert_uint_eq(size, want_size);
    ck_assert_mem_eq(bytes, want, size);
    free(bytes);
    free(want);
    tacit_pack *pack = open_pack(golden("packs/small.pack"));
    ck_assert_uint_eq(tacit_pack_count(pack), SMALL);
    for (size_t i = SMALL; i-- > 0;)
        ck_assert_msg(holds(pack, i, &small[i]), "%s", err.text);
    tacit_pack_close(&pack);
    tacit_pack_close(&pack);
}
END_TEST

/* More labels than the first table of the writer holds, in no order. */
START_TEST(many_labels)
{
    enum { COUNT = 3000, LABELS = 700 };
    static struct sample many[COUNT];
    static char texts[COUNT][2][16];
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(texts[i][0], 16, "%zu", i);
        snprintf(texts[i][1], 16, "l%zu", i * 389 % LABELS);
        many[i] =
            (struct sample){ texts[i][0], i % 13 ? texts[i][1] : NULL, 1 + i % 9, 1 + i % 7, i };
    }
    ck_assert_msg(write_pack("many.pack", many, COUNT) == TACIT_OK, "%s", err.text);
    tacit_pack *pack = open_pack("many.pack");
    ck_assert_uint_eq(tacit_pack_count(pack), COUNT);
    for (size_t i = 0; i < COUNT; i++)
        ck_assert(holds(pack, i * 1009 % COUNT, &many[i * 1009 % COUNT]));
    tacit_pack_close(&pack);
}
END_TEST

START_TEST(what_the_writer_refuses)
{
    tacit_packer *packer;
    tacit_pack_totals totals;
    uint8_t rgb[3] = { 0 };
    ck_assert_int_eq(tacit_packer_open(&packer, "nowhere/x.pack", &err), TACIT_EIO);
    ck_assert_ptr_null(packer);
    ck_assert_int_eq(tacit_packer_open(&packer, "x.pack", &err), TACIT_OK);
    ck_assert_int_eq(tacit_packer_add(packer, "a", NULL, rgb, 0, 1, &err), TACIT_ELIMIT);
    ck_assert_int_eq(tacit_packer_add(packer, "a", NULL, rgb, 1, 0, &err), TACIT_ELIMIT);
    ck_assert_int_eq(tacit_packer_add(packer, "a", NULL, rgb, 13378, 13378, &err), TACIT_ELIMIT);
    ck_assert_int_eq(tacit_packer_add(packer, "a", NULL, rgb, SIZE_MAX, SIZE_MAX, &err),
                     TACIT_ELIMIT);
    ck_assert_int_eq(tacit_packer_commit(packer, &totals, &err), TACIT_EINVAL);
    tacit_packer_close(&packer);
    tacit_packer_close(&packer);
    ck_assert_int_ne(access("x.pack", F_OK), 0);
}
END_TEST

/* It does not open, for one of open's own reasons, told in one line that names the file. */
static void expect_refused(const char *path)
{
    tacit_pack *pack;
    tacit_status st = tacit_pack_open(&pack, path, &err);
    ck_assert_msg(st == TACIT_EFORMAT || st == TACIT_ELIMIT || st == TACIT_EUNSUPPORTED, "%d", st);
    ck_assert_ptr_null(pack);
    ck_assert_msg(strstr(err.text, path) && !strchr(err.text, '\n'), "%s", err.text);
}

START_TEST(every_prefix_is_refused)
{
    size_t size;
    unsigned char *bytes = file_get(golden("packs/small.pack"), &size);
    struct memory_file file;
    memory_file_open(&file);
    for (size_t n = 0; n < size; n++) {
        memory_file_set(&file, bytes, n);
        expect_refused(file.path);
    }
    bytes[size] = 0; /* and one byte more, too */
    memory_file_set(&file, bytes, size + 1);
    expect_refused(file.path);
    close(file.fd);
    free(bytes);
}
END_TEST

/* A flip in header or tables is seen at open, one in a picture, or behind it, when it is read. */
START_TEST(every_flipped_bit_is_seen)
{
    size_t size, pictures = 64;
    unsigned char *bytes = file_get(golden("packs/small.pack"), &size);
    struct memory_file file;
    memory_file_open(&file);
    for (size_t i = 0; i < SMALL; i++)
        pictures += (3 * small[i].width * small[i].height + 63) / 64 * 64;
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        memory_file_set(&file, bytes, size);
        if (bit / 8 < 64 || bit / 8 >= pictures) {
            expect_refused(file.path);
        } else {
            tacit_pack *pack = open_pack(file.path);
            unsigned seen = 0;
            for (size_t i = 0; i < SMALL; i++)
                seen += !holds(pack, i, &small[i]);
            ck_assert_uint_eq(seen, 1);
            tacit_pack_close(&pack);
        }
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    close(file.fd);
    free(bytes);
}
END_TEST

static void put_number(unsigned char *bytes, unsigned size, uint64_t x)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (unsigned char)(x >> 8 * i);
}

static uint64_t get_number(const unsigned char *bytes, unsigned size)
{
    uint64_t x = 0;
    for (unsigned i = 0; i < size; i++)
        x |= (uint64_t)bytes[i] << 8 * i;
    return x;
}

/* Tables that were made to harm, with the right hash: small.pack but for one number. Its tables
 * begin at 64 + 448; the string table is "cat/0.jpg", "dog/1.jpg", ... */
START_TEST(hostile_tables)
{
    enum { INDEX = 512, E = 40, LABELS = INDEX + SMALL * E, STRINGS = LABELS + 16 };
    static const struct {
        size_t at;
        unsigned size;
        uint64_t value;
        const char *says;
    } table[] = {
        { 8, 4, 2, "version 2" },
        { 8, 4, 0, "version 0" },
        { 12, 4, 5, "more than there is" },
        { 12, 4, 1, "not the size" },
        { 16, 8, 0, "more than there is" },
        { 16, 8, 3, "not the size" },
        { 16, 8, UINT32_MAX, "4294967295 samples" },
        { 16, 8, UINT64_MAX, "samples, more" },
        { 24, 8, 0, "not the size" },
        { 24, 8, UINT64_MAX, "more than there is" },
        { 24, 8, UINT64_C(1) << 63, "more than there is" },
        { 32, 8, UINT64_MAX, "more than there is" },
        { 32, 8, 1, "not the size" },
        { 40, 8, 1, "not known" },
        { 55, 1, 1, "not known" },
        { INDEX, 8, 128, "one behind the other" }, /* over the next        */
        { INDEX, 8, 0, "one behind the other" },   /* over the header      */
        { INDEX, 8, 65, "one behind the other" },  /* not aligned          */
        { INDEX, 8, UINT64_MAX - 1, "one behind the other" },
        { INDEX + E, 8, 64, "one behind the other" },  /* the same twice       */
        { INDEX + E, 8, 192, "one behind the other" }, /* a gap                */
        { INDEX + 16, 4, 0, "0 x 3 pixels" },
        { INDEX + 20, 4, 0, "5 x 0 pixels" },
        { INDEX + 16, 8, UINT64_MAX, "4294967295 x 4294967295 pixels" },
        { INDEX + 16, 4, 59652324, "59652324 x 3 pixels" },
        { INDEX + 20, 4, 30, "one behind the other" }, /* into the next        */
        { INDEX + 3 * E + 20, 4, 90, "where its tables begin" },
        { INDEX + 24, 8, 1, "paths do not lie" },
        { INDEX + E + 24, 8, 0, "paths do not lie" },
        { INDEX + E + 24, 8, UINT64_MAX, "paths do not lie" },
        { INDEX + 32, 4, 1, "labels are not numbered" },
        { INDEX + E + 32, 4, 2, "labels are not numbered" },
        { INDEX + E + 32, 4, 0, "belong to no sample" }, /* label 1 is nobody's  */
        { INDEX + E + 32, 4, UINT32_MAX - 1, "labels are not numbered" },
        { INDEX + 2 * E + 32, 4, 2, "belong to no sample" }, /* a third label        */
        { INDEX + 36, 4, 1, "one behind the other" },
        { LABELS, 8, 0, "labels do not lie" },
        { LABELS + 8, 8, UINT64_MAX, "labels do not lie" },
        { STRINGS + 9, 1, 'x', "paths do not lie" },   /* the end of a path    */
        { STRINGS + 4, 1, 0, "paths do not lie" },     /* one more of them     */
        { STRINGS + 45, 1, 'x', "labels do not lie" }, /* the last is without  */
    };
    size_t size;
    unsigned char *bytes = file_get(golden("packs/small.pack"), &size);
    unsigned char *made = malloc(size);
    struct memory_file file;
    memory_file_open(&file);
    ck_assert_uint_eq(get_number(bytes + 24, 8), INDEX);
    ck_assert_uint_eq(size, STRINGS + 46);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        memcpy(made, bytes, size);
        put_number(made + table[i].at, table[i].size, table[i].value);
        XXH3_state_t state;
        XXH3_64bits_reset(&state);
        XXH3_64bits_update(&state, made, 56);
        XXH3_64bits_update(&state, made + INDEX, size - INDEX);
        put_number(made + 56, 8, XXH3_64bits_digest(&state));
        memory_file_set(&file, made, size);
        expect_refused(file.path);
        ck_assert_msg(strstr(err.text, table[i].says), "%zu: %s lacks \"%s\"", i, err.text,
                      table[i].says);
    }
    close(file.fd);
    free(made);
    free(bytes);
    tacit_pack *pack;
    ck_assert_int_eq(mkfifo("fifo", 0666), 0);
    ck_assert_int_eq(tacit_pack_open(&pack, ".", &err), TACIT_EUNSUPPORTED);
    ck_assert_int_eq(tacit_pack_open(&pack, "fifo", &err), TACIT_EUNSUPPORTED);
    ck_assert_int_eq(tacit_pack_open(&pack, "nowhere", &err), TACIT_EIO);
}
END_TEST

/* No SIGBUS: what is gone is an error of its picture, what is there is still had. */
START_TEST(a_file_cut_off_while_it_is_read)
{
    ck_assert_int_eq(write_pack("cut.pack", small, SMALL), TACIT_OK);
    tacit_pack *pack = open_pack("cut.pack");
    ck_assert_int_eq(truncate("cut.pack", 200), 0);
    ck_assert(holds(pack, 0, &small[0]));
    for (size_t i = 1; i < SMALL; i++)
        ck_assert(!holds(pack, i, &small[i]));
    ck_assert_ptr_nonnull(strstr(err.text, "cut.pack: ends at byte"));
    tacit_pack_close(&pack);
}
END_TEST

/* ---- as a data set ---- */

static tacit_dataset *open_set(const char *path, tacit_dataset_kind kind)
{
    tacit_dataset *set;
    ck_assert_msg(tacit_dataset_open(&set, path, kind, &err) == TACIT_OK, "%s", err.text);
    return set;
}

START_TEST(found_by_its_first_bytes)
{
    ck_assert_int_eq(write_pack("a.tar", small, SMALL), TACIT_OK);
    tacit_dataset *set = open_set("a.tar", TACIT_DATASET_AUTO);
    ck_assert_int_eq(tacit_dataset_kind_of(set), TACIT_DATASET_PACK);
    ck_assert_str_eq(tacit_dataset_kind_name(TACIT_DATASET_PACK), "pack");
    ck_assert_uint_eq(tacit_dataset_count(set), SMALL);
    tacit_item item = { 0 };
    bool more;
    for (size_t i = 0; i < SMALL; i++) {
        bool pass = i == 1;
        ck_assert_int_eq((pass ? tacit_dataset_skip : tacit_dataset_next)(set, &item, &more, &err),
                         TACIT_OK);
        ck_assert(more && item.index == i && item.form == TACIT_ITEM_PIXELS && !item.file);
        ck_assert_str_eq(item.path, small[i].path);
        ck_assert_uint_eq(item.width, pass ? 0 : small[i].width);
        ck_assert_uint_eq(item.size, pass ? 0 : 3 * small[i].width * small[i].height);
        ck_assert_int_eq(tacit_item_load(&item, &err), TACIT_OK);
    }
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, &err), TACIT_OK);
    ck_assert(!more);
    tacit_item_free(&item);
    tacit_dataset_close(&set);
    ck_assert_int_eq(tacit_dataset_open(&set, ".", TACIT_DATASET_PACK, &err), TACIT_EUNSUPPORTED);
    ck_assert_int_eq(tacit_dataset_open(&set, "a.tar", TACIT_DATASET_TAR, &err), TACIT_EFORMAT);
    file_put("x.bin", TACIT_PACK_MAGIC, TACIT_PACK_MAGIC_SIZE);
    ck_assert_int_eq(tacit_dataset_open(&set, "x.bin", TACIT_DATASET_AUTO, &err), TACIT_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "x.bin: no pack"));
}
END_TEST

/* One damaged picture is one bad item, read in turn or at any time. */
START_TEST(a_damaged_picture_is_one_bad_item)
{
    tacit_item item = { 0 };
    tacit_samples *samples;
    tacit_sample sample = { 0 };
    size_t size;
    bool more;
    unsigned char *bytes = file_get(golden("packs/small.pack"), &size);
    bytes[130] ^= 4; /* of the second */
    file_put("spot.pack", bytes, size);
    free(bytes);
    tacit_dataset *set = open_set("spot.pack", TACIT_DATASET_AUTO);
    ck_assert_int_eq(tacit_samples_open(&samples, "spot.pack", TACIT_DATASET_PACK, &err), TACIT_OK);
    ck_assert_uint_eq(tacit_samples_count(samples), SMALL);
    for (size_t i = 0; i < SMALL; i++) {
        ck_assert_int_eq(tacit_dataset_next(set, &item, &more, &err), TACIT_OK);
        ck_assert(more);
        ck_assert_int_eq(item.form, i == 1 ? TACIT_ITEM_BAD : TACIT_ITEM_PIXELS);
        ck_assert_int_eq(tacit_samples_load(samples, SMALL - 1 - i, &sample, &err),
                         SMALL - 1 - i == 1 ? TACIT_EFORMAT : TACIT_OK);
        if (i != 1)
            continue;
        ck_assert_int_eq(item.status, TACIT_EFORMAT);
        ck_assert_ptr_nonnull(strstr(item.problem.text, "spot.pack: dog/1.jpg: its pixels"));
    }
    tacit_item_free(&item);
    tacit_sample_free(&sample);
    tacit_samples_close(&samples);
    tacit_dataset_close(&set);
}
END_TEST

/* ---- packing ---- */

static tacit_packing_options plain(void)
{
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, &err), TACIT_OK);
    return (tacit_packing_options){ .pillow = 13, .kernels = tacit_kernels_for(isa) };
}

static tacit_status pack_to(const char *images, const char *out, const tacit_packing_options *o,
                            tacit_packing_result *result)
{
    tacit_dataset *set;
    tacit_status st = tacit_dataset_open(&set, images, TACIT_DATASET_AUTO, &err);
    if (st == TACIT_OK)
        st = tacit_pack_dataset(o, set, out, result, &err);
    tacit_dataset_close(&set);
    return st;
}

static bool same_files(const char *a, const char *b)
{
    size_t a_size, b_size;
    unsigned char *x = file_get(a, &a_size), *y = file_get(b, &b_size);
    bool same = a_size == b_size && !memcmp(x, y, a_size);
    free(x);
    free(y);
    return same;
}

static void count_line(void *ctx, const char *line)
{
    ck_assert_ptr_null(strchr(line, '\n'));
    ++*(unsigned *)ctx;
}

/* The same pictures, paths and labels in the same order, each usable one, and the same bytes by any
 * number of threads; a pack of the pack has them again. */
START_TEST(the_pictures_of_the_input)
{
    tacit_packing_result result;
    tacit_packing_options o = plain();
    unsigned bad = 0;
    o.ctx = &bad;
    o.bad = count_line;
    ck_assert_msg(pack_to("images", "one.pack", &o, &result) == TACIT_OK, "%s", err.text);
    ck_assert_uint_eq(bad, SCENE_BAD);
    ck_assert_uint_eq(result.inputs, 12 + SCENE_BAD);
    ck_assert_uint_eq(result.totals.samples, 12);
    ck_assert_uint_eq(result.totals.labels, 2);
    ck_assert_uint_eq(result.reasons[-TACIT_EFORMAT], 3);
    ck_assert_uint_eq(result.resized, 0);
    size_t size;
    free(file_get("one.pack", &size));
    ck_assert_uint_eq(size, result.totals.bytes);
    for (unsigned threads = 2; threads < 6; threads++) {
        ck_assert_int_eq(tacit_pool_open(&o.pool, threads, &err), TACIT_OK);
        ck_assert_int_eq(pack_to("images", "more.pack", &o, &result), TACIT_OK);
        tacit_pool_close(&o.pool);
        ck_assert(same_files("one.pack", "more.pack"));
    }
    ck_assert_int_eq(pack_to("one.pack", "again.pack", &o, &result), TACIT_OK);
    ck_assert(same_files("one.pack", "again.pack"));

    tacit_dataset *a = open_set("good", TACIT_DATASET_AUTO),
                  *b = open_set("one.pack", TACIT_DATASET_AUTO);
    tacit_item x = { 0 }, y = { 0 };
    tacit_image image = { 0 };
    tacit_samples *samples;
    tacit_sample sample = { 0 };
    bool more, more_packed;
    ck_assert_int_eq(tacit_samples_open(&samples, "one.pack", TACIT_DATASET_AUTO, &err), TACIT_OK);
    for (;;) {
        ck_assert_int_eq(tacit_dataset_next(a, &x, &more, &err), TACIT_OK);
        ck_assert_int_eq(tacit_dataset_next(b, &y, &more_packed, &err), TACIT_OK);
        ck_assert_int_eq(more, more_packed);
        if (!more)
            break;
        ck_assert_str_eq(x.path, y.path);
        ck_assert_str_eq(x.label, y.label);
        ck_assert_int_eq(tacit_item_load(&x, &err), TACIT_OK);
        ck_assert_int_eq(tacit_image_decode(&image, x.bytes, x.size, NULL, &err), TACIT_OK);
        ck_assert_int_eq(tacit_samples_load(samples, x.index, &sample, &err), TACIT_OK);
        ck_assert(y.width == image.width && y.height == image.height);
        ck_assert(sample.width == image.width && sample.height == image.height);
        ck_assert_mem_eq(y.bytes, image.rgb, y.size);
        ck_assert_mem_eq(sample.rgb, image.rgb, y.size);
    }
    tacit_sample_free(&sample);
    tacit_samples_close(&samples);
    tacit_image_free(&image);
    tacit_item_free(&x);
    tacit_item_free(&y);
    tacit_dataset_close(&a);
    tacit_dataset_close(&b);
}
END_TEST

/* By the function that is tested against Pillow; what is small enough stays as it is. */
START_TEST(made_smaller_as_pillow_does)
{
    enum { SIDE = 33 };
    for (unsigned pillow = 12; pillow <= 13; pillow++) {
        tacit_packing_options o = plain();
        tacit_packing_result result;
        o.size = SIDE;
        o.pillow = pillow;
        ck_assert_int_eq(tacit_pool_open(&o.pool, 2, &err), TACIT_OK);
        ck_assert_int_eq(
            pack_to("good", "whole.pack", &(tacit_packing_options){ .pool = o.pool }, &result),
            TACIT_OK);
        ck_assert_int_eq(pack_to("good", "small.pack", &o, &result), TACIT_OK);
        tacit_pool_close(&o.pool);
        tacit_pack *whole = open_pack("whole.pack"), *packed = open_pack("small.pack");
        unsigned resized = 0;
        for (size_t i = 0; i < tacit_pack_count(whole); i++) {
            static uint8_t rgb[3 * 80 * 80 + 64], got[3 * 80 * 80 + 64], want[3 * 80 * 80];
            tacit_pack_sample from, to;
            tacit_pack_describe(whole, i, &from);
            tacit_pack_describe(packed, i, &to);
            ck_assert_int_eq(tacit_pack_read(whole, i, rgb, &err), TACIT_OK);
            ck_assert_int_eq(tacit_pack_read(packed, i, got, &err), TACIT_OK);
            size_t shorter = from.width < from.height ? from.width : from.height;
            bool smaller = shorter > SIDE;
            resized += smaller;
            ck_assert_uint_eq(to.width, smaller ? SIDE * from.width / shorter : from.width);
            ck_assert_uint_eq(to.height, smaller ? SIDE * from.height / shorter : from.height);
            memcpy(want, rgb, sizeof want);
            if (smaller)
                ck_assert_int_eq(tacit_resize_rgb8(o.kernels, rgb, from.width, from.height, want,
                                                   to.width, to.height, TACIT_FILTER_BICUBIC,
                                                   pillow, NULL, &err),
                                 TACIT_OK);
            ck_assert_mem_eq(got, want, 3 * to.width * to.height);
        }
        ck_assert_uint_eq(resized, result.resized);
        ck_assert(resized > 0 && resized < tacit_pack_count(whole));
        tacit_pack_close(&whole);
        tacit_pack_close(&packed);
    }
}
END_TEST

/* Each failing allocation is one error, and leaves nothing. */
START_TEST(memory)
{
    tacit_packing_options o = plain();
    tacit_packing_result result;
    mkdir("short", 0777);
    o.size = 24;
    for (uint64_t n = 1;; n++) {
        tacit_alloc_fail_at(n, n % 2);
        tacit_status st = pack_to("good", "short/x.pack", &o, &result);
        tacit_alloc_fail_at(0, false);
        ck_assert_uint_eq(count_names("short"), st == TACIT_OK);
        if (st == TACIT_OK)
            break;
        ck_assert_int_eq(st, TACIT_ENOMEM);
        ck_assert_uint_lt(n, 1000);
    }
    for (uint64_t n = 1;; n++) {
        tacit_samples *samples;
        tacit_sample sample = { 0 };
        tacit_alloc_fail_at(n, false);
        tacit_status st = tacit_samples_open(&samples, "short/x.pack", TACIT_DATASET_PACK, &err);
        if (st == TACIT_OK) {
            st = tacit_samples_load(samples, 11, &sample, &err);
            uint64_t before = tacit_alloc_count(); /* the largest is there: no more is wanted */
            for (size_t i = 0; st == TACIT_OK && i < 12; i++)
                ck_assert_int_eq(tacit_samples_load(samples, 11, &sample, &err), TACIT_OK);
            ck_assert_uint_eq(tacit_alloc_count(), before);
        }
        tacit_alloc_fail_at(0, false);
        tacit_sample_free(&sample);
        tacit_samples_close(&samples);
        if (st == TACIT_OK)
            break;
        ck_assert_int_eq(st, TACIT_ENOMEM);
    }
}
END_TEST

START_TEST(a_stop_leaves_nothing)
{
    atomic_int stop = 15;
    tacit_packing_options o = plain();
    tacit_packing_result result;
    mkdir("stopped", 0777);
    o.stop = &stop;
    ck_assert_int_eq(pack_to("good", "stopped/x.pack", &o, &result), TACIT_ECANCELLED);
    ck_assert_uint_eq(count_names("stopped"), 0);
}
END_TEST

/* ---- the program ---- */

START_TEST(wrong_usage)
{
    static const char *const table[][2] = {
        { "pack", "required: 'images'" },
        { "pack --images good", "required: 'out'" },
        { "pack --images good --out o --size 0", "--size '0'" },
        { "pack --images good --out o --size 32x32", "--size '32x32'" },
        { "pack --images good --out o --kind zip", "--kind 'zip'" },
        { "pack --images good --out o --pillow 11", "--pillow '11'" },
        { "pack --images good --out o --threads 0", "--threads '0'" },
        { "pack --images good --out o more", "unexpected argument 'more'" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        fails(2, "", table[i][0], table[i][1]);
    ck_assert_int_ne(access("o", F_OK), 0);
}
END_TEST

START_TEST(what_cannot_be_packed)
{
    mkdir("empty", 0777);
    mkdir("left", 0777);
    fails(1, "", "pack --images nowhere --out left/o", "nowhere");
    fails(1, "", "pack --images empty --out left/o", "no image");
    fails(1, "", "pack --images good --out nowhere/o", "nowhere/o");
    fails(1, "", "pack --images good --kind pack --out left/o", "good");
    fails(1, "", "pack --images w.safetensors --kind pack --out left/o", "no pack");
    fails(1, "ulimit -f 4; ", "pack --images good --out left/o", "left/o");
    file_put("bad.txt", "images/a/text.jpg\nimages/a/gone.png\n", 36);
    ck_assert_int_eq(run("", "pack --images bad.txt --out left/o"), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "left/o: not written: not one of 2 images is usable"));
    ck_assert_int_eq(system("tar cf all.tar -C good a/000.png b/001.png && "
                            "head -c $(($(wc -c <good/a/000.png) / 512 * 512 + 2048)) all.tar "
                            ">cut.tar"),
                     0);
    fails(1, "", "pack --images cut.tar --out left/o", "cut.tar");
    fails(1, "", "pack --images images --strict --threads 1 --out left/o", "a/005 cut.png");
    ck_assert_uint_eq(count_names("left"), 0);
}
END_TEST

START_TEST(bad_images_are_told_and_counted)
{
    static const char *const names[] = { "a/005 cut.png", "a/gone.png",  "a/text.jpg",
                                         "b/bomb.png",    "b/empty.jpg", "b/fifo.jpg" };
    ck_assert_int_eq(run("", "pack --images images --out told.pack --size 24 --json"), 0);
    for (unsigned i = 0; i < SCENE_BAD; i++) {
        const char *first = strstr(err_text, names[i]);
        ck_assert_msg(first && !strstr(first + 1, names[i]), "%s: %s", names[i], err_text);
    }
    ck_assert_ptr_nonnull(strstr(err_text, "told.pack: 12 images packed, 6 unusable"));
    json_t *result = json_loads(out_text, 0, NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(result, "packed")), 12);
    ck_assert_int_eq(json_integer_value(json_object_get(result, "inputs")), 18);
    ck_assert_int_eq(json_integer_value(json_object_get(result, "unusable")), 6);
    ck_assert_int_eq(json_integer_value(json_object_get(result, "labels")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(result, "size")), 24);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(result, "reasons"), "malformed")), 3);
    json_decref(result);
    ck_assert_ptr_eq(strchr(out_text, '\n'), out_text + strlen(out_text) - 1);
}
END_TEST

START_TEST(what_is_there_is_kept)
{
    file_put("there.txt", "mine", 4);
    fails(1, "", "pack --images good --out there.txt", "add --force");
    size_t size;
    unsigned char *bytes = file_get("there.txt", &size);
    ck_assert_str_eq((char *)bytes, "mine");
    free(bytes);
    ck_assert_int_eq(run("", "pack --images good --out there.txt --force"), 0);
    ck_assert_int_eq(run("", "pack --images there.txt --out there.txt --force"), 0);
    ck_assert_int_eq(run("", "pack --images good --out fresh.pack"), 0);
    ck_assert(same_files("there.txt", "fresh.pack"));
}
END_TEST

/* What the index says but for the hash of the input's bytes. */
static void cut_index(const char *folder)
{
    char command[256];
    snprintf(command, sizeof command, "cut -f 1-4 %s/index.tsv >%s.index", folder, folder);
    ck_assert_int_eq(system(command), 0);
}

/* A run over a pack has the bits of that over the images. */
START_TEST(in_place_of_the_images)
{
    ck_assert_int_eq(run("", "pack --images good --out good.pack"), 0);
    ck_assert_int_eq(run("", "extract --weights w.safetensors --images good --out e1"), 0);
    ck_assert_int_eq(run("", "extract --weights w.safetensors --images good.pack --out e2"), 0);
    ck_assert_msg(same_files("e1/embeddings.npy", "e2/embeddings.npy"), "other embeddings");
    cut_index("e1");
    cut_index("e2");
    ck_assert_msg(same_files("e1.index", "e2.index"), "another index");
    ck_assert_int_eq(
        run("", "extract --weights w.safetensors --images good.pack --kind pack --shard 2/2 "
                "--out e3"),
        0);
#define MAE                                                                                        \
    "pretrain mae --preset quick --set depth=1 --set decoder_depth=1 --batch 4 --steps 2 "         \
    "--set warmup_epochs=0 "
    ck_assert_msg(run("", MAE "--images good --set knn=good --out p1") == 0, "%s", err_text);
    ck_assert_msg(run("", MAE "--images good.pack --set knn=good.pack --out p2") == 0, "%s",
                  err_text);
    ck_assert_msg(same_files("p1/backbone.safetensors", "p2/backbone.safetensors"),
                  "another backbone");
    ck_assert_int_eq(run("", MAE "--images good.pack --kind pack --out p3"), 0);
    ck_assert(same_files("p1/backbone.safetensors", "p3/backbone.safetensors"));
}
END_TEST

START_TEST(signals_leave_nothing)
{
    static const char *const signals[][2] = { { "INT", "130" }, { "TERM", "143" } };
    FILE *f = fopen("long.txt", "w");
    for (unsigned i = 0; i < 200000; i++)
        fprintf(f, "good/a/000.png\n");
    fclose(f);
    for (unsigned i = 0; i < 2; i++) {
        char arguments[512];
        mkdir("halt", 0777);
        snprintf(arguments, sizeof arguments,
                 "pack --images long.txt --out halt/x.pack >out.txt 2>err.txt & p=$!; while ! ls "
                 "halt/*.tmp >/dev/null 2>&1; do sleep 0.05; done; sleep 0.2; kill -%s $p; wait "
                 "$p; exit $?; :",
                 signals[i][0]);
        int status = run("", arguments);
        ck_assert_msg(status == atoi(signals[i][1]), "%d: %s", status, err_text);
        ck_assert_ptr_nonnull(strstr(err_text, "stopped by a signal"));
        ck_assert_uint_eq(count_names("halt"), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pack");
    TCase *tcase = tcase_create("pack");
    tcase_add_unchecked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, another_hand_writes_the_same_bytes);
    tcase_add_test(tcase, many_labels);
    tcase_add_test(tcase, what_the_writer_refuses);
    tcase_add_test(tcase, every_prefix_is_refused);
    tcase_add_test(tcase, every_flipped_bit_is_seen);
    tcase_add_test(tcase, hostile_tables);
    tcase_add_test(tcase, a_file_cut_off_while_it_is_read);
    tcase_add_test(tcase, found_by_its_first_bytes);
    tcase_add_test(tcase, a_damaged_picture_is_one_bad_item);
    tcase_add_test(tcase, the_pictures_of_the_input);
    tcase_add_test(tcase, made_smaller_as_pillow_does);
    tcase_add_test(tcase, memory);
    tcase_add_test(tcase, a_stop_leaves_nothing);
    tcase_add_test(tcase, wrong_usage);
    tcase_add_test(tcase, what_cannot_be_packed);
    tcase_add_test(tcase, bad_images_are_told_and_counted);
    tcase_add_test(tcase, what_is_there_is_kept);
    tcase_add_test(tcase, in_place_of_the_images);
    tcase_add_test(tcase, signals_leave_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
