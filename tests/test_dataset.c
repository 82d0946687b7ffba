/* test_dataset.c - every kind of input against its literal list of items, and against hostile ones.
 *
 * Each test builds what it reads in a folder of its own, removed at the end.
 */
#include "dataset.h"
#include "mem.h"
#include "scratch.h"

#include <archive.h>
#include <archive_entry.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Writes a file, making the folders above it. */
static const char *put(const char *name, const void *bytes, size_t size)
{
    const char *path = scratch(name);
    char folder[1024];
    for (const char *p = path + strlen(scratch_folder) + 1; (p = strchr(p, '/')); p++) {
        snprintf(folder, sizeof folder, "%.*s", (int)(p - path), path);
        ck_assert(mkdir(folder, 0777) == 0 || errno == EEXIST);
    }
    file_put(path, bytes, size);
    return path;
}

static const char *put_text(const char *name, const char *text)
{
    return put(name, text, strlen(text));
}

static tacit_dataset *open_set(const char *path, tacit_dataset_kind kind)
{
    tacit_err err = { "" };
    tacit_dataset *set;
    tacit_status st = tacit_dataset_open(&set, path, kind, &err);
    ck_assert_msg(st == TACIT_OK, "%s: %s", path, err.text);
    return set;
}

static void open_fails(const char *path, tacit_dataset_kind kind, tacit_status status,
                       const char *says)
{
    tacit_err err = { "" };
    tacit_dataset *set;
    ck_assert_int_eq(tacit_dataset_open(&set, path, kind, &err), status);
    ck_assert_ptr_null(set);
    ck_assert_msg(strstr(err.text, says), "\"%s\" lacks \"%s\"", err.text, says);
}

/* The set as text: a line for each item "path|label", " BAD word" where it is one. The result is
 * valid until the next call. */
static const char *listing(tacit_dataset *set)
{
    static char text[1 << 16];
    size_t n = 0;
    tacit_item item = { 0 };
    tacit_err err = { "" };
    uint64_t index = 0, count = tacit_dataset_count(set);
    bool more;
    tacit_status st;
    text[0] = 0;
    while ((st = tacit_dataset_next(set, &item, &more, &err)) == TACIT_OK && more) {
        ck_assert_uint_eq(item.index, index++);
        ck_assert(!item.label || item.label[0]);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s|%s%s%s\n", item.path,
                              item.label ? item.label : "-",
                              item.form == TACIT_ITEM_BAD ? " BAD " : "",
                              item.form == TACIT_ITEM_BAD ? tacit_status_word(item.status) : "");
        ck_assert_uint_lt(n, sizeof text);
        ck_assert((item.form == TACIT_ITEM_FILE) == (item.file != NULL));
        ck_assert((item.form == TACIT_ITEM_BAD) == (item.problem.text[0] != 0));
    }
    if (st < 0)
        snprintf(text + n, sizeof text - n, "ERROR %s\n", tacit_status_word(st));
    else if (count != UINT64_MAX)
        ck_assert_uint_eq(index, count);
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK); /* it stays ended */
    ck_assert(!more);
    tacit_item_free(&item);
    return text;
}

static void expect(const char *path, tacit_dataset_kind kind, tacit_dataset_kind found,
                   const char *items)
{
    tacit_dataset *set = open_set(path, kind);
    ck_assert_int_eq(tacit_dataset_kind_of(set), found);
    ck_assert_str_eq(listing(set), items);
    tacit_dataset_close(&set);
    ck_assert_ptr_null(set);
    tacit_dataset_close(&set);
}

/* Loads item number `which`; the message is in err where that fails. */
static tacit_status load_nth(const char *path, uint64_t which, tacit_item *item, tacit_err *err)
{
    tacit_dataset *set = open_set(path, TACIT_DATASET_AUTO);
    bool more = true;
    *item = (tacit_item){ 0 };
    for (uint64_t i = 0; i <= which; i++) {
        ck_assert_int_eq(tacit_dataset_next(set, item, &more, err), TACIT_OK);
        ck_assert(more);
    }
    tacit_dataset_close(&set);
    return tacit_item_load(item, err);
}

/* ---------------------------------------------------------------- kinds */

START_TEST(kinds_have_names)
{
    for (int k = TACIT_DATASET_FOLDER; k <= TACIT_DATASET_PACK; k++) {
        tacit_dataset_kind kind;
        const char *name = tacit_dataset_kind_name((tacit_dataset_kind)k);
        ck_assert_int_eq(tacit_dataset_kind_parse(name, &kind, NULL), TACIT_OK);
        ck_assert_int_eq(kind, k);
    }
    tacit_dataset_kind kind;
    tacit_err err;
    ck_assert_int_eq(tacit_dataset_kind_parse("zip", &kind, &err), TACIT_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "zip"));
    ck_assert_int_eq(tacit_dataset_kind_parse("auto", &kind, &err), TACIT_EINVAL);
}
END_TEST

START_TEST(what_is_no_input_is_refused)
{
    open_fails(scratch("missing"), TACIT_DATASET_AUTO, TACIT_EINVAL, "no such file or folder");
    open_fails(scratch("missing"), TACIT_DATASET_LIST, TACIT_EINVAL, "no such file or folder");
    open_fails(scratch("missing"), TACIT_DATASET_FOLDER, TACIT_EINVAL, "no such file or folder");
    open_fails(put("empty", "", 0), TACIT_DATASET_AUTO, TACIT_EINVAL, "empty");
    open_fails(scratch_folder, TACIT_DATASET_AUTO, TACIT_EINVAL, "no image in this folder");
    put_text("sub/notes.txt", "x");
    open_fails(scratch_folder, TACIT_DATASET_AUTO, TACIT_EINVAL, "no image in this folder");
    open_fails(put_text("list", "\n\r\n  \n"), TACIT_DATASET_LIST, TACIT_EINVAL, "names no image");
    open_fails(scratch("sub"), TACIT_DATASET_LIST, TACIT_EIO, "sub");
    open_fails(scratch("list"), TACIT_DATASET_FOLDER, TACIT_EINVAL, "not a folder");
    open_fails(scratch("list/x.jpg"), TACIT_DATASET_AUTO, TACIT_EINVAL, "not a folder");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", scratch("socket"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    open_fails(scratch("socket"), TACIT_DATASET_AUTO, TACIT_EINVAL, "neither a folder nor a file");
    close(fd);
}
END_TEST

START_TEST(one_image_is_a_set)
{
    put_text("Photo.JPG", "bytes");
    expect(scratch("Photo.JPG"), TACIT_DATASET_AUTO, TACIT_DATASET_LIST, "Photo.JPG|-\n");
    tacit_item item;
    ck_assert_int_eq(load_nth(scratch("Photo.JPG"), 0, &item, NULL), TACIT_OK);
    ck_assert_uint_eq(item.size, 5);
    ck_assert_mem_eq(item.bytes, "bytes", 5);
    tacit_item_free(&item);
}
END_TEST

