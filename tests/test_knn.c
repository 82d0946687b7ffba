/* test_knn.c - neighbours and votes against a search in double that is written out plainly; the
 * sets, labels and scores around them. */
#include "arrays.h"
#include "knn_score.h"
#include "mem.h"
#include "meta.h"
#include "rng.h"

#include <math.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;
static tacit_err err;

static void setup(void)
{
    scratch_open();
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            isas[isa_count++] = (tacit_isa)i;
}

static const tacit_kernels *best(void)
{
    return tacit_kernels_for(isas[isa_count - 1]);
}

static void open_set(tacit_vectors *v, const char *path)
{
    ck_assert_msg(tacit_vectors_open(v, path, best(), NULL, &err) == TACIT_OK, "%s", err.text);
}

/* ---- neighbours */

static double similarity(const float *x, const float *y, size_t dim)
{
    double xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < dim; i++) {
        xy += (double)x[i] * (double)y[i];
        xx += (double)x[i] * (double)x[i];
        yy += (double)y[i] * (double)y[i];
    }
    return xy / (fmax(sqrt(xx), 1e-12) * fmax(sqrt(yy), 1e-12));
}

/* All neighbours of a set, copied. */
static tacit_neighbor *search(const tacit_vectors *base, const tacit_vectors *query, size_t k,
                              tacit_isa isa, unsigned threads, size_t *found_k)
{
    tacit_pool *pool;
    tacit_knn *knn;
    ck_assert_int_eq(tacit_pool_open(&pool, threads, &err), TACIT_OK);
    ck_assert_msg(tacit_knn_open(&knn, base, query, k, tacit_kernels_for(isa), pool, &err) ==
                      TACIT_OK,
                  "%s", err.text);
    *found_k = tacit_knn_k(knn);
    size_t rows = (query ? query : base)->rows, from, count, next = 0;
    tacit_neighbor *all = calloc(rows * *found_k, sizeof *all);
    const tacit_neighbor *block;
    ck_assert_ptr_nonnull(all);
    while ((count = tacit_knn_next(knn, &from, &block)) > 0) {
        ck_assert_uint_eq(from, next);
        ck_assert_uint_le(count, tacit_knn_most(knn));
        for (size_t i = 0; i < count * *found_k; i++) /* not the padding */
            all[from * *found_k + i] = (tacit_neighbor){ block[i].similarity, block[i].row };
        next += count;
    }
    ck_assert_uint_eq(next, rows);
    tacit_knn_close(&knn);
    tacit_pool_close(&pool);
    return all;
}

/* The list of one query must be the head of all rows, sorted. slack: what sums in another order may
 * differ by; with 0 the ranks must be the same, ties included. */
static void check_query(const float *x, const float *base, size_t rows, size_t dim, size_t self,
                        const tacit_neighbor *n, size_t k, double slack)
{
    double *all = malloc(rows * sizeof *all);
    ck_assert_ptr_nonnull(all);
    for (size_t j = 0; j < rows; j++)
        all[j] = j == self ? -INFINITY : similarity(x, base + j * dim, dim);
    for (size_t i = 0; i < k; i++) {
        size_t before = 0, ahead = 0;
        double s = all[n[i].row];
        ck_assert(fabs(n[i].similarity - s) <= slack);
        ck_assert(!i || n[i].similarity < n[i - 1].similarity ||
                  (n[i].similarity == n[i - 1].similarity && n[i].row > n[i - 1].row));
        for (size_t j = 0; j < rows; j++) {
            before += all[j] > s + slack || (slack == 0 && all[j] == s && j < n[i].row);
            ahead += all[j] >= s - slack;
        }
        ck_assert_msg(slack == 0 ? before == i : before <= i && i < ahead,
                      "rank %zu is row %u, of which %zu are ahead", i, n[i].row, before);
    }
    free(all);
}

/* kind 0: small whole numbers, whose products and squares are exact: many ties, and rows that are
 * zero; 1: any numbers, some rows copied, some copied and scaled; 2: all rows nearly the same. */
