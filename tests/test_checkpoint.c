/* test_checkpoint.c - what torch.save, NumPy and safetensors wrote, and what nobody should. */
#include "checkpoint.h"
#include "mem.h"
#include "pickle.h"
#include "safetensors.h"
#include "scratch.h"

#include <stdbool.h>
#include <xxhash.h>
#include <zlib.h>

static tacit_err err;
static struct memory_file m;

static void open_memory(void)
{
    memory_file_open(&m);
}

static void close_memory(void)
{
    close(m.fd);
}

/* Real files ---------------------------------------------------------------------------------- */

static const tacit_tensor *find(tacit_tensor_source s, const char *name, size_t *i)
{
    for (*i = 0; *i < s.count; ++*i)
        if (!strcmp(s.tensors[*i].name, name))
            return &s.tensors[*i];
    return NULL;
}

static void expect_tensor(tacit_tensor_source a, tacit_tensor_source b, size_t i)
{
    size_t k;
    const tacit_tensor *x = &a.tensors[i], *y = find(b, x->name, &k);
    ck_assert_msg(y != NULL, "no tensor %s", x->name);
    ck_assert_int_eq(x->dtype, y->dtype);
    ck_assert_uint_eq(x->rank, y->rank);
    ck_assert_mem_eq(x->shape, y->shape, x->rank * sizeof x->shape[0]);
    ck_assert_uint_eq(x->bytes, y->bytes);
    unsigned char left[512], right[512], byte;
    ck_assert_uint_le(x->bytes, sizeof left);
    ck_assert_int_eq(a.read(a.ctx, i, 0, x->bytes, left, &err), TACIT_OK);
    ck_assert_int_eq(b.read(b.ctx, k, 0, x->bytes, right, &err), TACIT_OK);
    ck_assert_mem_eq(left, right, x->bytes);
    for (size_t at = 0; at < x->bytes; at++) {
        ck_assert_int_eq(b.read(b.ctx, k, at, 1, &byte, &err), TACIT_OK);
        ck_assert_uint_eq(byte, left[at]);
    }
}

static void expect_all(const char *path, const char *container, bool all)
{
    tacit_safetensors *expected;
    tacit_checkpoint *c;
    ck_assert_int_eq(
        tacit_safetensors_open(&expected, golden("checkpoints/expected.safetensors"), &err),
        TACIT_OK);
    ck_assert_msg(tacit_checkpoint_open(&c, path, &err) == TACIT_OK, "%s", err.text);
    ck_assert_str_eq(tacit_checkpoint_container(c), container);
    tacit_tensor_source a = tacit_safetensors_source(expected), b = tacit_checkpoint_source(c);
    if (all)
        ck_assert_uint_eq(a.count, b.count);
    for (size_t i = 0; i < a.count; i++)
        expect_tensor(a, b, i);
    tacit_checkpoint_close(&c);
    tacit_safetensors_close(&expected);
}

START_TEST(reads_every_container)
{
    expect_all(golden("checkpoints/zip2.pth"), "PyTorch zip", true);
    expect_all(golden("checkpoints/zip4.pth"), "PyTorch zip", true);
    expect_all(golden("checkpoints/zip5.pth"), "PyTorch zip", true);
    expect_all(golden("checkpoints/legacy2.pth"), "PyTorch legacy", true);
    expect_all(golden("checkpoints/legacy4.pth"), "PyTorch legacy", true);
    expect_all(golden("checkpoints/legacy5.pth"), "PyTorch legacy", true);
    expect_all(golden("checkpoints/expected.safetensors"), "safetensors", true);
    expect_all(golden("checkpoints/sharded/model.safetensors.index.json"), "sharded safetensors",
               true);
    expect_all(golden("checkpoints/sharded"), "sharded safetensors", true);
}
END_TEST