/* ---------------------------------------------------------------- folders */

/* The order within classes was taken from torchvision 0.28's make_dataset on this very tree. */
START_TEST(classes_in_torchvision_order)
{
    static const char *const files[] = {
        "class10/a.jpg",      "class2/b.JPEG",      "class2/a.png",     "class2/sub/c.jpg",
        "class2/sub-1/d.jpg", "class2/sub/x/e.jpg", "class2/Sub/f.jpg", "B/z.webp",
        "a/1.tiff",           "a/10.jpg",           "a/2.jpg",          "class2-b/g.PnG",
        "a/notes.txt",        "a/.DS_Store",        "a/noextension",    "a/.jpg",
        "a/x.jpg.bak",        "class2/zz.gif",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        put_text(files[i], "x");
    ck_assert_int_eq(mkdir(scratch("empty"), 0777), 0);
    static const char classes[] = "B/z.webp|B\n"
                                  "a/.jpg|a\n"
                                  "a/1.tiff|a\n"
                                  "a/10.jpg|a\n"
                                  "a/2.jpg|a\n"
                                  "class10/a.jpg|class10\n"
                                  "class2/a.png|class2\n"
                                  "class2/b.JPEG|class2\n"
                                  "class2/Sub/f.jpg|class2\n"
                                  "class2/sub/c.jpg|class2\n"
                                  "class2/sub-1/d.jpg|class2\n"
                                  "class2/sub/x/e.jpg|class2\n"
                                  "class2-b/g.PnG|class2-b\n";
    expect(scratch_folder, TACIT_DATASET_AUTO, TACIT_DATASET_FOLDER, classes);
    expect(scratch(""), TACIT_DATASET_FOLDER, TACIT_DATASET_FOLDER, classes);
    put_text("top.jpg", "x");
    char mixed[2048];
    snprintf(mixed, sizeof mixed, "top.jpg|-\n%s", classes);
    expect(scratch_folder, TACIT_DATASET_AUTO, TACIT_DATASET_FOLDER, mixed);
}
END_TEST

START_TEST(flat_folder_has_no_labels)
{
    put_text("b.jpg", "bb");
    put_text("a\n\xff.jpg", "a");
    put_text("B.png", "x");
    expect(scratch_folder, TACIT_DATASET_AUTO, TACIT_DATASET_FOLDER,
           "B.png|-\na\n\xff.jpg|-\nb.jpg|-\n");
    tacit_item item;
    ck_assert_int_eq(load_nth(scratch_folder, 1, &item, NULL), TACIT_OK);
    ck_assert_mem_eq(item.bytes, "a", 1);
    ck_assert_str_eq(item.file, scratch("a\n\xff.jpg"));
    tacit_item_free(&item);
}
END_TEST

/* FIFOs, sockets and devices with an image's name, links that lead round, links to files and
 * folders, links to nothing: no wait, no loss of the others. */
START_TEST(odd_entries_of_a_folder)
{
    put_text("c/good.jpg", "x");
    put_text("other/deep/more.jpg", "y");
    ck_assert_int_eq(mkfifo(scratch("c/fifo.jpg"), 0666), 0);
    ck_assert_int_eq(mkfifo(scratch("c/fifo"), 0666), 0);
    ck_assert_int_eq(symlink(".", scratch("c/here")), 0);
    ck_assert_int_eq(symlink("../..", scratch("other/deep/up")), 0);
    ck_assert_int_eq(symlink("self.png", scratch("c/self.png")), 0);
    ck_assert_int_eq(symlink("nowhere.jpg", scratch("c/dangling.jpg")), 0);
    ck_assert_int_eq(symlink("nowhere", scratch("c/dangling")), 0);
    ck_assert_int_eq(symlink("good.jpg", scratch("c/link.jpg")), 0);
    ck_assert_int_eq(symlink("fifo", scratch("c/to-fifo.jpg")), 0);
    ck_assert_int_eq(symlink("../other/deep", scratch("c/linked.jpg")), 0);
    ck_assert_int_eq(symlink("/dev/zero", scratch("c/zero.jpg")), 0);
    expect(scratch_folder, TACIT_DATASET_AUTO, TACIT_DATASET_FOLDER,
           "c/dangling.jpg|c\n"
           "c/fifo.jpg|c BAD unsupported\n"
           "c/good.jpg|c\n"
           "c/link.jpg|c\n"
           "c/self.png|c\n"
           "c/to-fifo.jpg|c BAD unsupported\n"
           "c/zero.jpg|c BAD unsupported\n"
           "c/here|c BAD unsupported\n"
           "c/linked.jpg/more.jpg|c\n"
           "c/linked.jpg/up|c BAD unsupported\n"
           "other/deep/more.jpg|other\n"
           "other/deep/up|other BAD unsupported\n");
    tacit_item item;
    tacit_err err;
    ck_assert_int_eq(load_nth(scratch_folder, 0, &item, &err), TACIT_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "c/dangling.jpg"));
    tacit_item_free(&item);
    ck_assert_int_eq(load_nth(scratch_folder, 1, &item, &err), TACIT_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "not a regular file"));
    tacit_item_free(&item);
    ck_assert_int_eq(load_nth(scratch_folder, 3, &item, &err), TACIT_OK);
    tacit_item_free(&item);
    ck_assert_int_eq(load_nth(scratch_folder, 4, &item, &err), TACIT_EIO);
    tacit_item_free(&item);
    ck_assert_int_eq(load_nth(scratch_folder, 7, &item, &err), TACIT_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "link"));
    tacit_item_free(&item);
}
END_TEST

START_TEST(an_unreadable_folder_is_a_bad_item)
{
    put_text("a/1.jpg", "x");
    put_text("b/2.jpg", "x");
    put_text("c/3.jpg", "x");
    put_text("c/4.jpg", "x");
    ck_assert_int_eq(chmod(scratch("b"), 0), 0);
    ck_assert_int_eq(chmod(scratch("c/3.jpg"), 0), 0);
    if (access(scratch("b"), R_OK) == 0) {
        printf("an_unreadable_folder_is_a_bad_item: skipped: this user may read everything\n");
    } else {
        expect(scratch_folder, TACIT_DATASET_AUTO, TACIT_DATASET_FOLDER,
               "a/1.jpg|a\nb|b BAD io-error\nc/3.jpg|c\nc/4.jpg|c\n");
        tacit_item item;
        tacit_err err;
        ck_assert_int_eq(load_nth(scratch_folder, 2, &item, &err), TACIT_EIO);
        ck_assert_ptr_nonnull(strstr(err.text, "c/3.jpg"));
        tacit_item_free(&item);
    }
    chmod(scratch("b"), 0777);
}
END_TEST

