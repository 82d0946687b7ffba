/* test_safetensors.c - the reader against the reference implementation's files and against hostile
 * headers; the writer against the reference implementation's bytes. */
#include "mem.h"
#include "safetensors.h"
#include "scratch.h"

#include <stdbool.h>
#include <xxhash.h>

static tacit_err err;

static size_t find(tacit_tensor_source s, const char *name)
{
    size_t i = 0;
    while (i < s.count && strcmp(s.tensors[i].name, name))
        i++;
    ck_assert_msg(i < s.count, "no tensor %s", name);
    return i;
}

static void expect(tacit_tensor_source s, const char *name, tacit_dtype dtype, unsigned rank,
                   const size_t *shape, const void *bytes, size_t size)
{
    size_t i = find(s, name);
    unsigned char got[256];
    ck_assert_int_eq(s.tensors[i].dtype, dtype);
    ck_assert_uint_eq(s.tensors[i].rank, rank);
    for (unsigned d = 0; d < rank; d++)
        ck_assert_uint_eq(s.tensors[i].shape[d], shape[d]);
    ck_assert_uint_eq(s.tensors[i].bytes, size);
    ck_assert_int_eq(s.read(s.ctx, i, 0, size, got, &err), TACIT_OK);
    ck_assert_mem_eq(got, bytes, size);
    for (size_t k = 0; k < size; k++) {
        ck_assert_int_eq(s.read(s.ctx, i, k, 1, got, &err), TACIT_OK);
        ck_assert_mem_eq(got, (const char *)bytes + k, 1);
    }
}
#define SHAPE(...)                                                                                 \
    sizeof((size_t[]){ __VA_ARGS__ }) / sizeof(size_t), (size_t[])                                 \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

START_TEST(reads_what_the_reference_writes)
{
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, golden("every.safetensors"), &err), TACIT_OK);
    tacit_tensor_source s = tacit_safetensors_source(file);
    ck_assert_uint_eq(s.count, 13);
    float f32[15];
    for (int i = 0; i < 15; i++)
        f32[i] = (float)i / 8 - 0.5f;
    double f64[2] = { 0, 1.0 / 3 };
    uint16_t f16[6] = { 0, 0x3400, 0x3800, 0x3a00, 0x3c00, 0x3d00 };
    uint16_t bf16[7] = { 0, 0x4000, 0x4080, 0x40c0, 0x4100, 0x4120, 0x4140 };
    int64_t i64[3] = { -1, 0, 1 };
    int32_t i32[3] = { -1, 0, 1 };
    int16_t i16[3] = { -1, 0, 1 };
    int8_t i8[3] = { -1, 0, 1 };
    expect(s, "f32.weight", TACIT_F32, SHAPE(3, 5), f32, sizeof f32);
    expect(s, "f16", TACIT_F16, SHAPE(2, 3), f16, sizeof f16);
    expect(s, "bf16", TACIT_BF16, SHAPE(7), bf16, sizeof bf16);
    expect(s, "f64", TACIT_F64, SHAPE(2), f64, sizeof f64);
    expect(s, "i64", TACIT_I64, SHAPE(3), i64, sizeof i64);
    expect(s, "i32", TACIT_I32, SHAPE(3), i32, sizeof i32);
    expect(s, "i16", TACIT_I16, SHAPE(3), i16, sizeof i16);
    expect(s, "i8", TACIT_I8, SHAPE(3), i8, sizeof i8);
    expect(s, "u8", TACIT_U8, SHAPE(3), (uint8_t[]){ 253, 254, 255 }, 3);
    expect(s, "bool", TACIT_BOOL, SHAPE(4), (uint8_t[]){ 0, 1, 0, 1 }, 4);
    expect(s, "scalar", TACIT_F32, 0, NULL, &(float){ 2.5f }, 4);
    expect(s, "empty", TACIT_F32, SHAPE(0, 4), "", 0);
    expect(s, "na\u00efve \"K\u00f6der\" \\ \U0001f41f\t", TACIT_F32, SHAPE(1), &(float){ 42 }, 4);
    ck_assert_str_eq(tacit_safetensors_metadata(file, "format"), "pt");
    ck_assert_ptr_null(tacit_safetensors_metadata(file, "forma"));

    size_t size;
    unsigned char *bytes = file_get(golden("every.safetensors"), &size);
    uint64_t hash;
    ck_assert_int_eq(tacit_safetensors_hash(file, &hash, &err), TACIT_OK);
    ck_assert_uint_eq(hash, XXH3_64bits(bytes, size));
    free(bytes);
    tacit_safetensors_close(&file);
    ck_assert_ptr_null(file);
    tacit_safetensors_close(&file);
}
END_TEST

START_TEST(reads_unpadded_files)
{
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, golden("unpadded.safetensors"), &err), TACIT_OK);
    tacit_tensor_source s = tacit_safetensors_source(file);
    ck_assert_uint_eq(s.count, 2);
    expect(s, "odd", TACIT_U8, SHAPE(3), (uint8_t[]){ 0, 1, 2 }, 3);
    expect(s, "x", TACIT_F32, SHAPE(4), (float[]){ 0, 1, 2, 3 }, 16);
    tacit_safetensors_close(&file);
}
END_TEST

static tacit_safetensors_entry entry(const char *name, tacit_dtype dtype, size_t n,
                                     const void *data)
{
    return (tacit_safetensors_entry){
        .tensor = { .name = name, .dtype = dtype, .rank = 1, .shape = { n } }, .data = data
    };
}

START_TEST(writes_what_the_reference_writes)
{
    float ramp[4] = { 0, 1, 2, 3 };
    tacit_safetensors_entry entries[] = {
        entry("q", TACIT_U8, 3, (uint8_t[]){ 0, 1, 2 }),
        entry("a", TACIT_F32, 3, ramp),
        entry("z", TACIT_BF16, 2, (uint16_t[]){ 0, 0x3f80 }),
        entry("h", TACIT_F16, 1, (uint16_t[]){ 0 }),
        entry("n", TACIT_I64, 2, (int64_t[]){ 0, 1 }),
        entry("b", TACIT_F32, 2, ramp),
    };
    entries[5].tensor.rank = 2;
    entries[5].tensor.shape[1] = 2;
    const char *metadata[] = { "for\tmat", "p\"t\\", NULL };
    const char *path = scratch("written.safetensors");
    ck_assert_int_eq(tacit_safetensors_write(path, entries, 6, metadata, &err), TACIT_OK);
    size_t got_size, want_size;
    unsigned char *got = file_get(path, &got_size);
    unsigned char *want = file_get(golden("written.safetensors"), &want_size);
    ck_assert_uint_eq(got_size, want_size);
    ck_assert_mem_eq(got, want, want_size);
    free(got);
    free(want);
    ck_assert_uint_eq(count_names(scratch_folder), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tcase = tcase_create("safetensors");
    tcase_add_unchecked_fixture(tcase, scratch_open, scratch_close);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, reads_what_the_reference_writes);
    tcase_add_test(tcase, reads_unpadded_files);
    tcase_add_test(tcase, writes_what_the_reference_writes);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
