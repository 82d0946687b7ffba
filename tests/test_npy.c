/* test_npy.c - the reader against NumPy's files and hostile headers, the header we write. */
#include "mem.h"
#include "npy.h"
#include "scratch.h"

#include <stdbool.h>

static tacit_err err;

START_TEST(reads_what_numpy_writes)
{
    tacit_npy npy;
    ck_assert_int_eq(tacit_npy_open(&npy, golden("containers/rows.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_F32);
    ck_assert_uint_eq(npy.rank, 2);
    ck_assert_uint_eq(npy.shape[0], 3);
    ck_assert_uint_eq(npy.shape[1], 4);
    ck_assert_uint_eq(npy.bytes, 48);
    float row[4];
    ck_assert_int_eq(tacit_npy_read(&npy, 32, 16, row, &err), TACIT_OK);
    ck_assert_float_eq(row[0], 8);
    ck_assert_float_eq(row[3], 11);
    ck_assert_int_eq(tacit_npy_read(&npy, 33, 16, row, &err), TACIT_EINVAL);
    tacit_npy_close(&npy);
    tacit_npy_close(&npy);

    ck_assert_int_eq(tacit_npy_open(&npy, golden("containers/half.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_F16);
    ck_assert_uint_eq(npy.rank, 1);
    ck_assert_uint_eq(npy.shape[0], 6);
    tacit_npy_close(&npy);
    ck_assert_int_eq(tacit_npy_open(&npy, golden("containers/scalar.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_I64);
    ck_assert_uint_eq(npy.rank, 0);
    ck_assert_uint_eq(npy.bytes, 8);
    tacit_npy_close(&npy);
    ck_assert_int_eq(tacit_npy_open(&npy, golden("containers/version2.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_U8);
    uint8_t u8[4];
    ck_assert_int_eq(tacit_npy_read(&npy, 0, 4, u8, &err), TACIT_OK);
    ck_assert_uint_eq(u8[3], 3);
    tacit_npy_close(&npy);
}
END_TEST

START_TEST(refuses_what_it_does_not_read)
{
    static const struct {
        const char *name, *message;
    } files[] = {
        { "containers/columns.npy", "Fortran order" },
        { "containers/objects.npy", "Python objects" },
        { "containers/records.npy", "array of records" },
        { "containers/foreign.npy", "big-endian" },
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        tacit_npy npy;
        ck_assert_int_eq(tacit_npy_open(&npy, golden(files[i].name), &err), TACIT_EUNSUPPORTED);
        ck_assert_msg(strstr(err.text, files[i].message) != NULL, "%s", err.text);
        ck_assert_int_eq(npy.fd, -1);
    }
}
END_TEST

START_TEST(header_is_read_back)
{
    static const uint64_t counts[] = { 0, 1, 384, 4294967296, UINT64_MAX };
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 5; k++) {
            char header[TACIT_NPY_HEADER], text[128];
            tacit_npy_header(header, TACIT_F32, (uint64_t[]){ counts[i], counts[k] }, 2);
            ck_assert_mem_eq(header, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', ", 27);
            ck_assert_int_eq(header[TACIT_NPY_HEADER - 1], '\n');
            snprintf(text, sizeof text, "'shape': (%llu, %llu), } ", (unsigned long long)counts[i],
                     (unsigned long long)counts[k]);
            ck_assert_ptr_nonnull(memmem(header, sizeof header, text, strlen(text)));
        }
    char bytes[TACIT_NPY_HEADER + 24] = { 0 };
    tacit_npy npy;
    tacit_npy_header(bytes, TACIT_F32, (uint64_t[]){ 2, 3 }, 2);
    file_put(scratch("a.npy"), bytes, sizeof bytes);
    ck_assert_int_eq(tacit_npy_open(&npy, scratch("a.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_F32);
    ck_assert_uint_eq(npy.shape[0], 2);
    ck_assert_uint_eq(npy.shape[1], 3);
    ck_assert_uint_eq(npy.data, TACIT_NPY_HEADER);
    tacit_npy_close(&npy);
    tacit_npy_header(bytes, TACIT_I64, (uint64_t[]){ 3, 1 }, 2);
    bytes[TACIT_NPY_HEADER + 8] = 7;
    file_put(scratch("a.npy"), bytes, sizeof bytes);
    ck_assert_int_eq(tacit_npy_open(&npy, scratch("a.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_I64);
    const void *elements;
    ck_assert_int_eq(tacit_npy_map(&npy, "a.npy", &elements, &err), TACIT_OK);
    ck_assert_int_eq(((const int64_t *)elements)[1], 7);
    tacit_npy_close(&npy);
}
END_TEST

/* ---- broken files ---- */

#define DESCR    "'descr': '<f4', "
#define ORDER    "'fortran_order': False, "
#define D(shape) "{" DESCR ORDER "'shape': " shape ", }\n"

/* A header's text, how many bytes of data follow, and what is said about it. */
static const struct {
    const char *header;
    size_t data;
    tacit_status status;
    const char *message;
} hostile[] = {
    { "", 0, TACIT_EFORMAT, "character 0: a dictionary was expected" },
    { "[]", 0, TACIT_EFORMAT, "character 0: a dictionary was expected" },
    { "{}\n", 0, TACIT_EFORMAT, "key 'descr' is missing" },
    { "{" DESCR "}\n", 0, TACIT_EFORMAT, "key 'fortran_order' is missing" },
    { "{" DESCR ORDER "}\n", 0, TACIT_EFORMAT, "key 'shape' is missing" },
    { "{" DESCR ORDER "'shape': (1,)\n", 4, TACIT_EFORMAT, "a comma or a closing brace" },
    { "{" DESCR DESCR ORDER "'shape': (1,)}\n", 4, TACIT_EFORMAT, "a key that was there before" },
    { "{" DESCR ORDER "'shape': (1,), 'x': 1}\n", 4, TACIT_EFORMAT, "an unknown key ends here" },
    { "{" DESCR ORDER "'shape': (1,)} x\n", 4, TACIT_EFORMAT, "something follows the dictionary" },
    { "{" DESCR ORDER "'shape': (1,)}\n{}", 4, TACIT_EFORMAT, "something follows the dictionary" },
    { "{descr: 1}\n", 4, TACIT_EFORMAT, "character 1: a string in quotes was expected" },
    { "{,}\n", 4, TACIT_EFORMAT, "character 1: a string in quotes was expected" },
    { "{'descr\n", 4, TACIT_EFORMAT, "a string holds a byte" },
    { "{'des\\x63r': 1}\n", 4, TACIT_EFORMAT, "a string holds a byte" },
    { "{'d\xc3\xa9r': 1}\n", 4, TACIT_EFORMAT, "a string holds a byte" },
    { "{'descr", 4, TACIT_EFORMAT, "a string does not end" },
    { "{'descr\": '<f4'}", 4, TACIT_EFORMAT, "an unknown key ends here" },
    { "{'descr' '<f4'}", 4, TACIT_EFORMAT, "a colon was expected" },
    { "{'descr': 4}", 4, TACIT_EFORMAT, "a string in quotes was expected" },
    { "{'descr': '|O'}", 4, TACIT_EUNSUPPORTED, "'|O' holds Python objects" },
    { "{'descr': [('a', '<f4')]}", 4, TACIT_EUNSUPPORTED, "is an array of records" },
    { "{'descr': ('<f4', (2,))}", 4, TACIT_EUNSUPPORTED, "is an array of records" },
    { "{'descr': '>f4'}", 4, TACIT_EUNSUPPORTED, "'>f4' is of foreign (big-endian)" },
    { "{'descr': '<c8'}", 4, TACIT_EUNSUPPORTED, "'<c8' is a type that is not read" },
    { "{'descr': '<U5'}", 4, TACIT_EUNSUPPORTED, "'<U5' is a type that is not read" },
    { "{'descr': '|V2'}", 4, TACIT_EUNSUPPORTED, "'|V2' is a type that is not read" },
    { "{'descr': ''}", 4, TACIT_EUNSUPPORTED, "'' is a type that is not read" },
    { "{'descr': '=f4'}", 4, TACIT_EUNSUPPORTED, "'=f4' is a type that is not read" },
    { "{'fortran_order': 0}", 4, TACIT_EFORMAT, "True or False was expected" },
    { "{'fortran_order': false}", 4, TACIT_EFORMAT, "True or False was expected" },
    { "{'fortran_order': 'False'}", 4, TACIT_EFORMAT, "True or False was expected" },
    { "{" DESCR "'fortran_order': True, 'shape': (1, 1)}\n", 4, TACIT_EUNSUPPORTED,
      "Fortran order" },
    { D("1"), 4, TACIT_EFORMAT, "a shape in parentheses was expected" },
    { D("[1]"), 4, TACIT_EFORMAT, "a shape in parentheses was expected" },
    { D("(1)"), 4, TACIT_EFORMAT, "not a tuple" },
    { D("(,)"), 4, TACIT_EFORMAT, "a dimension (digits) was expected" },
    { D("(1 1)"), 4, TACIT_EFORMAT, "a comma or a closing parenthesis" },
    { D("(1,,1)"), 4, TACIT_EFORMAT, "a dimension (digits) was expected" },
    { D("(-1,)"), 4, TACIT_EFORMAT, "a dimension (digits) was expected" },
    { D("(1.0,)"), 4, TACIT_EFORMAT, "a comma or a closing parenthesis" },
    { D("(1L,)"), 4, TACIT_EFORMAT, "a comma or a closing parenthesis" },
    { D("(0x1,)"), 4, TACIT_EFORMAT, "a comma or a closing parenthesis" },
    { D("(01,)"), 4, TACIT_EFORMAT, "a dimension begins with 0" },
    { D("(18446744073709551616,)"), 4, TACIT_EFORMAT, "a dimension does not fit 64 bits" },
    { D("(4611686018427387905,)"), 4, TACIT_EFORMAT, "its shape is larger than any memory" },
    { D("(4294967296, 4294967296)"), 0, TACIT_EFORMAT, "its shape is larger than any memory" },
    { D("(0, 4294967296, 4294967296)"), 0, TACIT_EFORMAT, "its shape is larger than any memory" },
    { D("(1, 1, 1, 1, 1, 1, 1, 1, 1)"), 4, TACIT_ELIMIT, "has more than 8 dimensions" },
    { D("(2,)"), 4, TACIT_EFORMAT, "its shape needs 8 bytes of data, there are 4" },
    { D("(1,)"), 5, TACIT_EFORMAT, "its shape needs 4 bytes of data, there are 5" },
    { D("(0,)"), 4, TACIT_EFORMAT, "its shape needs 0 bytes of data, there are 4" },
    { D("()"), 0, TACIT_EFORMAT, "its shape needs 4 bytes of data, there are 0" },
    { D("(1,"), 4, TACIT_EFORMAT, "a dimension (digits) was expected" },
};

static size_t assemble(unsigned char *out, unsigned version, size_t length, const char *header,
                       size_t n, size_t data)
{
    size_t start = version == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)version;
    out[7] = 0;
    for (unsigned i = 0; i < start - 8; i++)
        out[8 + i] = (unsigned char)(length >> 8 * i);
    memcpy(out + start, header, n);
    memset(out + start + n, 0, data);
    return start + n + data;
}

static void expect_refusal(const char *path, tacit_status status, const char *message)
{
    tacit_npy npy;
    uint64_t bytes = tacit_alloc_bytes();
    tacit_status st = tacit_npy_open(&npy, path, &err);
    ck_assert_msg(st == status && strstr(err.text, message),
                  "status %d, '%s', where %d, '%s' was expected", st, err.text, status, message);
    ck_assert_int_eq(npy.fd, -1);
    ck_assert_uint_le(tacit_alloc_bytes() - bytes, 1 << 20);
}

START_TEST(hostile_headers_are_refused)
{
    struct memory_file file;
    memory_file_open(&file);
    unsigned char bytes[512];
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++)
        for (unsigned version = 1; version <= 3; version++) {
            size_t n = strlen(hostile[i].header);
            memory_file_set(&file, bytes,
                            assemble(bytes, version, n, hostile[i].header, n, hostile[i].data));
            expect_refusal(file.path, hostile[i].status, hostile[i].message);
        }
    close(file.fd);
}
END_TEST

START_TEST(hostile_lengths_are_refused)
{
    struct memory_file file;
    memory_file_open(&file);
    unsigned char bytes[512];
    const char *header = D("(1,)");
    size_t n = strlen(header), size = assemble(bytes, 1, n, header, n, 4);
    bytes[0]++;
    memory_file_set(&file, bytes, size);
    expect_refusal(file.path, TACIT_EFORMAT, "is not an npy file");
    bytes[0]--;
    bytes[6] = 4;
    memory_file_set(&file, bytes, size);
    expect_refusal(file.path, TACIT_EUNSUPPORTED, "is of npy version 4.0");
    bytes[6] = 1;
    bytes[7] = 1;
    memory_file_set(&file, bytes, size);
    expect_refusal(file.path, TACIT_EUNSUPPORTED, "is of npy version 1.1");
    memory_file_set(&file, bytes, 9);
    expect_refusal(file.path, TACIT_EFORMAT, "is too short for an npy file");
    memory_file_set(&file, bytes, assemble(bytes, 1, 65535, header, n, 4));
    expect_refusal(file.path, TACIT_EFORMAT, "its header of 65535 bytes does not fit the file");
    memory_file_set(&file, bytes, assemble(bytes, 2, 0xffffffff, header, n, 4));
    expect_refusal(file.path, TACIT_EFORMAT, "its header of 4294967295 bytes does not fit");
    ck_assert_int_eq(ftruncate(file.fd, (off_t)5 << 30), 0);
    expect_refusal(file.path, TACIT_ELIMIT, "its header has 4294967295 bytes, the limit is 10000");
    memory_file_set(&file, bytes, assemble(bytes, 2, 0, "", 0, 0));
    ck_assert_int_eq(ftruncate(file.fd, 10), 0);
    expect_refusal(file.path, TACIT_EFORMAT, "is cut off in its header");
    tacit_npy npy;
    ck_assert_int_eq(tacit_npy_open(&npy, "/tmp", &err), TACIT_EUNSUPPORTED);
    ck_assert_int_eq(tacit_npy_open(&npy, scratch("none"), &err), TACIT_EIO);
    close(file.fd);
}
END_TEST

START_TEST(unusual_headers_are_read)
{
    static const struct {
        const char *header;
        size_t data;
        unsigned rank;
    } files[] = {
        { "{'shape': (1,), 'fortran_order': False, 'descr': '<f4'}", 4, 1 },
        { "{\"descr\":\"<f4\",\"fortran_order\":True,\"shape\":(1,)}\n", 4, 1 },
        { "{ 'descr' : '|b1' , 'fortran_order' : True , 'shape' : ( ) , }   \n", 1, 0 },
        { D("(1, 1, 1, 1, 1, 1, 1, 2)"), 8, 8 },
        { D("(2, 3,)"), 24, 2 },
        { D("(0, 4294967296)"), 0, 2 },
    };
    struct memory_file m;
    memory_file_open(&m);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        for (unsigned version = 1; version <= 3; version++) {
            unsigned char bytes[512];
            size_t n = strlen(files[i].header);
            memory_file_set(&m, bytes,
                            assemble(bytes, version, n, files[i].header, n, files[i].data));
            tacit_npy npy;
            ck_assert_msg(tacit_npy_open(&npy, m.path, &err) == TACIT_OK, "%s", err.text);
            ck_assert_uint_eq(npy.rank, files[i].rank);
            ck_assert_uint_eq(npy.bytes, files[i].data);
            tacit_npy_close(&npy);
        }
    close(m.fd);
}
END_TEST

START_TEST(every_prefix_and_every_flip)
{
    static const char *const names[] = { "containers/rows.npy", "containers/half.npy",
                                         "containers/scalar.npy", "containers/version2.npy" };
    struct memory_file m;
    memory_file_open(&m);
    for (size_t f = 0; f < 4; f++) {
        size_t size;
        unsigned char *bytes = file_get(golden(names[f]), &size);
        tacit_npy whole, npy;
        ck_assert_int_eq(tacit_npy_open(&whole, golden(names[f]), &err), TACIT_OK);
        memory_file_set(&m, bytes, size);
        for (size_t i = 0; i < whole.data; i++)
            for (unsigned bit = 0; bit < 8; bit++) {
                unsigned char flipped = bytes[i] ^ (unsigned char)(1 << bit);
                ck_assert_int_eq(pwrite(m.fd, &flipped, 1, (off_t)i), 1);
                if (tacit_npy_open(&npy, m.path, &err) == TACIT_OK) {
                    ck_assert_int_eq(npy.dtype, whole.dtype);
                    ck_assert_uint_eq(npy.rank, whole.rank);
                    ck_assert_mem_eq(npy.shape, whole.shape, sizeof npy.shape);
                    ck_assert_uint_eq(npy.data, whole.data);
                    tacit_npy_close(&npy);
                }
                ck_assert_int_eq(pwrite(m.fd, &bytes[i], 1, (off_t)i), 1);
            }
        while (size--) {
            ck_assert_int_eq(ftruncate(m.fd, (off_t)size), 0);
            ck_assert_int_eq(tacit_npy_open(&npy, m.path, &err), TACIT_EFORMAT);
        }
        tacit_npy_close(&whole);
        free(bytes);
    }
    close(m.fd);
}
END_TEST

START_TEST(a_file_that_shrinks)
{
    size_t size;
    unsigned char *bytes = file_get(golden("containers/rows.npy"), &size);
    struct memory_file m;
    memory_file_open(&m);
    memory_file_set(&m, bytes, size);
    tacit_npy npy;
    float rows[12];
    ck_assert_int_eq(tacit_npy_open(&npy, m.path, &err), TACIT_OK);
    ck_assert_int_eq(ftruncate(m.fd, (off_t)size - 3), 0);
    ck_assert_int_eq(tacit_npy_read(&npy, 0, 44, rows, &err), TACIT_OK);
    ck_assert_int_eq(tacit_npy_read(&npy, 0, 48, rows, &err), TACIT_EFORMAT);
    tacit_npy_close(&npy);
    close(m.fd);
    free(bytes);
}
END_TEST

START_TEST(no_memory)
{
    tacit_npy npy;
    tacit_alloc_fail_at(1, true);
    tacit_status st = tacit_npy_open(&npy, golden("containers/rows.npy"), &err);
    tacit_alloc_fail_at(0, false);
    ck_assert_int_eq(st, TACIT_ENOMEM);
    ck_assert_int_eq(npy.fd, -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("npy");
    TCase *tcase = tcase_create("npy");
    tcase_add_unchecked_fixture(tcase, scratch_open, scratch_close);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, reads_what_numpy_writes);
    tcase_add_test(tcase, refuses_what_it_does_not_read);
    tcase_add_test(tcase, header_is_read_back);
    tcase_add_test(tcase, hostile_headers_are_refused);
    tcase_add_test(tcase, hostile_lengths_are_refused);
    tcase_add_test(tcase, unusual_headers_are_read);
    tcase_add_test(tcase, every_prefix_and_every_flip);
    tcase_add_test(tcase, a_file_that_shrinks);
    tcase_add_test(tcase, no_memory);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
