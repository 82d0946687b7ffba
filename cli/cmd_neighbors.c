/* cmd_neighbors.c - tacit neighbors: a look at what embeddings put side by side. */
#include "cmd.h"

#include "neighbors.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const tacit_option options[] = {
    { "k", "N", "3", "neighbours of each image", false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    { "json", NULL, NULL, "print one JSON object for each image on standard output", false },
};

/* A path that is not UTF-8 is null. */
static json_t *describe(const tacit_neighbors *found, size_t row)
{
    json_t *list = json_array();
    for (size_t i = 0; i < found->k; i++) {
        const tacit_neighbor *n = &found->nearest[row * found->k + i];
        json_array_append_new(list,
                              json_pack("{s:o?, s:f}", "path", json_string(found->paths[n->row]),
                                        "similarity", n->similarity));
    }
    return json_pack("{s:o?, s:o?, s:o}", "path", json_string(found->paths[row]), "label",
                     json_string(found->labels[row]), "neighbors", list);
}

static void print_text(const tacit_neighbors *found, size_t row)
{
    printf("%s\n", found->paths[row]);
    for (size_t i = 0; i < found->k; i++) {
        const tacit_neighbor *n = &found->nearest[row * found->k + i];
        printf("    %.6f  %s\n", n->similarity, found->paths[n->row]);
    }
}

/* Of the images that have labels, how many have one of their own label nearest. */
static void print_agreement(const tacit_neighbors *found)
{
    size_t labelled = 0, agree = 0;
    for (size_t row = 0; found->k && row < found->rows; row++)
        if (*found->labels[row]) {
            labelled++;
            agree += !strcmp(found->labels[row], found->labels[found->nearest[row * found->k].row]);
        }
    if (labelled)
        fprintf(stderr, "tacit neighbors: nearest of the same label: %zu of %zu\n", agree,
                labelled);
}

static int run(const tacit_args *args)
{
    tacit_err err;
    tacit_isa isa;
    tacit_threads threads;
    unsigned k, asked = 0;
    if (args->operand_count != 1) {
        tacit_fail(&err, TACIT_EINVAL, "name one folder that 'tacit extract' wrote");
        return tacit_cli_usage(args, &err);
    }
    if (tacit_arg_unsigned(args, "k", 1, 1000, &k, &err) < 0 ||
        tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        tacit_isa_select(NULL, &isa, &err) < 0 || tacit_threads_select(asked, &threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    tacit_pool *pool = NULL;
    tacit_neighbors *found = NULL;
    if (tacit_pool_open(&pool, threads.use, &err) < 0)
        return tacit_cli_failed(args, &err);
    tacit_status st =
        tacit_neighbors_open(&found, args->operands[0], k, tacit_kernels_for(isa), pool, &err);
    tacit_pool_close(&pool);
    if (st < 0)
        return tacit_cli_failed(args, &err);
    bool good = true, json = tacit_flag(args, "json");
    for (size_t row = 0; good && row < found->rows; row++)
        if (json)
            good = tacit_cli_json(args, describe(found, row));
        else
            print_text(found, row);
    print_agreement(found);
    tacit_neighbors_close(&found);
    return good ? tacit_cli_done(args) : TACIT_EXIT_FAILED;
}

const tacit_command tacit_cmd_neighbors = {
    .name = "neighbors",
    .operands = "DIR",
    .summary = "print the images nearest to each image of a folder of embeddings",
    .details = "DIR is what 'tacit extract --out DIR' wrote. All pairs are compared, by cosine "
               "similarity, as 'tacit knn' does.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
