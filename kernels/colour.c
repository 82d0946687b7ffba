/* colour.c - colour and blur of bytes over the vocabulary. Compiled once for each ISA.
 *
 * Whole numbers below 2^24 are exact in floats, and so is what is done to them here but where the
 * definition rounds.
 */
#include "isa.h"
#include "simd_u8.h"

/* n from 1 to 16 */
TACIT_INLINE vf load_n(const uint8_t *p, size_t n)
{
    uint8_t whole[VF] = { 0 };
    if (n == VF)
        return vf_from_u8(p);
    memcpy(whole, p, n);
    return vf_from_u8(whole);
}

TACIT_INLINE void store_n(uint8_t *p, vf x, size_t n)
{
    uint8_t whole[VF];
    if (n == VF) {
        vf_to_u8(p, x);
        return;
    }
    vf_to_u8(whole, x);
    memcpy(p, whole, n);
}

/* The sum of what is stored in the lanes; the others are 0. */
TACIT_INLINE vf luma(const uint8_t *x, size_t ldx, uint8_t *y, size_t n)
{
    vf v = vf_fma(load_n(x, n), vf_set1(19595), vf_set1(32768));
    v = vf_fma(load_n(x + ldx, n), vf_set1(38470), v);
    v = vf_fma(load_n(x + 2 * ldx, n), vf_set1(7471), v);
    v = vf_trunc(vf_mul(v, vf_set1(0x1p-16f)));
    store_n(y, v, n);
    return v;
}

uint64_t TACIT_NAME(tacit_luma_u8)(size_t n, const uint8_t *x, size_t ldx, uint8_t *y)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n;) {
        size_t end = n - i < 1 << 16 ? n : i + (1 << 16); /* the sum of the lanes is below 2^24 */
        vf sum = vf_zero();
        for (; i + VF <= end; i += VF)
            sum = vf_add(sum, luma(x + i, ldx, y + i, VF));
        if (i < end) {
            sum = vf_add(sum, luma(x + i, ldx, y + i, end - i));
            i = end;
        }
        total += (uint64_t)vf_sum(sum);
    }
    return total;
}

TACIT_INLINE void blend(const uint8_t *x, vf from, vf factor, uint8_t *y, size_t n)
{
    vf v = vf_add(from, vf_mul(factor, vf_sub(load_n(x, n), from)));
    store_n(y, vf_min(vf_max(v, vf_zero()), vf_set1(255)), n);
}

void TACIT_NAME(tacit_blend_u8)(size_t n, const uint8_t *x, const uint8_t *from, uint8_t d,
                                float factor, uint8_t *y)
{
    vf f = vf_set1(factor), one = vf_set1(d);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        blend(x + i, from ? vf_from_u8(from + i) : one, f, y + i, VF);
    if (i < n)
        blend(x + i, from ? load_n(from + i, n - i) : one, f, y + i, n - i);
}

TACIT_INLINE void hue_channel(vf high, vf s, vf w, uint8_t *y, size_t n)
{
    w = vf_min(vf_max(w, vf_zero()), vf_set1(255));
    vf v = vf_fma(vf_sub(vf_zero(), high), vf_mul(s, w), vf_add(high, vf_set1(0.5f)));
    store_n(y, v, n);
}

