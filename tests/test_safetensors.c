/* test_safetensors.c - the reader against the reference implementation's files and against hostile
 * headers; the writer against the reference implementation's bytes. */
#include "mem.h"
#include "rng.h"
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
    ck_assert_int_eq(tacit_safetensors_open(&file, golden("containers/every.safetensors"), &err),
                     TACIT_OK);
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
    unsigned char *bytes = file_get(golden("containers/every.safetensors"), &size);
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
    ck_assert_int_eq(tacit_safetensors_open(&file, golden("containers/unpadded.safetensors"), &err),
                     TACIT_OK);
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
    unsigned char *want = file_get(golden("containers/written.safetensors"), &want_size);
    ck_assert_uint_eq(got_size, want_size);
    ck_assert_mem_eq(got, want, want_size);
    free(got);
    free(want);
    ck_assert_uint_eq(count_names(scratch_folder), 1);
}
END_TEST

/* ---- broken files ---- */

#define A "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}"
#define B "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}"
#define T(dtype, shape, offsets)                                                                   \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define X64  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X257 X64 X64 X64 X64 "x"

/* A header, how many bytes of data follow, and what is said about it. */
static const struct {
    const char *header;
    size_t data;
    tacit_status status;
    const char *message;
} hostile[] = {
    /* what is no JSON object */
    { "", 0, TACIT_EFORMAT, "has 8 bytes, too few" },
    { "[]", 0, TACIT_EFORMAT, "is not a safetensors file" },
    { " {}", 0, TACIT_EFORMAT, "is not a safetensors file" },
    { "{", 0, TACIT_EFORMAT, "byte 9: the name of a tensor expected" },
    { "{]", 0, TACIT_EFORMAT, "byte 9: the name of a tensor expected" },
    { "{" A, 2, TACIT_EFORMAT, "',' or '}' expected" },
    { "{" A "]", 2, TACIT_EFORMAT, "',' or '}' expected" },
    { "{" A ",}", 2, TACIT_EFORMAT, "the name of a tensor expected" },
    { "{," A "}", 2, TACIT_EFORMAT, "byte 9: the name of a tensor expected" },
    { "{" A " " B "}", 4, TACIT_EFORMAT, "',' or '}' expected" },
    { "{a:1}", 0, TACIT_EFORMAT, "byte 9: the name of a tensor expected" },
    { "{'a':{}}", 0, TACIT_EFORMAT, "byte 9: the name of a tensor expected" },
    { "{\"a\"}", 0, TACIT_EFORMAT, "byte 12: ':' expected" },
    { "{\"a\":}", 0, TACIT_EFORMAT, "byte 13: the '{' of a tensor expected" },
    { "{\"a\":[[[[[[[[[[[[[[[[", 0, TACIT_EFORMAT, "byte 13: the '{' of a tensor expected" },
    { "{\"a\":null}", 0, TACIT_EFORMAT, "byte 13: the '{' of a tensor expected" },
    { "{\"a\":{\"b\":{\"c\":{\"d\":{}}}}}", 0, TACIT_EFORMAT, "tensor 'a': unknown key 'b'" },
    { "{" A "}x", 2, TACIT_EFORMAT, "byte 61: nothing but spaces expected" },
    { "{" A "}  {}", 2, TACIT_EFORMAT, "byte 63: nothing but spaces expected" },
    { "{" A "}\n", 2, TACIT_EFORMAT, "byte 61: nothing but spaces expected" },
    { "{/**/" A "}", 2, TACIT_EFORMAT, "byte 9: the name of a tensor expected" },
    /* strings */
    { "{\"a", 0, TACIT_EFORMAT, "byte 9: a string does not end" },
    { "{\"a\\\"", 0, TACIT_EFORMAT, "byte 9: a string does not end" },
    { "{\"a\nb\":", 0, TACIT_EFORMAT, "byte 11: a control byte in a string" },
    { "{\"a\\x41\":", 0, TACIT_EFORMAT, "byte 11: no escape of JSON" },
    { "{\"a\\", 0, TACIT_EFORMAT, "byte 11: no escape of JSON" },
    { "{\"a\\u00g0\":", 0, TACIT_EFORMAT, "byte 15: a hexadecimal digit expected" },
    { "{\"a\\u00", 0, TACIT_EFORMAT, "byte 15: a hexadecimal digit expected" },
    { "{\"a\\u0000\":", 0, TACIT_EFORMAT, "byte 11: a string holds a NUL" },
    { "{\"a\\ud800\":", 0, TACIT_EFORMAT, "byte 11: half of a surrogate pair" },
    { "{\"a\\udc00\":", 0, TACIT_EFORMAT, "byte 11: half of a surrogate pair" },
    { "{\"a\\ud800\\u0041\":", 0, TACIT_EFORMAT, "byte 11: half of a surrogate pair" },
    { "{\"a\\ud800\\ud800\":", 0, TACIT_EFORMAT, "byte 11: half of a surrogate pair" },
    { "{\"\x80\":", 0, TACIT_EFORMAT, "byte 10: not UTF-8" },
    { "{\"\xc0\xaf\":", 0, TACIT_EFORMAT, "byte 10: not UTF-8" },
    { "{\"\xc3(\":", 0, TACIT_EFORMAT, "byte 11: not UTF-8" },
    { "{\"\xe0\x80\xaf\":", 0, TACIT_EFORMAT, "byte 11: not UTF-8" },
    { "{\"\xed\xa0\x80\":", 0, TACIT_EFORMAT, "byte 11: not UTF-8" },
    { "{\"\xf0\x80\x80\xaf\":", 0, TACIT_EFORMAT, "byte 11: not UTF-8" },
    { "{\"\xf4\x90\x80\x80\":", 0, TACIT_EFORMAT, "byte 11: not UTF-8" },
    { "{\"\xf5\x80\x80\x80\":", 0, TACIT_EFORMAT, "byte 10: not UTF-8" },
    { "{\"\xe2\x82\":", 0, TACIT_EFORMAT, "byte 12: not UTF-8" },
    { "{\"\xe2\x82", 0, TACIT_EFORMAT, "byte 12: not UTF-8" },
    { "{\"" X257 X257 X257 X257 "\":", 0, TACIT_ELIMIT, "byte 9: a name of more than 1024 bytes" },
    /* tensors */
    { "{\"a\":{}}", 0, TACIT_EFORMAT, "tensor 'a': 'dtype' is missing" },
    { "{\"a\":{\"dtype\":\"U8\"}}", 0, TACIT_EFORMAT, "tensor 'a': 'shape' is missing" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, TACIT_EFORMAT,
      "tensor 'a': 'data_offsets' is missing" },
    { "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 1, TACIT_EFORMAT,
      "tensor 'a': 'dtype' is there twice" },
    { "{\"a\":{\"shape\":[],\"shape\":[]}}", 1, TACIT_EFORMAT,
      "tensor 'a': 'shape' is there twice" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"strides\":[]}}", 1,
      TACIT_EFORMAT, "tensor 'a': unknown key 'strides'" },
    { "{\"a\":{\"dtype\":\"U8\",}}", 1, TACIT_EFORMAT,
      "'dtype', 'shape' or 'data_offsets' expected" },
    { "{\"a\":{\"dtype\" \"U8\"}}", 1, TACIT_EFORMAT, "byte 22: ':' expected" },
    { T("F31", "[2]", "[0,2]"), 2, TACIT_EFORMAT, "tensor 'a': unknown dtype 'F31'" },
    { T("f32", "[2]", "[0,8]"), 8, TACIT_EFORMAT, "tensor 'a': unknown dtype 'f32'" },
    { T("", "[2]", "[0,2]"), 2, TACIT_EFORMAT, "tensor 'a': unknown dtype ''" },
    { "{\"a\":{\"dtype\":8,", 0, TACIT_EFORMAT, "byte 22: a dtype in quotes expected" },
    { T("U8", "2", "[0,2]"), 2, TACIT_EFORMAT, "the '[' of a shape expected" },
    { T("U8", "[2", "[0,2]"), 2, TACIT_EFORMAT, "a non-negative integer expected" },
    { T("U8", "[,2]", "[0,2]"), 2, TACIT_EFORMAT, "a non-negative integer expected" },
    { T("U8", "[2,]", "[0,2]"), 2, TACIT_EFORMAT, "a non-negative integer expected" },
    { T("U8", "[\\\"2\\\"]", "[0,2]"), 2, TACIT_EFORMAT, "a non-negative integer expected" },
    { T("U8", "[-2]", "[0,2]"), 2, TACIT_EFORMAT, "byte 36: a number that is no non-negative" },
    { T("U8", "[2.0]", "[0,2]"), 2, TACIT_EFORMAT, "byte 36: a number that is no non-negative" },
    { T("U8", "[2e0]", "[0,2]"), 2, TACIT_EFORMAT, "byte 36: a number that is no non-negative" },
    { T("U8", "[02]", "[0,2]"), 2, TACIT_EFORMAT, "byte 36: a number that begins with 0" },
    { T("U8", "[2 3]", "[0,2]"), 2, TACIT_EFORMAT, "byte 38: ',' or ']' expected" },
    { T("U8", "[18446744073709551616]", "[0,2]"), 2, TACIT_EFORMAT,
      "byte 36: a number that does not fit 64 bits" },
    { T("U8", "[99999999999999999999999999]", "[0,2]"), 2, TACIT_EFORMAT,
      "byte 36: a number that does not fit 64 bits" },
    { T("U8", "[1,1,1,1,1,1,1,1,2]", "[0,2]"), 2, TACIT_ELIMIT,
      "tensor 'a': more than 8 dimensions" },
    { T("F32", "[4611686018427387905]", "[0,4]"), 4, TACIT_EFORMAT,
      "tensor 'a': its shape is larger than any memory" },
    { T("U8", "[2305843009213693953]", "[0,1]"), 1, TACIT_EFORMAT,
      "tensor 'a': its shape is larger than any memory" },
    { T("U8", "[4294967296,4294967296]", "[0,0]"), 0, TACIT_EFORMAT,
      "tensor 'a': its shape is larger than any memory" },
    { T("U8", "[0,4294967296,4294967296]", "[0,0]"), 0, TACIT_EFORMAT,
      "tensor 'a': its shape is larger than any memory" },
    { T("F4", "[3]", "[0,1]"), 1, TACIT_EFORMAT, "tensor 'a': does not end at a whole byte" },
    { T("F6_E2M3", "[2]", "[0,2]"), 2, TACIT_EFORMAT, "tensor 'a': does not end at a whole byte" },
    { T("F32", "[2]", "[0,2]"), 2, TACIT_EFORMAT,
      "tensor 'a': has 2 bytes, its shape and dtype "
      "need 8" },
    { T("U8", "[0]", "[0,2]"), 2, TACIT_EFORMAT, "has 2 bytes, its shape and dtype need 0" },
    { T("U8", "[]", "[0,0]"), 0, TACIT_EFORMAT, "has 0 bytes, its shape and dtype need 1" },
    { T("U8", "[2]", "[2,0]"), 2, TACIT_EFORMAT, "tensor 'a': ends (0) before it begins (2)" },
    { T("U8", "[2]", "[0,3]"), 2, TACIT_EFORMAT, "tensor 'a': ends at byte 3 of 2 bytes of data" },
    { T("U8", "[2]", "[18446744073709551614,18446744073709551615]"), 2, TACIT_EFORMAT,
      "tensor 'a': ends at byte 18446744073709551615 of 2" },
    { T("U8", "[2]", "[18446744073709551615,1]"), 2, TACIT_EFORMAT, "before it begins" },
    { T("U8", "[2]", "[0,-2]"), 2, TACIT_EFORMAT, "a number that is no non-negative integer" },
    { T("U8", "[2]", "[0]"), 2, TACIT_EFORMAT, "',' and the end of the data expected" },
    { T("U8", "[2]", "[0,1,2]"), 2, TACIT_EFORMAT, "']' after the two data_offsets expected" },
    { T("U8", "[2]", "{}"), 2, TACIT_EFORMAT, "the '[' of data_offsets expected" },
    /* the tensors together */
    { "{" A "," A "}", 2, TACIT_EFORMAT, "tensor 'a' is there twice" },
    { "{" A ",\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}", 4,
      TACIT_EFORMAT, "tensor 'a' is there twice" },
    { "{" A ",\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, TACIT_EFORMAT,
      "tensor 'c' overlaps 'a'" },
    { "{\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}," A "}", 3, TACIT_EFORMAT,
      "tensor 'c' overlaps 'a'" },
    { "{" A ",\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}", 2, TACIT_EFORMAT,
      "tensor 'c' overlaps 'a'" },
    { "{" B "}", 4, TACIT_EFORMAT, "bytes 0 to 2 of the data, before tensor 'b', belong to no" },
    { "{" A ",\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5, TACIT_EFORMAT,
      "bytes 2 to 3 of the data, before tensor 'c', belong to no tensor" },
    { "{" A "}", 3, TACIT_EFORMAT, "the last 1 bytes of the file belong to no tensor" },
    { "{}", 7, TACIT_EFORMAT, "the last 7 bytes of the file belong to no tensor" },
    { "{" A "}", 1, TACIT_EFORMAT, "tensor 'a': ends at byte 2 of 1 bytes of data" },
    /* metadata */
    { "{\"__metadata__\":null}", 0, TACIT_EFORMAT, "the '{' of '__metadata__' expected" },
    { "{\"__metadata__\":{\"k\":1}}", 0, TACIT_EFORMAT, "a string as value in '__metadata__'" },
    { "{\"__metadata__\":{\"k\":{}}}", 0, TACIT_EFORMAT, "a string as value in '__metadata__'" },
    { "{\"__metadata__\":{1:\"v\"}}", 0, TACIT_EFORMAT, "a key of '__metadata__' expected" },
    { "{\"__metadata__\":{\"k\":\"v\",}}", 0, TACIT_EFORMAT, "a key of '__metadata__' expected" },
    { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, TACIT_EFORMAT,
      "'__metadata__' is there twice" },
    { "{\"__metadata__\":{},\"\\u005f_metadata__\":{}}", 0, TACIT_EFORMAT,
      "'__metadata__' is there twice" },
    { "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, TACIT_EFORMAT,
      "'k' is twice in '__metadata__'" },
};

