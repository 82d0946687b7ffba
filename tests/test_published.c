/* test_published.c - tokenizers with the names of their authors' files and tiny random weights,
 * against the authors' mathematics (golden/make_published.py): tokens, and of DALL-E's what its
 * decoder makes of them; files with parts of one, or with what does not fit; BEiT with one; memory
 * that runs out.
 */
#include "checkpoint.h"
#include "pretrain_feed.h"
#include "safetensors.h"
#include "tokenizer.h"

#include <math.h>

#define DALLE "published_dalle.safetensors"
#define VQKD  "published_vqkd.pth"

enum { COUNT = 2, MOST = COUNT * 3 * 32 * 32, GRID = 4, TOKENS = GRID * GRID };

static const struct {
    const char *file, *kind, *golden;
    size_t grid, size, codes;
    bool decodes;
    float mean, std;
} cases[] = {
    { DALLE, "dall-e", "dalle", GRID, 32, 12, true, -0.125f, 1.25f },
    { VQKD, "vqkd", "vqkd", 0, 16, 16, false, 0.5f, 0.5f },
};

static tacit_isa isa;
static const tacit_kernels *kernels;

static void read_golden(const char *kind, const char *what, void *to, size_t bytes)
{
    char name[64];
    tacit_safetensors *file;
    size_t i = 0;
    ck_assert_int_eq(tacit_safetensors_open(&file, golden("published_golden.safetensors"), NULL),
                     TACIT_OK);
    const tacit_tensor_source source = tacit_safetensors_source(file);
    snprintf(name, sizeof name, "%s.%s", kind, what);
    while (i < source.count && strcmp(source.tensors[i].name, name) != 0)
        i++;
    ck_assert_msg(i < source.count && source.tensors[i].bytes == bytes, "%s", name);
    ck_assert_int_eq(source.read(source.ctx, i, 0, bytes, to, NULL), TACIT_OK);
    tacit_safetensors_close(&file);
}

/* The golden images as the tokenizer takes them. */
static size_t read_images(size_t at, float *images)
{
    size_t values = 3 * cases[at].size * cases[at].size;
    read_golden(cases[at].golden, "images", images, COUNT * values * sizeof *images);
    for (size_t i = 0; i < COUNT * values; i++)
        images[i] = (images[i] - cases[at].mean) / cases[at].std;
    return values;
}

static tacit_tokenizer *open_case(size_t at, const tacit_kernels *k, tacit_pool *pool)
{
    tacit_tokenizer *t;
    tacit_err err;
    ck_assert_msg(
        !tacit_tokenizer_open(&t, golden(cases[at].file), cases[at].grid, COUNT, k, pool, &err),
        "%s", err.text);
    return t;
}

/* On every ISA; alone and beside another image. */
START_TEST(tokens_of_the_authors)
{
    static float images[MOST], want[MOST], again[MOST], first[MOST];
    uint32_t ids[COUNT * TOKENS], one[TOKENS], expected[COUNT * TOKENS];
    bool begun = false;
    size_t values = read_images((size_t)_i, images);
    read_golden(cases[_i].golden, "ids", expected, sizeof expected);
    if (cases[_i].decodes)
        read_golden(cases[_i].golden, "again", want, COUNT * values * sizeof *want);
    for (int set = 0; set < TACIT_ISA_COUNT; set++)
        for (unsigned threads = 1; tacit_isa_available((tacit_isa)set) && threads < 4; threads++) {
            tacit_pool *pool;
            ck_assert_int_eq(tacit_pool_open(&pool, threads, NULL), TACIT_OK);
            tacit_tokenizer *t = open_case((size_t)_i, tacit_kernels_for((tacit_isa)set), pool);
            const tacit_tokenizer_info *info = tacit_tokenizer_info_of(t);
            ck_assert_str_eq(info->kind, cases[_i].kind);
            ck_assert(info->published && info->decodes == cases[_i].decodes);
            ck_assert_uint_eq(info->size, cases[_i].size);
            ck_assert_uint_eq(info->grid, GRID);
            ck_assert_uint_eq(info->codes, cases[_i].codes);
            ck_assert(info->mean[2] == cases[_i].mean && info->std[0] == cases[_i].std);
            tacit_tokenizer_encode(t, images, COUNT, ids);
            ck_assert(!memcmp(ids, expected, sizeof ids));
            tacit_tokenizer_encode(t, images + values, 1, one);
            ck_assert(!memcmp(one, expected + TOKENS, sizeof one));
            if (info->decodes) {
                tacit_tokenizer_decode(t, ids, COUNT, again);
                for (size_t i = 0; i < COUNT * values; i++)
                    ck_assert_float_eq_tol(again[i] * info->std[0] + info->mean[0], want[i], 1e-5f);
                ck_assert(!begun || !memcmp(first, again, COUNT * values * sizeof *again));
                memcpy(first, again, sizeof first);
                begun = true;
            }
            tacit_tokenizer_close(&t);
            tacit_pool_close(&pool);
        }
}
END_TEST

