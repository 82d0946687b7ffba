/* attention_int8.c - attention.c with both of its products in 8 bits. See kernels_int8.h. */
#define TACIT_DOT 0
#include "attention.h"
#include "simd_int8.h"

/* Rows of keys to the panels of gemm_u8s8; row: room for one in bytes. */
static void pack_keys(size_t tokens, size_t dim, const float *k, size_t ld, uint8_t *row,
                      int8_t *packed, float *scale, int32_t *minus)
{
    const size_t nr = TACIT_INT8_NR, groups = TACIT_INT8_GROUPS(dim);
    for (size_t t = 0; t < (tokens + nr - 1) / nr * nr; t++) {
        int8_t *to = packed + t / nr * nr * 4 * groups + t % nr * 4;
        int32_t sum = 0;
        scale[t] = 0;
        if (t < tokens) {
            TACIT_NAME(tacit_quantise_u8)
            (1, dim, k + t * ld, ld, TACIT_INT8_MIDDLE, row, 4 * groups, scale + t);
        } else {
            memset(row, TACIT_INT8_MIDDLE, 4 * groups);
        }
        for (size_t i = 0; i < 4 * groups; i++)
            sum += row[i] - 128;
        minus[t] = 128 * sum;
        for (size_t p = 0; p < groups; p++) {
            uint32_t group;
            memcpy(&group, row + 4 * p, sizeof group);
            group ^= 0x80808080; /* 128 less each */
            memcpy(to + p * 4 * nr, &group, sizeof group);
        }
    }
}

/* 1 / scale of each column of values (tokens, dim), and the scale. Both have room for whole
 * vectors. */
static void measure_columns(size_t tokens, size_t dim, const float *v, size_t ld, float *inverse,
                            float *scale)
{
    for (size_t j = 0; j < dim; j += VF) {
        size_t left = VF_LEFT(dim, j);
        vf most = vf_zero();
        for (size_t t = 0; t < tokens; t++)
            most = vf_max(most, absolute(load_left(v + t * ld + j, left)));
        vf_store(inverse + j, most);
        for (size_t i = j; i < j + VF; i++) {
            float largest = inverse[i];
            inverse[i] = tacit_int8_inverse(largest);
            scale[i] = tacit_int8_scale(largest);
        }
    }
}

/* Columns of values to the panels of gemm_u8s8, as rows of weights over the tokens. */
static void pack_values(size_t tokens, size_t dim, const float *v, size_t ld, float *inverse,
                        int8_t *packed, float *scale, int32_t *minus)
{
    const size_t groups = TACIT_INT8_GROUPS(tokens);
    measure_columns(tokens, dim, v, ld, inverse, scale);
    for (size_t j = 0; j < dim; j += VF) {
        size_t left = VF_LEFT(dim, j);
        vf factor = vf_load(inverse + j);
        int32_t sums[VF] = { 0 };
        for (size_t p = 0; p < groups; p++) {
            uint8_t bytes[4][VF];
            uint32_t group[VF];
            for (size_t t = 4 * p; t < 4 * p + 4; t++)
                vf_store_bytes(
                    bytes[t % 4],
                    to_bytes(t < tokens ? load_left(v + t * ld + j, left) : vf_zero(), factor));
            for (size_t i = 0; i < VF; i++) {
                group[i] = (bytes[0][i] | (uint32_t)bytes[1][i] << 8 | (uint32_t)bytes[2][i] << 16 |
                            (uint32_t)bytes[3][i] << 24) ^
                           0x80808080; /* 128 less each */
                sums[i] += bytes[0][i] + bytes[1][i] + bytes[2][i] + bytes[3][i] - 4 * 128;
            }
            memcpy(packed + (j * groups + p * VF) * 4, group, sizeof group);
        }
        for (size_t i = 0; i < VF; i++)
            minus[j + i] = 128 * sums[i];
    }
}

/* n exponentials as whole numbers of 14 bits, 128 high + low, both as bytes in whole groups. */
static void split_row(size_t n, const float *e, uint8_t *high, uint8_t *low)
{
    const vf magic = vf_set1(12582912); /* 1.5 x 2^23: what it is added to is rounded */
    for (size_t i = 0; i < n; i += WIDE) {
        vf h[4], l[4];
        for (size_t v = 0, at = i; v < 4; v++, at += VF) {
            vf x = at < n ? load_left(e + at, VF_LEFT(n, at)) : vf_zero();
            x = vf_mul(x, vf_set1(TACIT_INT8_EXP));
            x = vf_min(vf_set1(TACIT_INT8_EXP), vf_max(x, vf_zero()));
            x = vf_sub(vf_add(x, magic), magic);
            /* x / 128 less half of the steps between: to the next lower whole number */
            h[v] = vf_fma(x, vf_set1(1.0f / 128), vf_set1(-63.5f / 128));
            h[v] = vf_sub(vf_add(h[v], magic), magic);
            l[v] = vf_fma(h[v], vf_set1(-128), x);
        }
        if (i + WIDE <= n) {
            vf_store_rounded(high + i, h, 0);
            vf_store_rounded(low + i, l, 0);
        } else {
            uint8_t some[2][WIDE];
            vf_store_rounded(some[0], h, 0);
            vf_store_rounded(some[1], l, 0);
            memcpy(high + i, some[0], 4 * TACIT_INT8_GROUPS(n - i));
            memcpy(low + i, some[1], 4 * TACIT_INT8_GROUPS(n - i));
        }
    }
}