/* What was a file when it was listed may be anything when it is loaded. */
START_TEST(a_vanishing_file_is_told)
{
    put_text("a.jpg", "x");
    put_text("b.jpg", "x");
    put_text("c.jpg", "x");
    tacit_dataset *set = open_set(scratch_folder, TACIT_DATASET_AUTO);
    unlink(scratch("a.jpg"));
    unlink(scratch("b.jpg"));
    ck_assert_int_eq(mkfifo(scratch("b.jpg"), 0666), 0);
    tacit_item item = { 0 };
    tacit_err err;
    bool more;
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
    ck_assert_int_eq(tacit_item_load(&item, &err), TACIT_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "a.jpg"));
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
    ck_assert_int_lt(tacit_item_load(&item, &err), TACIT_OK);
    ck_assert_ptr_nonnull(strstr(err.text, "b.jpg"));
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
    ck_assert_int_eq(tacit_item_load(&item, &err), TACIT_OK);
    tacit_item_free(&item);
    tacit_dataset_close(&set);
}
END_TEST

START_TEST(files_have_a_limit)
{
    put_text("a.jpg", "x");
    ck_assert_int_eq(truncate(scratch("a.jpg"), ((off_t)512 << 20) + 1), 0); /* takes no room */
    tacit_item item;
    tacit_err err;
    ck_assert_int_eq(load_nth(scratch_folder, 0, &item, &err), TACIT_ELIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "a.jpg"));
    ck_assert_uint_eq(item.capacity, 0);
    tacit_item_free(&item);
}
END_TEST

START_TEST(a_large_folder_takes_little_memory)
{
    enum { FILES = 20000 };
    size_t names = 0;
    char name[64];
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "photo-%07d.jpeg", i * 7919 % FILES);
        const char *path = scratch(name);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        close(fd);
        names += strlen(name) + 1;
    }
    struct mallinfo2 before = mallinfo2();
    tacit_dataset *set = open_set(scratch_folder, TACIT_DATASET_AUTO);
    struct mallinfo2 after = mallinfo2();
    size_t used = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
    if (after.uordblks == 0)
        printf("a_large_folder_takes_little_memory: not measured: another allocator\n");
    else
        ck_assert_uint_lt(used, names + 18 * FILES);
    ck_assert_uint_eq(tacit_dataset_count(set), FILES);
    tacit_item item = { 0 };
    bool more;
    uint64_t allocations = 0;
    for (int i = 0; i < FILES; i++) {
        ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
        ck_assert(more);
        snprintf(name, sizeof name, "photo-%07d.jpeg", i);
        ck_assert_str_eq(item.path, name);
        if (i == 0)
            allocations = tacit_alloc_count();
    }
    ck_assert_uint_eq(tacit_alloc_count(), allocations);
    tacit_item_free(&item);
    tacit_dataset_close(&set);
}
END_TEST

/* ---------------------------------------------------------------- lists */

START_TEST(list_forms)
{
    put_text("pics/x.jpg", "xx");
    const char *list = put_text("lists/a.txt", "../pics/x.jpg\n");
    expect(list, TACIT_DATASET_AUTO, TACIT_DATASET_LIST, "../pics/x.jpg|-\n");
    tacit_item item;
    ck_assert_int_eq(load_nth(scratch("lists/a.txt"), 0, &item, NULL), TACIT_OK);
    ck_assert_uint_eq(item.size, 2);
    tacit_item_free(&item);

    expect(put_text("b.txt", "\xef\xbb\xbf/a b.jpg\tcat\r\n\r\n   \n\xff\xfe.png\t\nlast\tx\ty"),
           TACIT_DATASET_AUTO, TACIT_DATASET_LIST, "/a b.jpg|cat\n\xff\xfe.png|-\nlast|x\ty\n");
    expect(put_text("c.txt", "\tlabel\nok\n"), TACIT_DATASET_AUTO, TACIT_DATASET_LIST,
           "|label BAD malformed\nok|-\n");
    expect(put("d.txt", "a\nb\tc\r\0\0 \0tail", 14), TACIT_DATASET_AUTO, TACIT_DATASET_LIST,
           "a\nb\tc\r|-\n |-\ntail|-\n");

    static char large[70000];
    memset(large, 'x', sizeof large);
    memcpy(large, "a\n", 2);
    memcpy(large + sizeof large - 3, "\nz", 3);
    char cut[256];
    snprintf(cut, sizeof cut, "a|-\n%.200s|- BAD too-large\nz|-\n", large + 2);
    expect(put("e.txt", large, sizeof large - 1), TACIT_DATASET_AUTO, TACIT_DATASET_LIST, cut);
    memset(large, 'x', 66000);
    large[66000] = '\n';
    memset(large + 66001, 0, sizeof large - 66001); /* a NUL that comes late is inside a line */
    snprintf(cut, sizeof cut, "%.200s|- BAD too-large\n|- BAD malformed\n", large);
    expect(put("f.txt", large, 66002), TACIT_DATASET_AUTO, TACIT_DATASET_LIST, cut);
}
END_TEST

/* Lines of every length about the buffer's size arrive whole. */
START_TEST(list_lines_across_the_buffer)
{
    enum { LINES = 400 };
    FILE *f = fopen(scratch("list"), "w");
    for (int i = 0; i < LINES; i++)
        fprintf(f, "%0*d\t%d\n", 100 + i * 7 % 3000, i, i);
    fclose(f);
    tacit_dataset *set = open_set(scratch("list"), TACIT_DATASET_AUTO);
    ck_assert_uint_eq(tacit_dataset_count(set), LINES);
    tacit_item item = { 0 };
    bool more;
    for (int i = 0; i < LINES; i++) {
        ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
        ck_assert(more);
        ck_assert_uint_eq(strlen(item.path), (size_t)(100 + i * 7 % 3000));
        ck_assert_int_eq(atoi(item.path), i);
        ck_assert_int_eq(atoi(item.label), i);
    }
    tacit_item_free(&item);
    tacit_dataset_close(&set);
}
END_TEST

/* Standard input and FIFOs: no count, paths from the current folder, no wait for a writer. */
START_TEST(list_from_a_stream)
{
    int ends[2], saved = dup(STDIN_FILENO);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    ck_assert_int_eq(write(ends[1], "\n\nx/y.jpg\tz\nq", 13), 13);
    close(ends[1]);
    close(ends[0]);
    tacit_dataset *set = open_set("-", TACIT_DATASET_AUTO);
    ck_assert_uint_eq(tacit_dataset_count(set), UINT64_MAX);
    tacit_item item = { 0 };
    bool more;
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
    ck_assert_str_eq(item.file, "x/y.jpg");
    ck_assert_str_eq(item.label, "z");
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
    ck_assert_str_eq(item.file, "q");
    ck_assert_ptr_null(item.label);
    ck_assert_int_eq(tacit_dataset_next(set, &item, &more, NULL), TACIT_OK);
    ck_assert(!more);
    tacit_item_free(&item);
    tacit_dataset_close(&set);
    open_fails("-", TACIT_DATASET_AUTO, TACIT_EINVAL, "standard input");
    dup2(saved, STDIN_FILENO);
    close(saved);

    ck_assert_int_eq(mkfifo(scratch("fifo"), 0666), 0);
    open_fails(scratch("fifo"), TACIT_DATASET_AUTO, TACIT_EINVAL, "names no image");
}
END_TEST

