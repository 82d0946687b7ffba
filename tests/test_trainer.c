/* test_trainer.c - schedules, settings, and steps of the methods: against 20 steps of PyTorch in
 * double precision (data/pretrain_golden.safetensors, made by golden/make_pretrain.py), for the
 * same bits on every ISA and with 1 to 8 threads, in parts, with hostile settings and numbers.
 */
#include "pretrain_feed.h"
#include "safetensors.h"
#include "scratch.h"
#include "tower.h"
#include "view_settings.h"

#include <math.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

/* Schedules ----------------------------------------------------------------------------------- */

START_TEST(schedules_are_the_published)
{
    const double pi = acos(-1);
    const tacit_schedule mae = { .base = 3, .final = 0.5, .steps = 100, .warmup = 10 };
    const tacit_schedule dino = {
        .base = 2, .final = 0.1, .steps = 50, .warmup = 10, .start = 0.5, .inclusive = true
    };
    for (int s = 0; s < 100; s++) {
        double want = s < 10 ? 3 * s / 10.0
                             : 0.5 + 2.5 * 0.5 * (1 + cos(pi * (s - 10) / 90)); /* lr_sched.py */
        ck_assert_double_eq_tol(tacit_schedule_at(&mae, s), want, 1e-14);
        if (s >= 50)
            continue;
        want = s < 10 ? 0.5 + 1.5 * s / 9 /* np.linspace */
                      : 0.1 + 0.5 * 1.9 * (1 + cos(pi * (s - 10) / 40));
        ck_assert_double_eq_tol(tacit_schedule_at(&dino, s), want, 1e-14);
    }
    ck_assert_double_eq_tol(tacit_schedule_at(&mae, 100), 0.5, 1e-15);
    ck_assert_double_eq_tol(tacit_schedule_at(&mae, 1000), 0.5, 1e-15);
    const tacit_schedule moco = { .kind = TACIT_SCHEDULE_STEP,
                                  .base = 0.03,
                                  .drop = 0.1,
                                  .drops = { 120, 160 },
                                  .drop_count = 2 };
    ck_assert_double_eq_tol(tacit_schedule_at(&moco, 119), 0.03, 1e-15);
    ck_assert_double_eq_tol(tacit_schedule_at(&moco, 120), 0.003, 1e-15);
    ck_assert_double_eq_tol(tacit_schedule_at(&moco, 199), 0.0003, 1e-15);
    const tacit_schedule ema = { .base = 0.99, .final = 1, .steps = 300 }; /* of MoCo v3 */
    ck_assert_double_eq_tol(tacit_schedule_at(&ema, 150), 0.995, 1e-15);
    const tacit_schedule line = {
        .kind = TACIT_SCHEDULE_LINEAR, .base = 0.996, .final = 1, .steps = 8
    };
    ck_assert_double_eq_tol(tacit_schedule_at(&line, 2), 0.997, 1e-15);
    const tacit_schedule same = { .kind = TACIT_SCHEDULE_CONSTANT, .base = 4, .warmup = 1 };
    ck_assert_double_eq(tacit_schedule_at(&same, 0), 0);
    ck_assert_double_eq(tacit_schedule_at(&same, 1e9), 4);
}
END_TEST

/* Settings ------------------------------------------------------------------------------------ */

START_TEST(settings_are_laid_over_each_other)
{
    tacit_config c;
    tacit_err err;
    config_open(&c, "simclr", (const char *const[]){ NULL });
    ck_assert_uint_eq(tacit_config_whole(&c, "batch"), 4096);
    ck_assert_int_eq(tacit_config_preset(&c, "small32", &err), TACIT_OK);
    ck_assert_uint_eq(tacit_config_whole(&c, "batch"), 512);
    ck_assert_double_eq(tacit_config_number(&c, "temperature"), 0.5);
    ck_assert_int_eq(tacit_config_parse(&c,
                                        "# a run\n\n  batch =  64 \r\nloss=mean\narch = resnet50",
                                        "file", &err),
                     TACIT_OK);
    ck_assert_uint_eq(tacit_config_whole(&c, "batch"), 64);
    ck_assert_uint_eq(tacit_config_choice(&c, "loss"), 1);
    ck_assert_str_eq(tacit_config_string(&c, "arch"), "resnet50");
    char *text = tacit_config_text(&c);
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_nonnull(strstr(text, "\nbatch = 64\n"));
    ck_assert_int_eq(tacit_config_compare(&c, text, "run", &err), TACIT_OK);
    config_set(&c, "keep=7");
    config_set(&c, "batch=6.4e1");
    ck_assert_int_eq(tacit_config_compare(&c, text, "run", &err), TACIT_OK);
    config_set(&c, "temperature=0.25");
    ck_assert_int_eq(tacit_config_compare(&c, text, "run", &err), TACIT_ECONFLICT);
    ck_assert_msg(strstr(err.text, "temperature = 0.5, not 0.25") != NULL, "%s", err.text);
    tacit_free(text);
    tacit_config_close(&c);
}
END_TEST

