/* test_atomic.c - files that are there whole or not at all; fields of tab-separated lines. */
#include "atomic_file.h"
#include "mem.h"
#include "scratch.h"
#include "tsv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static tacit_err err;

static void expect_file(const char *path, const char *text)
{
    char *bytes;
    size_t size;
    ck_assert_int_eq(tacit_file_read(path, 1 << 20, &bytes, &size, &err), TACIT_OK);
    ck_assert_str_eq(bytes, text);
    ck_assert_uint_eq(size, strlen(text));
    tacit_free(bytes);
}

START_TEST(replaces_a_file)
{
    const char *path = scratch("a");
    ck_assert_int_eq(tacit_file_replace(path, "old", 3, &err), TACIT_OK);
    expect_file(path, "old");
    ck_assert_int_eq(tacit_file_replace(path, "newer", 5, &err), TACIT_OK);
    expect_file(path, "newer");
    ck_assert_int_eq(tacit_file_replace(path, NULL, 0, &err), TACIT_OK);
    expect_file(path, "");
    ck_assert_uint_eq(count_names(scratch_folder), 1);
    ck_assert_int_eq(tacit_file_rename(path, scratch("b"), &err), TACIT_OK);
    expect_file(scratch("b"), "");
    ck_assert_int_eq(tacit_file_rename(path, scratch("b"), &err), TACIT_EIO);
    remove(scratch("b"));
}
END_TEST

START_TEST(follows_the_umask)
{
    struct stat info;
    mode_t old = umask(027);
    ck_assert_int_eq(tacit_file_replace(scratch("a"), "x", 1, &err), TACIT_OK);
    umask(old);
    ck_assert_int_eq(stat(scratch("a"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0640);
    remove(scratch("a"));
}
END_TEST

START_TEST(a_full_disk_leaves_the_old_file)
{
    const char *path = scratch("a");
    ck_assert_int_eq(tacit_file_replace(path, "old", 3, &err), TACIT_OK);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    char bytes[2000] = { 0 };
    tacit_status st = tacit_file_replace(path, bytes, sizeof bytes, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_DFL);
    ck_assert_int_eq(st, TACIT_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "File too large"));
    expect_file(path, "old");
    ck_assert_uint_eq(count_names(scratch_folder), 1);

    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(full, 0);
    ck_assert_int_eq(tacit_write_all(full, "x", 1, "/dev/full", &err), TACIT_EIO);
    ck_assert_str_eq(err.text, "/dev/full: cannot be written: No space left on device");
    ck_assert_int_eq(tacit_pwrite_all(full, "x", 1, 5, "/dev/full", &err), TACIT_EIO);
    close(full);
    remove(path);
}
END_TEST

START_TEST(places_that_cannot_be_written)
{
    ck_assert_int_eq(tacit_file_replace("", "x", 1, &err), TACIT_EINVAL);
    ck_assert_int_eq(tacit_file_replace(scratch(""), "x", 1, &err), TACIT_EINVAL);
    ck_assert_int_eq(tacit_file_replace(scratch("none/a"), "x", 1, &err), TACIT_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "none/a: cannot open its folder: No such file"));
    /* A folder cannot be replaced by a file. */
    mkdir(scratch("folder"), 0777);
    ck_assert_int_eq(tacit_file_replace(scratch("folder"), "x", 1, &err), TACIT_EIO);
    ck_assert_uint_eq(count_names(scratch_folder), 1);
    /* Root may write anywhere, but not even root in /proc. */
    ck_assert_int_eq(tacit_file_replace("/proc/self/a", "x", 1, &err), TACIT_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot create a file beside it"));
    if (geteuid() != 0) {
        chmod(scratch("folder"), 0500);
        ck_assert_int_eq(tacit_file_replace(scratch("folder/a"), "x", 1, &err), TACIT_EIO);
        chmod(scratch("folder"), 0700);
    }
    rmdir(scratch("folder"));
}
END_TEST

START_TEST(leftovers_and_long_names)
{
    char name[256], left[300];
    memset(name, 'n', 255);
    name[255] = 0;
    snprintf(left, sizeof left, "%.200s.%ld-0.tmp", name, (long)getpid());
    file_put(scratch(left), "left over", 9);
    ck_assert_int_eq(tacit_file_replace(scratch(name), "x", 1, &err), TACIT_OK);
    expect_file(scratch(name), "x");
    expect_file(scratch(left), "left over");
    ck_assert_uint_eq(count_names(scratch_folder), 2);
    remove(scratch(name));
    remove(scratch(left));
}
END_TEST

START_TEST(only_regular_files_are_opened)
{
    int fd;
    uint64_t size;
    mkfifo(scratch("fifo"), 0600);
    alarm(5); /* a hang is a failure */
    ck_assert_int_eq(tacit_open_regular(scratch("fifo"), &fd, &size, &err), TACIT_EUNSUPPORTED);
    alarm(0);
    ck_assert_int_eq(fd, -1);
    ck_assert_int_eq(tacit_open_regular("/dev/null", &fd, &size, &err), TACIT_EUNSUPPORTED);
    ck_assert_int_eq(tacit_open_regular("/tmp", &fd, &size, &err), TACIT_EUNSUPPORTED);
    ck_assert_str_eq(err.text, "/tmp: is a folder, not a file");
    ck_assert_int_eq(tacit_open_regular(scratch("none"), &fd, &size, &err), TACIT_EIO);
    ck_assert_int_eq(symlink("loop", scratch("loop")), 0);
    ck_assert_int_eq(tacit_open_regular(scratch("loop"), &fd, &size, &err), TACIT_EIO);
    file_put(scratch("a"), "0123456789", 10);
    ck_assert_int_eq(symlink("a", scratch("link")), 0);
    ck_assert_int_eq(tacit_open_regular(scratch("link"), &fd, &size, &err), TACIT_OK);
    ck_assert_uint_eq(size, 10);
    char bytes[8];
    ck_assert_int_eq(tacit_pread_all(fd, bytes, 4, 6, "link", &err), TACIT_OK);
    ck_assert_mem_eq(bytes, "6789", 4);
    ck_assert_int_eq(tacit_pread_all(fd, bytes, 5, 6, "link", &err), TACIT_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "link: ends at byte 10, 1 bytes early"));
    close(fd);
    char *text;
    size_t n;
    ck_assert_int_eq(tacit_file_read(scratch("a"), 10, &text, &n, &err), TACIT_OK);
    tacit_free(text);
    ck_assert_int_eq(tacit_file_read(scratch("a"), 9, &text, &n, &err), TACIT_ELIMIT);
    ck_assert_ptr_null(text);
    static const char *const names[] = { "fifo", "loop", "link", "a" };
    for (size_t i = 0; i < 4; i++)
        remove(scratch(names[i]));
}
END_TEST

