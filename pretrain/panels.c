/* panels.c - see panels.h. */
#include "panels.h"

#include "backbone_file.h"

tacit_panels tacit_panels_of(const tacit_config *config, size_t size, size_t patch)
{
    tacit_panels panels = { .size = size, .patch = patch };
    tacit_normalisation(config, panels.mean, panels.std);
    return panels;
}

void tacit_panel_image(const tacit_panels *p, const float *image, float *panel)
{
    size_t plane = p->size * p->size;
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < plane; i++)
            panel[c * plane + i] = image[c * plane + i] * p->std[c] + p->mean[c];
}

/* A patch's first pixel in plane c. */
static float *corner(const tacit_panels *p, size_t index, size_t c, float *panel)
{
    size_t side = p->size / p->patch;
    return panel + (c * p->size + index / side * p->patch) * p->size + index % side * p->patch;
}

void tacit_panel_patch(const tacit_panels *p, size_t index, const float *pixels, float *panel)
{
    for (size_t c = 0; c < 3; c++) {
        float *to = corner(p, index, c, panel);
        for (size_t y = 0; y < p->patch; y++, to += p->size)
            for (size_t x = 0; x < p->patch; x++)
                to[x] = pixels[(y * p->patch + x) * 3 + c] * p->std[c] + p->mean[c];
    }
}

void tacit_panel_grey(const tacit_panels *p, size_t index, float grey, float *panel)
{
    for (size_t c = 0; c < 3; c++) {
        float *to = corner(p, index, c, panel);
        for (size_t y = 0; y < p->patch; y++, to += p->size)
            for (size_t x = 0; x < p->patch; x++)
                to[x] = grey;
    }
}

void tacit_panel_gradients(const tacit_panels *p, size_t index, size_t cell, const float *values,
                           float *panel)
{
    /* of (k + 1/2) pi / 9, the middle of bin k: its direction is (sin, cos) */
    static const float sine[] = { 0.17364818f, 0.5f,        0.76604444f, 0.93969262f, 1,
                                  0.93969262f, 0.76604444f, 0.5f,        0.17364818f };
    static const float cosine[] = { 0.98480775f,  0.8660254f,   0.64278761f, 0.34202014f, 0,
                                    -0.34202014f, -0.64278761f, -0.8660254f, -0.98480775f };
    size_t n = p->patch / cell;
    float middle = 0.5f * (float)(cell - 1);
    for (size_t c = 0; c < 3; c++) {
        float *to = corner(p, index, c, panel);
        for (size_t y = 0; y < p->patch; y++, to += p->size)
            for (size_t x = 0; x < p->patch; x++) {
                const float *bins = values + c * 9 * n * n + y / cell * n + x / cell;
                float dx = (float)(x % cell) - middle, dy = (float)(y % cell) - middle, sum = 0;
                for (size_t k = 0; k < 9; k++) {
                    float off = dx * sine[k] + dy * cosine[k], near = 1 - (off < 0 ? -off : off);
                    sum += near > 0 ? near * bins[k * n * n] : 0;
                }
                to[x] = sum;
            }
    }
}