static const char *const bad_settings[][2] = {
    { "temprature=1", "no setting 'temprature'" },
    { "batch", "KEY=VALUE" },
    { "batch=", "whole number from 1" },
    { "images=a\nb", "one line" },
    { "batch=12x", "whole number from 1" },
    { "batch=0", "whole number from 1" },
    { "batch=1.5", "whole number from 1" },
    { "batch=nan", "whole number from 1" },
    { "lr=inf", "number from 0" },
    { "lr=-1", "number from 0" },
    { "nesterov=yes", "true or false" },
    { "optimiser=adam", "one of sgd|" },
    { "mask_ratio=0.5", "no setting 'mask_ratio'" },
};

START_TEST(bad_settings_are_refused)
{
    tacit_config c;
    tacit_err err;
    config_open(&c, "simclr", tiny_simclr);
    for (size_t i = 0; i < sizeof bad_settings / sizeof *bad_settings; i++) {
        ck_assert_int_eq(tacit_config_set(&c, bad_settings[i][0], &err), TACIT_EINVAL);
        ck_assert_msg(strstr(err.text, bad_settings[i][1]) != NULL, "%s", err.text);
    }
    ck_assert_int_eq(tacit_config_parse(&c, "batch=4\nx=1\n", "f.ini", &err), TACIT_EINVAL);
    ck_assert_msg(strstr(err.text, "f.ini, line 2: there is no") == err.text, "%s", err.text);
    ck_assert_int_eq(tacit_config_preset(&c, "large", &err), TACIT_EINVAL);
    ck_assert_int_eq(tacit_config_read(&c, scratch("none.ini"), &err), TACIT_EIO);
    file_put(scratch("nul.ini"), "batch=4\0", 8);
    ck_assert_int_eq(tacit_config_read(&c, scratch("nul.ini"), &err), TACIT_EINVAL);
    tacit_config_close(&c);
}
END_TEST

static const struct {
    const char *method, *settings[4], *says;
} contradictions[] = {
    { "mae", { "arch=resnet50", "patch=0", "heads=0" }, "mae trains a ViT" },
    { "mae", { "size=18" }, "does not divide into patches of 4" },
    { "mae", { "heads=5" }, "into 5 heads" },
    { "mae", { "decoder_heads=3" }, "decoder_dim = 16 must be divisible" },
    { "mae", { "mask_ratio=0.99" }, "leaves none" },
    { "maskfeat", { "arch=resnet50", "patch=0", "heads=0" }, "maskfeat trains a ViT" },
    { "maskfeat", { "cell=3" }, "patches of 4 do not divide into cells of 3" },
    { "maskfeat",
      { "target=default", "size=32", "pictures=x" },
      "does not reconstruct with these" },
    { "maskfeat", { "mask_ratio=0.01" }, "mask_ratio = 0.01 of 4 x 4 patches is none" },
    { "simmim", { "mask_unit=6" }, "mask_unit = 6 must be a multiple of the patch, 4" },
    { "simmim", { "mask_unit=12" }, "divide the image, 16" },
    { "simmim", { "norm_target=6" }, "norm_target = 6 must be odd, and more than 1" },
    { "simmim", { "norm_target=1" }, "norm_target = 1 must be odd, and more than 1" },
    { "simmim", { "mask_ratio=0.8" }, "leaves none of 4 squares" },
    { "beit", { "tokenizer=" }, "tokenizer is empty: name the tokenizer.safetensors" },
    { "beit", { "patch=8", "mask_patches=2" }, "has 4 x 4 tokens of an image, which has 2 x 2" },
    { "beit", { "mask_patches=16" }, "mask_patches = 16 must be less than the 4 x 4 patches" },
    { "beit", { "mask_least=7" }, "not less than mask_least = 7" },
    { "mae", { "accumulate=3" }, "batch = 8 does not divide into accumulate = 3" },
    { "mae", { "warmup_epochs=5" }, "longer than the run" },
    { "mae", { "max_steps=4" }, "longer than the run: 5 steps of 4" },
    { "mae", { "lr_drops=1,2" }, "schedule = step" },
    { "mae", { "schedule=step", "lr_drops=2,1" }, "rising epochs" },
    { "mae", { "arch=vit_huge" }, "no such network" },
    { "simclr", { "batch=1" }, "tells images of a batch apart" },
    { "simclr", { "patch=4" }, "a ViT's" },
    { "simclr", { "drop_path=0.1" }, "a ViT's" },
    { "dino", { "local_size=9" }, "local_size = 9: size 9 x 9 is no multiple of the patch size 4" },
    { "moco", { "queue=20" }, "queue = 20 is no multiple of the 8 keys of a step" },
    { "moco", { "symmetric=true" }, "queue = 24 is no multiple of the 16 keys" },
    { "moco", { "bn_groups=3" }, "parts of 8 images do not divide into groups" },
    { "moco", { "bn_groups=8" }, "groups of 2 or more" },
    { "deepcluster", { "prototypes=41" }, "prototypes = 41 are more than the 40 images" },
};

