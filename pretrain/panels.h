/* panels.h - from what a network takes and predicts to what a person sees.
 *
 * A panel is planar RGB (3, size, size), values from 0 to 1. Patches are counted row by row; a
 * patch of a network's is (3 patch^2) in the order (row, column, channel).
 */
#ifndef TACIT_PANELS_H
#define TACIT_PANELS_H

#include "config.h"

typedef struct tacit_panels {
    size_t size, patch;    /* height and width */
    float mean[3], std[3]; /* that the network's pixels are normalised by */
} tacit_panels;

/* By the setting `normalise`. */
tacit_panels tacit_panels_of(const tacit_config *config, size_t size, size_t patch);

/* A whole image as the network has it, (3, size, size). */
void tacit_panel_image(const tacit_panels *panels, const float *image, float *panel);
/* Patch `index` of a panel, from pixels as the network has them. */
void tacit_panel_patch(const tacit_panels *panels, size_t index, const float *pixels, float *panel);
/* Patch `index` of a panel as the edges that its histograms tell (loss_hog.h has the order of their
 * values): in each cell a line through its middle for each bin, across the bin's direction and as
 * bright as the bin is large, in the channel's colour. */
void tacit_panel_gradients(const tacit_panels *panels, size_t index, size_t cell,
                           const float *values, float *panel);
/* Patch `index` of a panel in one grey, 0 to 1. */
void tacit_panel_grey(const tacit_panels *panels, size_t index, float grey, float *panel);

#endif