/* The 8 bytes of length, the header, zeros. */
static size_t assemble(unsigned char *out, uint64_t length, const char *header, size_t n,
                       size_t data)
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (unsigned char)(length >> 8 * i);
    memcpy(out + 8, header, n);
    memset(out + 8 + n, 0, data);
    return 8 + n + data;
}

/* Opening must fail so, quickly and with little memory. */
static void expect_refusal(const char *path, tacit_status status, const char *message)
{
    double best = 1;
    for (int i = 0; i < 3; i++) {
        tacit_safetensors *file = (void *)1;
        uint64_t bytes = tacit_alloc_bytes();
        double begin = cpu_seconds();
        tacit_status st = tacit_safetensors_open(&file, path, &err);
        double took = cpu_seconds() - begin;
        ck_assert_msg(st == status && strstr(err.text, message),
                      "status %d, '%s', where %d, '%s' was expected", st, err.text, status,
                      message);
        ck_assert_msg(!strncmp(err.text, path, strlen(path)), "%s", err.text);
        ck_assert_ptr_null(file);
        ck_assert_uint_le(tacit_alloc_bytes() - bytes, 1 << 20);
        best = took < best ? took : best;
    }
    ck_assert_double_le(best, 0.010);
}

START_TEST(hostile_headers_are_refused)
{
    struct memory_file file;
    memory_file_open(&file);
    unsigned char bytes[4096];
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        size_t n = strlen(hostile[i].header);
        memory_file_set(&file, bytes, assemble(bytes, n, hostile[i].header, n, hostile[i].data));
        expect_refusal(file.path, hostile[i].status, hostile[i].message);
    }
    /* a NUL byte in a name, which a C string would hide */
    memory_file_set(&file, bytes, assemble(bytes, 7, "{\"a\0b\":", 7, 0));
    expect_refusal(file.path, TACIT_EFORMAT, "byte 11: a control byte in a string");
    memory_file_set(&file, bytes, assemble(bytes, 3, "{}\0", 3, 0));
    expect_refusal(file.path, TACIT_EFORMAT, "byte 10: nothing but spaces expected");
    close(file.fd);
}
END_TEST