START_TEST(contradictions_are_refused)
{
    for (size_t i = 0; i < sizeof contradictions / sizeof *contradictions; i++) {
        tacit_config c;
        tacit_engine e;
        tacit_err err = { "" };
        const char *method = contradictions[i].method;
        config_open(&c, method, tiny[tiny_of(method)].settings);
        for (size_t j = 0; j < 4 && contradictions[i].settings[j]; j++)
            config_set(&c, contradictions[i].settings[j]);
        tacit_status st = tacit_engine_declare(&e, &c, tacit_kernels_for(isas[0]), NULL, &err);
        if (st == TACIT_OK)
            st = tacit_engine_schedule(&e, FEED_EPOCH * e.parts, &err);
        ck_assert_int_eq(st, TACIT_EINVAL);
        ck_assert_msg(strstr(err.text, contradictions[i].says) != NULL, "%s", err.text);
        tacit_engine_close(&e);
        tacit_config_close(&c);
    }
}
END_TEST

/* Against PyTorch ----------------------------------------------------------------------------- */

static const char *const golden_files[] = { "pretrain_golden.safetensors",
                                            "tokenizer_golden.safetensors" };
enum { FILES = sizeof golden_files / sizeof *golden_files };
static tacit_safetensors *files[FILES];

static void setup(void)
{
    tacit_err err;
    scratch_open();
    for (size_t i = 0; i < FILES; i++)
        ck_assert_msg(!tacit_safetensors_open(&files[i], golden(golden_files[i]), &err), "%s",
                      err.text);
}

static void teardown(void)
{
    for (size_t i = 0; i < FILES; i++)
        tacit_safetensors_close(&files[i]);
    scratch_close();
}

/* A golden tensor as floats; NULL where there is none. */
static float *find(const char *method, const char *kind, const char *tensor, size_t count)
{
    char name[256];
    snprintf(name, sizeof name, "%s.%s%s%s", method, kind, *tensor ? "." : "", tensor);
    for (size_t f = 0; f < FILES; f++) {
        const tacit_tensor_source source = tacit_safetensors_source(files[f]);
        size_t i = 0;
        while (i < source.count && strcmp(source.tensors[i].name, name) != 0)
            i++;
        if (i == source.count)
            continue;
        const tacit_tensor *t = &source.tensors[i];
        ck_assert_msg(t->bytes == count * tacit_dtype_size(t->dtype), "%s: %zu bytes", name,
                      t->bytes);
        float *values = tacit_alloc(count * sizeof *values);
        void *raw = tacit_alloc(t->bytes);
        ck_assert(values && raw);
        ck_assert_int_eq(source.read(source.ctx, i, 0, t->bytes, raw, NULL), TACIT_OK);
        if (t->dtype == TACIT_F16)
            tacit_kernels_for(TACIT_ISA_REF)->f16_to_f32(count, raw, values);
        else
            memcpy(values, raw, count * sizeof *values);
        tacit_free(raw);
        return values;
    }
    return NULL;
}

static void load_init(const char *run, const tacit_params *params)
{
    for (size_t i = 0; i < params->count; i++) {
        tacit_param *p = params->list[i];
        float *values = find(run, "init", p->name, p->count);
        ck_assert_msg(values || p->frozen, "no initial %s", p->name);
        if (values)
            tacit_param_copy_in(p, values);
        tacit_free(values);
    }
}

/* The largest error of a tensor against its largest value. */
static double error_of(const float *got, const float *want, size_t n)
{
    double largest = 1e-6, error = 0;
    for (size_t i = 0; i < n; i++) {
        ck_assert(isfinite(got[i]));
        largest = fmax(largest, fabs((double)want[i]));
        error = fmax(error, fabs((double)got[i] - (double)want[i]));
    }
    return error / largest;
}

/* The error of a tensor that has parts of which the loss knows nothing, where the gradient is 0 but
 * for rounding, which AdamW makes steps of; -1 for all others. Softmax does not see a bias of all
 * keys, nor batch norm one in front of it, be it that of a ViT's last norm, before a Linear. */
static double unseen(const char *run, const tacit_param *p, const float *got, const float *want)
{
    size_t third = p->count / 3;
    bool head = !strncmp(p->name, "projector.", 10) || !strncmp(p->name, "predictor.", 10);
    const char *layer = head ? strchr(p->name, '.') + 1 : "";
    if (!strncmp(layer, "mlp.", 4))
        layer += 4;
    if (strstr(p->name, "qkv.bias"))
        return fmax(error_of(got, want, third), error_of(got + 2 * third, want + 2 * third, third));
    bool normed = !strcmp(layer, "0.bias") || !strcmp(layer, "3.bias");
    bool last =
        (!strcmp(run, "moco3-2") || !strcmp(run, "swav-2")) && !strcmp(p->name, "norm.bias");
    if (!normed && !last)
        return -1;
    double most = 0; /* of what is of the order of 1 elsewhere */
    for (size_t i = 0; i < p->count; i++) {
        double error = fabs((double)got[i] - (double)want[i]);
        if (!(error <= most))
            most = error;
    }
    return most;
}

