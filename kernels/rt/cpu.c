/* cpu.c - CPU features, affinity, cgroup quota. See cpu.h. */
#include "cpu.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMD
#define HWCAP_ASIMD (1 << 1)
#endif
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#endif

#define MAX_THREADS 1024

static const char *const isa_names[TACIT_ISA_COUNT] = {
    [TACIT_ISA_REF] = "ref",
    [TACIT_ISA_AVX2] = "avx2",
    [TACIT_ISA_AVX512] = "avx512",
    [TACIT_ISA_NEON] = "neon",
};

const char *tacit_isa_name(tacit_isa isa)
{
    return isa_names[isa];
}

tacit_status tacit_isa_parse(const char *name, tacit_isa *isa, tacit_err *err)
{
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (!strcmp(name, isa_names[i])) {
            *isa = (tacit_isa)i;
            return TACIT_OK;
        }
    return tacit_fail(err, TACIT_EINVAL, "unknown ISA '%s': use ref, avx2, avx512 or neon", name);
}

#if defined(__x86_64__)

/* The registers whose state the operating system saves (Intel SDM vol. 1, 13.3). */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool all_set(unsigned word, unsigned bits)
{
    return (word & bits) == bits;
}

static bool x86_has(tacit_isa isa)
{
    unsigned a, b, c, d, b7, c7, d7;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !all_set(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C))
        return false;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) || !all_set(b7, bit_AVX2))
        return false;
    uint64_t state = saved_state();
    if ((state & 0x6) != 0x6) /* xmm, ymm */
        return false;
    if (isa == TACIT_ISA_AVX2)
        return true;
    return all_set(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) &&
           (state & 0xe6) == 0xe6; /* and mask registers, both halves of zmm */
}

#endif

static bool dots_hidden;

#if defined(__x86_64__)
static bool avx_vnni_found(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVXVNNI);
}
#endif

static bool dot8_found(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_AVX512VNNI);
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return false;
#endif
}

static bool bf16_found(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bit_AVX512BF16);
#else
    return false;
#endif
}

/* What was found is kept in `known`, 1: no, 2: yes; threads that meet here find the same. */
static bool found_once(int *known, bool (*find)(void))
{
    int found = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (!found) {
        found = find() ? 2 : 1;
        __atomic_store_n(known, found, __ATOMIC_RELAXED);
    }
    return found == 2 && !dots_hidden;
}

bool tacit_cpu_dot8(tacit_isa isa)
{
    static int known, known_avx;
    (void)known_avx;
    switch (isa) {
    case TACIT_ISA_REF: return false;
#if defined(__x86_64__)
    case TACIT_ISA_AVX2: return found_once(&known_avx, avx_vnni_found);
#endif
    default: return found_once(&known, dot8_found);
    }
}

bool tacit_cpu_bf16(void)
{
    static int known;
    return found_once(&known, bf16_found);
}

void tacit__cpu_dots_hide(bool hide)
{
    dots_hidden = hide;
}

bool tacit_isa_available(tacit_isa isa)
{
    switch (isa) {
    case TACIT_ISA_REF: return true;
#if defined(__x86_64__)
    case TACIT_ISA_AVX2:
    case TACIT_ISA_AVX512: return x86_has(isa);
#elif defined(__aarch64__)
    case TACIT_ISA_NEON: return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
#endif
    default: return false;
    }
}

tacit_status tacit_isa_select(const char *forced, tacit_isa *isa, tacit_err *err)
{
    const char *from = "the option";
    if (!forced) {
        forced = getenv("TACIT_CPU");
        from = "TACIT_CPU";
    }
    if (forced && *forced) {
        tacit_isa wanted = TACIT_ISA_REF;
        tacit_status st = tacit_isa_parse(forced, &wanted, err);
        if (st < 0)
            return tacit_fail_at(err, st, "%s", from);
        if (!tacit_isa_available(wanted))
            return tacit_fail(err, TACIT_EUNSUPPORTED, "%s asks for %s, which this CPU lacks", from,
                              forced);
        *isa = wanted;
        return TACIT_OK;
    }
    *isa = TACIT_ISA_REF;
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            *isa = (tacit_isa)i;
    return TACIT_OK;
}

