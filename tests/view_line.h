/* view_line.h - one view and its draws as a line of text, as golden/make_views.py writes it:
 *
 *     size filter left top width height flip jitters b c s h gray sigma threshold
 *
 * filter is 0 (bilinear) or 1 (bicubic), jitters the operations' digits in their order or "-",
 * sigma
 * "-" without a blur, threshold "-" without solarising. */
#ifndef TACIT_TESTS_VIEW_LINE_H
#define TACIT_TESTS_VIEW_LINE_H

#include "views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number of characters read, 0 where it is no such line. */
static inline int view_line(const char *line, tacit_view *view, tacit_view_draws *d)
{
    unsigned filter, flip, gray;
    char jitters[8], sigma[32], threshold[32];
    int end = 0;
    *view = tacit_view_plain(0);
    *d = (tacit_view_draws){ 0 };
    if (sscanf(line, "%u %u %u %u %u %u %u %7s %f %f %f %f %u %31s %31s%n", &view->size, &filter,
               &d->left, &d->top, &d->width, &d->height, &flip, jitters, &d->factor[0],
               &d->factor[1], &d->factor[2], &d->factor[3], &gray, sigma, threshold, &end) != 15)
        return 0;
    view->filter = filter ? TACIT_FILTER_BICUBIC : TACIT_FILTER_BILINEAR;
    d->flip = flip;
    d->gray = gray;
    for (const char *c = jitters; *c != '-' && *c && d->jitters < 4; c++)
        d->jitter[d->jitters++] = (uint8_t)(*c - '0');
    d->blur = *sigma != '-';
    d->sigma = d->blur ? strtof(sigma, NULL) : 0;
    d->solarise = *threshold != '-';
    if (d->solarise)
        view->threshold = (unsigned)strtoul(threshold, NULL, 10);
    return end;
}

#endif
