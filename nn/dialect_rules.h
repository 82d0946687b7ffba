/* dialect_rules.h - the tables of dialect.c: what each dialect calls the parts of a network.
 *
 * In a pattern, # is a number, #+1 or #-3 one that is counted otherwise, and a * at the end is any
 * rest without a dot; in the canonical name they stand for the same. Rules are tried in order.
 * Names are those of the code that writes the files: github.com/huggingface/pytorch-image-models
 * (vision_transformer.py, eva.py, beit.py),
 * facebookresearch/{dino,dinov2,dinov3,mae,ijepa,moco-v3,swav}, microsoft/unilm (beit, beit2),
 * microsoft/SimMIM, huggingface/transformers, pytorch/vision, mlfoundations/open_clip,
 * open-mmlab/mmpretrain.
 */
#ifndef TACIT_DIALECT_RULES_H
#define TACIT_DIALECT_RULES_H

enum part {
    WHOLE,
    Q, /* q, k and v follow each other in the rows of the canonical tensor; a missing k is zero */
    K,
    V,
    GATE, /* so do the halves of SwiGLU's first layer; without a gate it is one plain layer */
    UP,
    MASK,       /* multiplied with the whole */
    TRANSPOSED, /* stored (in, out) */
};

typedef struct rule {
    const char *from, *to; /* to NULL: the same */
    enum part part;
} rule;

/* timm's names, and what else is written by the many who follow them. */
static const rule timm_rules[] = {
    { "cls_token", NULL, WHOLE },
    { "pos_embed", NULL, WHOLE },
    { "reg_token", NULL, WHOLE },
    { "register_tokens", "reg_token", WHOLE }, /* DINOv2 */
    { "storage_tokens", "reg_token", WHOLE },  /* DINOv3 */
    { "rope_embed.periods", "rope.periods", WHOLE },
    { "patch_embed.proj.*", NULL, WHOLE },
    { "norm_pre.*", NULL, WHOLE },
    { "norm.*", NULL, WHOLE },
    { "fc_norm.*", NULL, WHOLE },
    { "rel_pos_bias.relative_position_bias_table", NULL, WHOLE },
    { "blocks.#.norm1.*", NULL, WHOLE },
    { "blocks.#.norm2.*", NULL, WHOLE },
    { "blocks.#.attn.qkv.bias_mask", "blocks.#.attn.qkv.bias", MASK },
    { "blocks.#.attn.qkv.*", NULL, WHOLE },
    { "blocks.#.attn.q_bias", "blocks.#.attn.qkv.bias", Q },
    { "blocks.#.attn.k_bias", "blocks.#.attn.qkv.bias", K },
    { "blocks.#.attn.v_bias", "blocks.#.attn.qkv.bias", V },
    { "blocks.#.attn.q_norm.*", NULL, WHOLE },
    { "blocks.#.attn.k_norm.*", NULL, WHOLE },
    { "blocks.#.attn.proj.*", NULL, WHOLE },
    { "blocks.#.attn.relative_position_bias_table", NULL, WHOLE },
    { "blocks.#.gamma_1", "blocks.#.ls1.gamma", WHOLE },
    { "blocks.#.gamma_2", "blocks.#.ls2.gamma", WHOLE },
    { "blocks.#.ls1.gamma", NULL, WHOLE },
    { "blocks.#.ls2.gamma", NULL, WHOLE },
    { "blocks.#.mlp.fc1.*", NULL, WHOLE },
    { "blocks.#.mlp.fc2.*", NULL, WHOLE },
    { "blocks.#.mlp.w12.*", "blocks.#.mlp.fc1.*", WHOLE }, /* DINOv2 */
    { "blocks.#.mlp.w1.*", "blocks.#.mlp.fc1.*", GATE },   /* DINOv3 */
    { "blocks.#.mlp.w2.*", "blocks.#.mlp.fc1.*", UP },
    { "blocks.#.mlp.w3.*", "blocks.#.mlp.fc2.*", WHOLE },
    { "blocks.#.mlp.fc1_g.*", "blocks.#.mlp.fc1.*", GATE }, /* timm's EVA */
    { "blocks.#.mlp.fc1_x.*", "blocks.#.mlp.fc1.*", UP },
    { NULL, NULL, WHOLE },
};