/* grads: gradients; else values, and by how much they moved. */
static void check_tensors(const char *run, const tacit_params *params, const char *kind, bool grads,
                          double tolerance, double of_moves)
{
    for (size_t i = 0; i < params->count; i++) {
        const tacit_param *p = params->list[i];
        if (p->frozen)
            continue;
        float *want = find(run, kind, p->name, p->count);
        float *got = tacit_alloc(p->count * sizeof *got);
        ck_assert_msg(want && got, "no %s of %s", kind, p->name);
        tacit_param_copy_out(p, grads, got);
        double error = unseen(run, p, got, want);
        if (error < 0)
            error = error_of(got, want, p->count);
        ck_assert_msg(error <= tolerance, "%s of %s is off by %.3g", kind, p->name, error);
        float *begin = grads ? NULL : find(run, "init", p->name, p->count);
        for (size_t j = 0; begin && j < p->count; j++) {
            want[j] -= begin[j];
            got[j] -= begin[j];
        }
        error = begin && unseen(run, p, got, want) < 0 ? error_of(got, want, p->count) : 0;
        ck_assert_msg(error <= of_moves, "the move of %s is off by %.3g", p->name, error);
        tacit_free(want), tacit_free(got), tacit_free(begin);
    }
}

/* Queues and their like. */
static void check_state(const char *run, const tacit_params *params)
{
    for (size_t i = 0; i < params->count; i++) {
        const tacit_param *p = params->list[i];
        float *want = p->frozen ? find(run, "state", p->name, p->count) : NULL;
        double error = want ? error_of(p->value, want, p->count) : 0;
        ck_assert_msg(error <= 1e-4, "%s is off by %.3g", p->name, error);
        tacit_free(want);
    }
}

/* Of a batch norm in the middle of a ResNet. */
static void check_running(const char *run, const tacit_params *params, const char *kind)
{
    const tacit_param *p = tacit_params_find(params, "layer2.0.bn1.running_var");
    float *want = p ? find(run, kind, "", p->count) : NULL;
    ck_assert(!want || error_of(p->value, want, p->count) < 1e-4);
    tacit_free(want);
}

static void golden_name(const struct tiny *t, char *name, size_t size)
{
    unsigned nth = 1;
    for (const struct tiny *before = tiny; before < t; before++)
        nth += !strcmp(before->method, t->method);
    snprintf(name, size, nth > 1 ? "%s-%u" : "%s", t->method, nth);
}

static bool slow_machine(void)
{
    return getenv("TACIT_SLOW_MACHINE");
}

START_TEST(twenty_steps_as_pytorch)
{
    const struct tiny *t = &tiny[(size_t)_i / isa_count];
    char run[32];
    if (slow_machine() && (size_t)_i % isa_count == 0 && isa_count > 1)
        return; /* the reference: it has the others' bits, and takes longer than they do */
    golden_name(t, run, sizeof run);
    tacit_config c;
    tacit_engine e;
    test_feed feed;
    tacit_step r;
    tacit_err err;
    config_open(&c, t->method, t->settings);
    feed_open(&feed, t->side, 8, 1);
    engine_ready(&e, &c, isas[(size_t)_i % isa_count], NULL);
    load_init(run, &e.params);
    load_init(run, &e.teacher);
    float *losses = find(run, "losses", "", 20);
    ck_assert_ptr_nonnull(losses);
    ck_assert_uint_eq(e.steps, 20);
    for (size_t step = 0; step < 20; step++) {
        ck_assert_msg(!tacit_engine_step(&e, &feed.feed, &r, &err), "%s", err.text);
        double error = fabs(r.loss - (double)losses[step]) / fabs((double)losses[step]);
        ck_assert_msg(error <= (step ? 1e-4 : 1e-5), "%s, step %zu: loss %.9g, not %.9g", run, step,
                      r.loss, (double)losses[step]);
        if (!step) /* the rate was 0 */
            check_tensors(run, &e.params, "grad", true, 1e-5, 0);
    }
    check_tensors(run, &e.params, "after", false, 1e-4, 2e-3);
    check_tensors(run, &e.teacher, "teacher", false, 1e-4, 2e-3);
    check_tensors(run, &e.memory, "memory", false, 1e-4, 0);
    check_state(run, &e.params);
    check_state(run, &e.memory);
    check_running(run, &e.params, "running");
    check_running(run, &e.teacher, "teacher_running");
    tacit_free(losses);
    tacit_engine_close(&e);
    feed_close(&feed);
    tacit_config_close(&c);
}
END_TEST

