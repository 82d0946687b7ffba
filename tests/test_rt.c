/* test_rt.c - status, memory, pool, random numbers, CPU. */
#include "cpu.h"
#include "mem.h"
#include "pool.h"
#include "rng.h"
#include "scratch.h"
#include "status.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

START_TEST(errors_are_one_line)
{
    tacit_err err;
    ck_assert_int_eq(tacit_fail(&err, TACIT_EFORMAT, "a\nb %d", 7), TACIT_EFORMAT);
    ck_assert_str_eq(err.text, "a?b 7");
    tacit_fail_at(&err, TACIT_EFORMAT, "file %s", "x.png");
    ck_assert_str_eq(err.text, "file x.png: a?b 7");
    char longer[4000];
    memset(longer, 'y', sizeof longer);
    longer[sizeof longer - 1] = 0;
    tacit_fail(&err, TACIT_EIO, "%s", longer);
    ck_assert_uint_eq(strlen(err.text), sizeof err.text - 1);
    ck_assert_str_eq(err.text + sizeof err.text - 4, "...");
    ck_assert_int_eq(tacit_fail(NULL, TACIT_EIO, "no buffer"), TACIT_EIO);
}
END_TEST

START_TEST(nth_allocation_fails)
{
    tacit_alloc_fail_at(2, false);
    void *a = tacit_alloc(10), *b = tacit_alloc(10), *c = tacit_alloc(10);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_null(b);
    ck_assert_ptr_nonnull(c);
    tacit_free(a);
    tacit_free(c);
    tacit_alloc_fail_at(1, true);
    ck_assert_ptr_null(tacit_alloc(1));
    ck_assert_ptr_null(tacit_alloc(1));
    tacit_alloc_fail_at(0, false);
    a = tacit_alloc(SIZE_MAX - 10);
    ck_assert_ptr_null(a);
    ck_assert_ptr_null(tacit_calloc(SIZE_MAX / 2, 3));
}
END_TEST

START_TEST(arena_hands_out_what_was_planned)
{
    size_t total = 0;
    ck_assert(tacit_arena_plan(&total, 3, 5));
    ck_assert(tacit_arena_plan(&total, 100, 4));
    ck_assert(!tacit_arena_plan(&total, SIZE_MAX, 2));
    tacit_arena arena;
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    unsigned char *a = tacit_arena_take(&arena, 3, 5), *b = tacit_arena_take(&arena, 100, 4);
    ck_assert_uint_eq((uintptr_t)a % TACIT_ALIGN, 0);
    ck_assert_uint_eq((uintptr_t)b % TACIT_ALIGN, 0);
    ck_assert_uint_ge((size_t)(b - a), 15);
    ck_assert_uint_eq(arena.used, total);
    tacit_arena_close(&arena);
}
END_TEST

/* Random123's published vectors for philox4x32-10 (kat_vectors of that library). */
START_TEST(philox_known_answers)
{
    uint32_t out[4];
    tacit_philox(0, 0, 0, out);
    ck_assert_uint_eq(out[0], 0x6627e8d5u);
    ck_assert_uint_eq(out[1], 0xe169c58du);
    ck_assert_uint_eq(out[2], 0xbc57ac4cu);
    ck_assert_uint_eq(out[3], 0x9b00dbd8u);
    tacit_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, out);
    ck_assert_uint_eq(out[0], 0x408f276du);
    ck_assert_uint_eq(out[1], 0x41c83b0eu);
    ck_assert_uint_eq(out[2], 0xa20bc7c6u);
    ck_assert_uint_eq(out[3], 0x6d5451fdu);
    for (uint64_t i = 0; i < 1000; i++) {
        float u = tacit_rng_uniform(1, 2, i);
        ck_assert(u >= 0 && u < 1);
    }
}
END_TEST

struct tally {
    _Atomic unsigned *hits;
    _Atomic unsigned *wrong_worker;
    unsigned threads;
};

static void hit(void *ctx, size_t chunk, unsigned worker)
{
    struct tally *t = ctx;
    atomic_fetch_add(&t->hits[chunk], 1);
    if (worker >= t->threads)
        atomic_fetch_add(t->wrong_worker, 1);
}