/* ---------------------------------------------------------------- tars */

struct entry {
    const char *name, *bytes; /* FOLDER, LINK "target" or FIFO: no regular file */
};

#define FOLDER NULL
#define LINK   "\1"
#define FIFO   "\2"

/* Writes a tar without padding behind its end; a name in .gz or .tgz makes it compressed. */
static const char *put_tar(const char *name, const struct entry *entries, size_t count)
{
    const char *path = scratch(name);
    struct archive *a = archive_write_new();
    archive_write_set_format_gnutar(a);
    if (strstr(name, "gz"))
        archive_write_add_filter_gzip(a);
    archive_write_set_bytes_per_block(a, 512);
    archive_write_set_bytes_in_last_block(a, 1);
    ck_assert_int_eq(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *e = archive_entry_new();
        const char *bytes = entries[i].bytes;
        bool regular = bytes && *bytes != 1 && *bytes != 2;
        archive_entry_copy_pathname(e, entries[i].name);
        archive_entry_set_filetype(e, regular       ? AE_IFREG
                                      : !bytes      ? AE_IFDIR
                                      : *bytes == 1 ? AE_IFLNK
                                                    : AE_IFIFO);
        archive_entry_set_perm(e, 0644);
        archive_entry_set_size(e, regular ? (la_int64_t)strlen(bytes) : 0);
        if (bytes && *bytes == 1)
            archive_entry_copy_symlink(e, bytes + 1);
        ck_assert_int_eq(archive_write_header(a, e), ARCHIVE_OK);
        if (regular)
            archive_write_data(a, bytes, strlen(bytes));
        archive_entry_free(e);
    }
    archive_write_free(a);
    return path;
}

#define PUT_TAR(name, ...)                                                                         \
    put_tar(name, (const struct entry[]){ __VA_ARGS__ },                                           \
            sizeof(struct entry[]){ __VA_ARGS__ } / sizeof(struct entry))

START_TEST(tar_samples)
{
    for (int gz = 0; gz < 2; gz++) {
        const char *path = PUT_TAR(
            gz ? "set.tar.gz" : "set.tar", { "dir/", FOLDER }, { "dir/0.jpg", "zero" },
            { "dir/0.cls", " 7\n" }, { "dir/0.json", "{}" }, { "dir/1.cls", "cat" },
            { "dir/1.JPEG", "one" }, { "dir/2.png", "two" }, { "__meta__/3.jpg", "x" },
            { "dir/__x__", "x" }, { "dir/4.seg.png", "4s" }, { "dir/4.txt", "caption" },
            { "dir/4.jpg", "4" }, { "dir/4.CLS", "\n" }, { "README", "x" }, { ".hidden.jpg", "x" },
            { "dir/._5.jpg", "x" }, { "d.ir/5.jpg", "5" }, { "d.ir/5.jpg", "5 again" },
            { "d.ir/5.cls", "five" }, { "dir/5.txt", "no image" }, { "dir/5.cls", "x" },
            { "\xff\xfe\xc3\xa9.webp", "w" }, { "link.jpg", LINK "d.ir/5.jpg" },
            { "fifo.png", FIFO }, { "\xff\xfe\xc3\xaa.jpg", "" });
        expect(path, TACIT_DATASET_AUTO, TACIT_DATASET_TAR,
               "dir/0.jpg|7\n"
               "dir/1.JPEG|cat\n"
               "dir/2.png|-\n"
               "dir/4.seg.png|-\n"
               "dir/4.jpg|-\n"
               "d.ir/5.jpg|-\n"
               "d.ir/5.jpg|five\n"
               "\xff\xfe\xc3\xa9.webp|-\n"
               "link.jpg|- BAD unsupported\n"
               "fifo.png|- BAD unsupported\n"
               "\xff\xfe\xc3\xaa.jpg|-\n");
        static const char *const bytes[] = { "zero", "one", "two", "4s", "4", "5", "5 again", "w" };
        for (size_t i = 0; i < 8; i++) {
            tacit_item item;
            ck_assert_int_eq(load_nth(path, i, &item, NULL), TACIT_OK);
            ck_assert_int_eq(item.form, TACIT_ITEM_BYTES);
            ck_assert_uint_eq(item.size, strlen(bytes[i]));
            ck_assert_mem_eq(item.bytes, bytes[i], item.size);
            tacit_item_free(&item);
        }
    }
    /* what names it says nothing, its bytes do */
    ck_assert_int_eq(rename(scratch("set.tar"), scratch("set")), 0);
    tacit_dataset *set = open_set(scratch("set"), TACIT_DATASET_AUTO);
    ck_assert_int_eq(tacit_dataset_kind_of(set), TACIT_DATASET_TAR);
    ck_assert_uint_eq(tacit_dataset_count(set), UINT64_MAX);
    tacit_dataset_close(&set);
}
END_TEST

/* Makes the header at h one of this type, with its checksum. */
static void seal(unsigned char *h, char type)
{
    unsigned total = 0;
    h[156] = (unsigned char)type;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        total += h[i];
    snprintf((char *)h + 148, 8, "%06o", total);
}

/* Names that are no ASCII, in the tar form that says they are UTF-8, keep their bytes. */
START_TEST(tar_names_keep_their_bytes)
{
    static const char *const names[] = { "\xc3\xa9.jpg", "\xc3\xbc.jpg", "e\xcc\x81.jpg" };
    static const char *const locales[] = { "C", "C.UTF-8" };
    /* libarchive would compose the third name, so each is written as a plain member first, then the
     * header of that is made a pax header by its type. */
    char records[3][32];
    for (size_t i = 0; i < 3; i++) /* "length path=name\n", the length with itself */
        snprintf(records[i], sizeof records[i], "%zu path=%s\n", strlen(names[i]) + 9, names[i]);
    PUT_TAR("pax.tar", { "x", records[0] }, { "0.jpg", "" }, { "x", records[1] }, { "1.jpg", "" },
            { "x", records[2] }, { "2.jpg", "" });
    size_t size;
    unsigned char *bytes = file_get(scratch("pax.tar"), &size);
    for (size_t i = 0; i < 3; i++)
        seal(bytes + 1536 * i, 'x');
    put("pax.tar", bytes, size);
    free(bytes);
    for (size_t i = 0; i < 2; i++) {
        setlocale(LC_ALL, locales[i]);
        expect(scratch("pax.tar"), TACIT_DATASET_AUTO, TACIT_DATASET_TAR,
               "\xc3\xa9.jpg|-\n\xc3\xbc.jpg|-\ne\xcc\x81.jpg|-\n");
    }
    setlocale(LC_ALL, "C");
}
END_TEST

