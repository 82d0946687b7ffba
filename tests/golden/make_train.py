#!/usr/bin/env python3
"""Makes train_golden.safetensors, for test_train.c: steps of training in double precision.

    python make_train.py ../data

vit: timm's VisionTransformer; the loss is sum(cotangent * normalised tokens). sizes: the same on images
of other sizes, with DINO's positions.
mae: a masked autoencoder as facebookresearch/mae has it (models_mae.py), with given masks.
resnet, bottleneck: ResNets as torchvision has them, of few channels; the loss is sum(cotangent *
features), the optimiser SGD.
mlp: a projector, Linear and BatchNorm1d; the loss is sum(cotangent * output).
For each: initial weights, gradients, weights after three steps on the same batch. The optimisers are
torch.optim's, and the LARS of SimCLR (tf2/lars_optimizer.py), of MoCo v3 (moco/optimizer.py), of apex
(parallel/LARC.py) and of solo-learn (utils/lars.py), written out here. Needs torch, timm, numpy and
safetensors.
"""
import os
import sys
from functools import partial

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
from chain import fill, timm  # noqa: E402
from timm.models.vision_transformer import Block  # noqa: E402

IMAGE, PATCH, DIM, HEADS, MLP, DEPTH, BATCH = 16, 4, 24, 3, 40, 2, 3
DEC_DIM, DEC_HEADS, DEC_MLP, KEPT = 16, 2, 32, 5
PATCHES = (IMAGE // PATCH) ** 2
SIZES = 8, 24
RATES, DECAY = (0.1, 0.2, 0.05), 0.01
golden = {}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def half(x):
    """Values that F16 holds, so that the initial weights are stored small and exactly."""
    return x.half().double()


def put(section, kind, tensors):
    for name, x in tensors.items():
        x = x.detach().contiguous()
        golden[f"{section}.{kind}.{name}"] = x.half() if kind == "init" else x.float().clone()


def norm_free(p, name):
    return p.ndim < 2 or name.endswith(".bias")


def adamw_steps(section, model, loss_of):
    """Gradients and weights after three steps, with MAE's groups (timm's param_groups_weight_decay)."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    put(section, "init", dict(model.named_parameters()))
    optimiser = torch.optim.AdamW(
        [{"params": [p for n, p in named if not norm_free(p, n)], "weight_decay": 0.05},
         {"params": [p for n, p in named if norm_free(p, n)], "weight_decay": 0.0}],
        lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    for step in range(3):
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()
        if step == 0:
            put(section, "grad", {n: p.grad for n, p in named})
            golden[f"{section}.loss"] = loss.detach().float().reshape(1)
        optimiser.step()
    put(section, "after", dict(named))


def vit_model():
    model = timm.models.VisionTransformer(img_size=IMAGE, patch_size=PATCH, embed_dim=DIM,
                                          depth=DEPTH, num_heads=HEADS, mlp_ratio=MLP / DIM,
                                          num_classes=0, global_pool="token").double()
    fill(model, 3)
    for p in model.parameters():
        p.data = half(p.data)
    return model


def make_vit(images):
    model = vit_model()
    cotangent = half(torch.randn(BATCH, 1 + PATCHES, DIM, generator=generator(5)))
    golden["vit.cotangent"] = cotangent.half()
    adamw_steps("vit", model, lambda: (model.forward_features(images) * cotangent).sum())


def dino_positions(pos_embed, side):
    """interpolate_pos_encoding of facebookresearch/dino's vision_transformer.py, for side x side patches."""
    grid, dim = round((pos_embed.shape[1] - 1) ** 0.5), pos_embed.shape[2]
    if side == grid:
        return pos_embed
    factor = (side + 0.1) / grid
    patches = torch.nn.functional.interpolate(
        pos_embed[:, 1:].reshape(1, grid, grid, dim).permute(0, 3, 1, 2),
        scale_factor=(factor, factor), mode="bicubic")
    assert patches.shape[-2:] == (side, side)
    return torch.cat((pos_embed[:, :1], patches.permute(0, 2, 3, 1).reshape(1, -1, dim)), dim=1)


def make_sizes():
    """The same ViT on images of other sizes, as DINO's crops; the gradients are of all sizes together."""
    model, loss = vit_model(), 0
    for seed, size in enumerate(SIZES, 20):
        side = size // PATCH
        x = half(torch.randn(BATCH, 3, size, size, generator=generator(seed)))
        cotangent = half(torch.randn(BATCH, 1 + side * side, DIM, generator=generator(seed + 10)))
        tokens = torch.cat([model.cls_token.expand(BATCH, -1, -1),
                            model.patch_embed.proj(x).flatten(2).transpose(1, 2)], dim=1)
        y = model.norm(model.blocks(tokens + dino_positions(model.pos_embed, side)))
        loss = loss + (y * cotangent).sum()
        golden[f"sizes.{size}.images"], golden[f"sizes.{size}.cotangent"] = x.half(), cotangent.half()
        golden[f"sizes.{size}.y"] = y.detach().float()
    loss.backward()
    names = "pos_embed", "cls_token", "patch_embed.proj.weight", "blocks.1.attn.proj.weight"
    put("sizes", "grad", {n: p.grad for n, p in model.named_parameters() if n in names})


def sincos(dim, grid):
    """util/pos_embed.py of facebookresearch/mae, in double."""
    w, h = np.meshgrid(np.arange(grid, dtype=np.float64), np.arange(grid, dtype=np.float64))
    omega = 1.0 / 10000 ** (np.arange(dim // 4, dtype=np.float64) / (dim / 4.0))
    parts = [f(m.reshape(-1)[:, None] * omega) for m in (w, h) for f in (np.sin, np.cos)]
    table = np.concatenate([np.zeros((1, dim)), np.concatenate(parts, axis=1)])
    return torch.from_numpy(table)[None]


class MaskedAutoencoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layer_norm = partial(torch.nn.LayerNorm, eps=1e-6)
        self.patch_embed = timm.models.vision_transformer.PatchEmbed(IMAGE, PATCH, 3, DIM)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = torch.nn.Parameter(sincos(DIM, IMAGE // PATCH), requires_grad=False)
        self.blocks = torch.nn.ModuleList(
            [Block(DIM, HEADS, MLP / DIM, qkv_bias=True, norm_layer=layer_norm)
             for _ in range(DEPTH)])
        self.norm = layer_norm(DIM)
        self.decoder_embed = torch.nn.Linear(DIM, DEC_DIM)
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 1, DEC_DIM))
        self.decoder_pos_embed = torch.nn.Parameter(sincos(DEC_DIM, IMAGE // PATCH),
                                                    requires_grad=False)
        self.decoder_blocks = torch.nn.ModuleList(
            [Block(DEC_DIM, DEC_HEADS, DEC_MLP / DEC_DIM, qkv_bias=True, norm_layer=layer_norm)])
        self.decoder_norm = layer_norm(DEC_DIM)
        self.decoder_pred = torch.nn.Linear(DEC_DIM, 3 * PATCH * PATCH)

    def forward(self, images, shuffle):
        restore = torch.argsort(shuffle, dim=1)
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        x = torch.gather(x, 1, shuffle[:, :KEPT, None].expand(-1, -1, DIM))
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))
        x_ = torch.cat([x[:, 1:], self.mask_token.expand(len(x), PATCHES - KEPT, -1)], dim=1)
        x_ = torch.gather(x_, 1, restore[:, :, None].expand(-1, -1, DEC_DIM))
        x = torch.cat([x[:, :1], x_], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        pred = self.decoder_pred(self.decoder_norm(x))[:, 1:]

        grid = IMAGE // PATCH
        target = images.reshape(-1, 3, grid, PATCH, grid, PATCH)
        target = torch.einsum("nchpwq->nhwpqc", target).reshape(-1, PATCHES, 3 * PATCH * PATCH)
        mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        target = (target - mean) / (var + 1e-6) ** 0.5
        mask = torch.ones_like(pred[:, :, 0])
        mask.scatter_(1, shuffle[:, :KEPT], 0)
        return (((pred - target) ** 2).mean(-1) * mask).sum() / mask.sum()


def make_mae(images):
    model = MaskedAutoencoder().double()
    g = generator(6)
    for name, p in model.named_parameters():
        if "pos_embed" not in name:
            gain = name.endswith("weight") and p.ndim == 1
            p.data = half(torch.randn(p.shape, generator=g) * 0.15 + (1.0 if gain else 0.0))
    shuffle = torch.stack([torch.randperm(PATCHES, generator=g) for _ in range(BATCH)])
    golden["mae.keep"] = shuffle[:, :KEPT].int().contiguous()
    golden["mae.mask"] = shuffle[:, KEPT:].int().contiguous()
    adamw_steps("mae", model, lambda: model(images, shuffle))
    for name in "pos_embed", "decoder_pos_embed":
        del golden[f"mae.init.{name}"]
        golden[f"mae.{name}"] = getattr(model, name).detach().float()


class Residual(torch.nn.Module):
    """torchvision's BasicBlock, or with deep its Bottleneck (stride on the 3 x 3)."""

    def __init__(self, ins, width, out, stride, deep):
        super().__init__()
        sizes = ([(ins, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)] if deep else
                 [(ins, width, 3, stride), (width, out, 3, 1)])
        self.parts = len(sizes)
        for i, (a, b, kernel, step) in enumerate(sizes, 1):
            setattr(self, f"conv{i}", torch.nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", torch.nn.BatchNorm2d(b))
        if stride != 1 or ins != out:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(ins, out, 1, stride, bias=False), torch.nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.parts + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.parts else y
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class ResNet(torch.nn.Module):
    def __init__(self, deep):
        super().__init__()
        self.deep, ins = deep, 5
        self.conv1 = torch.nn.Conv2d(3, ins, *((7, 2, 3) if deep else (3, 1, 1)), bias=False)
        self.bn1 = torch.nn.BatchNorm2d(ins)
        for s in range(4):
            width = 4 + s
            out = (7 if deep else 5) + 2 * s
            blocks = [Residual(ins, width, out, 2 if s else 1, deep)]
            if s == 1:
                blocks.append(Residual(out, width, out, 1, deep))
            setattr(self, f"layer{s + 1}", torch.nn.Sequential(*blocks))
            ins = out

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        if self.deep:
            x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
        for s in range(4):
            x = getattr(self, f"layer{s + 1}")(x)
        return x.mean((2, 3))


def make_resnet(section, deep):
    net = ResNet(deep).double()
    g = generator(12)
    for name, p in net.named_parameters():
        middle = 0 if p.ndim > 1 else 1 if name.endswith("weight") else -0.25  # so that ReLU shuts
        p.data = half(torch.randn(p.shape, generator=g) * 0.3 + middle)
    side = (34, 38) if deep else (12, 10)
    x = half(torch.randn(BATCH, 3, *side, generator=generator(13)))
    golden[f"{section}.images"] = x.half()
    cotangent = half(torch.randn(BATCH, 13 if deep else 11, generator=generator(14)))
    golden[f"{section}.cotangent"] = cotangent.half()
    put(section, "init", dict(net.named_parameters()))
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=DECAY)
    for step in range(3):
        sgd.zero_grad()
        y = net(x)
        (y * cotangent).sum().backward()
        if step == 0:
            golden[f"{section}.y"] = y.detach().float()
            put(section, "grad", {n: p.grad for n, p in net.named_parameters()})
        sgd.step()
    put(section, "after", dict(net.named_parameters()))
    golden[f"{section}.running"] = net.layer2[0].bn1.running_var.float()


def lars_rate(p, v, rate, plain, coefficient=0.001):
    """SimCLR's LARSOptimizer, classic_momentum."""
    g = p.grad + (0 if plain else DECAY * p)
    trust = 1.0
    if not plain:
        w_norm, g_norm = p.norm(), g.norm()
        trust = coefficient * w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0
    v.mul_(0.9).add_(g * trust * rate)
    p.sub_(v)


def lars(p, v, rate, plain):
    """moco-v3's LARS."""
    dp = p.grad
    if not plain:
        dp = dp + DECAY * p
        w_norm, u_norm = p.norm(), dp.norm()
        dp = dp * (0.001 * w_norm / u_norm if w_norm > 0 and u_norm > 0 else 1.0)
    v.mul_(0.9).add_(dp)
    p.sub_(rate * v)


def larc(p, v, rate, plain, clip=False, trust=0.001):
    """apex's LARC around SGD; with clip solo-learn's, which leaves biases and norms out."""
    g, w_norm, g_norm = p.grad, p.norm(), p.grad.norm()
    if not (clip and plain) and w_norm != 0 and g_norm != 0:
        a = trust * w_norm / (g_norm + DECAY * w_norm + 1e-8)
        g = min(a / rate, 1) * (g + DECAY * p) if clip else a * (g + DECAY * p)
    v.mul_(0.9).add_(g)
    p.sub_(rate * v)


def make_mlp():
    def projector():
        n = torch.nn
        net = n.Sequential(n.Linear(DIM, 20, bias=False), n.BatchNorm1d(20), n.ReLU(),
                           n.Linear(20, 32), n.BatchNorm1d(32), n.ReLU(),
                           n.Linear(32, 16, bias=False), n.BatchNorm1d(16, affine=False)).double()
        g = generator(8)
        for name, p in net.named_parameters():
            p.data = half(torch.randn(p.shape, generator=g) * 0.3 + 0.5)
        return net

    x = half(torch.randn(13, DIM, generator=generator(9))).requires_grad_()
    cotangent = half(torch.randn(13, 16, generator=generator(10)))
    golden["mlp.x"], golden["mlp.cotangent"] = x.detach().half(), cotangent.half()

    def backward(net):
        net.zero_grad()
        x.grad = None
        y = net(x)
        (y * cotangent).sum().backward()
        return y

    net = projector()
    put("mlp", "init", dict(net.named_parameters()))
    golden["mlp.y"] = backward(net).detach().float()
    golden["mlp.dx"] = x.grad.float()
    put("mlp", "grad", {n: p.grad for n, p in net.named_parameters()})
    golden.update({f"mlp.{n}": b.float() for n, b in net.named_buffers() if "running" in n})

    for kind in "sgd", "nesterov", "lars_rate", "lars", "larc", "larc_clip":
        net = projector()
        state = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
        sgd = torch.optim.SGD(net.parameters(), lr=1, momentum=0.9, weight_decay=DECAY,
                              nesterov=kind == "nesterov")
        for rate in RATES:
            backward(net)
            if kind in ("sgd", "nesterov"):
                sgd.param_groups[0]["lr"] = rate
                sgd.step()
                continue
            with torch.no_grad():
                for n, p in net.named_parameters():
                    rule = {"lars_rate": lars_rate, "lars": lars, "larc": larc,
                            "larc_clip": lambda *a: larc(*a, clip=True, trust=0.02)}[kind]
                    rule(p, state[n], rate, p.ndim < 2)
        put("mlp", kind, dict(net.named_parameters()))


if __name__ == "__main__":
    images = half(torch.randn(BATCH, 3, IMAGE, IMAGE, generator=generator(4)))
    golden["images"] = images.half()
    make_vit(images)
    make_sizes()
    make_mae(images)
    make_mlp()
    make_resnet("resnet", False)
    make_resnet("bottleneck", True)
    save_file(golden, os.path.join(sys.argv[1], "train_golden.safetensors"))