START_TEST(every_chunk_runs_once)
{
    enum { MOST = 257 };
    static _Atomic unsigned hits[MOST];
    _Atomic unsigned wrong = 0;
    for (unsigned threads = 1; threads <= 8; threads++) {
        tacit_pool *pool;
        ck_assert_int_eq(tacit_pool_open(&pool, threads, NULL), TACIT_OK);
        for (size_t round = 0; round < 400; round++) {
            size_t chunks = round % MOST;
            memset(hits, 0, sizeof hits);
            struct tally t = { hits, &wrong, threads };
            tacit_parallel_for(pool, chunks, hit, &t);
            for (size_t i = 0; i < MOST; i++)
                ck_assert_uint_eq(hits[i], i < chunks);
        }
        tacit_pool_close(&pool);
        ck_assert_ptr_null(pool);
        tacit_pool_close(&pool);
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(pool_without_memory)
{
    tacit_pool *pool;
    tacit_err err;
    tacit_alloc_fail_at(1, false);
    ck_assert_int_eq(tacit_pool_open(&pool, 4, &err), TACIT_ENOMEM);
    ck_assert_ptr_null(pool);
}
END_TEST

START_TEST(isa_names_and_choice)
{
    tacit_isa isa;
    tacit_err err;
    ck_assert_int_eq(tacit_isa_parse("avx2", &isa, &err), TACIT_OK);
    ck_assert_int_eq(isa, TACIT_ISA_AVX2);
    ck_assert_int_eq(tacit_isa_parse("mmx", &isa, &err), TACIT_EINVAL);
    ck_assert_int_eq(tacit_isa_select("ref", &isa, &err), TACIT_OK);
    ck_assert_int_eq(isa, TACIT_ISA_REF);
    ck_assert(tacit_isa_available(TACIT_ISA_REF));
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (!tacit_isa_available((tacit_isa)i))
            ck_assert_int_eq(tacit_isa_select(tacit_isa_name((tacit_isa)i), &isa, &err),
                             TACIT_EUNSUPPORTED);
}
END_TEST

START_TEST(thread_count_sources)
{
    tacit_threads t;
    tacit_err err;
    unsetenv("TACIT_THREADS");
    ck_assert_int_eq(tacit_threads_select(5, &t, &err), TACIT_OK);
    ck_assert_uint_eq(t.use, 5);
    ck_assert_int_eq(tacit_threads_select(0, &t, &err), TACIT_OK);
    ck_assert_uint_ge(t.use, 1);
    setenv("TACIT_THREADS", "3", 1);
    ck_assert_int_eq(tacit_threads_select(0, &t, &err), TACIT_OK);
    ck_assert_uint_eq(t.use, 3);
    const char *const bad[] = { "0", "-1", "x", "2x", "99999999999999999999" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("TACIT_THREADS", bad[i], 1);
        ck_assert_int_eq(tacit_threads_select(0, &t, &err), TACIT_EINVAL);
    }
    unsetenv("TACIT_THREADS");
}
END_TEST

/* Folders of a name, made one after the other. */
static void make_folders(const char *name)
{
    char part[512];
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - name), name);
        mkdir(scratch(part), 0777);
    }
}

static void put_text(const char *name, const char *text)
{
    make_folders(name);
    file_put(scratch(name), text, strlen(text));
}

static double quota(void)
{
    double q = -1;
    ck_assert_int_eq(tacit__cgroup_quota(scratch_folder, &q), TACIT_OK);
    return q;
}

START_TEST(cgroup_quota_of_every_parent)
{
    scratch_open();
    ck_assert_double_eq(quota(), 0); /* no cgroups at all */
    put_text("proc/self/cgroup", "0::/a/b\n");
    ck_assert_double_eq(quota(), 0); /* version 2, no limit anywhere */
    put_text("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    ck_assert_double_eq(quota(), 0);
    put_text("sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    ck_assert_double_eq(quota(), 2.5); /* the parent's */
    put_text("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    ck_assert_double_eq(quota(), 1.5);
    put_text("sys/fs/cgroup/cpu.max", "50000 100000\n");
    ck_assert_double_eq(quota(), 0.5); /* what a container sees as its root */
    put_text("sys/fs/cgroup/cpu.max", "-5 0\n");
    put_text("sys/fs/cgroup/a/b/cpu.max", "nonsense\n");
    ck_assert_double_eq(quota(), 2.5); /* what cannot be read limits nothing */
    scratch_close();

    scratch_open();
    put_text("proc/self/cgroup", "11:cpuset:/z\n4:cpu,cpuacct:/job\n");
    put_text("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
    put_text("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
    ck_assert_double_eq(quota(), 0); /* version 1 */
    put_text("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000\n");
    ck_assert_double_eq(quota(), 3);
    scratch_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rt");
    TCase *t = tcase_create("rt");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, errors_are_one_line);
    tcase_add_test(t, nth_allocation_fails);
    tcase_add_test(t, arena_hands_out_what_was_planned);
    tcase_add_test(t, philox_known_answers);
    tcase_add_test(t, every_chunk_runs_once);
    tcase_add_test(t, pool_without_memory);
    tcase_add_test(t, isa_names_and_choice);
    tcase_add_test(t, thread_count_sources);
    tcase_add_test(t, cgroup_quota_of_every_parent);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