START_TEST(tar_without_images)
{
    open_fails(PUT_TAR("a.tar", { "notes.txt", "x" }), TACIT_DATASET_AUTO, TACIT_EINVAL,
               "no image in the tar");
    static const char zeros[10240];
    open_fails(put("b.tar", zeros, sizeof zeros), TACIT_DATASET_AUTO, TACIT_EINVAL,
               "no image in the tar");
    open_fails(put_text("c.tar", "this is no tar"), TACIT_DATASET_AUTO, TACIT_EFORMAT, "c.tar");
    open_fails(put_text("d.jpg", "nor is this"), TACIT_DATASET_TAR, TACIT_EFORMAT, "d.jpg");
    open_fails(scratch_folder, TACIT_DATASET_TAR, TACIT_EUNSUPPORTED, "folder");
}
END_TEST

START_TEST(tar_shards)
{
    PUT_TAR("s-08.tar", { "0.jpg", "a" }, { "1.jpg", "b" });
    PUT_TAR("s-09.tar", { "1.cls", "nine" }, { "1.jpg", "c" });
    PUT_TAR("s-10.tar", { "x.txt", "d" });
    PUT_TAR("s-11.tar", { "z.png", "e" });
    PUT_TAR("t.tar", { "t.png", "e" });
    expect(scratch("s-{08..11}.tar"), TACIT_DATASET_AUTO, TACIT_DATASET_TAR,
           "s-08.tar/0.jpg|-\ns-08.tar/1.jpg|-\ns-09.tar/1.jpg|nine\ns-11.tar/z.png|-\n");
    expect(scratch("{t,s-{09..10},s-{11,0{9,8}}}.tar"), TACIT_DATASET_TAR, TACIT_DATASET_TAR,
           "t.tar/t.png|-\ns-09.tar/1.jpg|nine\ns-11.tar/z.png|-\ns-09.tar/1.jpg|nine\n"
           "s-08.tar/0.jpg|-\ns-08.tar/1.jpg|-\n");
    open_fails(scratch("s-{08..12}.tar"), TACIT_DATASET_AUTO, TACIT_EINVAL, "s-12.tar: no such");
    open_fails(scratch("s-{1,2.tar"), TACIT_DATASET_AUTO, TACIT_EINVAL, "no such");
    open_fails(scratch("s-{11..08}.tar"), TACIT_DATASET_AUTO, TACIT_EINVAL, "no such");
    ck_assert_int_eq(symlink("t.tar", scratch("e{}{x}.tar")), 0);
    expect(scratch("e{}{x}{,}.tar"), TACIT_DATASET_AUTO, TACIT_DATASET_TAR,
           "e{}{x}.tar/t.png|-\ne{}{x}.tar/t.png|-\n");
    char many[96] = "t{";
    memset(many + 2, ',', 40);
    strcpy(many + 42, "}.tar");
    tacit_dataset *set = open_set(scratch(many), TACIT_DATASET_AUTO);
    tacit_dataset_close(&set);
    memset(many, 0, sizeof many);
    for (int i = 0; i < 12; i++) /* 4^12 names */
        strcat(many, "{,,,}");
    open_fails(scratch(strcat(many, "t.tar")), TACIT_DATASET_AUTO, TACIT_ELIMIT, "more than");
}
END_TEST

/* Passing over items changes nothing in those that are read. */
START_TEST(skip_and_next_agree)
{
    PUT_TAR("set.tar", { "0.jpg", "0j" }, { "0.png", "0p" }, { "0.cls", "zero" }, { "1.jpg", "1j" },
            { "2.cls", "two" }, { "2.a.jpg", "2a" }, { "2.b.jpg", "2b" }, { "2.c.jpg", "2c" });
    static const char *const bytes[] = { "0j", "0p", "1j", "2a", "2b", "2c" };
    static const char *const labels[] = { "zero", "zero", NULL, "two", "two", "two" };
    for (unsigned mask = 0; mask < 64; mask++) {
        tacit_dataset *set = open_set(scratch("set.tar"), TACIT_DATASET_AUTO);
        tacit_item item = { 0 };
        bool more;
        for (unsigned i = 0; i < 6; i++) {
            bool skip = mask >> i & 1;
            ck_assert_int_eq(skip ? tacit_dataset_skip(set, &item, &more, NULL)
                                  : tacit_dataset_next(set, &item, &more, NULL),
                             TACIT_OK);
            ck_assert(more);
            ck_assert_uint_eq(item.index, i);
            ck_assert_pstr_eq(item.label, labels[i]);
            if (!skip) {
                ck_assert_uint_eq(item.size, 2);
                ck_assert_mem_eq(item.bytes, bytes[i], 2);
            }
        }
        ck_assert_int_eq(tacit_dataset_skip(set, &item, &more, NULL), TACIT_OK);
        ck_assert(!more);
        tacit_item_free(&item);
        tacit_dataset_close(&set);
    }
}
END_TEST

/* Reads or passes over a set to its end; how many items came, and how it ended. Where it could not
 * be opened the count is 0. */
static tacit_status drain(const char *path, tacit_dataset_kind kind, bool skip, size_t *count)
{
    tacit_dataset *set;
    tacit_item item = { 0 };
    tacit_err err = { "" };
    bool more = true;
    *count = 0;
    tacit_status st = tacit_dataset_open(&set, path, kind, &err);
    while (st == TACIT_OK && more) {
        st = skip ? tacit_dataset_skip(set, &item, &more, &err)
                  : tacit_dataset_next(set, &item, &more, &err);
        *count += st == TACIT_OK && more;
    }
    ck_assert((st == TACIT_OK) == (err.text[0] == 0));
    tacit_item_free(&item);
    tacit_dataset_close(&set);
    return st;
}

/* Cut off anywhere, a tar gives the images that are whole, and then an error, unless the cut falls
 * between members. */