START_TEST(reads_arrays_and_single_tensors)
{
    tacit_checkpoint *c;
    size_t i;
    ck_assert_int_eq(tacit_checkpoint_open(&c, golden("checkpoints/arrays.npz"), &err), TACIT_OK);
    ck_assert_str_eq(tacit_checkpoint_container(c), "npz");
    tacit_tensor_source s = tacit_checkpoint_source(c);
    ck_assert_uint_eq(s.count, 2);
    const tacit_tensor *x = find(s, "x", &i);
    ck_assert(x && x->dtype == TACIT_F32 && x->rank == 2 && x->shape[0] == 2 && x->shape[1] == 3);
    float values[6];
    ck_assert_int_eq(s.read(s.ctx, i, 0, sizeof values, values, &err), TACIT_OK);
    for (int k = 0; k < 6; k++)
        ck_assert_float_eq(values[k], (float)k);
    ck_assert_ptr_nonnull(find(s, "a/b", &i));
    tacit_checkpoint_close(&c);
    ck_assert_int_eq(tacit_checkpoint_open(&c, golden("checkpoints/tensor.pt"), &err), TACIT_OK);
    s = tacit_checkpoint_source(c);
    ck_assert_uint_eq(s.count, 1);
    ck_assert_str_eq(s.tensors[0].name, "tensor");
    tacit_checkpoint_close(&c);
}
END_TEST

static void expect_refusal(const char *path, tacit_status status, const char *message)
{
    tacit_checkpoint *c;
    err.text[0] = 0;
    ck_assert_int_eq(tacit_checkpoint_open(&c, path, &err), status);
    ck_assert_ptr_null(c);
    ck_assert_msg(strstr(err.text, message) != NULL, "'%s' is not in: %s", message, err.text);
    ck_assert_ptr_null(strchr(err.text, '\n'));
}

static void expect_bytes_refused(const void *bytes, size_t size, tacit_status status,
                                 const char *message)
{
    memory_file_set(&m, bytes, size);
    expect_refusal(m.path, status, message);
}

START_TEST(says_what_it_cannot_read)
{
    expect_refusal(golden("checkpoints/script.pt"), TACIT_EUNSUPPORTED, "TorchScript");
    expect_refusal(golden("checkpoints/module.pth"), TACIT_EUNSUPPORTED, "state_dict()");
    expect_refusal(golden("checkpoints/compressed.npz"), TACIT_EUNSUPPORTED, "numpy.savez");
    expect_refusal(golden("containers/rows.npy"), TACIT_EUNSUPPORTED, "a single NumPy array");
    expect_refusal(golden("checkpoints"), TACIT_EUNSUPPORTED, "a folder without");
    expect_refusal(scratch("none"), TACIT_EIO, "none");
    char tar[512] = "model";
    memcpy(tar + 257, "ustar", 5);
    expect_bytes_refused(tar, sizeof tar, TACIT_EUNSUPPORTED, "before 0.1.10");
    expect_bytes_refused("\211HDF\r\n\032\n", 8, TACIT_EUNSUPPORTED, "HDF5");
    expect_bytes_refused("version https://git-lfs.github.com", 34, TACIT_EUNSUPPORTED, "Git LFS");
    expect_bytes_refused("", 0, TACIT_EFORMAT, "not a checkpoint");
    expect_bytes_refused("\200\004]\224.", 5, TACIT_EUNSUPPORTED, "plain pickle");
}
END_TEST

START_TEST(hashes_the_bytes_and_checks_sums)
{
    size_t size;
    unsigned char *bytes = file_get(golden("checkpoints/zip2.pth"), &size);
    tacit_checkpoint *c;
    uint64_t hash;
    memory_file_set(&m, bytes, size);
    ck_assert_int_eq(tacit_checkpoint_open(&c, m.path, &err), TACIT_OK);
    ck_assert_int_eq(tacit_checkpoint_hash(c, &hash, &err), TACIT_OK);
    ck_assert_uint_eq(hash, XXH3_64bits(bytes, size));
    /* One bit of a tensor's values. */
    tacit_tensor_source s = tacit_checkpoint_source(c);
    size_t i;
    float first;
    ck_assert_ptr_nonnull(find(s, "queue.0", &i));
    ck_assert_int_eq(s.read(s.ctx, i, 0, sizeof first, &first, &err), TACIT_OK);
    unsigned char *at = memmem(bytes, size, &(float[]){ 2, 2.125f }, 8);
    ck_assert_float_eq(first, 2);
    ck_assert_ptr_nonnull(at);
    *at ^= 1;
    memory_file_set(&m, bytes, size);
    ck_assert_int_eq(tacit_checkpoint_hash(c, &hash, &err), TACIT_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "CRC"));
    tacit_checkpoint_close(&c);
    free(bytes);
}
END_TEST