/* Exponentials that come to much together as bytes. */
static void round_exponentials(size_t n, const float *e, uint8_t *q)
{
    for (size_t i = 0; i < n; i += WIDE) {
        vf x[4];
        for (size_t v = 0, at = i; v < 4; v++, at += VF) {
            x[v] = at < n ? load_left(e + at, VF_LEFT(n, at)) : vf_zero();
            x[v] = vf_mul(x[v], vf_set1(255));
            x[v] = vf_min(vf_set1(255), vf_max(x[v], vf_zero()));
        }
        if (i + WIDE <= n) {
            vf_store_rounded(q + i, x, 0);
        } else {
            uint8_t some[WIDE];
            vf_store_rounded(some, x, 0);
            memcpy(q + i, some, 4 * TACIT_INT8_GROUPS(n - i));
        }
    }
}

void TACIT_NAME(tacit_attention_u8s8)(size_t rows, size_t tokens, size_t dim, const float *q,
                                      const float *k, const float *v, size_t ld, float scale,
                                      const float *bias, size_t ldb, float *out, size_t ldo,
                                      float *scratch)
{
    const size_t width = (tokens + VF - 1) / VF * VF, columns = (dim + VF - 1) / VF * VF;
    const size_t ldq = 4 * TACIT_INT8_GROUPS(dim), ldp = 4 * TACIT_INT8_GROUPS(tokens);
    float *scores = scratch;
    float *parts = scores + TACIT_MR * width; /* of the outputs: from high and from low */
    float *key_scale = parts + 2 * TACIT_MR * columns, *value_scale = key_scale + width;
    float *inverse = value_scale + columns;
    int32_t *key_minus = (int32_t *)(void *)(inverse + columns), *value_minus = key_minus + width;
    int8_t *keys = (int8_t *)(value_minus + columns), *values = keys + width * ldq;
    uint8_t *queries = (uint8_t *)values + columns * ldp; /* and a row of keys before */
    uint8_t *weights = queries + TACIT_MR * ldq;
    float query_scale[TACIT_MR], sums[TACIT_MR], part_scale[2 * TACIT_MR];
    pack_keys(tokens, dim, k, ld, queries, keys, key_scale, key_minus);
    pack_values(tokens, dim, v, ld, inverse, values, value_scale, value_minus);

    size_t tiles = (rows + TACIT_MR - 1) / TACIT_MR, count;
    for (size_t i = 0; i < rows; i += count) {
        count = even_rows(rows - i, tiles--);
        TACIT_NAME(tacit_quantise_u8)
        (count, dim, q + i * ld, ld, TACIT_INT8_MIDDLE, queries, ldq, query_scale);
        TACIT_NAME(tacit_gemm_u8s8)
        (count, tokens, dim, queries, ldq, query_scale, TACIT_INT8_MIDDLE, keys, key_scale,
         key_minus, scores, width, NULL);
        exp_scores(count, tokens, scores, width, scale, bias ? bias + i * ldb : NULL, ldb, sums);
        size_t parted = 0, part_of[TACIT_MR + 1];
        for (size_t r = 0; r < count; r++) {
            const float *e = scores + r * width;
            uint8_t *row = weights + parted * ldp;
            part_of[r] = parted;
            if (tacit_int8_spread(tokens, sums[r])) {
                round_exponentials(tokens, e, row);
                part_scale[parted++] = TACIT_INT8_EXP / 255;
            } else {
                split_row(tokens, e, row, row + ldp);
                part_scale[parted++] = 128;
                part_scale[parted++] = 1;
            }
        }
        part_of[count] = parted;
        TACIT_NAME(tacit_gemm_u8s8)
        (parted, dim, tokens, weights, ldp, part_scale, 0, values, value_scale, value_minus, parts,
         columns, NULL);
        for (size_t r = 0; r < count; r++) {
            const float *part = parts + part_of[r] * columns;
            bool two = part_of[r + 1] - part_of[r] > 1;
            vf factor = vf_set1(sums[r] * (1 / TACIT_INT8_EXP));
            for (size_t j = 0; j < dim; j += VF) {
                vf y = vf_load(part + j);
                if (two)
                    y = vf_add(y, vf_load(part + columns + j));
                y = vf_mul(y, factor);
                float *to = out + (i + r) * ldo + j;
                if (VF_LEFT(dim, j) == VF)
                    vf_store(to, y);
                else
                    vf_store_n(to, y, VF_LEFT(dim, j));
            }
        }
    }
}
