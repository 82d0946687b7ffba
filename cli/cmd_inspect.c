/* cmd_inspect.c - tacit inspect: what a checkpoint is, and what would be used of it. */
#include "cmd.h"

#include "meta.h"
#include "tokenizer.h"
#include "weights.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const tacit_option options[] = {
    { "tensors", NULL, NULL, "list every tensor with its use", false },
    { "arch", "NAME", NULL, "architecture by timm's name, where the file does not tell", false },
    { "checkpoint-key", "KEY", NULL,
      "the network to take where the file holds several, such as teacher", false },
    { "allow-partial", NULL, NULL, "as of tacit extract", false },
    { "json", NULL, NULL, "print one JSON object on standard output", false },
};

/* All that is said. What could not be found is NULL or 0. */
struct report {
    const char *path;
    const tacit_weights *weights;
    const tacit_dialect *dialect; /* NULL: none was recognised */
    char arch[128];
    tacit_recipe recipe;
    bool has_recipe;
    uint64_t hash;
    size_t uses[3], missing; /* by tacit_use */
    uint64_t parameters;
    bool is_tokenizer; /* as BEiT takes it; a VQ-KD's encoder is a network, too */
    tacit_tokenizer_info tokenizer;
    tacit_err problem; /* why it does not load; empty: it does */
};

static const char *const use_names[] = {
    [TACIT_USE_UNKNOWN] = "unknown", [TACIT_USE_USED] = "used", [TACIT_USE_UNNEEDED] = "unneeded"
};

static tacit_use use_of(const tacit_weights *w, size_t i)
{
    return w->converted ? TACIT_USE_USED : w->dialect.use ? w->dialect.use[i] : TACIT_USE_UNKNOWN;
}

static uint64_t elements(const tacit_tensor *t)
{
    uint64_t n = 1;
    for (unsigned k = 0; k < t->rank; k++)
        n *= t->shape[k];
    return n;
}

static void shape_text(const tacit_tensor *t, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "(");
    for (unsigned k = 0; k < t->rank; k++)
        n += (size_t)snprintf(text + n, size - n, "%s%zu", k ? ", " : "", t->shape[k]);
    snprintf(text + n, size - n, ")");
}

/* Names and shapes of what the network wants against what there is. Values are not looked at. */
static tacit_status check_shapes(const tacit_dialect *d, tacit_err *err)
{
    tacit_tensor_source wanted;
    tacit_status st = tacit_backbone_seeded(&d->config, 0, &wanted, err);
    if (st < 0)
        return st;
    for (size_t i = 0; st >= 0 && i < wanted.count; i++) {
        const tacit_tensor *want = &wanted.tensors[i];
        char is[256], should[256];
        size_t k = 0;
        while (k < d->source.count && strcmp(d->source.tensors[k].name, want->name))
            k++;
        const tacit_tensor *there = k < d->source.count ? &d->source.tensors[k] : NULL;
        if (!there) {
            st = tacit_fail(err, TACIT_EFORMAT, "missing %s", want->name);
        } else if (there->rank != want->rank ||
                   memcmp(there->shape, want->shape, want->rank * sizeof *want->shape)) {
            shape_text(there, is, sizeof is);
            shape_text(want, should, sizeof should);
            st = tacit_fail(err, TACIT_EFORMAT, "%s is %s, not %s", want->name, is, should);
        }
    }
    tacit_backbone_seeded_close(&d->config, &wanted);
    return st;
}

static void look(struct report *r, tacit_status st)
{
    const tacit_weights *w = r->weights;
    r->is_tokenizer = tacit_tokenizer_peek(r->path, &r->tokenizer, NULL) == TACIT_OK;
    r->dialect = w->dialect.name ? &w->dialect : NULL;
    for (size_t i = 0; i < w->raw.count; i++)
        r->uses[use_of(w, i)]++;
    while (r->dialect && w->dialect.missing && w->dialect.missing[r->missing])
        r->missing++;
    if (!r->dialect && r->is_tokenizer)
        r->problem.text[0] = 0;
    if (!r->dialect)
        return;
    const tacit_backbone_config *c = &w->dialect.config;
    unsigned height, width;
    tacit_recipe_options told;
    tacit_recipe_defaults(&told);
    if (st >= 0)
        st = check_shapes(r->dialect, &r->problem);
    tacit_backbone_input(c, &height, &width);
    if (height && width) {
        tacit_backbone_name(c, r->arch, sizeof r->arch);
        tacit_err ignored;
        tacit_err *why = st >= 0 ? &r->problem : &ignored;
        r->has_recipe =
            tacit_recipe_make(&r->recipe, &w->dialect.published, height, width, &told, why) >= 0;
    }
    for (size_t i = 0; i < w->dialect.source.count; i++)
        r->parameters += elements(&w->dialect.source.tensors[i]);
}

