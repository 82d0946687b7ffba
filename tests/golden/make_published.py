#!/usr/bin/env python3
"""Makes published_dalle.safetensors, published_vqkd.pth and published_golden.safetensors, for
test_published.c: tokenizers with the names of their authors' files, tiny random weights, and what the
authors' mathematics makes of images with them, in double precision.

    python make_published.py ../data

dalle: openai/DALL-E, dall_e/encoder.py, decoder.py and utils.py (map_pixels, unmap_pixels); both halves in
one file behind "encoder." and "decoder.".
vqkd: microsoft/unilm's beit2, modeling_vqkd.py, modeling_finetune.py (VisionTransformer with
use_mean_pooling, which normalises each patch by fc_norm) and norm_ema_quantizer.py, as
run_vqkd_training.py saves it: under "model", with the decoder, a teacher and counts beside.
Weights are what half precision can hold; that no two codes are nearly equally good is checked.
Needs torch, numpy and safetensors.
"""
import collections
import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

OUT = sys.argv[1] if len(sys.argv) > 1 else "."
golden = {}


def fill(module, seed, scale):
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        fan = p[0].numel() if p.ndim > 1 else 1
        values = torch.randn(p.shape, generator=g) * (scale * fan ** -0.5 if p.ndim > 1 else 0.2)
        if "norm" in name and name.endswith("weight"):
            values = 1 + values
        p.data = values.half().double()


def sure(scores, ids, least):
    """Whether the best of each row leads by more than any rounding."""
    two = scores.topk(2, dim=-1).values
    assert (two[..., 0] - two[..., 1]).min() > least, (two[..., 0] - two[..., 1]).min()
    assert len(ids.unique()) > scores.shape[-1] // 3, ids.unique()


def f32(state):
    return {k: v.float().contiguous() for k, v in state.items()}


# DALL-E ------------------------------------------------------------------------------------------

HIDDEN, BEGIN, BLOCKS, CODES, GROUPS = 4, 6, 2, 12, 4


class Conv2d(nn.Module):
    def __init__(self, n_in, n_out, kw):
        super().__init__()
        self.kw = kw
        self.w, self.b = nn.Parameter(torch.empty(n_out, n_in, kw, kw)), nn.Parameter(torch.empty(n_out))

    def forward(self, x):
        return F.conv2d(x, self.w, self.b, padding=(self.kw - 1) // 2)


class Block(nn.Module):
    def __init__(self, n_in, n_out, kernels):
        super().__init__()
        hid, layers = n_out // 4, []
        for i, kw in enumerate(kernels):
            layers += [(f"relu_{i + 1}", nn.ReLU()),
                       (f"conv_{i + 1}", Conv2d(hid if i else n_in, hid if i < 3 else n_out, kw))]
        self.id_path = Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.res_path = nn.Sequential(collections.OrderedDict(layers))

    def forward(self, x):
        return self.id_path(x) + 1 / (GROUPS * BLOCKS) ** 2 * self.res_path(x)


class Half(nn.Module):
    def __init__(self, first, widths, kernels, between, last):
        super().__init__()
        parts, n_in = [("input", first)], first.w.shape[0]
        for g, width in enumerate(widths):
            blocks = []
            for i in range(BLOCKS):
                blocks.append((f"block_{i + 1}", Block(n_in, width, kernels)))
                n_in = width
            if g < GROUPS - 1:
                blocks.append(between)
            parts.append((f"group_{g + 1}", nn.Sequential(collections.OrderedDict(blocks))))
        parts.append(("output", nn.Sequential(collections.OrderedDict(
            [("relu", nn.ReLU()), ("conv", Conv2d(n_in, last, 1))]))))
        self.blocks = nn.Sequential(collections.OrderedDict(parts))

    def forward(self, x):
        return self.blocks(x)


def make_dalle():
    widths = [HIDDEN << g for g in range(GROUPS)]
    encoder = Half(Conv2d(3, HIDDEN, 7), widths, (3, 3, 3, 1), ("pool", nn.MaxPool2d(2)), CODES)
    decoder = Half(Conv2d(CODES, BEGIN, 1), widths[::-1], (1, 3, 3, 3),
                   ("upsample", nn.Upsample(scale_factor=2, mode="nearest")), 6)
    for half, seed in (encoder, 1), (decoder, 2):
        fill(half, seed, 1.5)
        for name, p in half.named_parameters():  # so much that it counts beside the shortcuts
            if "res_path.conv_4" in name:
                p.data *= 32
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)).float().double()
    with torch.no_grad():
        logits = encoder(0.8 * x + 0.1).permute(0, 2, 3, 1).flatten(1, 2)
        bias = encoder.blocks.output.conv.b  # no code is better for all
        bias -= logits.mean((0, 1))
        bias.copy_(bias.half().double())
        logits = encoder(0.8 * x + 0.1).permute(0, 2, 3, 1).flatten(1, 2)
        ids = logits.argmax(-1)
        sure(logits, ids, 1e-3)
        one_hot = F.one_hot(ids, CODES).double().reshape(2, 4, 4, CODES).permute(0, 3, 1, 2)
        again = ((torch.sigmoid(decoder(one_hot)[:, :3]) - 0.1) / 0.8).clamp(0, 1)
        assert again.std() > 0.05, again.std()
    save_file(f32({"encoder." + k: v for k, v in encoder.state_dict().items()} |
                  {"decoder." + k: v for k, v in decoder.state_dict().items()}),
              os.path.join(OUT, "published_dalle.safetensors"))
    golden.update({"dalle.images": x.float(), "dalle.ids": ids.int(), "dalle.again": again.float()})