static float *numbers(size_t rows, size_t dim, unsigned kind, uint64_t seed)
{
    float *x = malloc(rows * dim * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < dim; i++) {
            float u = tacit_rng_uniform(seed, r, i);
            x[r * dim + i] = kind == 0 ? floorf(u * 3) - 1 : kind == 1 ? u - 0.5f : 1 + u * 1e-6f;
        }
    for (size_t r = 7; kind == 1 && r < rows; r += 10)
        for (size_t i = 0; i < dim; i++)
            x[r * dim + i] = x[(r - 5) * dim + i] * (r % 20 == 7 ? 1 : 3.7f);
    return x;
}

START_TEST(nearest_of_all)
{
    static const struct {
        size_t rows, queries, dim, k;
        unsigned kind;
    } cases[] = {
        { 1, 3, 1, 1, 0 },      { 40, 9, 3, 50, 0 },   { 700, 33, 5, 20, 0 },
        { 300, 130, 16, 7, 1 }, { 601, 5, 40, 64, 1 }, { 90, 4, 800, 10, 1 },
        { 1500, 6, 24, 30, 2 }, { 2100, 3, 9, 3, 2 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (unsigned self = 0; self < 2; self++) {
            size_t rows = cases[c].rows, dim = cases[c].dim, k, other_k;
            if (self && rows == 1)
                continue;
            size_t queries = self ? rows : cases[c].queries;
            float *x = numbers(rows, dim, cases[c].kind, c);
            float *q = self ? x : numbers(queries, dim, cases[c].kind, 99 + c);
            tacit_vectors base, query;
            matrix_put(scratch("base.npy"), x, rows, dim);
            matrix_put(scratch("query.npy"), q, queries, dim);
            open_set(&base, scratch("base.npy"));
            open_set(&query, scratch("query.npy"));
            tacit_neighbor *n = search(&base, self ? NULL : &query, cases[c].k, isas[0], 1, &k);
            ck_assert_uint_eq(k, cases[c].k < rows - self ? cases[c].k : rows - self);
            for (size_t i = 0; i < queries; i += self && rows > 1000 ? 37 : 1)
                check_query(q + i * dim, x, rows, dim, self ? i : SIZE_MAX, n + i * k, k,
                            cases[c].kind == 0 ? 0 : 1e-14 * (double)dim);
            for (size_t isa = 0; isa < isa_count; isa++) /* the same bits for all and any threads */
                for (unsigned threads = 1; threads < 4; threads++) {
                    tacit_neighbor *m = search(&base, self ? NULL : &query, cases[c].k, isas[isa],
                                               threads, &other_k);
                    ck_assert_uint_eq(other_k, k);
                    for (size_t i = 0; i < queries * k; i++) {
                        ck_assert_uint_eq(m[i].row, n[i].row);
                        ck_assert(!memcmp(&m[i].similarity, &n[i].similarity, sizeof(double)));
                    }
                    free(m);
                }
            tacit_vectors_close(&base);
            tacit_vectors_close(&query);
            free(n);
            if (q != x)
                free(q);
            free(x);
        }
}
END_TEST

/* So many neighbours that the queries are taken in several turns. */
START_TEST(queries_in_turns)
{
    enum { ROWS = 2600, K = 1200 };
    float *x = numbers(ROWS, 2, 1, 5);
    tacit_vectors v;
    tacit_knn *knn;
    size_t k;
    matrix_put(scratch("v.npy"), x, ROWS, 2);
    open_set(&v, scratch("v.npy"));
    ck_assert_int_eq(tacit_knn_open(&knn, &v, NULL, K, best(), NULL, &err), TACIT_OK);
    ck_assert_uint_lt(tacit_knn_most(knn), ROWS);
    tacit_knn_close(&knn);
    tacit_neighbor *n = search(&v, NULL, K, isas[isa_count - 1], 2, &k);
    for (size_t i = 0; i < ROWS; i += 433)
        check_query(x + 2 * i, x, ROWS, 2, i, n + i * k, k, 1e-14);
    tacit_vectors_close(&v);
    free(n);
    free(x);
}
END_TEST

START_TEST(half_precision_is_what_it_stands_for)
{
    enum { ROWS = 50, DIM = 21 };
    float *x = numbers(ROWS, DIM, 1, 3);
    uint16_t half[ROWS * DIM];
    tacit_vectors wide, narrow;
    size_t k;
    best()->f32_to_f16(ROWS * DIM, x, half);
    best()->f16_to_f32(ROWS * DIM, half, x);
    matrix_put(scratch("wide.npy"), x, ROWS, DIM);
    array_put(scratch("narrow.npy"), TACIT_F16, (const uint64_t[]){ ROWS, DIM }, 2, half);
    open_set(&wide, scratch("wide.npy"));
    open_set(&narrow, scratch("narrow.npy"));
    tacit_neighbor *a = search(&wide, NULL, 9, isas[isa_count - 1], 2, &k);
    tacit_neighbor *b = search(&narrow, &wide, 10, isas[isa_count - 1], 2, &k);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0, j = 0; i < 9; i++, j++) { /* b has the row itself, too */
            j += b[r * 10 + j].row == r;
            ck_assert_uint_eq(a[r * 9 + i].row, b[r * 10 + j].row);
            ck_assert(a[r * 9 + i].similarity == b[r * 10 + j].similarity);
        }
    tacit_vectors_close(&wide);
    tacit_vectors_close(&narrow);
    free(a), free(b), free(x);
}
END_TEST

/* Photos as raw pixels, where the data sets are. */
START_TEST(real_pixels)
{
    enum { DIM = 3072, RECORD = DIM + 1, TRAIN = 1000, TEST = 515, K = 20 };
    const char *data = getenv("TACIT_DATA");
    if (!data) {
        printf("skipped: real_pixels: needs TACIT_DATA\n");
        return;
    }
    static const char *const files[] = { "lossless_train_1k.bin", "lossless_test.bin" };
    const size_t counts[] = { TRAIN, TEST };
    float *pixels[2];
    tacit_vectors sets[2];
    for (size_t s = 0; s < 2; s++) {
        char path[1024];
        size_t size;
        snprintf(path, sizeof path, "%s/cifar10/%s", data, files[s]);
        unsigned char *bytes = file_get(path, &size);
        ck_assert_uint_eq(size, counts[s] * RECORD);
        pixels[s] = malloc(counts[s] * DIM * sizeof(float));
        ck_assert_ptr_nonnull(pixels[s]);
        for (size_t i = 0; i < counts[s] * DIM; i++)
            pixels[s][i] = (float)bytes[i / DIM * RECORD + 1 + i % DIM] / 255.0f;
        free(bytes);
        matrix_put(scratch(files[s]), pixels[s], counts[s], DIM);
        open_set(&sets[s], scratch(files[s]));
    }
    size_t k;
    tacit_neighbor *n = search(&sets[0], &sets[1], K, isas[isa_count - 1], 2, &k);
    for (size_t i = 0; i < TEST; i += 5)
        check_query(pixels[1] + i * DIM, pixels[0], TRAIN, DIM, SIZE_MAX, n + i * k, k, 1e-12);
    for (size_t s = 0; s < 2; s++) {
        tacit_vectors_close(&sets[s]);
        free(pixels[s]);
    }
    free(n);
}
END_TEST

/* ---- votes and scores */

START_TEST(votes_of_neighbours)
{
    const uint32_t class_of[] = { 2, 0, 1, 1, 3 };
    const tacit_neighbor n[] = { { 0.9, 0 }, { 0.8, 1 }, { 0.7, 2 }, { 0.7, 3 }, { 0.1, 4 } };
    double votes[5];
    tacit_knn_vote(n, 5, class_of, 0, votes, 5);
    const double counts[] = { 1, 2, 1, 1, 0 };
    ck_assert(!memcmp(votes, counts, sizeof votes));
    tacit_knn_vote(n, 4, class_of, 0.07, votes, 5);
    const double weights[] = { exp(-0.1 / 0.07), 2 * exp(-0.2 / 0.07), 1, 0, 0 };
    for (size_t i = 0; i < 5; i++)
        ck_assert_double_eq_tol(votes[i], weights[i], 1e-15);

    const double scores[] = { 1, 3, 3, 0, 3, 2 };
    const uint32_t ranks[] = { 4, 0, 1, 5, 2, 3 };
    for (uint32_t c = 0; c < 6; c++) {
        tacit_place place = tacit_place_of(c, scores, 6);
        ck_assert_uint_eq(place.first, 1); /* of equal ones the lower */
        ck_assert_uint_eq(place.rank, ranks[c]);
    }
}
END_TEST

static const char *parity(size_t row)
{
    return row % 2 ? "odd" : "even";
}

START_TEST(scores_of_a_set)
{
    enum { ROWS = 200, TESTS = 77, DIM = 6 };
    float *x = numbers(ROWS, DIM, 0, 1), *q = numbers(TESTS, DIM, 0, 2);
    const size_t ks[] = { 1, 5, 5000 };
    tacit_vectors base, query;
    tacit_labels labels, truth;
    tacit_knn *knn;
    tacit_knn_score scores[3];
    folder_put(scratch("base"), x, ROWS, DIM, parity);
    folder_put(scratch("query"), q, TESTS, DIM, parity);
    open_set(&base, scratch("base"));
    open_set(&query, scratch("query"));
    ck_assert_int_eq(tacit_labels_open(&labels, NULL, &base, &err), TACIT_OK);
    ck_assert_int_eq(tacit_labels_open(&truth, NULL, &query, &err), TACIT_OK);
    ck_assert_int_eq(tacit_labels_match(&truth, &labels, &err), TACIT_OK);
    ck_assert_int_eq(tacit_knn_open(&knn, &base, &query, 5000, best(), NULL, &err), TACIT_OK);
    ck_assert_int_eq(
        tacit_knn_classify(knn, &labels, &truth, ks, 3, 0.07, scores, NULL, NULL, NULL, &err),
        TACIT_OK);
    size_t all_k, right[3][2] = { { 0 } };
    tacit_neighbor *n = search(&base, &query, 5000, isas[0], 1, &all_k);
    for (size_t r = 0; r < TESTS; r++)
        for (size_t i = 0; i < 3; i++) {
            double votes[2][2] = { { 0 } };
            for (size_t j = 0; j < ks[i] && j < all_k; j++) {
                votes[0][n[r * all_k + j].row % 2] += exp(n[r * all_k + j].similarity / 0.07);
                votes[1][n[r * all_k + j].row % 2] += 1;
            }
            for (size_t way = 0; way < 2; way++) /* class 0 is "even" */
                right[i][way] += (votes[way][1] > votes[way][0]) == r % 2;
        }
    for (size_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(scores[i].weighted.rows, TESTS);
        ck_assert_uint_eq(scores[i].weighted.top1, right[i][0]);
        ck_assert_uint_eq(scores[i].majority.top1, right[i][1]);
        ck_assert_uint_eq(scores[i].weighted.top5, TESTS);
        const tacit_score *s = &scores[i].weighted;
        ck_assert_uint_eq(s->count[0] + s->count[1], TESTS);
        ck_assert_uint_eq(s->right[0] + s->right[1], s->top1);
        ck_assert_uint_eq(s->confusion[0], s->right[0]);
        ck_assert_uint_eq(s->confusion[0] + s->confusion[1], s->count[0]);
    }
    ck_assert_int_eq(tacit_score_write(&scores[1].weighted, scratch("m.tsv"), &err), TACIT_OK);
    size_t size;
    char *text = (char *)file_get(scratch("m.tsv"), &size), expected[200];
    const size_t *m = scores[1].weighted.confusion;
    snprintf(expected, sizeof expected, "\teven\todd\neven\t%zu\t%zu\nodd\t%zu\t%zu\n", m[0], m[1],
             m[2], m[3]);
    ck_assert_str_eq(text, expected);
    free(text);
    json_t *json = tacit_score_json(&scores[1].weighted, true);
    ck_assert_double_eq_tol(json_real_value(json_object_get(json, "top1")),
                            100.0 * (double)right[1][0] / TESTS, 1e-9);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "per_class")), 2);
    json_decref(json);
    tacit_knn_scores_close(scores, 3);
    tacit_knn_close(&knn);
    tacit_labels_close(&labels);
    tacit_labels_close(&truth);
    tacit_vectors_close(&base);
    tacit_vectors_close(&query);
    free(n), free(x), free(q);
}
END_TEST