static const char *tokenizer_name(const tacit_tokenizer_info *info)
{
    return !info->published              ? info->kind
           : !strcmp(info->kind, "vqkd") ? "BEiT v2's VQ-KD"
                                         : "DALL-E's dVAE";
}

static void print_tokenizer(const tacit_tokenizer_info *info)
{
    printf("tokenizer      %s: %zu codes, %zu x %zu tokens of %zu x %zu pixels%s\n",
           tokenizer_name(info), info->codes, info->grid, info->grid, info->size, info->size,
           info->decodes ? ", with a decoder" : "");
}

static void print_tensors(const struct report *r)
{
    const tacit_weights *w = r->weights;
    for (size_t i = 0; i < w->raw.count; i++) {
        const tacit_tensor *t = &w->raw.tensors[i];
        char shape[256];
        shape_text(t, shape, sizeof shape);
        printf("%-10s %-5s %s %s\n", use_names[use_of(w, i)], tacit_dtype_name(t->dtype), t->name,
               shape);
    }
    for (size_t i = 0; i < r->missing; i++)
        printf("%-10s %-5s %s\n", "missing", "", w->dialect.missing[i]);
}

static void print_text(const struct report *r)
{
    const tacit_weights *w = r->weights;
    const tacit_dialect *d = r->dialect;
    printf("file           %s\ncontainer      %s, %zu tensors, xxh3 %016llx\n", r->path,
           tacit_checkpoint_container(w->checkpoint), w->raw.count, (unsigned long long)r->hash);
    if (d)
        printf(*d->prefix ? "dialect        %s, under %s\n" : "dialect        %s\n", d->name,
               d->prefix);
    if (w->converted && !(d && !strncmp(d->name, "tacit ", 6))) /* not of tacit pretrain */
        printf("               written by tacit convert\n");
    if (*r->arch && d->config.family == TACIT_FAMILY_VIT && d->config.vit.name)
        printf("architecture   %s: dim %u, depth %u, heads %u, mlp %u\n", r->arch,
               d->config.vit.dim, d->config.vit.depth, d->config.vit.heads, d->config.vit.mlp);
    else if (*r->arch)
        printf("architecture   %s\n", r->arch);
    if (r->parameters)
        printf("parameters     %llu\n", (unsigned long long)r->parameters);
    if (r->has_recipe) {
        char text[128];
        tacit_recipe_text(&r->recipe, text, sizeof text);
        printf("input          %u x %u\npreprocessing  %s\n", r->recipe.height, r->recipe.width,
               text);
        printf("               mean %g %g %g, std %g %g %g%s%s\n", (double)r->recipe.mean[0],
               (double)r->recipe.mean[1], (double)r->recipe.mean[2], (double)r->recipe.std[0],
               (double)r->recipe.std[1], (double)r->recipe.std[2], w->pixels ? ", by " : "",
               w->pixels ? w->pixels : "");
        printf("features       %s\n", tacit_features_name(d->features));
    }
    if (r->is_tokenizer)
        print_tokenizer(&r->tokenizer);
    if (d || !r->is_tokenizer)
        printf("tensors        %zu used, %zu unneeded, %zu unknown, %zu missing\n",
               r->uses[TACIT_USE_USED], r->uses[TACIT_USE_UNNEEDED], r->uses[TACIT_USE_UNKNOWN],
               r->missing);
    if (*w->note)
        printf("note           %s\n", w->note);
    printf("loads          %s%s\n",
           *r->problem.text        ? "no: "
           : r->is_tokenizer && !d ? "as a tokenizer"
                                   : "yes",
           r->problem.text);
}

/* NULL where memory is short. */
static json_t *tensors_json(const struct report *r)
{
    const tacit_weights *w = r->weights;
    json_t *tensors = json_array();
    for (size_t i = 0; tensors && i < w->raw.count; i++) {
        const tacit_tensor *t = &w->raw.tensors[i];
        json_t *shape = json_array();
        for (unsigned k = 0; k < t->rank; k++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[k]));
        json_t *one =
            json_pack("{s:o, s:s, s:o, s:s}", "name", tacit_json_text(t->name), "dtype",
                      tacit_dtype_name(t->dtype), "shape", shape, "use", use_names[use_of(w, i)]);
        if (json_array_append_new(tensors, one)) {
            json_decref(tensors);
            tensors = NULL;
        }
    }
    return tensors;
}

