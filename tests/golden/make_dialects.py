"""Makes tests/data/dialects: one small checkpoint for each dialect and family, with the features that
the code it comes from computes.

Needs torch, timm, transformers, torchvision, safetensors. The files are committed; run this only to
change them. Each holds the tensors under the names of the original file, nested dictionaries joined
with dots, rounded to F16, and beside them "golden.image", "golden.cls" (or "mean", "proj", "last4"),
and the same for another size ("golden.other_image", ...), computed in double from the rounded values.

transformers' files are written by save_pretrained. The files of Meta's and Microsoft's repositories
have the names of their code, the mathematics of timm's or transformers' copy of it, and positions
resampled here as their code does (BEiT's and SimMIM's relative ones, as timm does with their files).
"""

import functools
import os
import pathlib
import sys
import tempfile

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
from chain import timm  # noqa: E402

import torchvision  # noqa: E402
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table  # noqa: E402
import transformers as tr  # noqa: E402

out = pathlib.Path(__file__).resolve().parent.parent / "data" / "dialects"
out.mkdir(parents=True, exist_ok=True)
D, DEPTH, HEADS, MLP, PATCH, SIZE = 16, 2, 2, 32, 8, 32
OTHER = 40, 24
HF = dict(hidden_size=D, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=MLP,
          image_size=SIZE, patch_size=PATCH)
TIMM = dict(img_size=SIZE, patch_size=PATCH, embed_dim=D, depth=DEPTH, num_heads=HEADS, mlp_ratio=2)


def images(seed=1):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(1, 3, SIZE, SIZE, generator=g).half(),
            torch.randn(1, 3, *OTHER, generator=g).half())