/* DALL-E's takes images of any size; else it is BEiT's. */
START_TEST(peeked_at)
{
    tacit_tokenizer_info info;
    tacit_tokenizer *t;
    ck_assert_int_eq(tacit_tokenizer_peek(golden(DALLE), &info, NULL), TACIT_OK);
    ck_assert(info.grid == 14 && info.size == 112 && info.decodes && info.codes == 12);
    ck_assert_int_eq(tacit_tokenizer_peek(golden(VQKD), &info, NULL), TACIT_OK);
    ck_assert(info.grid == 4 && info.size == 16 && !info.decodes && info.codes == 16);
    ck_assert_int_eq(tacit_tokenizer_peek(golden("tokenizer_weights.safetensors"), &info, NULL),
                     TACIT_OK);
    ck_assert(info.grid == 4 && info.size == 16 && info.decodes && !info.published);
    ck_assert_int_eq(tacit_tokenizer_open(&t, golden(DALLE), 9, 1, kernels, NULL, NULL), TACIT_OK);
    ck_assert_uint_eq(tacit_tokenizer_info_of(t)->size, 72);
    tacit_tokenizer_close(&t);
}
END_TEST

/* Files ---------------------------------------------------------------------------------------- */

/* A file's tensors, of which some are left out, or called otherwise. */
typedef struct edited {
    tacit_checkpoint *file;
    tacit_tensor_source all;
    tacit_tensor tensors[160];
    size_t index[160], count;
    char names[160][128];
    float factor; /* of all values of a codebook */
} edited;

static tacit_status read_edited(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const edited *e = ctx;
    tacit_status st = e->all.read(e->all.ctx, e->index[i], offset, size, dst, err);
    if (strstr(e->names[i], "embedding.weight"))
        for (size_t k = 0; k < size / sizeof(float); k++)
            ((float *)dst)[k] *= e->factor;
    return st;
}

/* Writes the tensors of a case's file whose names begin with `only`, which `to` replaces; but none
 * that ends with `without`. */
static void edit(size_t at, const char *only, const char *to, const char *without, float factor)
{
    static edited e;
    static const char *const metadata[] = { NULL };
    e.count = 0;
    e.factor = factor;
    ck_assert_int_eq(tacit_checkpoint_open(&e.file, golden(cases[at].file), NULL), TACIT_OK);
    e.all = tacit_checkpoint_source(e.file);
    for (size_t i = 0; i < e.all.count; i++) {
        const char *name = e.all.tensors[i].name;
        size_t n = strlen(name), m = without ? strlen(without) : n + 1;
        if (strncmp(name, only, strlen(only)) || (n >= m && !strcmp(name + n - m, without)))
            continue;
        ck_assert_uint_lt(e.count, 160);
        snprintf(e.names[e.count], sizeof *e.names, "%s%s", to, name + strlen(only));
        e.tensors[e.count] = e.all.tensors[i];
        e.tensors[e.count].name = e.names[e.count];
        e.index[e.count++] = i;
    }
    const tacit_tensor_source source = { e.tensors, e.count, read_edited, &e };
    tacit_err err;
    ck_assert_msg(!tacit_safetensors_copy(scratch("file"), &source, metadata, &err), "%s",
                  err.text);
    tacit_checkpoint_close(&e.file);
}

/* The encoder alone, by the very names of the authors; VQ-KD without its wrapper. */
START_TEST(bare_files)
{
    static float images[MOST];
    static const char *const only[] = { "encoder.", "model." };
    uint32_t ids[COUNT * TOKENS], expected[COUNT * TOKENS];
    tacit_tokenizer *t;
    tacit_err err;
    read_images((size_t)_i, images);
    read_golden(cases[_i].golden, "ids", expected, sizeof expected);
    edit((size_t)_i, only[_i], "", NULL, 1);
    ck_assert_msg(
        !tacit_tokenizer_open(&t, scratch("file"), cases[_i].grid, COUNT, kernels, NULL, &err),
        "%s", err.text);
    ck_assert(!tacit_tokenizer_info_of(t)->decodes);
    tacit_tokenizer_encode(t, images, COUNT, ids);
    ck_assert(!memcmp(ids, expected, sizeof ids));
    tacit_tokenizer_close(&t);
}
END_TEST