static json_t *tokenizer_json(const struct report *r)
{
    const tacit_tokenizer_info *t = &r->tokenizer;
    return r->is_tokenizer ? json_pack("{s:s, s:b, s:I, s:I, s:I, s:b}", "kind", t->kind,
                                       "published", (int)t->published, "codes",
                                       (json_int_t)t->codes, "grid", (json_int_t)t->grid, "size",
                                       (json_int_t)t->size, "decodes", (int)t->decodes)
                           : json_null();
}

static json_t *report_json(const struct report *r)
{
    const tacit_weights *w = r->weights;
    const tacit_dialect *d = r->dialect;
    json_t *missing = json_array();
    for (size_t i = 0; i < r->missing; i++)
        json_array_append_new(missing, tacit_json_text(w->dialect.missing[i]));
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)r->hash);
    const char *pixels = w->pixels ? w->pixels : w->converted ? "tacit convert" : "dialect";
    return json_pack(
        "{s:o, s:s, s:s, s:s?, s:s?, s:b, s:s?, s:I, s:o, s:s?, s:s?, s:{s:I, s:I, s:I, s:I}, s:o, "
        "s:o, s:s?, s:b, s:o, s:o}",
        "path", tacit_json_text(r->path), "container", tacit_checkpoint_container(w->checkpoint),
        "xxh3", hex, "dialect", d ? d->name : NULL, "prefix", d ? d->prefix : NULL, "converted",
        (int)w->converted, "arch", *r->arch ? r->arch : NULL, "parameters",
        (json_int_t)r->parameters, "preprocessing",
        r->has_recipe ? tacit_preprocessing_json(&r->recipe) : json_null(), "preprocessing_by",
        r->has_recipe ? pixels : NULL, "features", d ? tacit_features_name(d->features) : NULL,
        "counts", "used", (json_int_t)r->uses[TACIT_USE_USED], "unneeded",
        (json_int_t)r->uses[TACIT_USE_UNNEEDED], "unknown", (json_int_t)r->uses[TACIT_USE_UNKNOWN],
        "missing", (json_int_t)r->missing, "tensors", tensors_json(r), "missing", missing, "note",
        *w->note ? w->note : NULL, "loads", (int)!*r->problem.text, "problem",
        *r->problem.text ? tacit_json_text(r->problem.text) : json_null(), "tokenizer",
        tokenizer_json(r));
}

static int run(const tacit_args *args)
{
    tacit_err err;
    if (args->operand_count != 1) {
        tacit_fail(&err, TACIT_EINVAL, "name one file");
        return tacit_cli_usage(args, &err);
    }
    tacit_weights weights;
    struct report report = { .path = args->operands[0], .weights = &weights };
    tacit_weights_options how = { .arch = tacit_arg(args, "arch"),
                                  .checkpoint_key = tacit_arg(args, "checkpoint-key"),
                                  .allow_partial = tacit_flag(args, "allow-partial") };
    tacit_status st = tacit_weights_open(&weights, report.path, &how, &report.problem);
    bool good = true;
    int status;
    if (st >= 0)
        report.problem.text[0] = 0;
    if (!weights.checkpoint || st == TACIT_ENOMEM) {
        status = tacit_cli_failed(args, &report.problem);
    } else if (tacit_checkpoint_hash(weights.checkpoint, &report.hash, &err) < 0) {
        status = tacit_cli_failed(args, &err);
    } else {
        look(&report, st);
        if (tacit_flag(args, "json")) {
            good = tacit_cli_json(args, report_json(&report));
        } else {
            if (tacit_flag(args, "tensors"))
                print_tensors(&report);
            print_text(&report);
        }
        status = good ? tacit_cli_done(args) : TACIT_EXIT_FAILED;
    }
    tacit_weights_close(&weights);
    return status;
}

const tacit_command tacit_cmd_inspect = {
    .name = "inspect",
    .operands = "FILE",
    .summary = "show what a checkpoint is, and what would be used of it",
    .details =
        "A file that is no network, nor a tokenizer for BEiT, or not one that is read, is told so "
        "in the line 'loads'; "
        "status 1 is for files that cannot be read at all. Values are not looked at.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