/* Opens whatever is in the memory file and reads all of it. */
static tacit_status read_all(const char *path, tacit_err *e)
{
    tacit_checkpoint *c;
    uint64_t hash;
    static unsigned char values[1 << 16];
    tacit_status st = tacit_checkpoint_open(&c, path, e);
    if (st < 0)
        return st;
    tacit_tensor_source s = tacit_checkpoint_source(c);
    for (size_t i = 0; i < s.count && st == TACIT_OK; i++)
        if (s.tensors[i].bytes <= sizeof values)
            st = s.read(s.ctx, i, 0, s.tensors[i].bytes, values, e);
    if (st == TACIT_OK)
        st = tacit_checkpoint_hash(c, &hash, e);
    tacit_checkpoint_close(&c);
    return st;
}

START_TEST(every_prefix_and_every_flip)
{
    static const char *const files[] = { "checkpoints/zip2.pth",    "checkpoints/zip5.pth",
                                         "checkpoints/legacy2.pth", "checkpoints/legacy4.pth",
                                         "checkpoints/arrays.npz",  "checkpoints/tensor.pt" };
    size_t size;
    unsigned char *bytes = file_get(golden(files[_i]), &size);
    memory_file_set(&m, bytes, size);
    ck_assert_int_eq(read_all(m.path, &err), TACIT_OK);
    for (size_t i = 0; i < size; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            unsigned char flipped = bytes[i] ^ (unsigned char)(1 << bit);
            ck_assert_int_eq(pwrite(m.fd, &flipped, 1, (off_t)i), 1);
            err.text[0] = 0;
            if (read_all(m.path, &err) < 0)
                ck_assert(err.text[0] && !strchr(err.text, '\n'));
            ck_assert_int_eq(pwrite(m.fd, &bytes[i], 1, (off_t)i), 1);
        }
    while (size--) {
        ck_assert_int_eq(ftruncate(m.fd, (off_t)size), 0);
        ck_assert_int_lt(read_all(m.path, &err), 0);
    }
    free(bytes);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    static const char *const files[] = { "checkpoints/zip2.pth", "checkpoints/legacy2.pth",
                                         "checkpoints/arrays.npz",
                                         "checkpoints/sharded/model.safetensors.index.json" };
    for (unsigned persist = 0; persist < 2; persist++)
        for (uint64_t n = 1;; n++) {
            tacit_alloc_fail_at(n, persist);
            tacit_status st = read_all(golden(files[_i]), &err);
            tacit_alloc_fail_at(0, false);
            if (st == TACIT_OK)
                break;
            ck_assert_int_eq(st, TACIT_ENOMEM);
            ck_assert_ptr_nonnull(strstr(err.text, "out of memory"));
        }
}
END_TEST

/* Hostile archives ---------------------------------------------------------------------------- */

/* A zip archive that grows. */
struct archive {
    unsigned char bytes[1 << 16], directory[1 << 14];
    size_t size, directory_size;
    unsigned count;
};

static void put(unsigned char *to, size_t *at, uint64_t x, unsigned n)
{
    for (; n--; x >>= 8)
        to[(*at)++] = (unsigned char)x;
}

static void directory_entry(struct archive *a, const char *name, size_t local, size_t size,
                            uint32_t crc, unsigned method)
{
    unsigned char *d = a->directory;
    size_t *at = &a->directory_size;
    put(d, at, 0x02014b50, 4), put(d, at, 0, 4), put(d, at, 0, 2), put(d, at, method, 2);
    put(d, at, 0, 4), put(d, at, crc, 4), put(d, at, size, 4), put(d, at, size, 4);
    put(d, at, strlen(name), 2), put(d, at, 0, 12), put(d, at, local, 4);
    memcpy(d + *at, name, strlen(name));
    *at += strlen(name);
    a->count++;
}