/* ---- labels */

static const char *numbered(size_t row)
{
    static const char *const names[] = { "10", "9", "-1", "10" };
    return names[row];
}

static const char *lacking(size_t row)
{
    return row == 2 ? "" : "x";
}

/* Expects the classes of 4 rows, and the names in order, as one line. */
static void check_labels(const tacit_vectors *v, const char *path, const char *line)
{
    tacit_labels l;
    char got[200] = "";
    tacit_status st = tacit_labels_open(&l, path, v, &err);
    ck_assert_msg(st == TACIT_OK, "%s", err.text);
    for (size_t r = 0; r < l.rows; r++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%u ", l.of[r]);
    for (size_t c = 0; c < l.classes; c++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s|", l.names[c]);
    ck_assert_str_eq(got, line);
    tacit_labels_close(&l);
}

static void no_labels(const tacit_vectors *v, const char *path, const char *says)
{
    tacit_labels l;
    ck_assert_int_lt(tacit_labels_open(&l, path, v, &err), 0);
    ck_assert_msg(strstr(err.text, says), "\"%s\" lacks \"%s\"", err.text, says);
    ck_assert_ptr_null(l.of);
}

START_TEST(labels_of_all_kinds)
{
    float x[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    tacit_vectors v, bare;
    folder_put(scratch("f"), x, 4, 2, numbered);
    matrix_put(scratch("bare.npy"), x, 4, 2);
    open_set(&v, scratch("f"));
    open_set(&bare, scratch("bare.npy"));
    check_labels(&v, NULL, "2 1 0 2 -1|9|10|");
    check_labels(&bare, scratch("f/index.tsv"), "2 1 0 2 -1|9|10|");
    no_labels(&bare, NULL, "name a file of them");

    const char *text = scratch("labels.txt");
    static const struct {
        const char *text, *line;
    } good[] = {
        { "10\n9\n-1\n10\n", "2 1 0 2 -1|9|10|" },
        { "b\r\na\r\nb\r\n10", "2 1 2 0 10|a|b|" },
        { "09\n9\n+1\n9", "1 2 0 2 +1|09|9|" }, /* not all are integers as they are printed */
        { "row\tlabel\tx\n0\tb\t\n1\ta\t\n2\ta b\t\n3\tb\t\n", "2 0 1 2 a|a b|b|" },
        { "label\tx\nb\t1\na\t2\na\t3\nc\t4\n", "1 0 0 2 a|b|c|" },
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        file_put(text, good[i].text, strlen(good[i].text));
        check_labels(&v, text, good[i].line);
    }
    static const struct {
        const char *text, *says;
        size_t size;
    } bad[] = {
        { "a\nb\nc\n", "3 labels for the 4", 0 },
        { "a\nb\nc\nd\ne\n", "more labels than", 0 },
        { "a\n\nc\nd\n", "row 1 has no label", 0 },
        { "a\tb\nc\td\n", "no column is called 'label'", 0 },
        { "x\tlabel\n1\n2\n3\n4\n", "row 0 has no label", 0 },
        { "a\nb\0c\nd\n", "is not text", 8 },
        { "", "0 labels", 0 },
        { "row\tpath\tlabel\tstatus\txxh3\n0\ta\tx\n", "line 2", 0 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file_put(text, bad[i].text, bad[i].size ? bad[i].size : strlen(bad[i].text));
        no_labels(&v, text, bad[i].says);
    }
    no_labels(&v, scratch("nowhere"), "nowhere");
    folder_put(scratch("g"), x, 4, 2, lacking);
    no_labels(&bare, scratch("g/index.tsv"), "row 2 has no label");

    const char *npy = scratch("labels.npy");
    const int64_t wide[] = { 10, 9, -1, 10 };
    const int32_t middle[] = { 10, 9, -1, 10 };
    const int16_t narrow[] = { 10, 9, -1, 10 };
    const int8_t tiny[] = { 10, 9, -1, 10 };
    const uint8_t bytes[] = { 200, 9, 1, 200 };
    const void *data[] = { wide, middle, narrow, tiny };
    const tacit_dtype types[] = { TACIT_I64, TACIT_I32, TACIT_I16, TACIT_I8 };
    for (size_t i = 0; i < 4; i++) {
        array_put(npy, types[i], (const uint64_t[]){ 4, 1 }, 2, data[i]);
        no_labels(&v, npy, "has 2 dimensions");
        size_t size;
        unsigned char *file = file_get(npy, &size); /* (4, 1) to (4,) */
        memcpy(strstr((char *)file + 10, "(4, 1)"), "(4,)  ", 6);
        file_put(npy, file, size);
        check_labels(&v, npy, "2 1 0 2 -1|9|10|");
        file_put(npy, file, size - 1);
        no_labels(&v, npy, "cut off");
        free(file);
    }
    array_put(npy, TACIT_U8, (const uint64_t[]){ 2, 2 }, 2, bytes);
    no_labels(&v, npy, "has 2 dimensions");
    array_put(npy, TACIT_F32, (const uint64_t[]){ 4, 1 }, 2, x);
    no_labels(&v, npy, "labels are integers");
    tacit_vectors_close(&v);
    tacit_vectors_close(&bare);
}
END_TEST

START_TEST(labels_match_by_name)
{
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    tacit_vectors v;
    tacit_labels train, test;
    matrix_put(scratch("v.npy"), x, 3, 2);
    open_set(&v, scratch("v.npy"));
    file_put(scratch("a.txt"), "dog\ncat\nant\n", 12);
    file_put(scratch("b.txt"), "dog\ndog\ncat\n", 12);
    file_put(scratch("c.txt"), "dog\neel\nfox\n", 12);
    ck_assert_int_eq(tacit_labels_open(&train, scratch("a.txt"), &v, &err), TACIT_OK);
    ck_assert_int_eq(tacit_labels_open(&test, scratch("b.txt"), &v, &err), TACIT_OK);
    ck_assert_uint_eq(test.of[0], 1);
    ck_assert_int_eq(tacit_labels_match(&test, &train, &err), TACIT_OK);
    ck_assert_uint_eq(test.classes, 3);
    ck_assert_uint_eq(test.of[0], 2);
    ck_assert_uint_eq(test.of[2], 1);
    tacit_labels_close(&test);
    ck_assert_int_eq(tacit_labels_open(&test, scratch("c.txt"), &v, &err), TACIT_OK);
    ck_assert_int_eq(tacit_labels_match(&test, &train, &err), TACIT_ECONFLICT);
    ck_assert_msg(strstr(err.text, "'eel'") && strstr(err.text, "2 of 3"), "%s", err.text);
    tacit_labels_close(&test);
    tacit_labels_close(&train);
    tacit_vectors_close(&v);
}
END_TEST

/* ---- sets that are none */

static void no_set(const char *path, tacit_status status, const char *says)
{
    tacit_vectors v;
    ck_assert_msg(tacit_vectors_open(&v, path, best(), NULL, &err) == status, "%s", err.text);
    ck_assert_msg(strstr(err.text, says), "\"%s\" lacks \"%s\"", err.text, says);
    ck_assert_ptr_null(v.path);
}

START_TEST(vectors_that_are_none)
{
    const char *npy = scratch("bad.npy");
    float x[600] = { 0 };
    for (size_t i = 0; i < 600; i++)
        x[i] = (float)i;
    for (unsigned i = 0; i < 3; i++) {
        const float odd[] = { NAN, -INFINITY, 3e18f };
        x[2 * 277 + 1] = odd[i];
        matrix_put(npy, x, 300, 2);
        no_set(npy, TACIT_EFORMAT,
               i < 2 ? "row 277 holds a NaN or an infinity" : "row 277 is longer than 1e18");
    }
    x[2 * 277 + 1] = 1e18f;
    x[2 * 277] = 0;
    matrix_put(npy, x, 300, 2);
    tacit_vectors v, w;
    open_set(&v, npy);
    ck_assert_uint_eq(v.rows, 300);
    array_put(scratch("w.npy"), TACIT_F32, (const uint64_t[]){ 200, 3 }, 2, x);
    open_set(&w, scratch("w.npy"));
    tacit_knn *knn;
    ck_assert_int_eq(tacit_knn_open(&knn, &v, &w, 3, best(), NULL, &err), TACIT_ECONFLICT);
    ck_assert_ptr_null(knn);
    ck_assert_msg(strstr(err.text, "vectors of 2 values"), "%s", err.text);
    tacit_vectors_close(&v);
    tacit_vectors_close(&w);
    matrix_put(npy, x, 1, 2);
    open_set(&v, npy);
    ck_assert_int_eq(tacit_knn_open(&knn, &v, NULL, 3, best(), NULL, &err), TACIT_EINVAL);
    ck_assert_msg(strstr(err.text, "one vector alone"), "%s", err.text);
    tacit_vectors_close(&v);
    matrix_put(npy, x, 0, 2);
    no_set(npy, TACIT_EINVAL, "is empty");
    matrix_put(npy, x, 2, 0);
    no_set(npy, TACIT_EINVAL, "is empty");
    array_put(npy, TACIT_F32, (const uint64_t[]){ 2, 2, 3 }, 3, x);
    no_set(npy, TACIT_EUNSUPPORTED, "has 3 dimensions");
    array_put(npy, TACIT_F64, (const uint64_t[]){ 2, 3 }, 2, x);
    no_set(npy, TACIT_EUNSUPPORTED, "holds F64, not F32 or F16");
    no_set(scratch("nowhere"), TACIT_EIO, "nowhere");
    no_set(scratch_folder, TACIT_EIO, "embeddings.npy");
    no_set(golden("containers/objects.npy"), TACIT_EUNSUPPORTED, "Python objects");
    mkdir(scratch("half"), 0777);
    file_put(scratch("half/run.json"), "{}", 2);
    no_set(scratch("half"), TACIT_EINVAL, "holds an unfinished run");
    file_put(scratch("half/meta.json"), "{", 1);
    unlink(scratch("half/run.json"));
    no_set(scratch("half"), TACIT_EFORMAT, "meta.json");
}
END_TEST

START_TEST(sets_of_two_models_do_not_mix)
{
    float x[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    tacit_vectors a, b;
    static const char *const meta[] = {
        "{\"model\":{\"arch\":\"s\",\"weights_xxh3\":\"1\",\"weights\":\"p\"},\"dim\":2,"
        "\"input\":{\"path\":\"x\"}}",
        "{\"model\":{\"arch\":\"s\",\"weights_xxh3\":\"1\",\"weights\":\"q\"},\"dim\":2,"
        "\"input\":{\"path\":\"y\"}}",
        "{\"model\":{\"arch\":\"s\",\"weights_xxh3\":\"2\",\"weights\":\"p\"},\"dim\":2,"
        "\"input\":{\"path\":\"x\"}}",
    };
    folder_put(scratch("a"), x, 4, 2, parity);
    folder_put(scratch("b"), x, 4, 2, parity);
    file_put(scratch("a/meta.json"), meta[0], strlen(meta[0]));
    for (size_t i = 1; i < 3; i++) {
        file_put(scratch("b/meta.json"), meta[i], strlen(meta[i]));
        open_set(&a, scratch("a"));
        open_set(&b, scratch("b"));
        tacit_status st = tacit_vectors_match(&a, &b, &err);
        ck_assert_int_eq(st, i == 1 ? TACIT_OK : TACIT_ECONFLICT);
        ck_assert_msg(i == 1 || strstr(err.text, "model.weights_xxh3"), "%s", err.text);
        json_t *json = tacit_vectors_json(&b);
        ck_assert_str_eq(
            json_string_value(json_object_get(
                json_object_get(json_object_get(json, "meta"), "model"), "weights_xxh3")),
            i == 1 ? "1" : "2");
        json_decref(json);
        tacit_vectors_close(&a);
        tacit_vectors_close(&b);
    }
}
END_TEST

/* ---- memory */

static tacit_status whole_way(const char *base_path, const char *query_path)
{
    const size_t ks[] = { 3, 10 };
    tacit_vectors base = { 0 }, query = { 0 };
    tacit_labels labels = { 0 }, truth = { 0 };
    tacit_knn *knn = NULL;
    tacit_knn_score scores[2];
    tacit_status st = tacit_vectors_open(&base, base_path, best(), NULL, &err);
    if (st == TACIT_OK)
        st = tacit_vectors_open(&query, query_path, best(), NULL, &err);
    if (st == TACIT_OK)
        st = tacit_labels_open(&labels, NULL, &base, &err);
    if (st == TACIT_OK)
        st = tacit_labels_open(&truth, NULL, &query, &err);
    if (st == TACIT_OK)
        st = tacit_labels_match(&truth, &labels, &err);
    if (st == TACIT_OK)
        st = tacit_knn_open(&knn, &base, &query, 10, best(), NULL, &err);
    if (st == TACIT_OK)
        st = tacit_knn_classify(knn, &labels, &truth, ks, 2, 0.07, scores, NULL, NULL, NULL, &err);
    if (st == TACIT_OK) {
        st = tacit_score_write(&scores[0].weighted, scratch("m.tsv"), &err);
        tacit_knn_scores_close(scores, 2);
    }
    tacit_knn_close(&knn);
    tacit_labels_close(&labels);
    tacit_labels_close(&truth);
    tacit_vectors_close(&base);
    tacit_vectors_close(&query);
    return st;
}

START_TEST(every_allocation_fails_once)
{
    float *x = numbers(30, 4, 1, 1);
    folder_put(scratch("base"), x, 30, 4, parity);
    folder_put(scratch("query"), x + 40, 20, 4, parity);
    tacit_status st = TACIT_ENOMEM;
    uint64_t n = 1;
    for (; st != TACIT_OK; n++) {
        tacit_alloc_fail_at(n, false);
        st = whole_way(scratch("base"), scratch("query"));
        tacit_alloc_fail_at(0, false);
        ck_assert_msg(st == TACIT_OK || st == TACIT_ENOMEM, "%llu: %s", (unsigned long long)n,
                      err.text);
    }
    ck_assert_uint_gt(n, 40);
    free(x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("knn");
    TCase *t = tcase_create("knn");
    tcase_add_unchecked_fixture(t, setup, scratch_close);
    tcase_set_timeout(t, 0);
    tcase_add_test(t, nearest_of_all);
    tcase_add_test(t, queries_in_turns);
    tcase_add_test(t, half_precision_is_what_it_stands_for);
    tcase_add_test(t, real_pixels);
    tcase_add_test(t, votes_of_neighbours);
    tcase_add_test(t, scores_of_a_set);
    tcase_add_test(t, labels_of_all_kinds);
    tcase_add_test(t, labels_match_by_name);
    tcase_add_test(t, vectors_that_are_none);
    tcase_add_test(t, sets_of_two_models_do_not_mix);
    tcase_add_test(t, every_allocation_fails_once);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