/* The same bits ------------------------------------------------------------------------------- */

/* All weights and the losses after 6 steps, freed by the caller. */
static float *six_steps(const struct tiny *run, tacit_isa isa, unsigned threads,
                        const char *const *more, size_t *count)
{
    tacit_config c;
    tacit_engine e;
    test_feed feed;
    tacit_step r;
    tacit_pool *pool = NULL;
    tacit_err err;
    config_open(&c, run->method, run->settings);
    for (; *more; more++)
        config_set(&c, *more);
    ck_assert_int_eq(tacit_pool_open(&pool, threads, &err), TACIT_OK);
    engine_ready(&e, &c, isa, pool);
    feed_open(&feed, run->side, e.learner.whole, e.parts);
    *count = e.params.floats + e.teacher.floats + e.memory.floats + 6;
    float *all = tacit_alloc(*count * sizeof *all);
    ck_assert_ptr_nonnull(all);
    uint64_t allocations = 0;
    for (size_t step = 0; step < 6; step++) {
        ck_assert_msg(!tacit_engine_step(&e, &feed.feed, &r, &err), "%s", err.text);
        all[step] = (float)r.loss;
        if (!step)
            allocations = tacit_alloc_count();
    }
    ck_assert_uint_eq(tacit_alloc_count(), allocations);
    memcpy(all + 6, e.params.values, e.params.floats * sizeof *all);
    if (e.teacher.floats)
        memcpy(all + 6 + e.params.floats, e.teacher.values, e.teacher.floats * sizeof *all);
    if (e.memory.floats)
        memcpy(all + 6 + e.params.floats + e.teacher.floats, e.memory.values,
               e.memory.floats * sizeof *all);
    feed_close(&feed);
    tacit_engine_close(&e);
    tacit_pool_close(&pool);
    tacit_config_close(&c);
    return all;
}

START_TEST(same_bits)
{
    static const unsigned threads[] = { 1, 2, 3, 8 };
    const struct tiny *run = &tiny[_i % TINY_COUNT];
    bool slow = slow_machine(), twice = _i / TINY_COUNT;
    if (slow && twice != _i % 2)
        return; /* whole batches of the even ones, parts of the odd ones */
    const char *const more[] = { twice ? "accumulate=2" : "accumulate=1",
                                 _i % 2 ? "drop_path=0" : "clip=0.1", NULL };
    /* All numbers of threads on the best ISA; on the others, and emulated, one must do. */
    size_t n, m, best = slow ? isa_count : isa_count - 1;
    float *want = six_steps(run, isas[0], 1, more, &n);
    for (size_t i = slow && isa_count > 1; i < isa_count; i++)
        for (size_t t = i == best ? 0 : 2; t < (i == best ? 4 : 3); t++) {
            float *got = six_steps(run, isas[i], threads[t], more, &m);
            ck_assert_uint_eq(n, m);
            ck_assert_msg(!memcmp(got, want, n * sizeof *got), "%s, %s with %u threads",
                          run->method, tacit_isa_name(isas[i]), threads[t]);
            tacit_free(got);
        }
    tacit_free(want);
}
END_TEST

/* Parts --------------------------------------------------------------------------------------- */

/* The gradient and loss of one step, with everything that batch norm touches left out. */
static float *one_gradient(const char *method, const char *const *settings, const char *const *more,
                           double *loss, size_t *count)
{
    tacit_config c;
    tacit_engine e;
    test_feed feed;
    tacit_step r;
    tacit_err err;
    config_open(&c, method, settings);
    for (; *more; more++)
        config_set(&c, *more);
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    feed_open(&feed, 16, e.learner.whole, e.parts);
    ck_assert_msg(!tacit_engine_step(&e, &feed.feed, &r, &err), "%s", err.text);
    *loss = r.loss;
    *count = e.params.floats;
    float *grads = tacit_alloc(*count * sizeof *grads);
    ck_assert_ptr_nonnull(grads);
    memcpy(grads, e.params.grads, *count * sizeof *grads);
    feed_close(&feed);
    tacit_engine_close(&e);
    tacit_config_close(&c);
    return grads;
}

/* Of a contrastive loss over a whole batch, and of a sum over its images. A ViT and a linear head
 * have no batch norm, which would see only a part. */
