/* dialect.h - other people's checkpoints in canonical form.
 *
 * The same network is written under a dozen naming schemes, inside wrappers, with its q, k and v
 * split or fused. A dialect is a table of rules; the one that explains the tensors is found by
 * looking at them. What comes out is a source of canonically named tensors, which reads through to
 * the file, and what was published with it: sizes, preprocessing, feature.
 *
 * Every tensor of the file is accounted for: used, known to be unneeded, or unknown, which is an
 * error unless partial loading was asked for. So is every tensor that the network wants.
 */
#ifndef TACIT_DIALECT_H
#define TACIT_DIALECT_H

#include "backbone.h"

/* The pixels that the authors evaluate with. */
typedef struct tacit_published {
    bool squash;     /* both sides to the input's size, whatever the aspect; no crop */
    bool tensor;     /* torch's antialiased resize of a float tensor, not Pillow's   */
    bool tensor_u8;  /* torch's antialiased resize of a uint8 tensor                 */
    double ratio;    /* shorter side = floor(input * ratio), then a centre crop      */
    bool floor_crop; /* half of an odd difference is cut down: transformers         */
    const char *filter;
    float mean[3], std[3];
} tacit_published;

/* What a config.json or preprocessor_config.json beside the file says; 0 and NULL: nothing. */
typedef struct tacit_hints {
    const char *model_type; /* transformers': "dinov2", "vit", ...; timm's architecture */
    bool timm;              /* timm wrote the file                                      */
    unsigned heads, patch;
    unsigned size[2]; /* height and width of the input */
    float eps;
    const char *activation; /* "gelu", "quick_gelu" */
} tacit_hints;

typedef struct tacit_dialect_options {
    const char *arch;           /* timm's name; NULL: what the tensors say */
    const char *checkpoint_key; /* prefix to descend into, such as "teacher"; NULL: found */
    bool allow_partial;
    tacit_hints hints;
} tacit_dialect_options;

typedef enum tacit_use {
    TACIT_USE_UNKNOWN,
    TACIT_USE_USED,
    TACIT_USE_UNNEEDED, /* a head, a decoder, a text tower, an optimizer's state ... */
} tacit_use;

typedef struct tacit_dialect {
    const char *name; /* "timm", "DINOv2", "transformers Dinov2Model", ...           */
    char prefix[128]; /* the wrappers that were descended into: "teacher.backbone."  */
    char note[256];   /* one line on what had to be chosen; empty: nothing           */
    tacit_backbone_config config;
    tacit_features features; /* the published default */
    tacit_published published;
    tacit_tensor_source source; /* canonical; lives as long as this and the raw source */
    uint8_t *use;               /* tacit_use of each raw tensor */
    const char **missing;       /* canonical names that the file has not, NULL at the end */
    void *state;
} tacit_dialect;

/* Explains raw. What cannot be explained is TACIT_EUNSUPPORTED; unknown and missing tensors are
 * TACIT_EINVAL and named, unless allow_partial. Where it fails for that reason, `dialect` still
 * holds what was found (so that a command can show it) and must be closed; a missing tensor that
 * is allowed reads as zeros (ones for the gain of a norm). */
tacit_status tacit_dialect_open(tacit_dialect *dialect, const tacit_tensor_source *raw,
                                const tacit_dialect_options *options, tacit_err *err);
void tacit_dialect_close(tacit_dialect *dialect);

#endif