static void add(struct archive *a, const char *name, const void *bytes, size_t size)
{
    size_t local = a->size;
    put(a->bytes, &a->size, 0x04034b50, 4), put(a->bytes, &a->size, 0, 22);
    put(a->bytes, &a->size, strlen(name), 2), put(a->bytes, &a->size, 0, 2);
    memcpy(a->bytes + a->size, name, strlen(name));
    a->size += strlen(name);
    memcpy(a->bytes + a->size, bytes, size);
    a->size += size;
    directory_entry(a, name, local, size, (uint32_t)crc32(0, bytes, (unsigned)size), 0);
}

static void finish(struct archive *a)
{
    size_t start = a->size;
    memcpy(a->bytes + a->size, a->directory, a->directory_size);
    a->size += a->directory_size;
    put(a->bytes, &a->size, 0x06054b50, 4), put(a->bytes, &a->size, 0, 4);
    put(a->bytes, &a->size, a->count, 2), put(a->bytes, &a->size, a->count, 2);
    put(a->bytes, &a->size, a->directory_size, 4), put(a->bytes, &a->size, start, 4);
    put(a->bytes, &a->size, 0, 2);
    memory_file_set(&m, a->bytes, a->size);
}

static struct archive a;

/* A state dict {"w": tensor of 2 floats} with what may be varied. */
#define PICKLE(key, numel, offset, size, stride)                                                   \
    "\200\002}X\1\0\0\0w"                                                                          \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" key     \
    "X\3\0\0\0cpu" numel "tQ" offset size stride "\211ccollections\nOrderedDict\n)RtRs."

static void expect_archive_refused(tacit_status status, const char *message)
{
    finish(&a);
    expect_refusal(m.path, status, message);
    a = (struct archive){ 0 };
}

/* The pickle, with 8 bytes of values, is refused. */
#define REFUSED(pickle, status, message)                                                           \
    do {                                                                                           \
        add(&a, "x/data.pkl", pickle, sizeof(pickle) - 1);                                         \
        add(&a, "x/data/0", "\0\0\200?\0\0\0@", 8);                                                \
        expect_archive_refused(status, message);                                                   \
    } while (0)

START_TEST(a_small_archive_is_read)
{
    static const char good[] = PICKLE("0", "K\2", "K\0", "K\2\205", "K\1\205");
    add(&a, "x/data.pkl", good, sizeof good - 1);
    add(&a, "x/data/0", "\0\0\200?\0\0\0@", 8);
    finish(&a);
    tacit_checkpoint *c;
    float w[2];
    ck_assert_msg(tacit_checkpoint_open(&c, m.path, &err) == TACIT_OK, "%s", err.text);
    tacit_tensor_source s = tacit_checkpoint_source(c);
    ck_assert_uint_eq(s.count, 1);
    ck_assert_int_eq(s.read(s.ctx, 0, 0, 8, w, &err), TACIT_OK);
    ck_assert(w[0] == 1 && w[1] == 2);
    tacit_checkpoint_close(&c);
    a.directory_size = a.size = a.count = 0;
    /* The same as a machine of the other byte order wrote it. */
    a = (struct archive){ 0 };
    add(&a, "x/data.pkl", good, sizeof good - 1);
    add(&a, "x/byteorder", "big", 3);
    add(&a, "x/data/0", "?\200\0\0@\0\0\0", 8);
    finish(&a);
    ck_assert_int_eq(tacit_checkpoint_open(&c, m.path, &err), TACIT_OK);
    s = tacit_checkpoint_source(c);
    ck_assert_int_eq(s.read(s.ctx, 0, 0, 8, w, &err), TACIT_OK);
    ck_assert(w[0] == 1 && w[1] == 2);
    tacit_checkpoint_close(&c);
    a = (struct archive){ 0 };
}
END_TEST

