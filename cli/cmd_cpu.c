/* cmd_cpu.c - tacit cpu: what this machine has, and what is used of it. */
#include "cmd.h"

#include "cpu.h"
#include "kernels.h"

#include <jansson.h>
#include <stdio.h>

static const tacit_option options[] = {
    { "json", NULL, NULL, "print one JSON object on standard output", false },
};

/* The lowest ISA whose table has this variant: a slot that an ISA inherits shows as it is. */
#define VARIANT(slot)                                                                              \
    static const char *variant_##slot(const tacit_kernels *used)                                   \
    {                                                                                              \
        for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)                                             \
            if (tacit_isa_available((tacit_isa)i) &&                                               \
                tacit_kernels_for((tacit_isa)i)->slot == used->slot)                               \
                return tacit_isa_name((tacit_isa)i);                                               \
        return "unknown";                                                                          \
    }
#define TACIT_KERNEL(slot, class, cases) VARIANT(slot)
#include "kernels.inc"
#undef TACIT_KERNEL

static const struct {
    const char *slot, *class;
    const char *(*variant)(const tacit_kernels *used);
} rows[] = {
#define TACIT_KERNEL(slot, class, cases) { #slot, #class, variant_##slot },
#include "kernels.inc"
#undef TACIT_KERNEL
};

#define ROWS (sizeof rows / sizeof *rows)

static bool bf16(const tacit_kernels *used)
{
    return used->isa == TACIT_ISA_AVX512 && tacit_cpu_bf16();
}

static json_t *describe(const char *cpu, const tacit_kernels *used, const tacit_threads *threads)
{
    json_t *found = json_array(), *kernels = json_object();
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            json_array_append_new(found, json_string(tacit_isa_name((tacit_isa)i)));
    for (size_t i = 0; i < ROWS; i++)
        json_object_set_new(kernels, rows[i].slot, json_string(rows[i].variant(used)));
    return json_pack("{s:s, s:o, s:s, s:b, s:b, s:o, s:i, s:s, s:i, s:f}", "cpu", cpu, "isa_found",
                     found, "isa", tacit_isa_name(used->isa), "dot8", tacit_cpu_dot8(used->isa),
                     "bf16", bf16(used), "kernels", kernels, "threads", (int)threads->use,
                     "threads_why", threads->why, "affinity", (int)threads->affinity, "quota",
                     threads->quota);
}

static void print_text(const char *cpu, const tacit_kernels *used, const tacit_threads *threads)
{
    printf("cpu        %s\nISA found ", cpu);
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            printf(" %s", tacit_isa_name((tacit_isa)i));
    printf("\nISA used   %s%s%s\n", tacit_isa_name(used->isa),
           tacit_cpu_dot8(used->isa) ? ", with its instruction for int8" : "",
           bf16(used) ? ", with that for bf16" : "");
    printf("threads    %u, by %s (affinity %u, quota ", threads->use, threads->why,
           threads->affinity);
    if (threads->quota > 0)
        printf("%.2f)\n", threads->quota);
    else
        printf("none)\n");
    printf("kernels\n");
    for (size_t i = 0; i < ROWS; i++)
        printf("  %-24s %-8s %s\n", rows[i].slot, rows[i].variant(used), rows[i].class);
}

static int run(const tacit_args *args)
{
    tacit_err err;
    tacit_isa isa;
    tacit_threads threads;
    if (tacit_isa_select(NULL, &isa, &err) < 0 || tacit_threads_select(0, &threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    char cpu[128];
    tacit_cpu_name(cpu, sizeof cpu);
    if (!tacit_flag(args, "json"))
        print_text(cpu, tacit_kernels_for(isa), &threads);
    else if (!tacit_cli_json(args, describe(cpu, tacit_kernels_for(isa), &threads)))
        return TACIT_EXIT_FAILED;
    return tacit_cli_done(args);
}

const tacit_command tacit_cmd_cpu = {
    .name = "cpu",
    .summary = "show the instruction sets, kernels and threads that are used, and why",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