START_TEST(tar_cut_anywhere)
{
    static char large[1301];
    memset(large, 'x', 1300);
    const char *whole = PUT_TAR("whole.tar", { "0.jpg", "a" }, { "0.cls", "c" }, { "1.jpg", large },
                                { "2.jpg", "" });
    /* headers and data in blocks of 512: 0.jpg 0, 0.cls 1024, 1.jpg 2048, 2.jpg 4096, end 4608 */
    size_t size;
    unsigned char *bytes = file_get(whole, &size);
    ck_assert_uint_eq(size, 5632);
    for (size_t n = 1; n <= size; n++) {
        const char *path = put("cut.tar", bytes, n);
        size_t images = (n >= 513) + (n >= 2048 + 512 + 1300) + (n >= 4608), got, passed;
        tacit_status st = drain(path, TACIT_DATASET_AUTO, false, &got);
        tacit_status skipped = drain(path, TACIT_DATASET_AUTO, true, &passed);
        ck_assert_msg(got == images, "cut at %zu: %zu images, not %zu", n, got, images);
        bool between = n == 1024 || n == 2048 || n == 4096 || n == 4608 || n >= 5120;
        ck_assert_msg((st == TACIT_OK) == between || n > 4608, "cut at %zu: %s", n,
                      tacit_status_word(st));
        ck_assert_int_eq(skipped, st);
        ck_assert_uint_eq(passed, got);
    }
    free(bytes);
    bytes = file_get(PUT_TAR("whole.tgz", { "0.jpg", "a" }, { "1.jpg", large }), &size);
    for (size_t n = 1; n < size; n++) {
        size_t got;
        ck_assert_int_ne(drain(put("cut.tgz", bytes, n), TACIT_DATASET_AUTO, false, &got),
                         TACIT_OK);
    }
    free(bytes);
}
END_TEST

/* Members and samples that would take the machine's memory. */
START_TEST(tar_limits)
{
    enum { MEMBERS = 200 };
    static struct entry entries[MEMBERS + 1];
    static char names[MEMBERS][16];
    for (int i = 0; i < MEMBERS; i++) {
        snprintf(names[i], sizeof names[i], "a.%d.jpg", i);
        entries[i] = (struct entry){ names[i], "x" };
    }
    entries[MEMBERS] = (struct entry){ "a.cls", "label" };
    size_t got;
    put_tar("many.tar", entries, MEMBERS + 1);
    ck_assert_int_eq(drain(scratch("many.tar"), TACIT_DATASET_AUTO, false, &got), TACIT_OK);
    ck_assert_uint_eq(got, MEMBERS);

    size_t size; /* a size field of 2^33 - 1 bytes, then one of 2^62 in base 256 */
    unsigned char *bytes = file_get(PUT_TAR("huge.tar", { "0.jpg", "a" }, { "1.jpg", "b" }), &size);
    for (int i = 0; i < 2; i++) {
        unsigned char *header = bytes + 1024;
        if (i == 0)
            memcpy(header + 124, "77777777777", 11);
        else
            memcpy(header + 124, "\x80\0\0\0\x40\0\0\0\0\0\0\0", 12);
        seal(header, '0');
        put("huge2.tar", bytes, size);
        tacit_dataset *set = open_set(scratch("huge2.tar"), TACIT_DATASET_AUTO);
        const char *items = listing(set);
        ck_assert_msg(!strcmp(items, "0.jpg|-\n1.jpg|- BAD too-large\nERROR malformed\n") ||
                          !strcmp(items, "0.jpg|-\nERROR malformed\n"),
                      "%s", items);
        tacit_dataset_close(&set);
    }
    free(bytes);
}
END_TEST

/* A header can promise more than the tar holds (GNU's real size of a sparse file, at 483): zeros
 * would fill it. Such a member is refused where it is read. */
START_TEST(tar_sparse)
{
    size_t size;
    unsigned char *bytes =
        file_get(PUT_TAR("s.tar", { "0.jpg", "a" }, { "1.jpg", "b" }, { "2.jpg", "c" }), &size);
    memcpy(bytes + 1024 + 483, "03777777777", 12);
    seal(bytes + 1024, '0');
    put("s.tar", bytes, size);
    expect(scratch("s.tar"), TACIT_DATASET_AUTO, TACIT_DATASET_TAR,
           "0.jpg|-\n1.jpg|- BAD unsupported\n2.jpg|-\n");
    /* and with a map of its pieces, at 386: 1 byte at 4096 */
    memcpy(bytes + 1024 + 386, "00000010000\00000000000001", 24);
    memcpy(bytes + 1024 + 483, "00000010001", 12);
    seal(bytes + 1024, 'S');
    put("s.tar", bytes, size);
    expect(scratch("s.tar"), TACIT_DATASET_AUTO, TACIT_DATASET_TAR,
           "0.jpg|-\n1.jpg|- BAD unsupported\n2.jpg|-\n");
    free(bytes);
}
END_TEST

/* ---------------------------------------------------------------- records */

/* An IDX file: magic, count, then height, width and perhaps channels; the bytes count up. */
static const char *put_idx(const char *name, unsigned rank, const unsigned *dims)
{
    static unsigned char bytes[1 << 16];
    size_t n = 4, data = 1;
    memcpy(bytes, "\0\0\x08", 3);
    bytes[3] = (unsigned char)rank;
    for (unsigned i = 0; i < rank; i++) {
        for (int shift = 24; shift >= 0; shift -= 8)
            bytes[n++] = (unsigned char)(dims[i] >> shift);
        data *= dims[i];
    }
    for (size_t i = 0; i < data; i++)
        bytes[n++] = (unsigned char)(rank == 1 ? 10 * i : i);
    return put(name, bytes, n);
}

#define PUT_IDX(name, rank, ...) put_idx(name, rank, (const unsigned[]){ __VA_ARGS__ })

/* The file, compressed, under a name of its own. */
static const char *put_gz(const char *name, const char *from)
{
    size_t size;
    unsigned char *bytes = file_get(from, &size);
    const char *path = scratch(name);
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    archive_write_set_format_raw(a);
    archive_write_add_filter_gzip(a);
    archive_write_set_bytes_in_last_block(a, 1);
    archive_write_open_filename(a, path);
    archive_entry_set_pathname(e, "x");
    archive_entry_set_filetype(e, AE_IFREG);
    archive_write_header(a, e);
    ck_assert_int_eq(archive_write_data(a, bytes, size), (la_ssize_t)size);
    archive_entry_free(e);
    archive_write_free(a);
    free(bytes);
    return path;
}