/* transformers: ViT, ViTMAE, IJepa, Beit, Dinov2, Dinov2WithRegisters, DINOv3ViT; as files have
 * them, and as the modules of version 5 are called. */
static const rule transformers_rules[] = {
    { "embeddings.cls_token", "cls_token", WHOLE },
    { "embeddings.position_embeddings", "pos_embed", WHOLE },
    { "embeddings.register_tokens", "reg_token", WHOLE },
    { "embeddings.patch_embeddings.projection.*", "patch_embed.proj.*", WHOLE },
    { "embeddings.patch_embeddings.*", "patch_embed.proj.*", WHOLE },
    { "layernorm.*", "norm.*", WHOLE },
    { "norm.*", "norm.*", WHOLE },
    { "pooler.layernorm.*", "fc_norm.*", WHOLE },
    { "encoder.relative_position_bias.relative_position_bias_table",
      "rel_pos_bias.relative_position_bias_table", WHOLE },
    { "shared_position_bias.relative_position_bias_table",
      "rel_pos_bias.relative_position_bias_table", WHOLE },
    { "#.layernorm_before.*", "blocks.#.norm1.*", WHOLE },
    { "#.layernorm_after.*", "blocks.#.norm2.*", WHOLE },
    { "#.norm1.*", "blocks.#.norm1.*", WHOLE },
    { "#.norm2.*", "blocks.#.norm2.*", WHOLE },
    { "#.attention.attention.query.*", "blocks.#.attn.qkv.*", Q },
    { "#.attention.attention.key.*", "blocks.#.attn.qkv.*", K },
    { "#.attention.attention.value.*", "blocks.#.attn.qkv.*", V },
    { "#.attention.q_proj.*", "blocks.#.attn.qkv.*", Q },
    { "#.attention.k_proj.*", "blocks.#.attn.qkv.*", K },
    { "#.attention.v_proj.*", "blocks.#.attn.qkv.*", V },
    { "#.attention.output.dense.*", "blocks.#.attn.proj.*", WHOLE },
    { "#.attention.o_proj.*", "blocks.#.attn.proj.*", WHOLE },
    { "#.attention.attention.relative_position_bias.relative_position_bias_table",
      "blocks.#.attn.relative_position_bias_table", WHOLE },
    { "#.relative_position_bias.relative_position_bias_table",
      "blocks.#.attn.relative_position_bias_table", WHOLE },
    { "#.lambda_1", "blocks.#.ls1.gamma", WHOLE },
    { "#.lambda_2", "blocks.#.ls2.gamma", WHOLE },
    { "#.layer_scale1.lambda1", "blocks.#.ls1.gamma", WHOLE },
    { "#.layer_scale2.lambda1", "blocks.#.ls2.gamma", WHOLE },
    { "#.intermediate.dense.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.output.dense.*", "blocks.#.mlp.fc2.*", WHOLE },
    { "#.mlp.fc1.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.mlp.fc2.*", "blocks.#.mlp.fc2.*", WHOLE },
    { "#.mlp.weights_in.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.mlp.weights_out.*", "blocks.#.mlp.fc2.*", WHOLE },
    { "#.mlp.gate_proj.*", "blocks.#.mlp.fc1.*", GATE },
    { "#.mlp.up_proj.*", "blocks.#.mlp.fc1.*", UP },
    { "#.mlp.down_proj.*", "blocks.#.mlp.fc2.*", WHOLE },
    { NULL, NULL, WHOLE },
};
/* What may stand before a block's number there. */
static const char *const transformers_layers[] = {
    "encoder.layer.", "encoder.layers.", "layers.", "layer.", "model.layer.", "encoder.", NULL
};

static const rule torchvision_rules[] = {
    { "class_token", "cls_token", WHOLE },
    { "encoder.pos_embedding", "pos_embed", WHOLE },
    { "conv_proj.*", "patch_embed.proj.*", WHOLE },
    { "encoder.ln.*", "norm.*", WHOLE },
    { "#.ln_1.*", "blocks.#.norm1.*", WHOLE },
    { "#.ln_2.*", "blocks.#.norm2.*", WHOLE },
    { "#.self_attention.in_proj_*", "blocks.#.attn.qkv.*", WHOLE },
    { "#.self_attention.out_proj.*", "blocks.#.attn.proj.*", WHOLE },
    { "#.mlp.0.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.mlp.3.*", "blocks.#.mlp.fc2.*", WHOLE },
    { "#.mlp.linear_1.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.mlp.linear_2.*", "blocks.#.mlp.fc2.*", WHOLE },
    { NULL, NULL, WHOLE },
};
static const char *const torchvision_layers[] = { "encoder.layers.encoder_layer_", NULL };

