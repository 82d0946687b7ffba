/* method_dino.c - DINO: a student is to give every crop of an image the probabilities that its own
 * moving average gives the large ones (Caron et al. 2021, arXiv:2104.14294; facebookresearch/dino,
 * main_dino.py).
 *
 * s = h(f(x)) of two global and some local crops, t = h'(f'(x)) of the global ones without gradient
 * or drop path; loss_dino.h has the loss. h is Linear, GELU, Linear, GELU, Linear (batch norm
 * before the GELUs if asked for), and the layer of unit_linear.h, which takes no step in the first
 * epochs. Centring and a teacher sharper than the student hold each other's collapse off: a uniform
 * output, and always the same one. Behind the optimiser's step the teacher's parameters become
 * momentum times themselves plus the rest of the student's, with a momentum that rises to 1 by half
 * a cosine; the centre moves towards the mean of the t of the step. The backbone of a run is the
 * teacher's. Batch norm takes the crops of a size together, in both networks with the batch's
 * statistics.
 */
#include "loss_dino.h"
#include "schedule.h"
#include "tower.h"
#include "unit_linear.h"
#include "view_settings.h"

#define REAL(name, fallback, min, max, help)                                                       \
    {                                                                                              \
        name, TACIT_SETTING_REAL, fallback, min, max, NULL, help, false                            \
    }

static const tacit_setting settings[] = {
    REAL("teacher_momentum", "0.996", 0, 1, "of the teacher at the start; it ends at 1"),
    REAL("student_temperature", "0.1", 0.001, 100, "of the student's softmax"),
    REAL(
        "teacher_temperature", "0.07", 0.001, 100,
        "of the teacher's, at its end; well above the student's nothing is sharp, and the features "
        "collapse"),
    REAL("teacher_temperature_start", "0.04", 0.001, 100, "in the first epoch"),
    REAL("teacher_temperature_epochs", "30", 0, 1e6, "in which it gets from there to its end"),
    { "centring", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "take the teacher's outputs less their moving mean; without it the features collapse",
      false },
    REAL("centre_momentum", "0.9", 0, 1, "of that mean"),
    { "outputs", TACIT_SETTING_WHOLE, "65536", 2, 1048576, NULL, "of the head", false },
    { "head_hidden", TACIT_SETTING_WHOLE, "2048", 1, 16384, NULL, "width of its hidden layers",
      false },
    { "head_dim", TACIT_SETTING_WHOLE, "256", 2, 16384, NULL, "width before its last layer",
      false },
    { "head_norm", TACIT_SETTING_FLAG, "false", 0, 0, NULL, "batch norm in its hidden layers",
      false },
    { "norm_last_layer", TACIT_SETTING_FLAG, "false", 0, 0, NULL,
      "hold the weights of each output at length 1: safer, a little worse", false },
    REAL("freeze_last_layer", "1", 0, 1e6, "epochs in which the last layer's weights stay"),
    { 0 },
};

/* The 300 epochs of ViT-S/16 in the README of facebookresearch/dino. (lr_final is 1e-6 before
 * lr_scale.) */
