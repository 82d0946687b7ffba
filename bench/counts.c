/* counts.c - valgrind's callgrind over one process that calls each kernel.
 *
 * It collects inside tacit_bench_counted alone, and writes one file, numbered from 1, whenever that
 * returns: the Nth file belongs to the Nth line that the program printed. Counts are the same from
 * run to run, whatever else the machine does. Valgrind has no AVX-512: such kernels are not
 * counted.
 */
#include "counts.h"
#include "child.h"
#include "mem.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_ARGUMENTS 192

typedef struct counted {
    tacit_bench_row *row; /* NULL: not of the baseline */
    double calls;
} counted;

typedef struct counting {
    tacit_baseline *baseline;
    counted rows[TACIT_BASELINE_ROWS];
    size_t count;
} counting;

__attribute__((noinline)) void tacit_bench_counted(void (*run)(void *), void *of, size_t calls)
{
    for (size_t i = 0; i < calls; i++)
        run(of);
    __asm__ volatile("" ::: "memory"); /* no jump in place of the last call: this one must return */
}

/* "name TAB shape TAB calls"; what else comes is not ours. */
static tacit_status take_line(void *ctx, const char *line, tacit_err *err)
{
    counting *c = ctx;
    tacit_bench_row like = { .threads = 1 };
    unsigned calls;
    if (sscanf(line, "%63[^\t]\t%63[^\t]\t%u", like.name, like.shape, &calls) != 3)
        return TACIT_OK;
    if (c->count == TACIT_BASELINE_ROWS || !calls)
        return tacit_fail(err, TACIT_ELIMIT, "too many counts");
    memcpy(like.isa, c->baseline->ground.isa, sizeof like.isa);
    c->rows[c->count++] = (counted){ tacit_baseline_find(c->baseline, &like), calls };
    return TACIT_OK;
}

/* The sum of a file of callgrind's, 0 where it has none. */
static double read_total(const char *folder, size_t number)
{
    char path[512], line[512];
    double total = 0;
    snprintf(path, sizeof path, "%s/counts.%zu", folder, number);
    FILE *f = fopen(path, "r");
    while (f && total <= 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "summary: %lf", &total) != 1)
            total = 0;
    if (f)
        fclose(f);
    return total;
}

static void remove_folder(const char *folder)
{
    char path[1024];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

static tacit_status run_valgrind(counting *c, const char *folder, const char *const *argv,
                                 tacit_err *err)
{
    char to[512], log[512];
    const char *all[MOST_ARGUMENTS] = { "valgrind",
                                        "-q",
                                        "--tool=callgrind",
                                        "--toggle-collect=tacit_bench_counted",
                                        "--dump-after=tacit_bench_counted",
                                        to,
                                        log };
    size_t n = 7;
    snprintf(to, sizeof to, "--callgrind-out-file=%s/counts", folder);
    snprintf(log, sizeof log, "--log-file=%s/log", folder);
    for (; *argv; argv++) {
        if (n + 1 == MOST_ARGUMENTS)
            return tacit_fail(err, TACIT_ELIMIT, "too many arguments");
        all[n++] = *argv;
    }
    return tacit_child_run(all, take_line, c, err);
}

tacit_status tacit_bench_counts(tacit_baseline *baseline, const char *const *argv, tacit_err *err)
{
    char folder[256];
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/tacit-counts-XXXXXX", tmp ? tmp : "/tmp");
    counting *c = tacit_calloc(1, sizeof *c);
    if (!c)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for counts");
    if (!mkdtemp(folder)) {
        tacit_free(c);
        return tacit_fail_errno(err, "%s", folder);
    }
    c->baseline = baseline;
    tacit_status st = run_valgrind(c, folder, argv, err);
    double first = c->count ? read_total(folder, 1) : 0;
    if (st < 0 || first <= 0) {
        if (st == TACIT_OK)
            tacit_fail(err, TACIT_EIO, "it gave no counts");
        st = tacit_fail_at(err, TACIT_EUNSUPPORTED, "instructions are not counted");
    }
    for (size_t i = 0; st == TACIT_OK && i < c->count; i++)
        if (c->rows[i].row)
            c->rows[i].row->instructions = read_total(folder, i + 1) / c->rows[i].calls;
    remove_folder(folder);
    tacit_free(c);
    return st;
}