START_TEST(tensors_that_reach_out_are_refused)
{
    REFUSED(PICKLE("0", "K\2", "K\1", "K\2\205", "K\1\205"), TACIT_EFORMAT, "out of its storage");
    REFUSED(PICKLE("0", "K\2", "K\0", "K\3\205", "K\1\205"), TACIT_EFORMAT, "out of its storage");
    REFUSED(PICKLE("0", "K\2", "K\0", "K\2\205", "K\2\205"), TACIT_EFORMAT, "out of its storage");
    REFUSED(PICKLE("0", "K\2", "K\0", "K\2\205", "J\377\377\377\377\205"), TACIT_EFORMAT,
            "wrong parts");
    REFUSED(PICKLE("0", "K\2", "J\377\377\377\377", "K\2\205", "K\1\205"), TACIT_EFORMAT,
            "wrong parts");
    /* 2^63 - 1 elements, 2^62 apart; an expanded bomb of 2^60 elements on two values */
    REFUSED(PICKLE("0", "K\2", "K\0", "\212\10\377\377\377\377\377\377\377\177\205",
                   "\212\10\0\0\0\0\0\0\0\100\205"),
            TACIT_EFORMAT, "out of its storage");
    REFUSED(PICKLE("0", "K\2", "K\0", "\212\10\0\0\0\0\0\0\0\020\205", "K\0\205"), TACIT_EFORMAT,
            "out of its storage");
    REFUSED(PICKLE("0", "\212\10\377\377\377\377\377\377\377\177", "K\0", "K\2\205", "K\1\205"),
            TACIT_EFORMAT, "elements");
    REFUSED(PICKLE("0", "M\377\377", "K\0", "K\2\205", "K\1\205"), TACIT_EFORMAT, "8 bytes");
    REFUSED(PICKLE("1", "K\2", "K\0", "K\2\205", "K\1\205"), TACIT_EFORMAT, "are missing");
    REFUSED(PICKLE("0", "K\2", "K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", "K\1\205"), TACIT_EFORMAT,
            "wrong parts");
}
END_TEST

START_TEST(nothing_is_executed)
{
    /* os.system beside a tensor is inert; as the tensor it is no tensor */
    static const char beside[] =
        "\200\002}(X\1\0\0\0xcos\nsystem\nX\n\0\0\0touch /x/y\205RX\1\0\0\0w"
        "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\n"
        "FloatStorage\nX\1\0\0\0000X\003\0\0\0cpuK\2tQK\0K\2\205K\1\205\211Nt"
        "Ru.";
    add(&a, "x/data.pkl", beside, sizeof beside - 1);
    add(&a, "x/data/0", "\0\0\200?\0\0\0@", 8);
    finish(&a);
    ck_assert_msg(read_all(m.path, &err) == TACIT_OK, "%s", err.text);
    a = (struct archive){ 0 };
    REFUSED("\200\002}X\1\0\0\0xcos\nsystem\nX\2\0\0\0ls\205Rs.", TACIT_EUNSUPPORTED,
            "no dictionary of tensors");
    REFUSED("\200\002}X\1\0\0\0xcposix\nsystem\nX\2\0\0\0ls\205\201}bs.", TACIT_EUNSUPPORTED,
            "no dictionary of tensors");
    REFUSED("\200\002}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\nX\2\0\0\0ls\205R"
            "K\0K\2\205K\1\205tRs.",
            TACIT_EFORMAT, "wrong parts");
    REFUSED("\200\002}X\1\0\0\0wctorch._utils\n_rebuild_sparse_tensor\n)Rs.", TACIT_EUNSUPPORTED,
            "_rebuild_sparse_tensor");
    REFUSED("\200\002(X\2\0\0\0lsios\nsystem\n.", TACIT_EUNSUPPORTED, "operation 0x69");
}
END_TEST