START_TEST(parts_have_the_gradient_of_the_whole)
{
    static const char *const contrastive[] = { "arch=vit_tiny_patch4_32",
                                               "dim=24",
                                               "depth=2",
                                               "heads=3",
                                               "size=16",
                                               "batch=12",
                                               "head_layers=1",
                                               "head_norm=false",
                                               "drop_path=0.2",
                                               NULL };
    static const char *const cut[] = { "accumulate=2", "accumulate=3", "accumulate=6" };
    const char *more[12] = { NULL };
    if (_i)
        memcpy(more, contrastive, sizeof contrastive);
    else
        more[0] = "batch=12";
    const char *const *settings = _i ? tiny_simclr : tiny_mae;
    double whole, loss;
    size_t n, m, at = _i ? 9 : 1;
    float *want = one_gradient(_i ? "simclr" : "mae", settings, more, &whole, &n);
    for (size_t k = 0; k < 3; k++) {
        more[at] = cut[k];
        float *got = one_gradient(_i ? "simclr" : "mae", settings, more, &loss, &m);
        ck_assert_uint_eq(n, m);
        ck_assert_double_eq_tol(loss, whole, 1e-6 * whole);
        double error = error_of(got, want, n);
        ck_assert_msg(error < 3e-6, "%s: gradients differ by %.3g", cut[k], error);
        tacit_free(got);
    }
    tacit_free(want);
}
END_TEST

/* What does not hold: parts whose losses were taken apart would have another gradient. */
START_TEST(parts_of_a_contrastive_loss_see_each_other)
{
    const char *more[] = { "batch=8", "accumulate=4", NULL, NULL };
    const char *fewer[] = { "batch=2", "accumulate=1", NULL, NULL };
    double whole, apart;
    size_t n;
    tacit_free(one_gradient("simclr", tiny_simclr,
                            (const char *const[]){ "size=16", more[0], more[1], NULL }, &whole,
                            &n));
    tacit_free(one_gradient("simclr", tiny_simclr,
                            (const char *const[]){ "size=16", fewer[0], fewer[1], NULL }, &apart,
                            &n));
    ck_assert_double_gt(whole, apart + 0.5); /* near 2 ln 15, and 2 ln 3 */
}
END_TEST

/* Crops ---------------------------------------------------------------------------------------- */

START_TEST(local_crops_are_drawn_for_themselves)
{
    tacit_config c;
    tacit_view views[TACIT_METHOD_VIEWS];
    tacit_err err;
    size_t count;
    config_open(&c, "swav",
                (const char *const[]){ "local_crops=10", "blur_local=0.1", "blur_second=0.2",
                                       "solarise=0.3", NULL });
    ck_assert_int_eq(tacit_view_crops(&c, 224, views, &count, &err), TACIT_OK);
    ck_assert_uint_eq(count, TACIT_METHOD_VIEWS);
    for (size_t v = 0; v < count; v++) {
        bool local = v >= 2;
        ck_assert_msg(!tacit_view_check(&views[v], &err), "%s", err.text);
        ck_assert_uint_eq(views[v].size, local ? 96 : 224);
        ck_assert(views[v].scale[0] == (local ? 0.05f : 0.14f));
        ck_assert(views[v].scale[1] == (local ? 0.14f : 1));
        ck_assert(views[v].blur == (local ? 0.1f : v ? 0.2f : 0.5f));
        ck_assert(views[v].solarise == 0.3f);
    }
    tacit_config_close(&c);
}
END_TEST

/* A tower over made-up views, with a head of one layer and no batch norm in it. */
typedef struct test_tower {
    tacit_config config;
    tacit_learner learner;
    tacit_params params;
    tacit_work work;
    tacit_arena arena;
    tacit_tower tower;
} test_tower;

static void tower_open(test_tower *t, const char *size, size_t views, size_t local, bool apart)
{
    const tacit_tower_config c = {
        .views = views,
        .local = local,
        .local_size = FEED_LOCAL,
        .apart = apart,
        .layers = { { .out = 5, .norm = TACIT_MLP_NO_NORM, .name = "0" } },
        .layer_count = 1
    };
    size_t total = 0;
    tacit_err err;
    *t = (test_tower){ .work = { .kernels = tacit_kernels_for(isas[isa_count - 1]) } };
    config_open(&t->config, "simclr", tiny_simclr);
    config_set(&t->config, size);
    t->learner = (tacit_learner){ .config = &t->config, .whole = 4, .part = 4, .work = &t->work };
    ck_assert_int_eq(tacit_encoder_config(&t->config, &t->learner.backbone, &err), TACIT_OK);
    ck_assert_msg(!tacit_tower_declare(&t->tower, &c, &t->learner, &t->params, &err), "%s",
                  err.text);
    ck_assert(tacit_tower_plan(&t->tower, &total));
    ck_assert_int_eq(tacit_params_open(&t->params, 0, &err), TACIT_OK);
    ck_assert_int_eq(tacit_work_open(&t->work, &err), TACIT_OK);
    ck_assert_int_eq(tacit_arena_open(&t->arena, total, &err), TACIT_OK);
    tacit_tower_take(&t->tower, &t->arena);
    ck_assert_uint_eq(t->arena.used, total);
    tacit_params_init(&t->params, 3, NULL);
}

