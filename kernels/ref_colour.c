/* ref_colour.c - what the kernels of colour and blur compute, in plain C. */
#include "isa.h"

#include <math.h>

uint64_t tacit_luma_u8_ref(size_t n, const uint8_t *x, size_t ldx, uint8_t *y)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        y[i] = (uint8_t)((19595u * x[i] + 38470u * x[ldx + i] + 7471u * x[2 * ldx + i] + 32768u) >>
                         16);
        sum += y[i];
    }
    return sum;
}

void tacit_blend_u8_ref(size_t n, const uint8_t *x, const uint8_t *from, uint8_t d, float factor,
                        uint8_t *y)
{
    for (size_t i = 0; i < n; i++) {
        int base = from ? from[i] : d;
        float v = (float)base + factor * (float)(x[i] - base);
        y[i] = (uint8_t)(v <= 0 ? 0 : v >= 255 ? 255 : v);
    }
}

static float clip(float x)
{
    return x < 0 ? 0 : x > 255 ? 255 : x;
}

static float most(float a, float b)
{
    return a > b ? a : b;
}

static float least(float a, float b)
{
    return a < b ? a : b;
}

void tacit_hue_u8_ref(size_t n, unsigned shift, const uint8_t *x, size_t ldx, uint8_t *y,
                      size_t ldy)
{
    for (size_t i = 0; i < n; i++) {
        float r = x[i], g = x[ldx + i], b = x[2 * ldx + i];
        float high = most(most(r, g), b), low = least(least(r, g), b), h = 0, s = 0;
        if (high > low) {
            float m = (high - (r + g + b - high - low)) / (high - low);
            if (r == high)
                h = b > g ? fmaf(1, m, -1) : fmaf(-1, m, 1);
            else if (g == high)
                h = b > r ? fmaf(-1, m, 3) : fmaf(1, m, 1);
            else
                h = r > g ? fmaf(-1, m, 5) : fmaf(1, m, 3);
            h /= 6;
            h = truncf((h < 0 ? h + 1 : h) * 255);
            s = truncf((high - low) / high * 255);
        }
        float six = (float)(6 * (((unsigned)h + shift) & 255));
        const float w[3] = { least(six - 255, 1275 - six), most(255 - six, six - 765),
                             most(765 - six, six - 1275) };
        for (size_t c = 0; c < 3; c++)
            y[c * ldy + i] = (uint8_t)fmaf(-high, s * (1.0f / 65025) * clip(w[c]), high + 0.5f);
    }
}

void tacit_solarise_u8_ref(size_t n, unsigned threshold, const uint8_t *x, uint8_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] < threshold ? x[i] : (uint8_t)(255 - x[i]);
}

void tacit_box_blur_u8_ref(size_t rows, size_t n, const tacit_box *box, const uint8_t *x,
                           size_t ldx, uint8_t *y, size_t ldy)
{
    size_t r = box->radius, last = rows - 1;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            uint32_t sum = 0, ends = 0;
            for (size_t k = 0; k <= 2 * r + 2; k++) { /* row i + k - r - 1 */
                size_t at = i + k < r + 1 ? 0 : i + k - r - 1 > last ? last : i + k - r - 1;
                *(k == 0 || k == 2 * r + 2 ? &ends : &sum) += x[at * ldx + j];
            }
            y[i * ldy + j] = (uint8_t)((sum * box->whole + ends * box->part + (1u << 23)) >> 24);
        }
}