START_TEST(abuse_of_the_machine_is_refused)
{
    REFUSED("\200\002.", TACIT_EFORMAT, "empty stack");
    REFUSED("\200\002t.", TACIT_EFORMAT, "no mark");
    REFUSED("\200\002}(X\1\0\0\0wu.", TACIT_EFORMAT, "without a value");
    REFUSED("\200\002(K\1u.", TACIT_EFORMAT, "empty stack");
    REFUSED("\200\002K\1(0.", TACIT_EFORMAT, "empty stack");
    REFUSED("\200\002h\7.", TACIT_EFORMAT, "never kept");
    REFUSED("\200\002}r\377\377\377\377.", TACIT_ELIMIT, "remembers");
    REFUSED("\200\002}r\0\0\017\0.", TACIT_ELIMIT, "more than its file");
    REFUSED("\200\002X\377\377\377\377.", TACIT_EFORMAT, "in the middle");
    REFUSED("\200\002\215\377\377\377\377\377\377\377\377.", TACIT_EFORMAT, "in the middle");
    REFUSED("\200\002\213\377\377\377\177.", TACIT_ELIMIT, "integer of");
    REFUSED("\200\011.", TACIT_EUNSUPPORTED, "protocol 9");
    REFUSED("\200\002"
            "K\1Q.",
            TACIT_EFORMAT, "persistent id");
    REFUSED("\200\002"
            "cabc",
            TACIT_EFORMAT, "in the middle");
    REFUSED("", TACIT_EFORMAT, "in the middle");
    /* a dictionary inside itself, and a list of lists of lists ... of two */
    REFUSED("\200\002}q\0X\1\0\0\0xh\0s.", TACIT_ELIMIT, "nested");
    static char fan[] =
        "\200\002]" /* 40 times: DUP, two in a new list */
        "q\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0e"
        "q\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0e"
        "q\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0e"
        "q\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0e"
        "q\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0eq\0]q\1(h\0h\0e"
        ".";
    REFUSED(fan, TACIT_ELIMIT, "more than");
}
END_TEST

START_TEST(hostile_archives_are_refused)
{
    static const char good[] = PICKLE("0", "K\2", "K\0", "K\2\205", "K\1\205");
    const size_t n = sizeof good - 1;
    add(&a, "x/data.pkl", good, n);
    add(&a, "x/data.pkl", good, n);
    expect_archive_refused(TACIT_EFORMAT, "there twice");
    add(&a, "x/data.pkl", good, n);
    directory_entry(&a, "x/data/0", 0, 8, 0, 0);
    expect_archive_refused(TACIT_EFORMAT, "overlaps");
    add(&a, "x/data.pkl", good, n);
    directory_entry(&a, "x/data/0", 5, 8, 0, 0);
    expect_archive_refused(TACIT_EFORMAT, "overlaps");
    add(&a, "x/data.pkl", good, n);
    directory_entry(&a, "x/data/0", a.size, 0xfffffffe, 0, 0);
    expect_archive_refused(TACIT_EFORMAT, "outside the file");
    add(&a, "x/data.pkl", good, n);
    directory_entry(&a, "x/data/0", 0xffffffff, 8, 0, 0);
    expect_archive_refused(TACIT_EFORMAT, "ZIP64");
    add(&a, "x/data.pkl", good, n);
    a.bytes[40] ^= 1;
    expect_archive_refused(TACIT_EFORMAT, "CRC");
    /* a deflated bomb: never inflated */
    add(&a, "x/data.pkl", good, n);
    size_t local = a.size;
    add(&a, "x/data/0", "abcdefgh", 8);
    a.directory_size = 46 + 10;
    a.count = 1;
    directory_entry(&a, "x/data/0", local, 8, 0, 8);
    expect_archive_refused(TACIT_EUNSUPPORTED, "compressed");
    add(&a, "x/data/0", "abcdefgh", 8);
    expect_archive_refused(TACIT_EUNSUPPORTED, "neither torch.save's nor an npz");
    add(&a, "x/data.pkl", good, n);
    finish(&a);
    a.bytes[a.size - 22 + 10] = 0xfe; /* 254 entries */
    memory_file_set(&m, a.bytes, a.size);
    expect_refusal(m.path, TACIT_EFORMAT, "outside the file");
    a = (struct archive){ 0 };
}
END_TEST

/* A pickle of n bytes, begun by `begin` and filled up by `fill`, over and over. */
static void expect_cheap_refusal(const char *begin, size_t begin_size, const char *fill,
                                 size_t fill_size)
{
    const size_t size = 60000;
    char *pickle = malloc(size);
    memcpy(pickle, begin, begin_size);
    for (size_t i = begin_size; i < size; i++)
        pickle[i] = fill[(i - begin_size) % fill_size];
    add(&a, "x/data.pkl", pickle, size);
    finish(&a);
    uint64_t bytes = tacit_alloc_bytes();
    double start = cpu_seconds();
    tacit_checkpoint *c;
    ck_assert_int_lt(tacit_checkpoint_open(&c, m.path, &err), 0);
    double spent = cpu_seconds() - start;
    bytes = tacit_alloc_bytes() - bytes;
    ck_assert_msg(bytes <= a.size + (1 << 20), "%llu bytes", (unsigned long long)bytes);
    if (!getenv("TACIT_SLOW_MACHINE"))
        ck_assert_msg(spent < 0.010, "%.1f ms: %s", 1e3 * spent, err.text);
    free(pickle);
    a = (struct archive){ 0 };
}