START_TEST(hostile_lengths_are_refused)
{
    struct memory_file file;
    memory_file_open(&file);
    unsigned char bytes[64];
    memory_file_set(&file, bytes, 0);
    expect_refusal(file.path, TACIT_EFORMAT, "has 0 bytes, too few");
    static const uint64_t lengths[] = { 3, 100, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63 };
    for (size_t i = 0; i < 5; i++) {
        memory_file_set(&file, bytes, assemble(bytes, lengths[i], "{}", 2, 0));
        expect_refusal(file.path, TACIT_EFORMAT, "bytes is longer than the file");
    }
    memory_file_set(&file, bytes, assemble(bytes, 0, "{}", 2, 0));
    expect_refusal(file.path, TACIT_EFORMAT, "byte 8: '{' expected");
    memory_file_set(&file, bytes, assemble(bytes, 1, "{}", 2, 0));
    expect_refusal(file.path, TACIT_EFORMAT, "byte 9: the name of a tensor expected");
    /* Files with a hole: the length fits, so the limit decides, and below it the first NUL. */
    memory_file_set(&file, bytes, assemble(bytes, 100000001, "{", 1, 0));
    ck_assert_int_eq(ftruncate(file.fd, 300000000), 0);
    expect_refusal(file.path, TACIT_ELIMIT, "its header has 100000001 bytes, the limit is");
    memory_file_set(&file, bytes, assemble(bytes, 100000000, "{", 1, 0));
    ck_assert_int_eq(ftruncate(file.fd, 300000000), 0);
    expect_refusal(file.path, TACIT_EFORMAT, "byte 9: the name of a tensor expected");
    /* A name of 1 MiB. */
    size_t n = (1 << 20) + 2;
    unsigned char *big = malloc(8 + n);
    ck_assert_ptr_nonnull(big);
    memset(big + 8, 'n', n);
    assemble(big, n, "{\"", 2, 0);
    memory_file_set(&file, big, 8 + n);
    expect_refusal(file.path, TACIT_ELIMIT, "byte 9: a name of more than 1024 bytes");
    free(big);
    close(file.fd);
}
END_TEST