static const char *const defaults[] = {
    "arch=vit_small_patch16_224",
    "drop_path=0.1",
    "optimiser=adamw",
    "lr=5e-4",
    "lr_final=2.5e-7",
    "warmup_epochs=10",
    "warmup_inclusive=true",
    "weight_decay=0.04",
    "weight_decay_final=0.4",
    "clip_tensor=3",
    "batch=1024",
    "accumulate=32",
    "epochs=300",
    "crop_min=0.4",
    TACIT_BYOL_VIEWS,
    "blur_local=0.5",
    "local_crops=8",
    "local_size=96",
    "local_min=0.05",
    "local_max=0.4",
    NULL,
};
static const char *const imagenet[] = { NULL };
/* solo-learn, CIFAR-10; its warm-up is the default of its trainer. */
static const char *const small32[] = {
    "arch=resnet18_cifar",
    "drop_path=0",
    "optimiser=larc-clip",
    "trust=0.02",
    "lr=0.3",
    "lr_start=3e-5",
    "lr_final=0",
    "warmup_inclusive=false",
    "weight_decay=1e-6",
    "weight_decay_final=-1",
    "clip_tensor=0",
    "batch=256",
    "accumulate=1",
    "epochs=1000",
    "teacher_momentum=0.9995",
    "teacher_temperature_epochs=50",
    "outputs=4096",
    "norm_last_layer=true",
    "local_crops=0",
    "crop_min=0.08",
    "blur=0",
    "blur_second=0",
    NULL,
};
static const char *const quick[] = {
    "arch=resnet18_cifar",
    "dim=32",
    "depth=1",
    "drop_path=0",
    "lr=0.004",
    "lr_final=0",
    "warmup_epochs=1",
    "weight_decay=1e-4",
    "weight_decay_final=-1",
    "batch=128",
    "accumulate=1",
    "epochs=10",
    "teacher_momentum=0.99",
    "teacher_temperature=0.04",
    "teacher_temperature_epochs=0",
    "outputs=1024",
    "head_hidden=512",
    "head_dim=128",
    "norm_last_layer=true",
    "zero_init=true",
    "local_crops=0",
    "crop_min=0.3",
    "blur=0",
    "blur_second=0",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct network {
    tacit_tower tower;
    tacit_unit_linear last;
    tacit_params *params;
} network;

typedef struct state {
    network student, teacher;
    tacit_dino loss;
    tacit_param *centre; /* (1, K) */
    tacit_work *work;
    double momentum, centre_momentum, temperature[2], temperature_epochs;
    bool centring;
    size_t outputs; /* K */
    float *logits;  /* (crops, part, K), the student's of the last forward */
    float *targets; /* (2, part, K), the teacher's */
    float *sum;     /* (K): of all rows of those in a step */
} state;

static tacit_status declare_network(network *n, tacit_tower_config *tower, const tacit_learner *l,
                                    tacit_params *params, tacit_err *err)
{
    static const char *const names[2][3] = { { "mlp.0", "mlp.2", "mlp.4" },
                                             { "mlp.0", "mlp.3", "mlp.6" } };
    static const char *const norms[] = { "mlp.1", "mlp.4", "" };
    const tacit_config *c = l->config;
    bool bn = tacit_config_flag(c, "head_norm");
    tower->layer_count = 3;
    for (size_t i = 0; i < 3; i++)
        tower->layers[i] = (tacit_mlp_layer){
            .out = tacit_config_whole(c, i < 2 ? "head_hidden" : "head_dim"),
            .bias = true,
            .norm = bn && i < 2 ? TACIT_MLP_BN : TACIT_MLP_NO_NORM,
            .gelu = i < 2,
            .name = names[bn][i],
            .norm_name = norms[i],
            .weight = { .kind = TACIT_INIT_NORMAL, .size = 0.02 },
        };
    n->params = params;
    tacit_status st = tacit_tower_declare(&n->tower, tower, l, params, err);
    return st < 0 ? st
                  : tacit_unit_linear_declare(&n->last, "projector.last_layer", n->tower.dim,
                                              tacit_config_whole(c, "outputs"),
                                              !tacit_config_flag(c, "norm_last_layer"),
                                              tower->views * l->part, params, l->work, err);
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_config *c = l->config;
    tacit_tower_config crops = { 0 }, global = { .views = TACIT_DINO_GLOBAL, .still = true };
    tacit_tower_multicrop(&crops, c);
    s->work = l->work;
    s->momentum = tacit_config_number(c, "teacher_momentum");
    s->centre_momentum = tacit_config_number(c, "centre_momentum");
    s->centring = tacit_config_flag(c, "centring");
    s->temperature[0] = tacit_config_number(c, "teacher_temperature_start");
    s->temperature[1] = tacit_config_number(c, "teacher_temperature");
    s->temperature_epochs = tacit_config_number(c, "teacher_temperature_epochs");
    s->outputs = tacit_config_whole(c, "outputs");
    tacit_status st = declare_network(&s->student, &crops, l, l->params, err);
    if (st == TACIT_OK)
        st = declare_network(&s->teacher, &global, l, l->teacher, err);
    if (st == TACIT_OK)
        st = tacit_params_add(l->params, "dino_loss.center", 2, (const size_t[]){ 1, s->outputs },
                              TACIT_ZEROS, &s->centre, err);
    if (st < 0)
        return st;
    s->centre->frozen = s->centre->buffer = true;
    s->student.last.g->wait = s->student.last.v->wait = tacit_config_number(c, "freeze_last_layer");
    tacit_dino_declare(&s->loss, crops.views, s->outputs,
                       tacit_config_number(c, "student_temperature"), l->part, l->work);
    return TACIT_OK;
}

static void close(void *ctx)
{
    state *s = ctx;
    tacit_tower_close(&s->student.tower);
    tacit_tower_close(&s->teacher.tower);
}

static bool plan_network(const network *n, size_t *total)
{
    return tacit_tower_plan(&n->tower, total) && tacit_unit_linear_plan(&n->last, total);
}

static size_t rows_of(const network *n)
{
    return n->tower.views * n->tower.part;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    size_t student = 0, teacher = 0, row = s->outputs * sizeof(float);
    return plan_network(&s->student, &student) && plan_network(&s->teacher, &teacher) &&
           tacit_add_size(*total, student > teacher ? student : teacher, total) &&
           tacit_arena_plan(total, rows_of(&s->student), row) &&
           tacit_arena_plan(total, rows_of(&s->teacher), row) && tacit_arena_plan(total, 1, row);
}

static void take_network(network *n, tacit_arena *arena)
{
    tacit_tower_take(&n->tower, arena);
    tacit_unit_linear_take(&n->last, arena);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    size_t begin = arena->used, row = s->outputs * sizeof(float);
    take_network(&s->teacher, arena);
    size_t end = arena->used;
    arena->used = begin; /* the same memory: the teacher goes first, and of it only t is kept */
    take_network(&s->student, arena);
    arena->used = arena->used > end ? arena->used : end;
    s->logits = tacit_arena_take(arena, rows_of(&s->student), row);
    s->targets = tacit_arena_take(arena, rows_of(&s->teacher), row);
    s->sum = tacit_arena_take(arena, 1, row);
}

static void forward_network(network *n, const tacit_part *part, float *logits)
{
    const float *z = tacit_tower_forward(&n->tower, part);
    tacit_unit_linear_forward(&n->last, rows_of(n), z, n->tower.dim, logits);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    forward_network(&s->teacher, part, s->targets);
    forward_network(&s->student, part, s->logits);
    tacit_dino_sum(&s->loss, rows_of(&s->teacher), s->targets, part->index > 0, s->sum);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    (void)parts;
    double temperature = tacit_dino_temperature(s->temperature[0], s->temperature[1],
                                                s->temperature_epochs, (double)part->batch->epoch);
    return tacit_dino_loss(&s->loss, s->student.tower.part, s->student.tower.whole, temperature,
                           s->centre->value, s->targets, s->logits);
}

static void backward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    network *n = &s->student;
    (void)part;
    tacit_unit_linear_backward(&n->last, s->logits, n->tower.d, n->tower.dim);
    tacit_tower_backward(&n->tower, n->tower.d);
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    const tacit_schedule rise = { .base = s->momentum, .final = 1, .steps = (double)steps };
    tacit_params_average(s->teacher.params, s->student.params,
                         tacit_schedule_at(&rise, (double)step), s->work->kernels, s->work->pool);
    if (s->centring)
        tacit_dino_move(&s->loss, s->centre_momentum, TACIT_DINO_GLOBAL * s->teacher.tower.whole,
                        s->sum, s->centre->value);
}

static tacit_embeddings embeddings(const void *ctx)
{
    return tacit_tower_embeddings(&((const state *)ctx)->student.tower);
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    const tacit_tower *student = &s->student.tower, *teacher = &s->teacher.tower;
    double last = 2.0 * (double)student->dim * (double)s->outputs;
    return tacit_tower_flops(student) + tacit_tower_flops(teacher) / 3 +
           last * (double)(3 * student->views + teacher->views);
}

const tacit_method tacit_distillation_no_labels = {
    .name = "dino",
    .title = "DINO: small crops are told what a moving average of oneself makes of large ones",
    .paper = "Caron et al. 2021, arXiv:2104.14294",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings,
                                                tacit_colour_settings, tacit_local_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", "dino_loss.", NULL },
    .vit = true,
    .resnet = true,
    .by_teacher = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_crops,
    .declare = declare,
    .close = close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .after = after,
    .embeddings = embeddings,
    .flops = flops,
};
