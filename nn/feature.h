/* feature.h - which of a network's outputs an image's vector is made of. */
#ifndef TACIT_FEATURE_H
#define TACIT_FEATURE_H

typedef enum tacit_features {
    TACIT_FEATURES_CLS,      /* class token after the final norm: (D)                            */
    TACIT_FEATURES_MEAN,     /* mean of the patch tokens after the norm, or of the last map of a
                                convolutional network: (D)                                       */
    TACIT_FEATURES_CLS_MEAN, /* the two, one after the other: (2 D)                              */
    TACIT_FEATURES_PATCH,    /* patch tokens after the norm, raster order: (h, w, D)             */
    TACIT_FEATURES_LAST4,    /* class tokens of the last 4 blocks, first block first, each after
                                the final norm: (4 D)                                            */
} tacit_features;

#endif