START_TEST(unusual_files_are_read)
{
    static const struct {
        const char *header;
        size_t data, count;
    } files[] = {
        { "{}", 0, 0 },
        { "{ }      ", 0, 0 },
        { "{\"__metadata__\":{}}", 0, 0 },
        { "{\t\"a\" :\n{ \"shape\" : [ 2 ] , \"data_offsets\":\r[ 0 , 2 ], \"dtype\":\"I8\" } } ",
          2, 1 },
        { "{" B "," A "}", 4, 2 },
        { T("F4", "[4]", "[0,2]"), 2, 1 },
        { T("F6_E3M2", "[2,2]", "[0,3]"), 3, 1 },
        { T("C64", "[]", "[0,8]"), 8, 1 },
        { T("F8_E4M3FNUZ", "[1,1,1,1,1,1,1,1]", "[0,1]"), 1, 1 },
        { T("F32", "[0,4294967296]", "[0,0]"), 0, 1 },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
          0, 2 },
        { "{\"\\ud83d\\udc1f \\u20aC\\u00E9\\/\\b\\f\\n\\r\\t\\\\\\\"\":"
          "{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
          1, 1 },
        { "{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, 1 },
    };
    struct memory_file m;
    memory_file_open(&m);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        unsigned char bytes[512];
        size_t n = strlen(files[i].header);
        memory_file_set(&m, bytes, assemble(bytes, n, files[i].header, n, files[i].data));
        tacit_safetensors *file;
        ck_assert_msg(tacit_safetensors_open(&file, m.path, &err) == TACIT_OK, "%s", err.text);
        tacit_tensor_source s = tacit_safetensors_source(file);
        ck_assert_uint_eq(s.count, files[i].count);
        size_t sum = 0;
        for (size_t k = 0; k < s.count; k++)
            sum += s.tensors[k].bytes;
        ck_assert_uint_eq(sum, files[i].data);
        if (i == 11)
            ck_assert_str_eq(s.tensors[0].name, "\U0001f41f \u20ac\u00e9/\b\f\n\r\t\\\"");
        tacit_safetensors_close(&file);
    }
    close(m.fd);
}
END_TEST