START_TEST(refusals_are_cheap)
{
    expect_cheap_refusal("\200\2", 2, "]", 1);
    expect_cheap_refusal("\200\2", 2, "(", 1);
    expect_cheap_refusal("\200\2", 2, "}2", 2);
    expect_cheap_refusal("\200\2", 2, "]\224", 2);
    expect_cheap_refusal("\200\2]", 3, "]a", 2);
    expect_cheap_refusal("\200\2", 2, "cos\nsystem\n)R", 13);
    expect_cheap_refusal("\200\2", 2, "(tt", 3);
    expect_cheap_refusal("\200\2]", 3, "2a", 2);
}
END_TEST

START_TEST(hostile_indexes_are_refused)
{
    static const struct {
        const char *text, *message;
        tacit_status status;
    } cases[] = {
        { "{", "no index", TACIT_EFORMAT },
        { "{}", "weight_map is missing", TACIT_EFORMAT },
        { "{\"weight_map\": {\"a\": \"../model.safetensors\"}}", "same folder", TACIT_EFORMAT },
        { "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "same folder", TACIT_EFORMAT },
        { "{\"weight_map\": {\"a\": \"..\"}}", "same folder", TACIT_EFORMAT },
        { "{\"weight_map\": {\"a\": 3}}", "same folder", TACIT_EFORMAT },
        { "{\"weight_map\": {\"a\": \"none.safetensors\"}}", "none.safetensors", TACIT_EIO },
        { "{\"weight_map\": {\"a\": \"one.safetensors\"}}", "where the index does not",
          TACIT_EFORMAT },
        { "{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"one.safetensors\"}}",
          "where the index does not", TACIT_EFORMAT },
        { "{\"weight_map\": {\"w\": \"one.safetensors\", \"b\": \"one.safetensors\"}}",
          "names 2 tensors", TACIT_EFORMAT },
        { "{\"weight_map\": {\"w\": \"one.safetensors\", \"w\": \"one.safetensors\"}}", "no index",
          TACIT_EFORMAT },
    };
    tacit_safetensors_entry w = {
        .tensor = { .name = "w", .dtype = TACIT_U8, .rank = 1, .shape = { 1 } }, .data = "x"
    };
    ck_assert_int_eq(tacit_safetensors_write(scratch("one.safetensors"), &w, 1, NULL, &err),
                     TACIT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        file_put(scratch("x.json"), cases[i].text, strlen(cases[i].text));
        expect_refusal(scratch("x.json"), cases[i].status, cases[i].message);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tcase = tcase_create("checkpoint");
    tcase_add_unchecked_fixture(tcase, scratch_open, scratch_close);
    tcase_add_checked_fixture(tcase, open_memory, close_memory);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, reads_every_container);
    tcase_add_test(tcase, reads_arrays_and_single_tensors);
    tcase_add_test(tcase, says_what_it_cannot_read);
    tcase_add_test(tcase, hashes_the_bytes_and_checks_sums);
    tcase_add_loop_test(tcase, every_prefix_and_every_flip, 0, 6);
    tcase_add_loop_test(tcase, every_allocation_fails_once, 0, 4);
    tcase_add_test(tcase, a_small_archive_is_read);
    tcase_add_test(tcase, tensors_that_reach_out_are_refused);
    tcase_add_test(tcase, nothing_is_executed);
    tcase_add_test(tcase, abuse_of_the_machine_is_refused);
    tcase_add_test(tcase, hostile_archives_are_refused);
    tcase_add_test(tcase, refusals_are_cheap);
    tcase_add_test(tcase, hostile_indexes_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