START_TEST(bad_files_are_refused)
{
    static const struct {
        size_t of;
        const char *only, *to, *without;
        float factor;
        const char *said;
    } bad[] = {
        { 0, "decoder.", "", NULL, 1, "is the decoder of DALL-E's dVAE alone" },
        { 0, "", "", "encoder.blocks.output.conv.w", 1,
          "there is no encoder.blocks.output.conv.w" },
        { 0, "", "", "encoder.blocks.group_3.block_2.res_path.conv_2.b", 1,
          "there is no encoder.blocks.group_3.block_2.res_path.conv_2.b" },
        { 0, "", "", "decoder.blocks.group_2.block_1.id_path.w", 1,
          "there is no decoder.blocks.group_2.block_1.id_path.w" },
        { 0, "", "", "group_1.block_2.res_path.conv_1.w", 1, NULL },
        { 1, "model.", "", "quantize.embedding.weight", 1, "is no tokenizer of" },
        { 1, "model.", "", "encode_task_layer.2.bias", 1, "there is no encode_task_layer.2.bias" },
        { 1, "model.", "", "blocks.0.attn.v_bias", 1, "" },
        { 1, "model.", "", "encoder.pos_embed", 1, "" },
        { 1, "model.", "", NULL, 1.01f,
          "quantize.embedding.weight: code 0 has length 1.01, not 1" },
        { 1, "model.", "", NULL, INFINITY, "holds a value that is not finite" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tacit_tokenizer *t = NULL;
        tacit_err err = { "" };
        edit(bad[i].of, bad[i].only, bad[i].to, bad[i].without, bad[i].factor);
        tacit_status st = tacit_tokenizer_open(&t, scratch("file"), GRID, 1, kernels, NULL, &err);
        if (bad[i].said) {
            ck_assert_msg(st < 0 && !t, "%zu", i);
            ck_assert_msg(strstr(err.text, bad[i].said) && strstr(err.text, "/file: "), "%s",
                          err.text);
        }
        tacit_tokenizer_close(&t);
    }
}
END_TEST

START_TEST(every_allocation_fails)
{
    tacit_status st = TACIT_ENOMEM;
    for (uint64_t n = 1; st < 0; n++) {
        tacit_tokenizer *t = NULL;
        tacit_err err = { "" };
        tacit_alloc_fail_at(n, false);
        st = tacit_tokenizer_open(&t, golden(cases[_i].file), GRID, 1, kernels, NULL, &err);
        tacit_alloc_fail_at(0, false);
        ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && *err.text && !t), "%d: %s", (int)n,
                      err.text);
        tacit_tokenizer_close(&t);
    }
}
END_TEST

/* BEiT ----------------------------------------------------------------------------------------- */

/* Its words are the tokenizer's; it is drawn where that decodes. */
START_TEST(beit_learns_from_it)
{
    static float panels[4 * 3 * 16 * 16];
    char setting[TACIT_SETTING_TEXT];
    tacit_config c;
    tacit_engine e;
    tacit_step r;
    test_feed feed;
    config_open(&c, "beit", tiny_beit);
    snprintf(setting, sizeof setting, "tokenizer=%s", golden(cases[_i].file));
    config_set(&c, setting);
    ck_assert(tacit_method_draws(&c) == cases[_i].decodes);
    engine_ready(&e, &c, isa, NULL);
    ck_assert_uint_eq(tacit_params_find(&e.params, "lm_head.bias")->count, cases[_i].codes);
    feed_open(&feed, 16, e.learner.whole, e.parts);
    for (int step = 0; step < 3; step++) {
        tacit_err err;
        ck_assert_msg(!tacit_engine_step(&e, &feed.feed, &r, &err), "%s", err.text);
        ck_assert(isfinite(r.loss) && r.loss > 0);
    }
    if (cases[_i].decodes) {
        static const uint32_t sample = 4;
        const float *views[] = { feed.views[0] };
        const tacit_batch batch = { .samples = &sample, .views = views };
        const tacit_part part = { .batch = &batch, .images = 1, .count = 1, .seed = 11 };
        e.method->forward(e.state, &part);
        e.method->picture(e.state, &part, 0, panels);
        ck_assert(memcmp(panels + 2 * 768, panels + 3 * 768, 768 * sizeof(float)) != 0);
    }
    feed_close(&feed);
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

int main(void)
{
    if (tacit_isa_select(NULL, &isa, NULL) < 0)
        return 1;
    kernels = tacit_kernels_for(isa);
    Suite *suite = suite_create("published");
    TCase *tests = tcase_create("published");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, scratch_open, scratch_close);
    tcase_add_loop_test(tests, tokens_of_the_authors, 0, 2);
    tcase_add_test(tests, peeked_at);
    tcase_add_loop_test(tests, bare_files, 0, 2);
    tcase_add_test(tests, bad_files_are_refused);
    tcase_add_loop_test(tests, every_allocation_fails, 0, 2);
    tcase_add_loop_test(tests, beit_learns_from_it, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