START_TEST(only_regular_files)
{
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, "/tmp", &err), TACIT_EUNSUPPORTED);
    ck_assert_int_eq(tacit_safetensors_open(&file, "/dev/zero", &err), TACIT_EUNSUPPORTED);
    ck_assert_int_eq(tacit_safetensors_open(&file, scratch("none"), &err), TACIT_EIO);
    ck_assert_ptr_null(file);
}
END_TEST

START_TEST(a_file_that_shrinks)
{
    struct memory_file m;
    memory_file_open(&m);
    unsigned char bytes[64];
    const char *header = T("U8", "[2]", "[0,2]");
    size_t n = strlen(header), size = assemble(bytes, n, header, n, 2);
    memory_file_set(&m, bytes, size);
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, m.path, &err), TACIT_OK);
    tacit_tensor_source s = tacit_safetensors_source(file);
    ck_assert_int_eq(ftruncate(m.fd, (off_t)size - 1), 0);
    uint64_t hash;
    ck_assert_int_eq(s.read(s.ctx, 0, 0, 1, bytes, &err), TACIT_OK);
    ck_assert_int_eq(s.read(s.ctx, 0, 0, 2, bytes, &err), TACIT_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "1 bytes early: it is cut off or was changed"));
    ck_assert_int_eq(tacit_safetensors_hash(file, &hash, &err), TACIT_EFORMAT);
    tacit_safetensors_close(&file);
    close(m.fd);
}
END_TEST

