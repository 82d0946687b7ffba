/* test_npy.c - the reader against NumPy's files and hostile headers, the header we write. */
#include "mem.h"
#include "npy.h"
#include "scratch.h"

#include <stdbool.h>

static tacit_err err;

START_TEST(reads_what_numpy_writes)
{
    tacit_npy npy;
    ck_assert_int_eq(tacit_npy_open(&npy, golden("rows.npy"), &err), TACIT_OK);
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

    ck_assert_int_eq(tacit_npy_open(&npy, golden("half.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_F16);
    ck_assert_uint_eq(npy.rank, 1);
    ck_assert_uint_eq(npy.shape[0], 6);
    tacit_npy_close(&npy);
    ck_assert_int_eq(tacit_npy_open(&npy, golden("scalar.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_I64);
    ck_assert_uint_eq(npy.rank, 0);
    ck_assert_uint_eq(npy.bytes, 8);
    tacit_npy_close(&npy);
    ck_assert_int_eq(tacit_npy_open(&npy, golden("version2.npy"), &err), TACIT_OK);
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
        { "columns.npy", "Fortran order" },
        { "objects.npy", "Python objects" },
        { "records.npy", "array of records" },
        { "foreign.npy", "big-endian" },
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
            tacit_npy_header(header, counts[i], counts[k]);
            ck_assert_mem_eq(header, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', ", 27);
            ck_assert_int_eq(header[TACIT_NPY_HEADER - 1], '\n');
            snprintf(text, sizeof text, "'shape': (%llu, %llu), } ", (unsigned long long)counts[i],
                     (unsigned long long)counts[k]);
            ck_assert_ptr_nonnull(memmem(header, sizeof header, text, strlen(text)));
        }
    char bytes[TACIT_NPY_HEADER + 24] = { 0 };
    tacit_npy npy;
    tacit_npy_header(bytes, 2, 3);
    file_put(scratch("a.npy"), bytes, sizeof bytes);
    ck_assert_int_eq(tacit_npy_open(&npy, scratch("a.npy"), &err), TACIT_OK);
    ck_assert_int_eq(npy.dtype, TACIT_F32);
    ck_assert_uint_eq(npy.shape[0], 2);
    ck_assert_uint_eq(npy.shape[1], 3);
    ck_assert_uint_eq(npy.data, TACIT_NPY_HEADER);
    tacit_npy_close(&npy);
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
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