START_TEST(bytes_at_an_offset)
{
    char bytes[8];
    int fd = open(scratch("a"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(tacit_pwrite_all(fd, "abcd", 4, 2, "a", &err), TACIT_OK);
    ck_assert_int_eq(tacit_pread_all(fd, bytes, 6, 0, "a", &err), TACIT_OK);
    ck_assert_mem_eq(bytes, "\0\0abcd", 6);
    close(fd);
    ck_assert_int_eq(tacit_pread_all(fd, bytes, 1, 0, "a", &err), TACIT_EIO);
    ck_assert_str_eq(err.text, "a: cannot be read: Bad file descriptor");
    remove(scratch("a"));
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    file_put(scratch("a"), "old", 3);
    for (uint64_t n = 1;; n++) {
        char *bytes = NULL;
        size_t size;
        tacit_alloc_fail_at(n, false);
        tacit_status st = tacit_file_replace(scratch("a"), "new", 3, &err);
        if (st == TACIT_OK)
            st = tacit_file_read(scratch("a"), 100, &bytes, &size, &err);
        tacit_alloc_fail_at(0, false);
        tacit_free(bytes);
        ck_assert_uint_eq(count_names(scratch_folder), 1);
        if (st == TACIT_OK) {
            ck_assert_uint_gt(n, 4);
            break;
        }
        ck_assert_int_eq(st, TACIT_ENOMEM);
    }
    remove(scratch("a"));
}
END_TEST

START_TEST(fields_survive)
{
    static const struct {
        const char *plain, *escaped;
    } fields[] = {
        { "", "" },
        { "a b/c.jpg", "a b/c.jpg" },
        { "\t\n\r\\", "\\t\\n\\r\\\\" },
        { "\x01\x1f\x7f\x1b", "\\x01\\x1f\\x7f\\x1b" },
        { "\xff\x80 \xc3\xa9", "\xff\x80 \xc3\xa9" },
        { "\\x01", "\\\\x01" },
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char line[64], *cut[2];
        char *end = tacit_tsv_escape(line, fields[i].plain);
        ck_assert_str_eq(line, fields[i].escaped);
        ck_assert_ptr_eq(end, line + strlen(line));
        *end++ = '\t';
        end = tacit_tsv_escape(end, fields[i].plain);
        ck_assert_int_eq(tacit_tsv_split(line, (size_t)(end - line), cut, 2, &err), TACIT_OK);
        ck_assert_str_eq(cut[0], fields[i].plain);
        ck_assert_str_eq(cut[1], fields[i].plain);
    }
    for (unsigned c = 1; c < 256; c++) {
        char plain[2] = { (char)c, 0 }, line[5], *cut[1];
        char *end = tacit_tsv_escape(line, plain);
        ck_assert_int_eq(tacit_tsv_split(line, (size_t)(end - line), cut, 1, &err), TACIT_OK);
        ck_assert_str_eq(cut[0], plain);
    }
}
END_TEST

START_TEST(other_spellings_are_refused)
{
    static const char *const lines[] = { "a",        "a\tb\tc",  "a\t\\",    "a\t\\q",   "a\t\\x",
                                         "a\t\\x0",  "a\t\\x0g", "a\t\\x1F", "a\t\\x41", "a\t\\x09",
                                         "a\t\\x00", "a\t\x01",  "a\tb\n" };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char line[16], *cut[2];
        strcpy(line, lines[i]);
        ck_assert_msg(tacit_tsv_split(line, strlen(lines[i]), cut, 2, &err) == TACIT_EFORMAT, "%s",
                      lines[i]);
    }
    char line[] = "a\t\0", *cut[2];
    ck_assert_int_eq(tacit_tsv_split(line, 3, cut, 2, &err), TACIT_EFORMAT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("atomic");
    TCase *tcase = tcase_create("atomic");
    tcase_add_unchecked_fixture(tcase, scratch_open, scratch_close);
    tcase_add_test(tcase, replaces_a_file);
    tcase_add_test(tcase, follows_the_umask);
    tcase_add_test(tcase, a_full_disk_leaves_the_old_file);
    tcase_add_test(tcase, places_that_cannot_be_written);
    tcase_add_test(tcase, leftovers_and_long_names);
    tcase_add_test(tcase, only_regular_files_are_opened);
    tcase_add_test(tcase, bytes_at_an_offset);
    tcase_add_test(tcase, every_allocation_fails_once);
    tcase_add_test(tcase, fields_survive);
    tcase_add_test(tcase, other_spellings_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