# VQ-KD -------------------------------------------------------------------------------------------

DIM, HEADS, MLP, PATCH, SIZE, K, CODE_DIM = 128, 2, 32, 4, 16, 16, 8


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.empty(DIM)), nn.Parameter(torch.empty(DIM))
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x):
        b, n, c = x.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        q, k, v = F.linear(x, self.qkv.weight, bias).reshape(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        attn = (q * (DIM // HEADS) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((attn @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(DIM, MLP), nn.Linear(MLP, DIM)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VitBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(DIM, eps=1e-6), Attention()
        self.norm2, self.mlp = nn.LayerNorm(DIM, eps=1e-6), Mlp()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, in_chans, patch):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, DIM, patch, patch)


class VisionTransformer(nn.Module):
    def __init__(self, in_chans, patch, size, depth):
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.empty(1, (size // patch) ** 2 + 1, DIM))
        self.patch_embed = PatchEmbed(in_chans, patch)
        self.blocks = nn.ModuleList([VitBlock() for _ in range(depth)])
        self.fc_norm = nn.LayerNorm(DIM, eps=1e-6)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x[:, 1:])  # return_patch_tokens


class VQKD(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = VisionTransformer(3, PATCH, SIZE, 1)
        self.encode_task_layer = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh(), nn.Linear(DIM, CODE_DIM))

    def forward(self, x, codes):
        z = F.normalize(self.encode_task_layer(self.encoder(x)), p=2, dim=-1)
        d = z.pow(2).sum(-1, keepdim=True) + codes.pow(2).sum(1) - \
            2 * torch.einsum("bnd,kd->bnk", z, codes)
        return d


def make_vqkd():
    model = VQKD()
    fill(model, 4, 1.0)
    model.encoder.pos_embed.data *= 4
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)).float().double()
    g = torch.Generator().manual_seed(6)
    codes = F.normalize(torch.randn(K, CODE_DIM, generator=g), dim=-1).float()
    with torch.no_grad():
        inside = model.encode_task_layer(model.encoder(x * 255 / 127.5 - 1))
        bias = model.encode_task_layer[2].bias
        bias.copy_((bias - inside.mean((0, 1))).half().double())
        d = model(x * 255 / 127.5 - 1, codes.double())
        ids = d.argmin(-1)
        sure(-d, ids, 1e-4)
    ones = torch.ones(2)
    state = f32(model.state_dict())
    state |= {"quantize.cluster_size": torch.ones(K), "quantize.embedding.weight": codes,
              "quantize.embedding.cluster_size": torch.zeros(K), "quantize.embedding.embed_avg": codes.clone(),
              "quantize.embedding.initted": torch.ones(1)}
    state |= {k: ones for k in (
        "decoder.cls_token", "decoder.pos_embed", "decoder.patch_embed.proj.weight",
        "decoder.patch_embed.proj.bias", "decoder.blocks.0.norm1.weight", "decoder.fc_norm.weight",
        "decode_task_layer.0.weight", "decode_task_layer.2.bias", "scaling_layer.shift",
        "scaling_layer.scale", "teacher_model.positional_embedding", "teacher_model.visual.proj",
        "teacher_model.transformer.resblocks.0.ln_1.weight")}
    state |= {"teacher_model.visual.class_embedding": ones, "teacher_model.visual.conv1.weight":
              torch.ones(2, 3, 2, 2)}
    torch.save({"model": state, "epoch": 99}, os.path.join(OUT, "published_vqkd.pth"))
    golden.update({"vqkd.images": x.float(), "vqkd.ids": ids.int()})


make_dalle()
make_vqkd()
save_file({k: v.contiguous() for k, v in golden.items()}, os.path.join(OUT, "published_golden.safetensors"))