/* OpenAI's names, under "visual." */
static const rule open_clip_rules[] = {
    { "class_embedding", "cls_token", WHOLE },
    { "positional_embedding", "pos_embed", WHOLE },
    { "conv1.*", "patch_embed.proj.*", WHOLE },
    { "ln_pre.*", "norm_pre.*", WHOLE },
    { "ln_post.*", "norm.*", WHOLE },
    { "proj", "head.weight", TRANSPOSED },
    { "#.ln_1.*", "blocks.#.norm1.*", WHOLE },
    { "#.ln_2.*", "blocks.#.norm2.*", WHOLE },
    { "#.attn.in_proj_*", "blocks.#.attn.qkv.*", WHOLE },
    { "#.attn.out_proj.*", "blocks.#.attn.proj.*", WHOLE },
    { "#.ls_1.gamma", "blocks.#.ls1.gamma", WHOLE },
    { "#.ls_2.gamma", "blocks.#.ls2.gamma", WHOLE },
    { "#.mlp.c_fc.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.mlp.c_proj.*", "blocks.#.mlp.fc2.*", WHOLE },
    { NULL, NULL, WHOLE },
};
static const char *const open_clip_layers[] = { "transformer.resblocks.", NULL };

/* transformers' CLIPVisionModel, under "vision_model." */
static const rule clip_rules[] = {
    { "embeddings.class_embedding", "cls_token", WHOLE },
    { "embeddings.position_embedding.weight", "pos_embed", WHOLE },
    { "embeddings.patch_embedding.*", "patch_embed.proj.*", WHOLE },
    { "pre_layrnorm.*", "norm_pre.*", WHOLE },
    { "post_layernorm.*", "norm.*", WHOLE },
    { "visual_projection.weight", "head.weight", WHOLE },
    { "#.layer_norm1.*", "blocks.#.norm1.*", WHOLE },
    { "#.layer_norm2.*", "blocks.#.norm2.*", WHOLE },
    { "#.self_attn.q_proj.*", "blocks.#.attn.qkv.*", Q },
    { "#.self_attn.k_proj.*", "blocks.#.attn.qkv.*", K },
    { "#.self_attn.v_proj.*", "blocks.#.attn.qkv.*", V },
    { "#.self_attn.out_proj.*", "blocks.#.attn.proj.*", WHOLE },
    { "#.mlp.fc1.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.mlp.fc2.*", "blocks.#.mlp.fc2.*", WHOLE },
    { NULL, NULL, WHOLE },
};
static const char *const clip_layers[] = { "encoder.layers.", NULL };

static const rule mmpretrain_rules[] = {
    { "cls_token", NULL, WHOLE },
    { "pos_embed", NULL, WHOLE },
    { "patch_embed.projection.*", "patch_embed.proj.*", WHOLE },
    { "pre_norm.*", "norm_pre.*", WHOLE },
    { "ln1.*", "norm.*", WHOLE },
    { "ln2.*", "fc_norm.*", WHOLE },
    { "#.ln1.*", "blocks.#.norm1.*", WHOLE },
    { "#.ln2.*", "blocks.#.norm2.*", WHOLE },
    { "#.attn.qkv.*", "blocks.#.attn.qkv.*", WHOLE },
    { "#.attn.q_bias", "blocks.#.attn.qkv.bias", Q },
    { "#.attn.v_bias", "blocks.#.attn.qkv.bias", V },
    { "#.attn.proj.*", "blocks.#.attn.proj.*", WHOLE },
    { "#.attn.gamma1.weight", "blocks.#.ls1.gamma", WHOLE },
    { "#.ffn.gamma2.weight", "blocks.#.ls2.gamma", WHOLE },
    { "#.gamma_1", "blocks.#.ls1.gamma", WHOLE },
    { "#.gamma_2", "blocks.#.ls2.gamma", WHOLE },
    { "#.ffn.layers.0.0.*", "blocks.#.mlp.fc1.*", WHOLE },
    { "#.ffn.layers.1.*", "blocks.#.mlp.fc2.*", WHOLE },
    { NULL, NULL, WHOLE },
};
static const char *const mmpretrain_layers[] = { "layers.", NULL };

