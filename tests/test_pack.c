/* test_pack.c - packs: the format against files of another hand and hostile ones, and packs as data
 * sets. */
#include "dataset.h"
#include "pack.h"
#include "samples.h"
#include "scratch.h"

#include <check.h>
#include <stdbool.h>
#include <sys/stat.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

static tacit_err err;

static void setup(void)
{
    scratch_open();
    ck_assert_int_eq(chdir(scratch_folder), 0);
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
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