/* A forward and a backward of views `first` on, with a gradient by the place of a row. */
static void tower_run(test_tower *t, const tacit_batch *all, size_t first, const float *dz)
{
    const tacit_batch batch = { .samples = all->samples, .views = all->views + first };
    const tacit_part part = { .batch = &batch, .images = 4, .count = 1 };
    size_t n = t->tower.views * 4 * t->tower.dim;
    tacit_tower_forward(&t->tower, &part);
    memcpy(t->tower.dz, dz + first * 4 * t->tower.dim, n * sizeof *dz);
    tacit_tower_backward_part(&t->tower, &part);
}

static void tower_close(test_tower *t)
{
    tacit_tower_close(&t->tower);
    tacit_arena_close(&t->arena);
    tacit_work_close(&t->work);
    tacit_params_close(&t->params);
    tacit_config_close(&t->config);
}

/* Crops of two sizes have the embeddings that each size has alone, and the sum of the gradients. */
START_TEST(crops_of_two_sizes_share_a_network)
{
    test_tower both, large, small;
    test_feed feed;
    tacit_batch batch;
    float dz[4 * 4 * 5];
    feed_open(&feed, 12, 4, 1);
    ck_assert_int_eq(feed_next(&feed, 0, 0, &batch, NULL), TACIT_OK);
    for (size_t i = 0; i < 4 * 4 * 5; i++)
        dz[i] = tacit_rng_uniform(1, 1, i) - 0.5f;
    tower_open(&both, "size=12", 4, 2, _i);
    tower_open(&large, "size=12", 2, 0, _i);
    tower_open(&small, "size=8", 2, 0, _i);
    ck_assert_uint_eq(both.params.count, large.params.count);
    tower_run(&both, &batch, 0, dz);
    tower_run(&large, &batch, 0, dz);
    tower_run(&small, &batch, 2, dz);
    size_t half = 2 * 4 * 5;
    ck_assert_mem_eq(both.tower.z, large.tower.z, half * sizeof *dz);
    ck_assert_mem_eq(both.tower.z + half, small.tower.z, half * sizeof *dz);
    for (size_t i = 0; i < large.params.floats; i++)
        large.params.grads[i] += small.params.grads[i];
    ck_assert_double_lt(error_of(both.params.grads, large.params.grads, large.params.floats), 1e-6);
    ck_assert_double_eq_tol(tacit_tower_flops(&both.tower),
                            tacit_tower_flops(&large.tower) + tacit_tower_flops(&small.tower), 1);
    tacit_embeddings e = tacit_tower_embeddings(&both.tower);
    ck_assert(e.pairs && e.count == 8);
    ck_assert_mem_eq(e.rows, large.tower.features, e.dim * sizeof *e.rows);
    tower_close(&both), tower_close(&large), tower_close(&small);
    feed_close(&feed);
}
END_TEST

/* The centre after a step is made of what the teacher gave: drop path is the student's alone, and
 * parts have the centre of the whole. */
START_TEST(a_teacher_is_still)
{
    static const char *const more[][3] = { { "drop_path=0" },
                                           { "drop_path=0.5" },
                                           { "drop_path=0.5", "accumulate=4" } };
    float centre[3][12];
    double loss[3];
    for (size_t i = 0; i < 3; i++) {
        tacit_config c;
        tacit_engine e;
        test_feed feed;
        tacit_step r;
        tacit_err err;
        config_open(&c, "dino", tiny_dino);
        for (size_t j = 0; j < 3 && more[i][j]; j++)
            config_set(&c, more[i][j]);
        engine_ready(&e, &c, isas[isa_count - 1], NULL);
        feed_open(&feed, 16, e.learner.whole, e.parts);
        ck_assert_msg(!tacit_engine_step(&e, &feed.feed, &r, &err), "%s", err.text);
        loss[i] = r.loss;
        memcpy(centre[i], tacit_params_find(&e.params, "dino_loss.center")->value,
               sizeof centre[i]);
        feed_close(&feed);
        tacit_engine_close(&e);
        tacit_config_close(&c);
    }
    ck_assert_mem_eq(centre[0], centre[1], sizeof centre[0]);
    ck_assert(loss[0] != loss[1]);
    ck_assert_double_eq_tol(loss[2], loss[1], 1e-6);
    ck_assert_double_lt(error_of(centre[2], centre[1], 12), 1e-6);
    ck_assert_float_gt(fabsf(centre[0][3]), 1e-6f);
}
END_TEST

/* Trouble ------------------------------------------------------------------------------------- */

