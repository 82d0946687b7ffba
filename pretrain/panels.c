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
