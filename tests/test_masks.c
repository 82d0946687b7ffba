/* test_masks.c - the samplers of masks: a thousand of each method against the official operators
 * (data/masks_golden.safetensors, made by golden/make_masks.py), bounds that hold for every draw,
 * and settings that the published sampler would draw for ever with.
 */
#include "masks.h"
#include "mem.h"
#include "rng.h"
#include "safetensors.h"
#include "scratch.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CASES = 1000, BATCH = 5 };

/* As in make_masks.py. */
static const tacit_block_masks settings[] = {
    { 14, 4, { 0.15, 0.2 }, { 0.75, 1.5 }, { 0.85, 1 }, 10 },
    { 16, 4, { 0.15, 0.2 }, { 0.75, 1.5 }, { 0.85, 1 }, 10 },
    { 8, 4, { 0.15, 0.2 }, { 0.75, 1.5 }, { 0.85, 1 }, 4 },
    { 8, 6, { 0.2, 0.5 }, { 0.75, 1.5 }, { 0.5, 1 }, 6 },
    { 4, 3, { 0.2, 0.45 }, { 0.75, 1.5 }, { 0.85, 1 }, 1 },
    { 12, 16, { 0.15, 0.3 }, { 0.3, 3 }, { 0.2, 0.8 }, 9 },
    { 7, 1, { 0.1, 0.9 }, { 1, 1 }, { 0.6, 0.7 }, 2 },
    { 3, 2, { 0.4, 0.6 }, { 0.75, 1.5 }, { 0.5, 1 }, 1 },
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static uint64_t fnv(uint64_t h, uint64_t n)
{
    return (h ^ n) * 0x100000001b3u;
}

static uint64_t fnv_all(uint64_t h, const uint32_t *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        h = fnv(h, numbers[i]);
    return h;
}
#define FNV 0xcbf29ce484222325u

/* The bytes of a golden tensor, `room` at most; gives how many. */
static size_t golden_bytes(const char *from, const char *name, void *to, size_t room)
{
    tacit_safetensors *file;
    tacit_err err;
    ck_assert_msg(!tacit_safetensors_open(&file, golden(from), &err), "%s", err.text);
    tacit_tensor_source source = tacit_safetensors_source(file);
    size_t i = 0, bytes;
    while (i < source.count && strcmp(source.tensors[i].name, name) != 0)
        i++;
    ck_assert_uint_lt(i, source.count);
    bytes = source.tensors[i].bytes;
    ck_assert_uint_le(bytes, room);
    ck_assert_int_eq(source.read(source.ctx, i, 0, bytes, to, &err), TACIT_OK);
    tacit_safetensors_close(&file);
    return bytes;
}

static void check(const char *method, uint64_t (*mask)(uint64_t n))
{
    static uint64_t want[CASES];
    ck_assert_uint_eq(golden_bytes("masks_golden.safetensors", method, want, sizeof want),
                      sizeof want);
    for (size_t n = 0; n < CASES; n++)
        ck_assert_msg(mask(n) == want[n], "%s: case %zu", method, n);
}

static uint64_t mae_case(uint64_t n)
{
    static const size_t patches[][2] = {
        { 196, 49 }, { 64, 16 }, { 16, 4 }, { 256, 102 }, { 9, 1 }
    };
    uint32_t keep[256], mask[256];
    size_t all = patches[n % 5][0], kept = patches[n % 5][1];
    tacit_mask_random(n, n % 13, n % 101, all, kept, keep, mask);
    return fnv_all(fnv_all(FNV, keep, kept), mask, all - kept);
}

START_TEST(mae_as_published)
{
    check("mae", mae_case);
}
END_TEST

/* As a map. */
static uint64_t simmim_case(uint64_t n)
{
    static const tacit_unit_masks cases[] = {
        { 14, 2, 30 }, { 48, 8, 22 }, { 8, 2, 10 }, { 4, 2, 2 }, { 6, 1, 27 }
    };
    const tacit_unit_masks *m = &cases[n % 5];
    uint32_t order[64], map[48 * 48];
    uint8_t mask[48 * 48];
    tacit_mask_units(m, n, n % 13, n % 101, order, mask);
    for (size_t i = 0; i < m->side * m->side; i++)
        map[i] = mask[i];
    return fnv_all(FNV, map, m->side * m->side);
}

START_TEST(simmim_as_published)
{
    check("simmim", simmim_case);
}
END_TEST

/* Contexts and targets of a batch, in blocks as large as they may have to be: behind them there is
 * nothing that a sampler could overwrite unseen. */
typedef struct blocks {
    uint32_t *contexts, *targets;
    size_t kept, asked;
} blocks;

static blocks draw(const tacit_block_masks *m, uint64_t seed, uint64_t epoch, uint64_t step,
                   const uint32_t *samples, size_t batch)
{
    blocks b;
    b.contexts = malloc(batch * tacit_block_masks_most_kept(m) * sizeof *b.contexts);
    b.targets = malloc(batch * m->blocks * tacit_block_masks_most_asked(m) * sizeof *b.targets);
    ck_assert(b.contexts && b.targets);
    tacit_mask_blocks(m, seed, epoch, step, samples, batch, b.contexts, &b.kept, b.targets,
                      &b.asked);
    ck_assert_uint_le(b.kept, tacit_block_masks_most_kept(m));
    ck_assert_uint_le(b.asked, tacit_block_masks_most_asked(m));
    return b;
}

static void done(blocks *b)
{
    free(b->contexts);
    free(b->targets);
}

static uint64_t ijepa_case(uint64_t n)
{
    const tacit_block_masks *m = &settings[n % SETTINGS];
    uint32_t samples[BATCH];
    size_t batch = 1 + n % BATCH;
    for (size_t i = 0; i < BATCH; i++)
        samples[i] = (uint32_t)(n * BATCH + i);
    blocks b = draw(m, n, n % 13, n % 101, samples, batch);
    uint64_t h = fnv_all(fnv(fnv(FNV, b.kept), b.asked), b.contexts, batch * b.kept);
    h = fnv_all(h, b.targets, batch * m->blocks * b.asked);
    done(&b);
    return h;
}

START_TEST(ijepa_as_published)
{
    check("ijepa", ijepa_case);
}
END_TEST

/* What is published of the sampler: targets never reach the last row and column, a context of the
 * usual settings is all of the rest but for them, and does not overlap them. */
START_TEST(ijepa_by_its_properties)
{
    const tacit_block_masks *m = &settings[0];
    static const uint32_t samples[] = { 3, 1, 4, 15, 9 };
    bool overlaps[2] = { false };
    for (uint64_t step = 0; step < 300; step++) {
        blocks b = draw(m, 5, 1, step, samples, BATCH);
        for (size_t i = 0; i < BATCH; i++) {
            bool asked[14 * 14] = { false };
            for (size_t k = 0; k < m->blocks * b.asked; k++) {
                uint32_t at = b.targets[i * m->blocks * b.asked + k];
                ck_assert(at % 14 < 13 && at / 14 < 13);
                overlaps[asked[at]] = true; /* targets may overlap each other */
                asked[at] = true;
            }
            for (size_t k = 0; k < b.kept; k++) {
                const uint32_t *context = b.contexts + i * b.kept;
                ck_assert(context[k] % 14 < 13 && context[k] / 14 < 13);
                ck_assert(!asked[context[k]] && (!k || context[k] > context[k - 1]));
            }
        }
        ck_assert_uint_gt(b.kept, m->min_keep);
        done(&b);
    }
    ck_assert(overlaps[0] && overlaps[1]);
}
END_TEST

/* A sample's blocks do not depend on who is in its batch; only the contexts' length does. */
START_TEST(ijepa_of_a_sample)
{
    for (size_t s = 0; s < SETTINGS; s++) {
        const tacit_block_masks *m = &settings[s];
        static const uint32_t samples[] = { 7, 2, 9, 4, 40 };
        blocks all = draw(m, 1, 2, 3, samples, BATCH);
        for (size_t i = 0; i < BATCH; i++) {
            blocks one = draw(m, 1, 2, 3, samples + i, 1);
            size_t targets = m->blocks * all.asked;
            ck_assert_uint_ge(one.kept, all.kept);
            ck_assert_mem_eq(one.contexts, all.contexts + i * all.kept,
                             all.kept * sizeof *one.contexts);
            ck_assert_mem_eq(one.targets, all.targets + i * targets, targets * sizeof *one.targets);
            done(&one);
        }
        done(&all);
    }
}
END_TEST

/* Room is enough at every draw, of these settings and of made-up ones. */
START_TEST(blocks_fit)
{
    for (uint64_t n = 0; n < 3000; n++) {
        tacit_block_masks m = { .side = 2 + tacit_rng_u32(1, n, 0) % 20, .blocks = 1 };
        double a = (double)tacit_rng_uniform(1, n, 1), b = (double)tacit_rng_uniform(1, n, 2);
        double c = 0.1 + 3 * (double)tacit_rng_uniform(1, n, 3);
        m.scale[0] = m.context_scale[0] = a < b ? a : b;
        m.scale[1] = m.context_scale[1] = a < b ? b : a;
        m.aspect[0] = c;
        m.aspect[1] = c + 6 * (double)tacit_rng_uniform(1, n, 4);
        for (uint64_t i = 0; i < 200; i++) {
            double r = i < 199 ? (double)tacit_rng_uniform(2, n, i) : 1 - 0x1p-24;
            tacit_block_size t = tacit_block_size_at(m.side, m.scale, m.aspect, r);
            ck_assert(t.height < m.side && t.width < m.side);
            ck_assert_uint_le(t.height * t.width, tacit_block_masks_most_asked(&m));
            t = tacit_block_size_at(m.side, m.scale, (const double[]){ 1, 1 }, r);
            ck_assert_uint_le(t.height * t.width, tacit_block_masks_most_kept(&m));
        }
    }
}
END_TEST

START_TEST(endless_settings_are_refused)
{
    static const struct {
        tacit_block_masks masks;
        const char *says;
    } cases[] = {
        { { 8, 4, { 0.15, 0.2 }, { 0.75, 1.5 }, { 0.85, 1 }, 10 },
          "of 8 x 8 patches a target can have 9, which must be more than min_keep = 10" },
        { { 8, 4, { 0.3, 0.3 }, { 1, 1 }, { 0.1, 1 }, 7 }, "a context can have 4" },
        { { 1, 4, { 0.15, 0.2 }, { 0.75, 1.5 }, { 0.85, 1 }, 0 }, "a target can have 0" },
        { { 14, 4, { 0.2, 0.15 }, { 0.75, 1.5 }, { 0.85, 1 }, 10 }, "from more to less" },
        { { 14, 4, { 0.15, 0.2 }, { 1.5, 0.75 }, { 0.85, 1 }, 10 }, "from more to less" },
        { { 14, 4, { 0.15, 0.2 }, { 0.75, 1.5 }, { 1, 0.85 }, 10 }, "from more to less" },
    };
    tacit_err err;
    for (size_t i = 0; i < SETTINGS; i++)
        ck_assert_msg(!tacit_block_masks_check(&settings[i], &err), "%zu: %s", i, err.text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(tacit_block_masks_check(&cases[i].masks, &err), TACIT_EINVAL);
        ck_assert_msg(strstr(err.text, cases[i].says) != NULL, "%s", err.text);
    }
}
END_TEST

/* BEiT ---------------------------------------------------------------------------------------- */

/* Patch by patch, 8 to a byte: golden/make_hog.py, which has MaskFeat's other half, too. */
START_TEST(beit_as_published)
{
    static const struct {
        size_t side, count;
    } grids[] = { { 14, 78 }, { 8, 26 }, { 4, 6 }, { 14, 118 }, { 16, 128 } };
    static uint8_t want[CASES * 32];
    uint8_t mask[256];
    size_t bytes = golden_bytes("hog_golden.safetensors", "masks", want, sizeof want), at = 0;
    for (size_t n = 0; n < CASES; n++) {
        size_t side = grids[n % 5].side, count = grids[n % 5].count, masked = 0;
        const tacit_blockwise rectangles = { side, count, count / 5, 0.3 };
        size_t said = tacit_mask_blockwise(&rectangles, 19, 3, n, mask);
        ck_assert_uint_le(at + (side * side + 7) / 8, bytes);
        for (size_t i = 0; i < side * side; i++) {
            masked += mask[i];
            ck_assert_msg(mask[i] == (want[at + i / 8] >> i % 8 & 1), "mask %zu, patch %zu", n, i);
        }
        ck_assert(said == masked && masked <= count);
        at += (side * side + 7) / 8;
    }
    ck_assert_uint_eq(at, bytes);
}
END_TEST

/* A grid of one patch has no rectangle that is less than it. */
START_TEST(beit_of_tiny_grids)
{
    uint8_t mask[4];
    ck_assert_uint_eq(tacit_mask_blockwise(&(tacit_blockwise){ 1, 1, 0, 0.3 }, 1, 2, 3, mask), 0);
    for (uint64_t sample = 0; sample < 100; sample++) {
        size_t n = tacit_mask_blockwise(&(tacit_blockwise){ 2, 2, 0, 0.3 }, 1, 2, sample, mask);
        ck_assert_uint_le(n, 2);
        ck_assert_uint_eq(n, (size_t)mask[0] + mask[1] + mask[2] + mask[3]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("masks");
    TCase *tests = tcase_create("masks");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, mae_as_published);
    tcase_add_test(tests, simmim_as_published);
    tcase_add_test(tests, ijepa_as_published);
    tcase_add_test(tests, ijepa_by_its_properties);
    tcase_add_test(tests, ijepa_of_a_sample);
    tcase_add_test(tests, blocks_fit);
    tcase_add_test(tests, endless_settings_are_refused);
    tcase_add_test(tests, beit_as_published);
    tcase_add_test(tests, beit_of_tiny_grids);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