/* A header of many chunks, with every byte that a name can hold. */
START_TEST(large_headers)
{
    enum { COUNT = 4000 };
    static char names[COUNT][64];
    static tacit_safetensors_entry entries[COUNT];
    static const char *const beyond[] = { "\u00e9", "\u20ac", "\U0001f41f", "\x7f" };
    for (size_t i = 0; i < COUNT; i++) {
        /* lengths differ, so that every kind of token meets the end of a chunk */
        int n = snprintf(names[i], sizeof names[i], "%zu.%.*s", i, (int)(i % 40),
                         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        snprintf(names[i] + n, sizeof names[i] - (size_t)n, "%c%s", (int)(1 + i % 127),
                 beyond[i % 4]);
        entries[i] = entry(names[i], TACIT_U8, 1, &names[i]);
    }
    const char *path = scratch("large");
    ck_assert_int_eq(tacit_safetensors_write(path, entries, COUNT, NULL, &err), TACIT_OK);
    tacit_safetensors *file;
    ck_assert_msg(tacit_safetensors_open(&file, path, &err) == TACIT_OK, "%s", err.text);
    tacit_tensor_source s = tacit_safetensors_source(file);
    ck_assert_uint_eq(s.count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        size_t number = strtoul(s.tensors[i].name, NULL, 10);
        char byte;
        ck_assert_uint_lt(number, COUNT);
        ck_assert_str_eq(s.tensors[i].name, names[number]);
        ck_assert_int_eq(s.read(s.ctx, i, 0, 1, &byte, &err), TACIT_OK);
        ck_assert_int_eq(byte, names[number][0]);
    }
    tacit_safetensors_close(&file);
    /* The same file, cut in the header's second chunk. */
    ck_assert_int_eq(truncate(path, 100000), 0);
    expect_refusal(path, TACIT_EFORMAT, "bytes is longer than the file");
}
END_TEST

/* A header that repeats one text with a number in it, and what is said of it. */
static void expect_too_many(const char *begin, const char *format, size_t count,
                            const char *message)
{
    struct memory_file m;
    memory_file_open(&m);
    size_t room = 64 + count * 80, n = 8 + strlen(begin);
    char *bytes = malloc(room);
    strcpy(bytes + 8, begin);
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(bytes + n, room - n, format, i ? "," : "", i);
    n += (size_t)snprintf(bytes + n, room - n, "}}");
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (char)((n - 8) >> 8 * i);
    memory_file_set(&m, bytes, n);
    free(bytes);
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, m.path, &err), TACIT_ELIMIT);
    ck_assert_msg(strstr(err.text, message) != NULL, "%s", err.text);
    close(m.fd);
}

START_TEST(limits)
{
    expect_too_many("{", "%s\"%zu\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                    100001, "more than 100000 tensors");
    expect_too_many("{\"__metadata__\":{", "%s\"%zu\":\"\"", 10001, "more than 10000 items");
    expect_too_many("{\"__metadata__\":{\"k\":\"", "%s%076zu", 500000,
                    "more than 33554432 bytes of names and metadata");
}
END_TEST

/* ---- every prefix and every flip of 20 files ---- */

static uint32_t draw(uint64_t seed, uint64_t *at, uint32_t n)
{
    return tacit_rng_u32(seed, 0, (*at)++) % n;
}

static const tacit_dtype written[] = { TACIT_F32, TACIT_F16, TACIT_BF16, TACIT_F64, TACIT_I64,
                                       TACIT_I32, TACIT_I16, TACIT_I8,   TACIT_U8,  TACIT_BOOL };

/* File number `seed`: a few tensors of random names, types and shapes without zeros. */
static void write_random(const char *path, uint64_t seed)
{
    static uint8_t data[4096];
    tacit_safetensors_entry entries[4];
    char names[4][32], value[16];
    uint64_t at = 0;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)draw(seed, &at, 256);
    size_t count = draw(seed, &at, 5);
    for (size_t i = 0; i < count; i++) {
        const char *tail = draw(seed, &at, 4) ? "" : "\u00e9\n";
        snprintf(names[i], sizeof names[i], "%c.%zu%s", (char)('a' + draw(seed, &at, 26)), i, tail);
        tacit_dtype dtype = written[draw(seed, &at, 10)];
        const uint8_t *from = data + draw(seed, &at, 1000);
        entries[i] = entry(names[i], dtype, 1 + draw(seed, &at, 12), from);
        entries[i].tensor.rank = draw(seed, &at, 4);
        for (unsigned d = 1; d < entries[i].tensor.rank; d++)
            entries[i].tensor.shape[d] = 1 + draw(seed, &at, 4);
    }
    snprintf(value, sizeof value, "%u", draw(seed, &at, 1000));
    const char *metadata[] = { "k", value, NULL };
    ck_assert_int_eq(
        tacit_safetensors_write(path, entries, count, draw(seed, &at, 2) ? metadata : NULL, &err),
        TACIT_OK);
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, path, &err), TACIT_OK);
    tacit_tensor_source s = tacit_safetensors_source(file);
    ck_assert_uint_eq(s.count, count);
    for (size_t i = 0; i < count; i++) {
        const tacit_tensor *t = &entries[i].tensor;
        size_t bytes = tacit_dtype_size(t->dtype);
        for (unsigned d = 0; d < t->rank; d++)
            bytes *= t->shape[d];
        size_t k = find(s, names[i]);
        uint8_t *got = malloc(bytes);
        ck_assert_uint_eq(s.tensors[k].bytes, bytes);
        ck_assert_int_eq(s.tensors[k].dtype, t->dtype);
        ck_assert_int_eq(s.read(s.ctx, k, 0, bytes, got, &err), TACIT_OK);
        ck_assert_mem_eq(got, entries[i].data, bytes);
        free(got);
    }
    tacit_safetensors_close(&file);
}

