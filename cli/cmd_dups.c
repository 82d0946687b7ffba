/* cmd_dups.c - tacit dups: a report on inputs that are the same, or nearly. It deletes nothing. */
#include "cmd.h"

#include "atomic_file.h"
#include "dups.h"
#include "mem.h"
#include "meta.h"
#include "tsv.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const tacit_option options[] = {
    { "threshold", "X", "0.98", "cosine similarity from which on two images are near", false },
    { "out", "FILE", NULL, "write the table to this file, whole or not at all", false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "json", NULL, NULL,
      "print one JSON object for each group, and a last one that says what was looked at", false },
};

static const char *kind(const tacit_dups *d, size_t group)
{
    return d->same[group] ? "exact" : "near";
}

static bool print_json(const tacit_dups *d)
{
    bool good = true;
    for (size_t i = 0; good && i < d->count;) {
        size_t group = d->members[i].group;
        json_t *list = json_array();
        for (; good && i < d->count && d->members[i].group == group; i++) {
            const tacit_dup *m = &d->members[i];
            bool row = m->row != TACIT_NO_ROW;
            good = !json_array_append_new(
                list, json_pack("{s:o, s:o, s:o, s:o, s:s}", "row",
                                row ? json_integer(m->row) : json_null(), "path",
                                tacit_json_text(m->path), "label", tacit_json_text(m->label),
                                "similarity", row ? json_real(m->similarity) : json_null(), "xxh3",
                                m->hash));
        }
        json_t *line = json_pack("{s:I, s:s, s:o}", "group", (json_int_t)group, "kind",
                                 kind(d, group), "members", list);
        good = good && line && !json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
        putchar('\n');
        json_decref(line);
    }
    return good;
}

static bool print_summary(const tacit_dups *d, const tacit_vectors *v, double threshold)
{
    json_t *line = json_pack("{s:o, s:f, s:I, s:I, s:I, s:I}", "embeddings", tacit_vectors_json(v),
                             "threshold", threshold, "inputs", (json_int_t)d->inputs, "groups",
                             (json_int_t)d->groups, "exact_groups", (json_int_t)d->exact, "members",
                             (json_int_t)d->count);
    bool good = line && !json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
    putchar('\n');
    json_decref(line);
    return good;
}

/* The table, to file, or to stdout where it is NULL. */
static tacit_status write_table(const tacit_dups *d, const tacit_atomic *file, tacit_err *err)
{
    static const char header[] = "group\tkind\tsimilarity\trow\tpath\tlabel\txxh3\n";
    char *line = NULL;
    size_t room = 0;
    tacit_status st = TACIT_OK;
    if (file)
        st = tacit_write_all(file->fd, header, sizeof header - 1, file->path, err);
    else
        fputs(header, stdout);
    for (size_t i = 0; st == TACIT_OK && i < d->count; i++) {
        const tacit_dup *m = &d->members[i];
        size_t wanted = 4 * (strlen(m->path) + strlen(m->label) + strlen(m->hash)) + 128;
        if (wanted > room) {
            tacit_free(line);
            room = 2 * wanted;
            if (!(line = tacit_alloc(room)))
                return tacit_fail(err, TACIT_ENOMEM, "out of memory for a line");
        }
        char *at = line + sprintf(line, "%zu\t%s\t", m->group, kind(d, m->group));
        if (m->row != TACIT_NO_ROW)
            at += sprintf(at, "%.6f\t%u\t", m->similarity, m->row);
        else
            at += sprintf(at, "\t\t");
        at = tacit_tsv_escape(at, m->path);
        *at++ = '\t';
        at = tacit_tsv_escape(at, m->label);
        *at++ = '\t';
        at = tacit_tsv_escape(at, m->hash);
        *at++ = '\n';
        if (file)
            st = tacit_write_all(file->fd, line, (size_t)(at - line), file->path, err);
        else
            fwrite(line, 1, (size_t)(at - line), stdout); /* tacit_cli_done looks */
    }
    tacit_free(line);
    return st;
}

static tacit_status print(const tacit_args *args, const tacit_dups *d, const tacit_vectors *v,
                          double threshold, tacit_err *err)
{
    const char *out = tacit_arg(args, "out");
    if (tacit_flag(args, "json"))
        return print_json(d) && print_summary(d, v, threshold)
                   ? TACIT_OK
                   : tacit_fail(err, TACIT_EIO, "the result cannot be printed");
    if (!out)
        return write_table(d, NULL, err);
    tacit_atomic file;
    tacit_status st = tacit_atomic_open(&file, out, err);
    if (st < 0)
        return st;
    st = write_table(d, &file, err);
    if (st == TACIT_OK)
        return tacit_atomic_commit(&file, err);
    tacit_atomic_abort(&file);
    return st;
}

static int run(const tacit_args *args)
{
    tacit_err err;
    tacit_isa isa;
    tacit_threads threads;
    double threshold = 0;
    unsigned asked = 0, one;
    if (args->operand_count != 1) {
        tacit_fail(&err, TACIT_EINVAL, "name one folder that 'tacit extract' wrote, or one .npy");
        return tacit_cli_usage(args, &err);
    }
    if (tacit_flag(args, "json") && tacit_arg(args, "out")) {
        tacit_fail(&err, TACIT_EINVAL, "--out is of the table; --json goes to standard output");
        return tacit_cli_usage(args, &err);
    }
    if (tacit_arg_numbers(args, "threshold", -1, 1.000001, false, 1, &threshold, &one, &err) < 0 ||
        tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        tacit_isa_select(NULL, &isa, &err) < 0 || tacit_threads_select(asked, &threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    const tacit_kernels *kernels = tacit_kernels_for(isa);
    tacit_pool *pool = NULL;
    tacit_vectors vectors = { .npy.fd = -1 };
    tacit_dups *dups = NULL;
    tacit_status st = tacit_pool_open(&pool, threads.use, &err);
    if (st == TACIT_OK)
        st = tacit_vectors_open(&vectors, args->operands[0], kernels, pool, &err);
    if (st == TACIT_OK)
        st = tacit_dups_open(&dups, &vectors, threshold, kernels, pool, &err);
    if (st == TACIT_OK)
        st = print(args, dups, &vectors, threshold, &err);
    if (st == TACIT_OK)
        fprintf(stderr, "tacit dups: %zu inputs, %zu groups (%zu of equal files), %zu members\n",
                dups->inputs, dups->groups, dups->exact, dups->count);
    tacit_dups_close(&dups);
    tacit_vectors_close(&vectors);
    tacit_pool_close(&pool);
    return st < 0 ? tacit_cli_failed(args, &err) : tacit_cli_done(args);
}

const tacit_command tacit_cmd_dups = {
    .name = "dups",
    .operands = "PATH",
    .summary = "list images that are equal or nearly so; nothing is deleted",
    .details =
        "PATH is what 'tacit extract --out DIR' wrote, or a .npy of vectors. Two images are linked "
        "where the xxh3 of their files are equal, or where the cosine similarity of their vectors "
        "is at least the threshold; a group is what links connect. Its kind is exact where all of "
        "its files are equal, else near. The table has the columns group, kind, similarity (to "
        "the first of the group), row, path, label and xxh3.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