/* Reads a small file whole, as text. False where it cannot be read. */
static bool read_text(const char *root, const char *path, char *text, size_t size)
{
    char full[4096];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    if (n < 0 || (size_t)n >= sizeof full)
        return false;
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t have = 0;
    while (have < size - 1) {
        ssize_t got = read(fd, text + have, size - 1 - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    text[have] = 0;
    close(fd);
    return have > 0;
}

void tacit_cpu_name(char *out, unsigned size)
{
    char text[4096];
    snprintf(out, size, "unknown");
    char *line =
        read_text("", "/proc/cpuinfo", text, sizeof text) ? strstr(text, "model name") : NULL;
    char *name = line ? strchr(line, ':') : NULL;
    if (name)
        snprintf(out, size, "%.*s", (int)strcspn(name + 2, "\n"), name + 2);
}

static void lower_quota(double *quota, double found)
{
    if (found > 0 && (*quota == 0 || found < *quota))
        *quota = found;
}

/* cgroup v2: "max 100000" or "quota period"; v1: quota and period in two files, quota -1 = none. */
static void quota_of_group(const char *root, const char *dir, bool v2, double *quota)
{
    char path[4096], text[256];
    long long q = 0, period = 0;
    if (v2) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", dir);
        if (!read_text(root, path, text, sizeof text) ||
            sscanf(text, "%lld %lld", &q, &period) != 2)
            return;
    } else {
        snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", dir);
        if (!read_text(root, path, text, sizeof text) || sscanf(text, "%lld", &q) != 1)
            return;
        snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", dir);
        if (!read_text(root, path, text, sizeof text) || sscanf(text, "%lld", &period) != 1)
            return;
    }
    if (q > 0 && period > 0)
        lower_quota(quota, (double)q / (double)period);
}

tacit_status tacit__cgroup_quota(const char *root, double *quota)
{
    *quota = 0;
    char text[8192];
    if (!read_text(root, "/proc/self/cgroup", text, sizeof text))
        return TACIT_OK; /* no cgroups */
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *controllers = strchr(line, ':');
        char *dir = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!dir)
            continue;
        *dir++ = 0;
        controllers++;
        bool v2 = *controllers == 0;
        bool cpu = false;
        char *inner = NULL;
        for (char *name = strtok_r(controllers, ",", &inner); name;
             name = strtok_r(NULL, ",", &inner))
            cpu |= !strcmp(name, "cpu");
        if (!v2 && !cpu)
            continue;
        /* The group itself, then every parent up to the root of what this process can see. */
        for (;;) {
            quota_of_group(root, strcmp(dir, "/") ? dir : "", v2, quota);
            char *slash = strrchr(dir, '/');
            if (!slash || !*dir)
                break;
            *slash = 0;
        }
    }
    return TACIT_OK;
}

unsigned tacit_cpu_count(void)
{
    /* Machines with more CPUs than cpu_set_t holds: the kernel then asks for a larger mask. */
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        CPU_ZERO_S(size, set);
        int bad = sched_getaffinity(0, size, set);
        int count = bad ? 0 : CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (count > 0)
            return (unsigned)count;
        if (errno != EINVAL)
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

tacit_status tacit_threads_select(unsigned asked, tacit_threads *threads, tacit_err *err)
{
    *threads = (tacit_threads){ .affinity = tacit_cpu_count() };
    tacit__cgroup_quota("", &threads->quota);
    const char *env = getenv("TACIT_THREADS");
    if (asked > 0) {
        threads->use = asked;
        threads->why = "option";
    } else if (env && *env) {
        char *end;
        errno = 0;
        long n = strtol(env, &end, 10);
        if (errno || *end || n < 1 || n > MAX_THREADS)
            return tacit_fail(err, TACIT_EINVAL, "TACIT_THREADS is '%s': use a number from 1 to %d",
                              env, MAX_THREADS);
        threads->use = (unsigned)n;
        threads->why = "TACIT_THREADS";
    } else if (threads->quota > 0 && threads->quota < threads->affinity) {
        /* Down, not up: one thread more than the quota has them all throttled. */
        threads->use = threads->quota < 1 ? 1 : (unsigned)threads->quota;
        threads->why = "quota";
    } else {
        threads->use = threads->affinity;
        threads->why = "affinity";
    }
    if (threads->use > MAX_THREADS)
        threads->use = MAX_THREADS;
    return TACIT_OK;
}