/* The damaged file is refused, or means the same but for one name that has one other letter. */
static void expect_same(const tacit_safetensors *whole, const char *path)
{
    tacit_safetensors *file;
    tacit_status st = tacit_safetensors_open(&file, path, &err);
    if (st < 0)
        return;
    tacit_tensor_source a = tacit_safetensors_source(whole), b = tacit_safetensors_source(file);
    ck_assert_uint_eq(a.count, b.count);
    size_t renamed = 0;
    for (size_t i = 0; i < a.count; i++) {
        ck_assert_int_eq(a.tensors[i].dtype, b.tensors[i].dtype);
        ck_assert_uint_eq(a.tensors[i].rank, b.tensors[i].rank);
        ck_assert_uint_eq(a.tensors[i].bytes, b.tensors[i].bytes);
        ck_assert_mem_eq(a.tensors[i].shape, b.tensors[i].shape, sizeof a.tensors[i].shape);
        renamed += strcmp(a.tensors[i].name, b.tensors[i].name) != 0;
    }
    ck_assert_uint_le(renamed, 1);
    tacit_safetensors_close(&file);
}

START_TEST(every_prefix_and_every_flip)
{
    struct memory_file m;
    memory_file_open(&m);
    for (uint64_t seed = 0; seed < 20; seed++) {
        const char *path = scratch("random");
        write_random(path, seed);
        size_t size;
        unsigned char *bytes = file_get(path, &size);
        tacit_safetensors *whole, *file;
        ck_assert_int_eq(tacit_safetensors_open(&whole, path, &err), TACIT_OK);
        memory_file_set(&m, bytes, size);
        size_t header = 8 + (bytes[0] | (size_t)bytes[1] << 8);
        for (size_t i = 0; i < header; i++)
            for (unsigned bit = 0; bit < 8; bit++) {
                unsigned char flipped = bytes[i] ^ (unsigned char)(1 << bit);
                ck_assert_int_eq(pwrite(m.fd, &flipped, 1, (off_t)i), 1);
                expect_same(whole, m.path);
                ck_assert_int_eq(pwrite(m.fd, &bytes[i], 1, (off_t)i), 1);
            }
        while (size--) {
            ck_assert_int_eq(ftruncate(m.fd, (off_t)size), 0);
            ck_assert_int_eq(tacit_safetensors_open(&file, m.path, &err), TACIT_EFORMAT);
        }
        tacit_safetensors_close(&whole);
        free(bytes);
    }
    close(m.fd);
}
END_TEST