/* ResNets: torchvision's, timm's, and Meta's repositories. */
static const rule resnet_rules[] = {
    { "conv1.weight", NULL, WHOLE },
    { "bn1.*", NULL, WHOLE },
    { "layer#.#.conv1.weight", NULL, WHOLE },
    { "layer#.#.conv2.weight", NULL, WHOLE },
    { "layer#.#.conv3.weight", NULL, WHOLE },
    { "layer#.#.bn1.*", NULL, WHOLE },
    { "layer#.#.bn2.*", NULL, WHOLE },
    { "layer#.#.bn3.*", NULL, WHOLE },
    { "layer#.#.downsample.0.weight", NULL, WHOLE },
    { "layer#.#.downsample.1.*", NULL, WHOLE },
    { NULL, NULL, WHOLE },
};

/* lightly's, which is a sequence of torchvision's children: the stages are numbers 4 to 7. */
static const rule lightly_rules[] = {
    { "0.weight", "conv1.weight", WHOLE },
    { "1.*", "bn1.*", WHOLE },
    { "#-3.#.conv1.weight", "layer#.#.conv1.weight", WHOLE },
    { "#-3.#.conv2.weight", "layer#.#.conv2.weight", WHOLE },
    { "#-3.#.conv3.weight", "layer#.#.conv3.weight", WHOLE },
    { "#-3.#.bn1.*", "layer#.#.bn1.*", WHOLE },
    { "#-3.#.bn2.*", "layer#.#.bn2.*", WHOLE },
    { "#-3.#.bn3.*", "layer#.#.bn3.*", WHOLE },
    { "#-3.#.downsample.0.weight", "layer#.#.downsample.0.weight", WHOLE },
    { "#-3.#.downsample.1.*", "layer#.#.downsample.1.*", WHOLE },
    { NULL, NULL, WHOLE },
};
static const char *const lightly_layers[] = { "", NULL };

/* transformers' ResNet, whose stages and layers count from 0. */
static const rule transformers_resnet_rules[] = {
    { "embedder.embedder.convolution.weight", "conv1.weight", WHOLE },
    { "embedder.embedder.normalization.*", "bn1.*", WHOLE },
    { "#+1.layers.#.layer.0.convolution.weight", "layer#.#.conv1.weight", WHOLE },
    { "#+1.layers.#.layer.1.convolution.weight", "layer#.#.conv2.weight", WHOLE },
    { "#+1.layers.#.layer.2.convolution.weight", "layer#.#.conv3.weight", WHOLE },
    { "#+1.layers.#.layer.0.normalization.*", "layer#.#.bn1.*", WHOLE },
    { "#+1.layers.#.layer.1.normalization.*", "layer#.#.bn2.*", WHOLE },
    { "#+1.layers.#.layer.2.normalization.*", "layer#.#.bn3.*", WHOLE },
    { "#+1.layers.#.shortcut.convolution.weight", "layer#.#.downsample.0.weight", WHOLE },
    { "#+1.layers.#.shortcut.normalization.*", "layer#.#.downsample.1.*", WHOLE },
    { NULL, NULL, WHOLE },
};
static const char *const transformers_resnet_layers[] = { "encoder.stages.", NULL };

typedef struct scheme {
    const char *anchor; /* a weight (D, 3, p, p), or the class token, that only this scheme has */
    const rule *rules;
    const char *const *layers; /* what stands before the number of a rule that begins with # */
    const char *beside;        /* what must be there too; NULL: nothing */
} scheme;

enum {
    TIMM,
    TRANSFORMERS,
    DINOV3, /* of transformers: no module between the embeddings and their weight */
    TORCHVISION,
    OPEN_CLIP,
    CLIP,
    MMPRETRAIN,
    RESNET,
    LIGHTLY,
    TRANSFORMERS_RESNET,
    SCHEMES
};