def randomise(model, seed):
    """Every parameter non-trivial, rounded to half, in double."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = "norm" in name and name.endswith("weight") or ".ln" in name and \
                name.endswith("weight") or any(w in name for w in ("lambda", "gamma"))
            v = torch.randn(p.shape, generator=g) * (0.2 if p.ndim != 2 else 0.3) + (1 if gain else 0)
            p.copy_(v.half().to(p.dtype))
    return model.double().eval()


def hf_state(model):
    with tempfile.TemporaryDirectory() as d:
        model.float().save_pretrained(d)
        state = load_file(os.path.join(d, "model.safetensors"))
    model.double()
    return state


def save(name, state, golden):
    tensors = {}
    for k, v in state.items():
        v = v.detach()
        if v.is_floating_point() and v.dtype != torch.bfloat16:
            assert torch.isnan(v).any() or torch.equal(v.double(), v.half().double()), k
            v = v.half()
        tensors[k] = v.contiguous().clone()
    image, other = images()
    tensors["golden.image"] = image
    if any(k.startswith("other_") for k in golden):
        tensors["golden.other_image"] = other
    for k, v in golden.items():
        tensors["golden." + k] = v.detach().float().reshape(-1)
    save_file(tensors, out / (name + ".safetensors"))


def prefixed(prefix, state):
    return {prefix + k: v for k, v in state.items()}


@torch.no_grad()
def hf(name, model, feature="cls", other=True, state=None, prefix=0, **more):
    image, big = (x.double() for x in images())
    kw = dict(interpolate_pos_encoding=True) if other == "interpolate" else {}
    golden = {}
    for key, x, k in ("", image, {}), ("other_", big, kw):
        if key and not other:
            continue
        y = model(pixel_values=x, **k, **more)
        tokens = y.last_hidden_state
        if feature == "pooled":
            golden[key + "mean"] = y.pooler_output
        elif feature == "mean":
            golden[key + "mean"] = tokens[:, prefix:].mean(1)
        else:
            golden[key + "cls"] = tokens[:, 0]
            golden[key + "patch"] = tokens[:, prefix:]
    save(name, hf_state(model) if state is None else state, golden)


def interpolate(pos, rule, grid):
    """pos (1, 1 + n, D) for another grid, as the named code does."""
    side = int((pos.shape[1] - 1) ** 0.5)
    table = pos[:, 1:].reshape(1, side, side, D).permute(0, 3, 1, 2)
    if rule == "offset":  # dino/vision_transformer.py, dinov2/models/vision_transformer.py
        table = F.interpolate(table, mode="bicubic",
                              scale_factor=tuple((g + 0.1) / side for g in grid))
    else:
        table = F.interpolate(table, size=grid, mode="bicubic", antialias=rule == "antialias")
    assert table.shape[-2:] == tuple(grid)
    return torch.cat([pos[:, :1], table.permute(0, 2, 3, 1).flatten(1, 2)], 1)


@torch.no_grad()
def vit_features(model, rule, with_last4=False):
    """cls and patches of a plain timm ViT at both sizes."""
    golden = {}
    for key, x in zip(("", "other_"), images()):
        if key and not rule:
            continue
        grid = [s // PATCH for s in x.shape[-2:]]
        t = model.patch_embed.proj(x.double()).flatten(2).transpose(1, 2)
        t = torch.cat([model.cls_token, t], 1)
        t = t + (interpolate(model.pos_embed, rule, grid) if key else model.pos_embed)
        last = []
        for block in model.blocks:
            t = block(t)
            last.append(model.norm(t)[:, 0])
        golden[key + "cls"] = model.norm(t)[:, 0]
        if with_last4:
            golden[key + "last4"] = torch.cat(last[-4:], 1)
    return golden


def plain(seed, **more):
    return randomise(timm.models.VisionTransformer(num_classes=0, global_pool="token",
                                                   **{**TIMM, **more}), seed)


# transformers
vit = randomise(tr.ViTModel(tr.ViTConfig(**HF)), 1)
hf("transformers_vit", vit, other="interpolate", prefix=1)
mae = randomise(tr.ViTMAEModel(tr.ViTMAEConfig(**HF, mask_ratio=0.0)), 2)
hf("transformers_vitmae", mae, other=False, prefix=1, noise=torch.arange(16.0)[None])
hf("transformers_dinov2", randomise(tr.Dinov2Model(tr.Dinov2Config(**HF)), 3), prefix=1)
hf("transformers_dinov2_swiglu",
   randomise(tr.Dinov2Model(tr.Dinov2Config(**HF, use_swiglu_ffn=True)), 4), prefix=1)
registers = randomise(tr.Dinov2WithRegistersModel(tr.Dinov2WithRegistersConfig(
    **HF, num_register_tokens=3)), 5)
hf("transformers_dinov2_registers", registers, prefix=4)
dinov3 = randomise(tr.DINOv3ViTModel(tr.DINOv3ViTConfig(
    **HF, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu")), 6)
hf("transformers_dinov3", dinov3, prefix=5)
hf("transformers_dinov3_plain", randomise(tr.DINOv3ViTModel(tr.DINOv3ViTConfig(
    **HF, num_register_tokens=4)), 7), prefix=5)
beit = randomise(tr.BeitModel(tr.BeitConfig(**HF, use_relative_position_bias=True)), 8)
hf("transformers_beit", beit, feature="pooled", other="interpolate")
shared = randomise(tr.BeitForMaskedImageModeling(tr.BeitConfig(
    **HF, use_shared_relative_position_bias=True, use_mask_token=True)), 9)


@torch.no_grad()
def beit_features(model, *keys):
    golden = {}
    for key, x in zip(("", "other_"), images()):
        if key in keys:
            tokens = model.beit(pixel_values=x.double(), interpolate_pos_encoding=True)
            tokens = model.layernorm(tokens.last_hidden_state)
            golden |= {key + "cls": tokens[:, 0], key + "patch": tokens[:, 1:]}
    return golden


save("transformers_beit_masked", hf_state(shared), beit_features(shared, "", "other_"))
ijepa = randomise(tr.IJepaModel(tr.IJepaConfig(**HF)), 10)
hf("transformers_ijepa", ijepa, feature="mean", other="interpolate")
clip = randomise(tr.CLIPVisionModelWithProjection(tr.CLIPVisionConfig(**HF, projection_dim=12)), 11)
with torch.no_grad():
    save("transformers_clip", hf_state(clip),
         {"cls": clip(pixel_values=images()[0].double()).image_embeds})

# torchvision
tv = randomise(torchvision.models.VisionTransformer(SIZE, PATCH, DEPTH, HEADS, D, MLP), 12)
with torch.no_grad():
    x = tv._process_input(images()[0].double())
    x = tv.encoder(torch.cat([tv.class_token, x], 1))
    save("torchvision_vit", tv.state_dict(), {"cls": x[:, 0], "patch": x[:, 1:]})

# timm
head = randomise(timm.models.VisionTransformer(num_classes=3, **TIMM, dynamic_img_size=True), 13)
with torch.no_grad():
    a, b = (head.forward_features(x.double())[:, 0] for x in images())
save("timm_vit", head.state_dict(), {"cls": a, "other_cls": b})
with torch.no_grad():
    reg = plain(14, reg_tokens=4, no_embed_class=True, init_values=1.0, dynamic_img_size=True)
    a, b = (reg.forward_features(x.double()) for x in images())
    save("timm_reg4", reg.state_dict(), {"cls": a[:, 0], "patch": a[:, 5:], "other_cls": b[:, 0]})
    qk = plain(15, qk_norm=True)
    save("timm_qk_norm", qk.state_dict(), {"cls": qk(images()[0].double())})
    norm_pre = randomise(timm.models.VisionTransformer(num_classes=6, global_pool="token", **TIMM,
        pre_norm=True, norm_layer=torch.nn.LayerNorm), 16)
    norm_pre.head.bias = None
    for m in norm_pre.modules():
        if isinstance(m, torch.nn.LayerNorm):
            m.eps = 1e-5
    save("timm_clip", norm_pre.state_dict(), {"cls": norm_pre(images()[0].double())})
    from timm.models.eva import Eva
    eva = randomise(Eva(num_classes=0, global_pool="token", **TIMM, use_abs_pos_emb=False,
                        init_values=1.0, num_reg_tokens=4, use_rot_pos_emb=True, qkv_bias=False,
                        rope_type="dinov3", rope_temperature=100, rope_grid_offset=0.0,
                        rope_rotate_half=True, dynamic_img_size=True, use_fc_norm=False,
                        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-5)), 17)
    save("timm_dinov3", eva.state_dict(), {"cls": eva(images()[0].double()),
                                           "other_cls": eva(images()[1].double())})
    from timm.models.beit import Beit
    tb = randomise(Beit(num_classes=3, **TIMM, init_values=0.1, use_abs_pos_emb=False,
                        use_rel_pos_bias=True), 18)
    state, golden = {k: v.clone() for k, v in tb.state_dict().items()}, {}
    for key, x in zip(("", "other_"), images()):
        if key:
            tb.set_input_size(OTHER)
        golden[key + "mean"] = tb.fc_norm(tb.forward_features(x.double())[:, 1:].mean(1))
    save("timm_beit", state, golden)

# DINO: a training checkpoint with both networks
dino, student = plain(19, depth=4), plain(20, depth=4)
golden = vit_features(dino, "offset", with_last4=True)
teacher_head = {"head.mlp.0.weight": torch.ones(4, D), "head.last_layer.weight_v": torch.ones(2, 4)}
state = {**prefixed("student.module.backbone.", student.state_dict()),
         **prefixed("teacher.backbone.", dino.state_dict()),
         **prefixed("student.module.", teacher_head), **prefixed("teacher.", teacher_head),
         "dino_loss.center": torch.zeros(1, 2),
         "optimizer.state.0.exp_avg": torch.zeros(2)}
save("dino", state, golden)
save("dino_bare", dino.state_dict(), golden)


def from_hf(state, gated="w12"):
    """Meta's names of a Dinov2 or DINOv3 of transformers."""
    new = {}
    for k, v in state.items():
        k = k[11:] if k.startswith("embeddings.") else k
        k = k.replace("patch_embeddings.projection", "patch_embed.proj")
        k = k.replace("patch_embeddings", "patch_embed.proj").replace("position_embeddings",
                                                                      "pos_embed")
        k = k.replace("encoder.layer.", "blocks.").replace("model.layer.", "blocks.")
        k = "blocks." + k[6:] if k.startswith("layer.") else k
        k = k.replace("layer_scale1.lambda1", "ls1.gamma").replace("layer_scale2.lambda1",
                                                                   "ls2.gamma")
        k = k.replace("attention.output.dense", "attn.proj").replace("attention.o_proj", "attn.proj")
        k = k.replace("layernorm.", "norm.")
        k = k.replace("mlp.weights_in", "mlp.w12").replace("mlp.weights_out", "mlp.w3")
        k = k.replace("mlp.gate_proj", "mlp.w1").replace("mlp.up_proj", "mlp.w2")
        new[k.replace("mlp.down_proj", "mlp.w3")] = v
    for i in range(DEPTH):
        for kind in "weight", "bias":
            parts = []
            for letter, word in ("q", "query"), ("k", "key"), ("v", "value"):
                for form in (f"attention.attention.{word}", f"attention.{letter}_proj"):
                    part = new.pop(f"blocks.{i}.{form}.{kind}", None)
                    if part is not None:
                        parts.append(part)
            if len(parts) == 2:  # DINOv3: k has none
                nan = torch.full((D,), float("nan"))
                parts.insert(1, nan)
                new[f"blocks.{i}.attn.qkv.bias_mask"] = torch.cat(
                    [torch.ones(D), torch.zeros(D), torch.ones(D)])
            new[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(parts)
    return new


# DINOv2: the teacher of a training run, its blocks in chunks, registers, SwiGLU in one piece
reg_gated = randomise(tr.Dinov2WithRegistersModel(tr.Dinov2WithRegistersConfig(
    **HF, num_register_tokens=3, use_swiglu_ffn=True)), 21)
with torch.no_grad():
    a, b = (reg_gated(pixel_values=x.double()).last_hidden_state for x in images())
state = from_hf(hf_state(reg_gated))
for i in range(DEPTH):
    for kind in "weight", "bias":
        w1, w2 = (state.pop(f"blocks.{i}.mlp.{w}.{kind}", None) for w in ("w1", "w2"))
        if w1 is not None:
            state[f"blocks.{i}.mlp.w12.{kind}"] = torch.cat([w1, w2])
chunked = {k.replace("blocks.", f"blocks.{int(k.split('.')[1]) // 2}.") if k.startswith("blocks.")
           else k: v for k, v in state.items()}
save("dinov2_registers", {**prefixed("teacher.backbone.", chunked),
                          "teacher.dino_head.mlp.0.weight": torch.ones(2, 2),
                          "teacher.ibot_head.mlp.0.weight": torch.ones(2, 2)},
     {"cls": a[:, 0], "patch": a[:, 4:], "other_cls": b[:, 0]})
v2 = plain(22, init_values=1.0)
save("dinov2", {**v2.state_dict(), "mask_token": torch.zeros(1, D)}, vit_features(v2, "offset"))

# DINOv3: its names, bias_mask over NaN, periods in bfloat16
state = from_hf(hf_state(dinov3))
head_dim = D // HEADS
exact = 100 ** (2 * torch.arange(head_dim // 4) / (head_dim // 2)).double()
rounded = exact.bfloat16()
with torch.no_grad():
    dinov3.rope_embeddings.inv_freq = 1 / rounded.double()
    a, b = (dinov3(pixel_values=x.double()).last_hidden_state for x in images())
state["storage_tokens"] = state.pop("register_tokens")
state["rope_embed.periods"] = rounded
save("dinov3", state, {"cls": a[:, 0], "patch": a[:, 5:], "other_cls": b[:, 0]})

# MAE: a training checkpoint
m = plain(23)
save("mae", {**prefixed("model.", m.state_dict()), "model.mask_token": torch.zeros(1, 1, 8),
             "model.decoder_pos_embed": torch.zeros(1, 17, 8),
             "model.decoder_blocks.0.norm1.weight": torch.ones(8),
             "model.decoder_pred.weight": torch.ones(4, 8),
             "optimizer.state.3.exp_avg": torch.zeros(2)}, vit_features(m, "size"))
tuned = randomise(timm.models.VisionTransformer(num_classes=3, global_pool="avg", fc_norm=True,
                                                **TIMM), 24)
with torch.no_grad():
    t = tuned.forward_features(images()[0].double())
    save("mae_fine_tuned", prefixed("model.", tuned.state_dict()),
         {"mean": tuned.fc_norm(t[:, 1:].mean(1))})

# I-JEPA
target = randomise(timm.models.VisionTransformer(num_classes=0, global_pool="avg", class_token=False,
                                                 fc_norm=False, **TIMM), 25)
encoder = randomise(timm.models.VisionTransformer(num_classes=0, global_pool="avg",
                                                  class_token=False, fc_norm=False, **TIMM), 26)
with torch.no_grad():
    save("ijepa", {**prefixed("encoder.module.", encoder.state_dict()),
                   **prefixed("target_encoder.module.", target.state_dict()),
                   "predictor.module.predictor_blocks.0.norm1.weight": torch.ones(4),
                   "predictor.module.predictor_embed.weight": torch.ones(4, D),
                   "predictor.module.predictor_pos_embed": torch.zeros(1, 16, 4),
                   "opt.state.0.exp_avg": torch.zeros(2),
                   "predictor.module.mask_token": torch.zeros(1, 1, 4)},
         {"mean": target.forward_features(images()[0].double()).mean(1)})

# MoCo v3
moco, momentum = plain(27), plain(28)
save("mocov3", {**prefixed("state_dict.module.base_encoder.", moco.state_dict()),
                "state_dict.module.base_encoder.head.0.weight": torch.ones(3, D),
                **prefixed("state_dict.module.momentum_encoder.", momentum.state_dict()),
                "state_dict.module.predictor.0.weight": torch.ones(3, 3)},
     vit_features(moco, None))

# BEiT and SimMIM: theirs have an epsilon of 1e-6
for m in shared.modules():
    if isinstance(m, torch.nn.LayerNorm):
        m.eps = 1e-6
state, golden = {}, beit_features(shared, "")
for k, v in hf_state(shared).items():
    k = k.replace("beit.embeddings.patch_embeddings.projection", "patch_embed.proj")
    k = k.replace("beit.embeddings.", "").replace("beit.encoder.layer.", "blocks.")
    k = k.replace("beit.layers.", "blocks.").replace("beit.encoder.relative", "rel_pos_bias.relative")
    k = k.replace("rel_pos_bias.relative_position_bias.", "rel_pos_bias.")
    k = k.replace("beit.shared_position_bias.", "rel_pos_bias.")
    k = k.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
    k = k.replace("attention.attention.", "attention.").replace("intermediate.dense", "mlp.fc1")
    k = k.replace("attention.output.dense", "attn.proj").replace("attention.o_proj", "attn.proj")
    k = k.replace(".output.dense", ".mlp.fc2").replace("lambda_", "gamma_")
    state[k.replace("layernorm.", "norm.")] = v
for i in range(DEPTH):
    q, k_, v = ([state.pop(f"blocks.{i}.attention.{n}.weight", None) for n in names]
                for names in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")))
    state[f"blocks.{i}.attn.qkv.weight"] = torch.cat([[x for x in p if x is not None][0]
                                                      for p in (q, k_, v)])
    for letter, names in ("q", ("query", "q_proj")), ("v", ("value", "v_proj")):
        bias = [state.pop(f"blocks.{i}.attention.{n}.bias", None) for n in names]
        state[f"blocks.{i}.attn.{letter}_bias"] = [b for b in bias if b is not None][0]
index = torch.zeros(17, 17, dtype=torch.int64)
state["rel_pos_bias.relative_position_index"] = index
# At another size their relative biases are resampled as timm does with these files. (transformers'
# own forward takes a stored table that is not of a square for its transpose, so it is replaced.)
table = shared.beit.shared_position_bias
grid = tuple(side // PATCH for side in OTHER)
rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
with torch.no_grad():
    bias = resize_rel_pos_bias_table(table.relative_position_bias_table, grid, (rows, HEADS))
    bias = bias[table.generate_relative_position_index(grid)].permute(2, 0, 1)[None].double()
table.forward = lambda *unused, **unused_too: bias
golden |= beit_features(shared, "other_")
save("beit", prefixed("model.", state), golden)
simmim = {k: v for k, v in state.items() if not k.startswith("lm_head")}
save("simmim", {**prefixed("model.encoder.", simmim), "model.decoder.0.weight": torch.ones(4, D, 1, 1),
                "model.decoder.0.bias": torch.ones(4), "optimizer.state.0.exp_avg": torch.ones(2),
                "lr_scheduler.values": torch.ones(2)},
     {k.replace("patch", "mean"): v.mean(1) for k, v in golden.items() if "patch" in k})
save("beit2", prefixed("model.", {**state, "cls_pt_layers.0.norm1.weight": torch.ones(D),
                             "cls_pt_norm.bias": torch.ones(D),
                             "cls_pt_lm_head.weight": torch.ones(4, D)}),
     {k: v for k, v in golden.items() if "cls" in k})

# open_clip and mmpretrain: their names
state = {"text_projection": torch.ones(2, 2), "positional_embedding": torch.ones(3, 2),
         "transformer.resblocks.0.ln_1.weight": torch.ones(2), "logit_scale": torch.tensor(1.0),
         "token_embedding.weight": torch.ones(2, 2)}
hf_clip = hf_state(clip)
for k, v in hf_clip.items():
    k = k.replace("vision_model.", "visual.").replace("embeddings.class_embedding", "class_embedding")
    k = k.replace("embeddings.position_embedding.weight", "positional_embedding")
    k = k.replace("embeddings.patch_embedding", "conv1").replace("pre_layrnorm", "ln_pre")
    k = k.replace("post_layernorm", "ln_post").replace("encoder.layers", "transformer.resblocks")
    k = k.replace("layer_norm", "ln_").replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
    k = k.replace("self_attn", "attn")
    if "position_ids" in k:
        continue
    state["visual.proj" if k == "visual_projection.weight" else k] = \
        v.t() if k == "visual_projection.weight" else v
for i in range(DEPTH):
    at = f"visual.transformer.resblocks.{i}.attn."
    for kind in "weight", "bias":
        state[at + "in_proj_" + kind] = torch.cat([state.pop(f"{at}{n}_proj.{kind}") for n in "qkv"])
with torch.no_grad():
    save("open_clip", state, {"cls": clip(pixel_values=images()[0].double()).image_embeds})

mm = plain(29, init_values=1.0)
state = {}
for k, v in mm.state_dict().items():
    k = k.replace("patch_embed.proj", "patch_embed.projection").replace("blocks.", "layers.")
    k = k.replace("norm1", "ln1").replace("norm2", "ln2").replace("mlp.fc1", "ffn.layers.0.0")
    k = k.replace("mlp.fc2", "ffn.layers.1").replace("ls1.gamma", "attn.gamma1.weight")
    k = k.replace("ls2.gamma", "ffn.gamma2.weight")
    k = "ln1." + k[5:] if k.startswith("norm.") else k
    state["state_dict.backbone." + k] = v
state["state_dict.head.fc.weight"] = torch.ones(2, D)
state["state_dict.neck.0.weight"] = torch.ones(2, D)
save("mmpretrain", state, vit_features(mm, "size"))

# solo-learn's checkpoints of Lightning
solo = plain(30)
save("solo_learn", {**prefixed("state_dict.backbone.", solo.state_dict()),
                    **prefixed("state_dict.momentum_backbone.", plain(31).state_dict()),
                    "state_dict.projector.0.weight": torch.ones(2, D),
                    "state_dict.classifier.weight": torch.ones(2, D)}, vit_features(solo, None))

# ResNets: narrow, of both kinds of block and of stem
from timm.models.resnet import BasicBlock, Bottleneck, ResNet  # noqa: E402


def resnet(seed, block, channels, layers=(1, 1, 1, 1), **more):
    model = ResNet(block, layers, num_classes=3, channels=channels, **more)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.state_dict().items():
            if not p.is_floating_point():
                continue
            v = torch.randn(p.shape, generator=g)
            if p.ndim == 4:
                v = v * (1.5 / p[0].numel()) ** 0.5
            elif name.endswith("running_var"):
                v = v.abs() + 0.5
            else:
                v = v * 0.2 + (1 if name.endswith("weight") else 0)
            p.copy_(v.half().float())
    return model.double().eval()


@torch.no_grad()
def map_features(model):
    golden = {}
    for key, x in zip(("", "other_"), images()):
        y = model.forward_features(x.double())
        golden[key + "mean"] = y.mean((2, 3))
        golden[key + "patch"] = y.permute(0, 2, 3, 1)
    return golden


narrow = dict(channels=(4, 8, 8, 12))
deep = resnet(40, Bottleneck, **narrow, layers=(2, 1, 1, 1))
save("resnet_bottleneck", deep.state_dict(), map_features(deep))
basic = resnet(41, BasicBlock, channels=(8, 8, 16, 16), layers=(1, 2, 1, 1))
save("mocov2", {**prefixed("state_dict.module.encoder_q.", {k: v for k, v in
                                                              basic.state_dict().items()}),
                **prefixed("state_dict.module.encoder_k.", resnet(42, BasicBlock,
                                                                  channels=(8, 8, 16, 16),
                                                                  layers=(1, 2, 1, 1)).state_dict()),
                "state_dict.module.queue": torch.zeros(4, 2), "epoch_tensor.queue_ptr":
                torch.zeros(1, dtype=torch.int64)}, map_features(basic))
swav = resnet(46, BasicBlock, channels=(8, 8, 16, 16))
head = torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(),
                           torch.nn.Linear(4, 2))
save("swav", {**prefixed("module.", {k: v for k, v in swav.state_dict().items()
                                     if not k.startswith("fc.")}),
              **{"module.projection_head." + k: torch.zeros_like(v)
                 for k, v in head.state_dict().items()},
              "module.prototypes.weight": torch.zeros(3, 2)}, map_features(swav))
small = resnet(43, BasicBlock, channels=(8, 8, 16, 16))
small.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False).double()
small.maxpool = torch.nn.Identity()
with torch.no_grad():
    small.conv1.weight.copy_((torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(44))
                              * 0.3).half())
children = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
sequence = {}
for k, v in small.state_dict().items():
    top, rest = k.split(".", 1)
    if top in children:
        sequence[f"state_dict.backbone.{children[top]}.{rest}"] = v
sequence["state_dict.projection_head.layers.0.weight"] = torch.ones(2, 2)
save("lightly_resnet", sequence, map_features(small))
hub = tr.ResNetModel(tr.ResNetConfig(embedding_size=8, hidden_sizes=[16, 16, 32, 32],
                                     depths=[1, 2, 1, 1], layer_type="bottleneck"))
g = torch.Generator().manual_seed(45)
with torch.no_grad():
    for name, p in hub.state_dict().items():
        if p.is_floating_point():
            v = torch.randn(p.shape, generator=g)
            v = v * (1.5 / p[0].numel()) ** 0.5 if p.ndim == 4 else \
                v.abs() + 0.5 if name.endswith("running_var") else \
                v * 0.2 + (1 if name.endswith("weight") else 0)
            p.copy_(v.half().float())
    hub = hub.double().eval()
    golden = {}
    for key, x in zip(("", "other_"), images()):
        y = hub(pixel_values=x.double())
        golden[key + "mean"] = y.pooler_output.flatten(1)
        golden[key + "patch"] = y.last_hidden_state.permute(0, 2, 3, 1)
    save("transformers_resnet", hf_state(hub), golden)

# MaskFeat of PySlowFast: no norm at the end
mask_feat = plain(32)
mask_feat.norm = torch.nn.Identity()
save("maskfeat", {**prefixed("model_state.", mask_feat.state_dict()),
                  "model_state.mask_token": torch.zeros(1, 1, D),
                  "model_state.hogs.0.weight_x": torch.ones(3, 1, 3, 3),
                  "model_state.pred_head.transforms.0.0.norm1.weight": torch.ones(D),
                  "optimizer_state.state.0.exp_avg": torch.ones(2),
                  "model_state.pred_head.projections.0.weight": torch.ones(2, D)},
     {"mean": mask_feat.forward_features(images()[0].double())[:, 1:].mean(1)})