/* From memory a file reads as it does from the disk, and one that is cut off is refused. */
START_TEST(bytes_in_memory)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        const char *path = scratch("random");
        write_random(path, seed);
        size_t size;
        uint64_t of_file, of_bytes;
        unsigned char *bytes = file_get(path, &size);
        tacit_safetensors *whole, *file;
        ck_assert_int_eq(tacit_safetensors_open(&whole, path, &err), TACIT_OK);
        ck_assert_int_eq(tacit_safetensors_open_bytes(&file, "memory", bytes, size, &err), 0);
        ck_assert_int_eq(tacit_safetensors_hash(whole, &of_file, &err), TACIT_OK);
        ck_assert_int_eq(tacit_safetensors_hash(file, &of_bytes, &err), TACIT_OK);
        ck_assert(of_file == of_bytes);
        tacit_tensor_source a = tacit_safetensors_source(whole), b = tacit_safetensors_source(file);
        ck_assert_uint_eq(a.count, b.count);
        for (size_t i = 0; i < a.count; i++) {
            size_t n = a.tensors[i].bytes;
            unsigned char *x = malloc(n + 1), *y = malloc(n + 1);
            ck_assert_int_eq(a.read(a.ctx, i, 0, n, x, &err), TACIT_OK);
            ck_assert_int_eq(b.read(b.ctx, i, 0, n, y, &err), TACIT_OK);
            ck_assert_str_eq(a.tensors[i].name, b.tensors[i].name);
            ck_assert(!memcmp(x, y, n));
            free(x), free(y);
        }
        tacit_safetensors_close(&whole);
        tacit_safetensors_close(&file);
        while (size--) { /* each prefix in memory of its own, so that a read behind it shows */
            unsigned char *cut = malloc(size + !size);
            memcpy(cut, bytes, size);
            ck_assert_int_eq(tacit_safetensors_open_bytes(&file, "memory", cut, size, &err),
                             TACIT_EFORMAT);
            free(cut);
        }
        free(bytes);
    }
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    const char *metadata[] = { "k", "v", NULL };
    tacit_safetensors_entry one = entry("a", TACIT_U8, 3, "abc");
    file_put(scratch("out"), "old", 3);
    unsigned failures = 0;
    for (unsigned persist = 0; persist < 2; persist++)
        for (uint64_t n = 1;; n++) {
            tacit_safetensors *file = NULL;
            uint64_t hash;
            tacit_alloc_fail_at(n, persist);
            tacit_status st =
                tacit_safetensors_open(&file, golden("containers/every.safetensors"), &err);
            if (st == TACIT_OK)
                st = tacit_safetensors_hash(file, &hash, &err);
            if (st == TACIT_OK)
                st = tacit_safetensors_write(scratch("out"), &one, 1, metadata, &err);
            tacit_alloc_fail_at(0, false);
            tacit_safetensors_close(&file);
            if (st == TACIT_OK)
                break;
            ck_assert_int_eq(st, TACIT_ENOMEM);
            ck_assert_ptr_nonnull(strstr(err.text, "out of memory"));
            size_t size;
            unsigned char *bytes = file_get(scratch("out"), &size);
            if (!persist)
                ck_assert_str_eq((char *)bytes, "old");
            free(bytes);
            failures++;
        }
    ck_assert_uint_gt(failures, 20);
}
END_TEST

START_TEST(what_cannot_be_written)
{
    const char *path = scratch("unwritten");
    tacit_safetensors_entry e[2] = { entry("a", TACIT_U8, 1, "x"), entry("a", TACIT_U8, 1, "x") };
    ck_assert_int_eq(tacit_safetensors_write(path, e, 2, NULL, &err), TACIT_EINVAL);
    e[1].tensor.name = "__metadata__";
    ck_assert_int_eq(tacit_safetensors_write(path, e, 2, NULL, &err), TACIT_EINVAL);
    e[1] = entry("b", TACIT_DTYPE_OTHER, 1, "x");
    ck_assert_int_eq(tacit_safetensors_write(path, e, 2, NULL, &err), TACIT_EINVAL);
    e[1] = entry("b", TACIT_F32, SIZE_MAX / 3, "x");
    ck_assert_int_eq(tacit_safetensors_write(path, e, 2, NULL, &err), TACIT_EINVAL);
    e[1] = entry("b", TACIT_U8, SIZE_MAX, "x");
    ck_assert_int_eq(tacit_safetensors_write(path, e, 2, NULL, &err), TACIT_EINVAL);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(tacit_safetensors_write(scratch("none/a"), e, 1, NULL, &err), TACIT_EIO);
    ck_assert_int_eq(tacit_safetensors_write(path, e, 0, NULL, &err), TACIT_OK);
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, path, &err), TACIT_OK);
    ck_assert_uint_eq(tacit_safetensors_source(file).count, 0);
    tacit_safetensors_close(&file);
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
    tcase_add_test(tcase, hostile_headers_are_refused);
    tcase_add_test(tcase, hostile_lengths_are_refused);
    tcase_add_test(tcase, unusual_files_are_read);
    tcase_add_test(tcase, only_regular_files);
    tcase_add_test(tcase, a_file_that_shrinks);
    tcase_add_test(tcase, large_headers);
    tcase_add_test(tcase, limits);
    tcase_add_test(tcase, every_prefix_and_every_flip);
    tcase_add_test(tcase, bytes_in_memory);
    tcase_add_test(tcase, every_allocation_fails_once);
    tcase_add_test(tcase, what_cannot_be_written);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