static const scheme schemes[SCHEMES] = {
    [TIMM] = { "patch_embed.proj.weight", timm_rules, NULL, NULL },
    [TRANSFORMERS] = { "embeddings.patch_embeddings.projection.weight", transformers_rules,
                       transformers_layers, NULL },
    [DINOV3] = { "embeddings.patch_embeddings.weight", transformers_rules, transformers_layers,
                 NULL },
    [TORCHVISION] = { "conv_proj.weight", torchvision_rules, torchvision_layers, NULL },
    [OPEN_CLIP] = { "class_embedding", open_clip_rules, open_clip_layers, NULL },
    [CLIP] = { "embeddings.class_embedding", clip_rules, clip_layers, NULL },
    [MMPRETRAIN] = { "patch_embed.projection.weight", mmpretrain_rules, mmpretrain_layers, NULL },
    [RESNET] = { "conv1.weight", resnet_rules, NULL, "layer1.0.conv1.weight" },
    [LIGHTLY] = { "0.weight", lightly_rules, lightly_layers, "4.0.conv1.weight" },
    [TRANSFORMERS_RESNET] = { "embedder.embedder.convolution.weight", transformers_resnet_rules,
                              transformers_resnet_layers, NULL },
};

/* Words of the way to a network, and how much worse it is to take it than the way without. */
static const struct wrapper {
    const char *word;
    unsigned cost;
} wrappers[] = {
    { "student", 100 },
    { "momentum_encoder", 100 },
    { "encoder_k", 100 },
    { "target_network", 100 },
    { "momentum_backbone", 100 },
    { "predictor", 100 },
    { "teacher_model", 100 }, /* VQ-KD's, beside encoder */
    { "encoder", 10 },        /* I-JEPA's, beside target_encoder */
    { "model", 5 },
    { "state_dict", 5 }, /* beside model_ema, state_dict_ema */
};

/* In the network's own part of the file: what it does not need to give features. */
static const char *const unneeded[] = {
    "head.*",
    "heads.*",
    "head_dist.*",
    "fc.*",
    "classifier.*",
    "mask_token",
    "embeddings.mask_token",
    "decoder*",
    "dino_head.*",
    "ibot_head.*",
    "predictor.*",
    "projection_head.*",
    "prototypes.*",
    "lm_head.*",
    "pred_head.*",
    "pooler.dense.*",
    "cls_pt_layers.*",
    "cls_pt_norm.*",
    "cls_pt_lm_head.*",
    "hogs.*", /* MaskFeat's filters */
    "local_cls_norm.*",
    "pre_logits.*",
    "projector.*",
    "embeddings.position_ids",
    "optimizer.*",
    "scaler.*",
    "queue",
    "queue_ptr",
    NULL,
};
/* The ends of what no network needs. */
static const char *const unneeded_ends[] = { "relative_position_index", "num_batches_tracked",
                                             NULL };

/* Beside it, from the file's top or behind any dot: other parts of what was trained. */
static const char *const beside[] = {
    "optimizer*",
    "opt.*",
    "scaler*",
    "lr_sched*",
    "queue",
    "queue_ptr",
    "queue2",
    "decoder*",
    "mask_token",
    "head.*",
    "head_dist.*",
    "heads.*",
    "fc.*",
    "classifier.*",
    "cls_head.*",
    "neck.*",
    "predictor.*",
    "projector.*",
    "projection_head.*",
    "prototypes*",
    "lm_head.*",
    "pred_head.*",
    "dino_head.*",
    "ibot_head.*",
    "dino_loss.*",
    "ibot_patch_loss.*",
    "criterion.*",
    "center",
    "loss.*",
    "pooler.dense.*",
    "logit_scale",
    "logit_bias",
    "text.*",
    "text_model.*",
    "text_projection*",
    "token_embedding.*",
    "positional_embedding",
    "transformer.*",
    "ln_final.*",
    "attn_mask",
    "position_ids",
    "data_preprocessor.*",
    "target_generator.*",
    "quantize.*", /* BEiT v2's VQ-KD */
    "encode_task_layer.*",
    "decode_task_layer.*",
    "teacher_model.*",
    "scaling_layer.*",
    "momentum_*",
    "student*",
    "log_sigmas",
    NULL,
};

#endif