TACIT_INLINE void hue(vf shift, const uint8_t *x, size_t ldx, uint8_t *y, size_t ldy, size_t n)
{
    vf zero = vf_zero(), one = vf_set1(1), minus = vf_set1(-1), three = vf_set1(3);
    vf r = load_n(x, n), g = load_n(x + ldx, n), b = load_n(x + 2 * ldx, n);
    vf high = vf_max(vf_max(r, g), b), range = vf_sub(high, vf_min(vf_min(r, g), b));
    /* high - middle, the middle being r + g + b - high - (high - range) */
    vf away = vf_sub(vf_sub(vf_fma(high, three, vf_sub(zero, range)), vf_add(r, g)), b);
    vf share = vf_div(away, vf_max(range, one));
    vf sign_r = vf_if_gt(b, g, one, minus), c_r = vf_if_gt(b, g, minus, one);
    vf sign_g = vf_if_gt(b, r, minus, one), c_g = vf_if_gt(b, r, three, one);
    vf sign_b = vf_if_gt(r, g, minus, one), c_b = vf_if_gt(r, g, vf_set1(5), three);
    vf sign = vf_if_gt(high, r, vf_if_gt(high, g, sign_b, sign_g), sign_r);
    vf c = vf_if_gt(high, r, vf_if_gt(high, g, c_b, c_g), c_r);
    vf h = vf_over(vf_fma(sign, share, c), vf_set1(-6), vf_set1(1.0f / 6));
    h = vf_trunc(vf_mul(vf_if_gt(zero, h, vf_add(h, one), h), vf_set1(255)));
    vf s = vf_trunc(vf_mul(vf_div(range, vf_max(high, one)), vf_set1(255)));
    h = vf_add(h, shift);
    vf six = vf_mul(vf_if_gt(h, vf_set1(255), vf_sub(h, vf_set1(256)), h), vf_set1(6));
    s = vf_mul(s, vf_set1(1.0f / 65025));
    hue_channel(high, s, vf_min(vf_sub(six, vf_set1(255)), vf_sub(vf_set1(1275), six)), y, n);
    hue_channel(high, s, vf_max(vf_sub(vf_set1(255), six), vf_sub(six, vf_set1(765))), y + ldy, n);
    hue_channel(high, s, vf_max(vf_sub(vf_set1(765), six), vf_sub(six, vf_set1(1275))), y + 2 * ldy,
                n);
}

void TACIT_NAME(tacit_hue_u8)(size_t n, unsigned shift, const uint8_t *x, size_t ldx, uint8_t *y,
                              size_t ldy)
{
    vf more = vf_set1((float)shift);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        hue(more, x + i, ldx, y + i, ldy, VF);
    if (i < n)
        hue(more, x + i, ldx, y + i, ldy, n - i);
}

TACIT_INLINE void solarise(vf threshold, const uint8_t *x, uint8_t *y, size_t n)
{
    vf v = load_n(x, n);
    store_n(y, vf_if_gt(threshold, v, v, vf_sub(vf_set1(255), v)), n);
}

void TACIT_NAME(tacit_solarise_u8)(size_t n, unsigned threshold, const uint8_t *x, uint8_t *y)
{
    vf t = vf_set1((float)threshold);
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        solarise(t, x + i, y + i, VF);
    if (i < n)
        solarise(t, x + i, y + i, n - i);
}

TACIT_INLINE vw load_words(const uint8_t *p, size_t n)
{
    uint8_t whole[VF] = { 0 };
    if (n == VF)
        return vw_from_u8(p);
    memcpy(whole, p, n);
    return vw_from_u8(whole);
}

/* Up to 16 columns, of which the sum of 2 radius + 1 rows is carried down. */
TACIT_INLINE void blur_columns(size_t rows, const tacit_box *box, const uint8_t *x, size_t ldx,
                               uint8_t *y, size_t ldy, size_t n)
{
    size_t r = box->radius, last = rows - 1;
    vw whole = vw_set1(box->whole), part = vw_set1(box->part), half = vw_set1(1u << 23);
    vw before = load_words(x, n), sum = vw_mul(before, vw_set1((uint32_t)r + 1));
    for (size_t k = 1; k <= r; k++)
        sum = vw_add(sum, load_words(x + (k < last ? k : last) * ldx, n));
    for (size_t i = 0; i < rows; i++) {
        vw after = load_words(x + (last - i > r + 1 ? i + r + 1 : last) * ldx, n);
        vw v = vw_add(vw_mul(sum, whole), vw_mul(vw_add(before, after), part));
        v = vw_top(vw_add(v, half));
        if (n == VF)
            vw_to_u8(y + i * ldy, v);
        else {
            uint8_t bytes[VF];
            vw_to_u8(bytes, v);
            memcpy(y + i * ldy, bytes, n);
        }
        before = load_words(x + (i > r ? i - r : 0) * ldx, n);
        sum = vw_add(sum, vw_sub(after, before));
    }
}

void TACIT_NAME(tacit_box_blur_u8)(size_t rows, size_t n, const tacit_box *box, const uint8_t *x,
                                   size_t ldx, uint8_t *y, size_t ldy)
{
    size_t j = 0;
    if (!rows)
        return;
    for (; j + VF <= n; j += VF)
        blur_columns(rows, box, x + j, ldx, y + j, ldy, VF);
    if (j < n)
        blur_columns(rows, box, x + j, ldx, y + j, ldy, n - j);
}