START_TEST(idx_images)
{
    PUT_IDX("train-images-idx3-ubyte", 3, 3, 2, 5);
    expect(scratch("train-images-idx3-ubyte"), TACIT_DATASET_AUTO, TACIT_DATASET_IDX,
           "train-images-idx3-ubyte#0|-\ntrain-images-idx3-ubyte#1|-\n"
           "train-images-idx3-ubyte#2|-\n");
    put_gz("train-labels-idx1-ubyte.gz", PUT_IDX("labels", 1, 3));
    put_gz("train-images-idx3-ubyte.gz", scratch("train-images-idx3-ubyte"));
    static const char *const names[] = { "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz" };
    for (size_t k = 0; k < 2; k++) {
        tacit_dataset *set = open_set(scratch(names[k]), TACIT_DATASET_AUTO);
        ck_assert_uint_eq(tacit_dataset_count(set), 3);
        tacit_item item = { 0 };
        bool more;
        char text[64];
        for (unsigned i = 0; i < 3; i++) {
            ck_assert_int_eq(i == 1 ? tacit_dataset_skip(set, &item, &more, NULL)
                                    : tacit_dataset_next(set, &item, &more, NULL),
                             TACIT_OK);
            snprintf(text, sizeof text, "%s#%u", names[k], i);
            ck_assert_str_eq(item.path, text);
            snprintf(text, sizeof text, "%u", 10 * i);
            ck_assert_str_eq(item.label, text);
            ck_assert_int_eq(item.form, TACIT_ITEM_PIXELS);
            ck_assert_int_eq(tacit_item_load(&item, NULL), TACIT_OK);
            ck_assert_uint_eq(item.height, 2);
            ck_assert_uint_eq(item.width, 5);
            if (i == 1)
                continue;
            ck_assert_uint_eq(item.size, 30);
            for (unsigned b = 0; b < 30; b++)
                ck_assert_uint_eq(item.bytes[b], 10 * i + b / 3);
        }
        tacit_item_free(&item);
        tacit_dataset_close(&set);
    }
    /* colour, with the dot that some copies have in their names, labels unpacked */
    put_gz("c.images.idx4-ubyte.gz", PUT_IDX("colour", 4, 2, 1, 2, 3));
    PUT_IDX("c.labels.idx1-ubyte", 1, 2);
    expect(scratch("c.images.idx4-ubyte.gz"), TACIT_DATASET_AUTO, TACIT_DATASET_IDX,
           "c.images.idx4-ubyte.gz#0|0\nc.images.idx4-ubyte.gz#1|10\n");
    tacit_item item;
    ck_assert_int_eq(load_nth(scratch("colour"), 1, &item, NULL), TACIT_OK);
    ck_assert_uint_eq(item.size, 6);
    for (unsigned b = 0; b < 6; b++)
        ck_assert_uint_eq(item.bytes[b], 6 + b);
    tacit_item_free(&item);
}
END_TEST