START_TEST(values_that_are_not_finite_stop_the_run)
{
    for (int kind = 0; kind < 4; kind++) {
        tacit_config c;
        tacit_engine e;
        test_feed feed;
        tacit_step r;
        tacit_err err;
        bool mae = kind % 2;
        config_open(&c, mae ? "mae" : "simclr", mae ? tiny_mae : tiny_simclr);
        feed_open(&feed, mae ? 16 : 12, 8, 1);
        engine_ready(&e, &c, isas[isa_count - 1], NULL);
        for (int step = 0; step < 3; step++)
            ck_assert_msg(!tacit_engine_step(&e, &feed.feed, &r, &err), "%s", err.text);
        feed.poison = kind < 2 ? 3 : 0;
        const char *name = mae ? "blocks.1.mlp.fc1.weight" : "layer2.0.conv1.weight";
        if (kind >= 2)
            tacit_params_find(&e.params, name)->value[3] = INFINITY;
        float *before = tacit_alloc(e.params.floats * sizeof *before);
        memcpy(before, e.params.values, e.params.floats * sizeof *before);
        ck_assert_int_eq(tacit_engine_step(&e, &feed.feed, &r, &err), TACIT_EFORMAT);
        ck_assert_msg(strstr(err.text, "step 4:") == err.text, "%s", err.text);
        ck_assert_msg(strstr(err.text, kind >= 2 ? name : "the loss is") != NULL ||
                          strstr(err.text, "running_") != NULL,
                      "%s", err.text);
        ck_assert_uint_eq(e.step, 3);
        for (size_t i = 0; i < e.params.count; i++) { /* no step was made */
            const tacit_param *p = e.params.list[i];
            ck_assert(p->buffer || !memcmp(p->value, before + (p->value - e.params.values),
                                           p->count * sizeof *before));
        }
        tacit_free(before);
        tacit_engine_close(&e);
        feed_close(&feed);
        tacit_config_close(&c);
    }
}
END_TEST

START_TEST(every_allocation_fails)
{
    for (size_t t = 0; t < TINY_COUNT; t++) {
        tacit_config c;
        tacit_engine e;
        config_open(&c, tiny[t].method, tiny[t].settings);
        tacit_status st = TACIT_ENOMEM;
        uint64_t n = 0;
        while (st == TACIT_ENOMEM) {
            tacit_err err = { "" };
            tacit_alloc_fail_at(++n, false);
            st = tacit_engine_declare(&e, &c, tacit_kernels_for(isas[0]), NULL, &err);
            if (st == TACIT_OK)
                st = tacit_engine_schedule(&e, FEED_EPOCH * e.parts, &err);
            if (st == TACIT_OK)
                st = tacit_engine_open(&e, &err);
            tacit_alloc_fail_at(0, false);
            ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && *err.text), "%s", err.text);
            tacit_engine_close(&e);
        }
        ck_assert_uint_gt(n, 20);
        tacit_config_close(&c);
    }
}
END_TEST

START_TEST(the_plan_is_what_is_taken)
{
    for (size_t t = 0; t < TINY_COUNT; t++) {
        tacit_config c;
        tacit_engine e;
        size_t parameters, rest;
        tacit_err err;
        config_open(&c, tiny[t].method, tiny[t].settings);
        ck_assert_int_eq(tacit_engine_declare(&e, &c, tacit_kernels_for(isas[0]), NULL, &err), 0);
        ck_assert_int_eq(tacit_engine_schedule(&e, 0, &err), TACIT_EINVAL);
        ck_assert_msg(strstr(err.text, "batch = 8 is more than") == err.text, "%s", err.text);
        ck_assert_int_eq(tacit_engine_schedule(&e, FEED_EPOCH * e.parts, &err), TACIT_OK);
        ck_assert_int_eq(tacit_engine_plan(&e, &parameters, &rest, &err), TACIT_OK);
        ck_assert_int_eq(tacit_engine_open(&e, &err), TACIT_OK);
        size_t taken = e.params.arena.size + e.teacher.arena.size + e.memory.arena.size +
                       e.work.arena.size + e.arena.size;
        ck_assert_uint_le(parameters + rest, taken);
        ck_assert_uint_le(taken, parameters + rest + 65536);
        tacit_engine_close(&e);
        tacit_config_close(&c);
    }
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("trainer");
    TCase *tests = tcase_create("trainer");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, schedules_are_the_published);
    tcase_add_test(tests, settings_are_laid_over_each_other);
    tcase_add_test(tests, bad_settings_are_refused);
    tcase_add_test(tests, contradictions_are_refused);
    if (slow_machine())
        puts("skipped: the reference's twenty steps, and of same_bits each run either whole or in "
             "parts: a slow machine");
    tcase_add_loop_test(tests, twenty_steps_as_pytorch, 0, TINY_COUNT * (int)isa_count);
    tcase_add_loop_test(tests, same_bits, 0, 2 * TINY_COUNT);
    tcase_add_loop_test(tests, parts_have_the_gradient_of_the_whole, 0, 2);
    tcase_add_test(tests, parts_of_a_contrastive_loss_see_each_other);
    tcase_add_test(tests, local_crops_are_drawn_for_themselves);
    tcase_add_loop_test(tests, crops_of_two_sizes_share_a_network, 0, 2);
    tcase_add_test(tests, a_teacher_is_still);
    tcase_add_test(tests, values_that_are_not_finite_stop_the_run);
    tcase_add_test(tests, every_allocation_fails);
    tcase_add_test(tests, the_plan_is_what_is_taken);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