START_TEST(idx_refused)
{
    tacit_dataset_kind any = TACIT_DATASET_AUTO;
    open_fails(PUT_IDX("a", 1, 3), any, TACIT_EUNSUPPORTED, "no images");
    open_fails(PUT_IDX("b", 4, 3, 1, 1, 4), any, TACIT_EUNSUPPORTED, "no images");
    open_fails(PUT_IDX("c", 3, 0, 2, 2), any, TACIT_EINVAL, "no image");
    open_fails(PUT_IDX("d", 3, 2, 0, 2), any, TACIT_ELIMIT, "pixels");
    open_fails(put("e", "\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16), any,
               TACIT_ELIMIT, "pixels");
    open_fails(put("f", "\0\0\x08\x03\xff\xff\xff\xff\0\0\x20\0\0\0\x20\0", 16), any, TACIT_EFORMAT,
               "bytes");
    put_gz("f.gz", scratch("f"));
    open_fails(scratch("f.gz"), any, TACIT_EFORMAT, "bytes");
    open_fails(put("g", "\0\0\x0d\x03\0\0\0\1\0\0\0\1\0\0\0\1zzzz", 20), any, TACIT_EUNSUPPORTED,
               "type 0d");
    open_fails(put_text("h", "some text"), TACIT_DATASET_IDX, TACIT_EFORMAT, "no IDX file");
    PUT_IDX("x-images-idx3", 3, 3, 1, 1);
    PUT_IDX("x-labels-idx1", 1, 4);
    open_fails(scratch("x-images-idx3"), any, TACIT_EFORMAT, "4 labels for the 3 images");
    PUT_IDX("x-labels-idx1", 2, 3, 1);
    open_fails(scratch("x-images-idx3"), any, TACIT_EFORMAT, "rank 2");
    put("x-labels-idx1", "\0\0\x08\x01\0\0\0\x03zz", 10);
    open_fails(scratch("x-images-idx3"), any, TACIT_EFORMAT, "x-labels-idx1");
}
END_TEST

/* Plain IDX and CIFAR files cut off anywhere are refused; of compressed ones the images come that
 * are whole, then an error; likewise with bytes to spare. */
START_TEST(records_cut_anywhere)
{
    size_t size, got;
    unsigned char *bytes = file_get(PUT_IDX("idx", 3, 3, 2, 5), &size);
    for (size_t n = 1; n < size; n++) {
        ck_assert_int_ne(drain(put("cut", bytes, n), TACIT_DATASET_IDX, false, &got), TACIT_OK);
        ck_assert_uint_eq(got, 0);
        tacit_status st = drain(put_gz("cut.gz", scratch("cut")), TACIT_DATASET_IDX, false, &got);
        ck_assert_int_eq(st, TACIT_EFORMAT);
        ck_assert_uint_eq(got, n < 16 ? 0 : (n - 16) / 10);
    }
    bytes[size] = 'x';
    ck_assert_int_eq(drain(put("more", bytes, size + 1), TACIT_DATASET_AUTO, false, &got),
                     TACIT_EFORMAT);
    ck_assert_uint_eq(got, 0);
    put_gz("more.gz", scratch("more"));
    ck_assert_int_eq(drain(scratch("more.gz"), TACIT_DATASET_AUTO, false, &got), TACIT_EFORMAT);
    ck_assert_uint_eq(got, 3);
    free(bytes);

    bytes = file_get(put_gz("whole.gz", scratch("idx")), &size);
    for (size_t n = 1; n < size; n++)
        ck_assert_int_ne(drain(put("cut.gz", bytes, n), TACIT_DATASET_IDX, false, &got), TACIT_OK);
    free(bytes);

    static unsigned char cifar[2 * 3073];
    for (size_t n = 1; n < sizeof cifar; n += n % 3073 < 10 || n % 3073 > 3060 ? 1 : 331) {
        put("cut.bin", cifar, n);
        tacit_status st = drain(scratch("cut.bin"), TACIT_DATASET_CIFAR10, false, &got);
        ck_assert_int_eq(st, n == 3073 ? TACIT_OK : TACIT_EFORMAT);
        st = drain(scratch("cut.bin"), TACIT_DATASET_CIFAR100, false, &got);
        ck_assert_int_eq(st, n == 3074 ? TACIT_OK : TACIT_EFORMAT);
    }
}
END_TEST

START_TEST(cifar_records)
{
    static unsigned char bytes[3 * 3074];
    for (int fine = 0; fine < 2; fine++) {
        size_t record = 3073 + (size_t)fine;
        for (size_t i = 0; i < 3; i++) {
            unsigned char *r = bytes + i * record;
            r[0] = (unsigned char)(fine ? 19 - i : i);
            r[fine] = (unsigned char)(fine ? 97 + i : 7 + i);
            for (size_t k = 0; k < 3072; k++)
                r[1 + fine + k] = (unsigned char)(k % 1024 % 251 + 1000 * i + 2 * (k / 1024));
        }
        const char *path = put("test.bin", bytes, 3 * record);
        expect(path, TACIT_DATASET_AUTO, fine ? TACIT_DATASET_CIFAR100 : TACIT_DATASET_CIFAR10,
               fine ? "test.bin#0|97\ntest.bin#1|98\ntest.bin#2|99\n"
                    : "test.bin#0|7\ntest.bin#1|8\ntest.bin#2|9\n");
        tacit_item item;
        ck_assert_int_eq(load_nth(path, 2, &item, NULL), TACIT_OK);
        ck_assert_uint_eq(item.width, 32);
        ck_assert_uint_eq(item.height, 32);
        ck_assert_uint_eq(item.size, 3072);
        for (size_t p = 0; p < 1024; p++)
            for (size_t c = 0; c < 3; c++)
                ck_assert_uint_eq(item.bytes[3 * p + c], (p % 251 + 2000 + 2 * c) % 256);
        tacit_item_free(&item);
    }
    put("test.bin", bytes, 3000);
    open_fails(scratch("test.bin"), TACIT_DATASET_AUTO, TACIT_EUNSUPPORTED, "test.bin");
    open_fails(put("zip", "PK\x03\x04 and so on", 14), TACIT_DATASET_AUTO, TACIT_EUNSUPPORTED,
               "no list");
}
END_TEST

/* The sets that people have. */
START_TEST(real_sets)
{
    static const struct {
        const char *name, *first, *last;
        uint64_t count;
        size_t side;
        unsigned long sum; /* weighted, of the first and the last picture; from Python's reading of
                              the file */
    } sets[] = {
        { "cifar10/lossless_test.bin", "8", "1", 515, 32, 2611308 },
        { "fashion-mnist/t10k-images-idx3-ubyte.gz", "9", "5", 10000, 28, 692140 },
    };
    char path[1024];
    const char *data = getenv("TACIT_DATA"), *source = getenv("TACIT_SOURCE");
    for (size_t k = 0; k < 2; k++) {
        if (data)
            snprintf(path, sizeof path, "%s/%s", data, sets[k].name);
        else
            snprintf(path, sizeof path, "%s/../shared/data/%s", source ? source : ".",
                     sets[k].name);
        if (access(path, R_OK)) {
            printf("real_sets: skipped: no %s\n", path);
            continue;
        }
        tacit_dataset *set = open_set(path, TACIT_DATASET_AUTO);
        ck_assert_uint_eq(tacit_dataset_count(set), sets[k].count);
        tacit_item item = { 0 };
        bool more;
        uint64_t n = 0;
        unsigned long sum = 0;
        while (tacit_dataset_next(set, &item, &more, NULL) == TACIT_OK && more) {
            ck_assert_uint_eq(item.size, 3 * sets[k].side * sets[k].side);
            if (n == 0)
                ck_assert_str_eq(item.label, sets[k].first);
            if (++n == 1 || n == sets[k].count)
                for (size_t i = 0; i < item.size; i++)
                    sum += (i % 7 + 1) * item.bytes[i];
            if (n == sets[k].count)
                ck_assert_str_eq(item.label, sets[k].last);
        }
        ck_assert_uint_eq(n, sets[k].count);
        ck_assert_uint_eq(sum, sets[k].sum);
        tacit_item_free(&item);
        tacit_dataset_close(&set);
    }
}
END_TEST

/* ---------------------------------------------------------------- memory */

/* Reads a whole set; every failure on the way must be told and leak nothing (the sanitizers look).
 */
static tacit_status read_all(const char *path, tacit_err *err)
{
    tacit_dataset *set;
    tacit_item item = { 0 };
    bool more = true;
    tacit_status st = tacit_dataset_open(&set, path, TACIT_DATASET_AUTO, err);
    while (st == TACIT_OK && more)
        if ((st = tacit_dataset_next(set, &item, &more, err)) == TACIT_OK && more &&
            (st = tacit_item_load(&item, err)) == TACIT_EUNSUPPORTED)
            st = TACIT_OK;
    tacit_item_free(&item);
    tacit_dataset_close(&set);
    return st;
}

static void fail_each_allocation(const char *path)
{
    tacit_status st = TACIT_ENOMEM;
    for (uint64_t n = 1; st != TACIT_OK; n++) {
        tacit_err err = { "" };
        tacit_alloc_fail_at(n, false);
        st = read_all(path, &err);
        tacit_alloc_fail_at(0, false);
        if (st != TACIT_OK) {
            ck_assert_msg(st == TACIT_ENOMEM, "%s: %s", path, err.text);
            ck_assert(err.text[0]);
        }
        ck_assert_uint_lt(n, 1000);
    }
}

START_TEST(every_allocation_may_fail)
{
    put_text("set/c/a.jpg", "x");
    put_text("set/c/d/b.jpg", "y");
    put_text("set/e/f.jpg", "z");
    mkfifo(scratch("set/e/g.jpg"), 0666);
    put_text("list", "set/c/a.jpg\tx\nset/e/f.jpg\n");
    fail_each_allocation(scratch("set"));
    fail_each_allocation(scratch("set/c/a.jpg"));
    fail_each_allocation(scratch("list"));
    PUT_TAR("a1.tar", { "0.jpg", "x" }, { "0.cls", "y" }, { "1.jpg", "z" });
    PUT_TAR("a2.tar", { "0.jpg", "x" });
    fail_each_allocation(scratch("a{1..2}.tar"));
    PUT_IDX("images-idx3", 3, 2, 3, 4);
    PUT_IDX("labels-idx1", 1, 2);
    fail_each_allocation(scratch("images-idx3"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, scratch_open, scratch_close);
    tcase_add_test(tc, kinds_have_names);
    tcase_add_test(tc, what_is_no_input_is_refused);
    tcase_add_test(tc, one_image_is_a_set);
    tcase_add_test(tc, classes_in_torchvision_order);
    tcase_add_test(tc, flat_folder_has_no_labels);
    tcase_add_test(tc, odd_entries_of_a_folder);
    tcase_add_test(tc, an_unreadable_folder_is_a_bad_item);
    tcase_add_test(tc, a_vanishing_file_is_told);
    tcase_add_test(tc, files_have_a_limit);
    tcase_add_test(tc, a_large_folder_takes_little_memory);
    tcase_add_test(tc, list_forms);
    tcase_add_test(tc, list_lines_across_the_buffer);
    tcase_add_test(tc, list_from_a_stream);
    tcase_add_test(tc, tar_samples);
    tcase_add_test(tc, tar_names_keep_their_bytes);
    tcase_add_test(tc, tar_without_images);
    tcase_add_test(tc, tar_shards);
    tcase_add_test(tc, skip_and_next_agree);
    tcase_add_test(tc, tar_cut_anywhere);
    tcase_add_test(tc, tar_limits);
    tcase_add_test(tc, tar_sparse);
    tcase_add_test(tc, idx_images);
    tcase_add_test(tc, idx_refused);
    tcase_add_test(tc, records_cut_anywhere);
    tcase_add_test(tc, cifar_records);
    tcase_add_test(tc, real_sets);
    tcase_add_test(tc, every_allocation_may_fail);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
