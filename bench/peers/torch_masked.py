#!/usr/bin/env python3
"""PyTorch's side of methods.py for methods that mask: as torch_methods.py, whose program it is.

    python torch_masked.py METHOD CONFIG THREADS [channels-last] [plain-attention] [compiled]
    python torch_masked.py METHOD CONFIG THREADS as-published

Steps are those of the published code: microsoft/SimMIM (models/simmim.py), microsoft/unilm
(beit/engine_for_pretraining.py, modeling_pretrain.py), facebookresearch/SlowFast
(slowfast/models/masked.py, operators.py), facebookresearch/ijepa (src/train.py,
src/models/vision_transformer.py), facebookresearch/mae. Networks are timm's, of which BEiT's is
that of microsoft/unilm; attention is PyTorch's scaled_dot_product_attention, with relative biases
as its attn_mask, unless it is to be `plain`: products and a softmax, as published. The moving
average goes through all tensors at once and AdamW is fused. `as-published` has neither, nor
channels last: plain attention, a tensor after the other. BEiT's tokenizer is the DiscreteVAE of
microsoft/unilm, with the weights of the setting `tokenizer`.

Beside CONFIG lie first_weights.safetensors and first_batch.safetensors of bench_methods: the
network begins with the very weights of ours, and what stays in memory for "step" are the very
views of ours and their masks, made beforehand by tests/golden, which no step pays for. So both
sides' first losses are the same but for rounding (not with drop path). Of BEiT the tokenizer's
view, which is another size, is made beforehand, too, as published. "epoch" has masks by the
published samplers, in the workers.
"""
import functools
import math
import os
import random
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from torch_methods import NORMALISE, Method, Views, main, utils, view_of, vit_sizes
from torch_steps import ROOT, Block, MaskedAutoencoder
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer

sys.path.append(os.path.join(ROOT, "tests", "golden"))
import make_pretrain as draws  # noqa: E402
from make_pretrain_ijepa import block_mask, block_masks, block_size  # noqa: E402
from make_pretrain_maskfeat import Draws, MaskingGenerator  # noqa: E402
from make_pretrain_simmim import unit_mask  # noqa: E402


# ---- masks: called by the published draws, first() by ours, for samples of the first step

class Units:
    """SimMIM's: (side, side), true where masked."""

    def __init__(self, c, side):
        self.side, self.unit = side, c.whole("mask_unit") // vit_sizes(c)["patch_size"]
        self.ratio, self.squares = c("mask_ratio"), (side // self.unit) ** 2

    def of(self, order):
        return unit_mask(order, self.side, self.unit, self.ratio).bool()

    def __call__(self):
        return self.of(torch.randperm(self.squares))

    def first(self, seed, samples):
        draws.SEED = seed
        return torch.stack([self.of(draws.shuffled(0, s, self.squares)) for s in samples])


class Blockwise:
    """BEiT's and MaskFeat's: the same."""

    class Chance:
        uniform, randint = staticmethod(random.uniform), staticmethod(random.randint)

        def attempt(self):
            pass

    def __init__(self, side, count, least):
        self.generate = MaskingGenerator(side, 0)
        self.generate.count, self.generate.least = count, least

    def of(self, chance):
        return torch.from_numpy(self.generate(chance)).bool()

    def __call__(self):
        return self.of(self.Chance())

    def first(self, seed, samples):
        return torch.stack([self.of(Draws(draws.philox, seed, 0, s)) for s in samples])


class Orders:
    """MAE's: an order of the patches."""

    def __init__(self, patches):
        self.patches = patches

    def __call__(self):
        return torch.randperm(self.patches)

    def first(self, seed, samples):
        draws.SEED = seed
        return torch.tensor([draws.shuffled(0, s, self.patches) for s in samples])


class Blocks:
    """I-JEPA's, of a batch: the contexts' patches, and a list of the blocks'."""

    def __init__(self, c, side):
        self.side, self.blocks, self.least = side, c.whole("target_blocks"), c.whole("min_keep")
        self.scale, self.aspect, self.context = (
            (c(name + "_min"), c(name + "_max")) for name in ("target", "aspect", "context"))

    def __call__(self):
        return 0  # there is no mask of one image

    def batch(self, images):
        size = block_size(random.random(), self.side, self.scale, self.aspect)
        context = block_size(random.random(), self.side, self.context, (1.0, 1.0))
        seen, asked = [], []
        for _ in range(images):
            pairs = [block_mask(random.randrange, self.side, size, self.least, [])
                     for _ in range(self.blocks)]
            asked.append([patches for patches, _ in pairs])
            seen.append(block_mask(random.randrange, self.side, context, self.least,
                                   [others for _, others in pairs])[0])
        shortest = min(len(s) for s in seen)
        return (torch.stack([s[:shortest] for s in seen]),
                [torch.stack(block) for block in zip(*asked)])

    def first(self, seed, samples):
        return block_masks(draws, self.side, self.blocks, self.scale, self.aspect, self.context,
                           self.least, seed, 0, 0, samples)


class MaskedViews(Views):
    """The view of a picture, and its mask."""

    def __init__(self, c, masks):
        super().__init__(c)
        self.masks = masks
        self.views = [view_of(c, vit_sizes(c)["img_size"], (c("crop_min"), c("crop_max")))]

    def __getitem__(self, i):
        return super().__getitem__(i)[0], self.masks()

    def collate(self, items):
        views, masks = default_collate(items)
        return views, self.masks.batch(len(items)) if isinstance(self.masks, Blocks) else masks


# ---- methods

class Masked(Method):
    """masks: of the images. names: how a tensor here begins, and as what in our file."""
    published = False
    names = (("encoder.", ""), ("patch_embed.weight", "patch_embed.proj.weight"),
             ("patch_embed.bias", "patch_embed.proj.bias"))

    def __init__(self, c):
        super().__init__()
        c.need("accumulate", "1")
        self.folder, self.seed, self.sizes = c.folder, c.whole("seed"), vit_sizes(c)
        self.side = self.sizes["img_size"] // self.sizes["patch_size"]

    def images(self, c):
        return MaskedViews(c, self.masks)

    def first(self, loader):
        batch = load_file(os.path.join(self.folder, "first_batch.safetensors"))
        return [batch["view.0"]], self.masks.first(self.seed, batch["samples"].tolist())

    def towers(self):
        return list(self.children())

    def name_of(self, name):
        for here, ours in self.names:
            if name.startswith(here):
                name = ours + name.removeprefix(here)
        return name

    @torch.no_grad()
    def begin(self):
        """With our weights, all of them."""
        weights = load_file(os.path.join(self.folder, "first_weights.safetensors"))
        left = set(weights)
        for name, to in self.state_dict().items():
            name = self.name_of(name)
            ours, part = name, slice(None)
            for end, which in ("q_bias", 0), ("v_bias", 2):
                if name.endswith(end):
                    ours = name.removesuffix(end) + "qkv.bias"
                    part = slice(which * len(to), (which + 1) * len(to))
            ours = ours.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
            to.copy_(weights[ours][part].reshape(to.shape))
            left.discard(ours)
        if left:
            sys.exit(f"torch_masked.py: {', '.join(sorted(left))}: not in this network")


def masked_tokens(tokens, mask, token):
    """The mask token in place of what is masked."""
    w = mask.flatten(1).unsqueeze(-1).type_as(tokens)
    return tokens * (1 - w) + token * w


class RelativeVit(Beit):
    def __init__(self, c):
        super().__init__(**vit_sizes(c), num_classes=0, global_pool="token",
                         use_abs_pos_emb=False, use_shared_rel_pos_bias=True,
                         init_values=c("layer_scale") or None, drop_path_rate=c("drop_path"))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dim))

    def forward(self, images, mask):
        x = masked_tokens(self.patch_embed(images), mask, self.mask_token)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        bias = self.rel_pos_bias()
        for block in self.blocks:
            x = block(x, shared_rel_pos_bias=bias)
        return self.norm(x)[:, 1:]


class SimMIM(Masked):
    def __init__(self, c, channels_last):
        super().__init__(c)
        self.patch, self.masks = self.sizes["patch_size"], Units(c, self.side)
        self.encoder = RelativeVit(c)
        self.decoder = nn.Sequential(nn.Conv2d(self.sizes["embed_dim"], self.patch ** 2 * 3, 1),
                                     nn.PixelShuffle(self.patch))
        self.begin()

    def loss(self, views, masks):
        z = self.encoder(views[0], masks).permute(0, 2, 1)
        made = self.decoder(z.reshape(*z.shape[:2], self.side, self.side))
        masks = masks.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)
        masks = masks.unsqueeze(1).contiguous()
        apart = F.l1_loss(views[0], made, reduction="none")
        return (apart * masks).sum() / (masks.sum() + 1e-5) / 3


class ResBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
                                 nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
                                 nn.Conv2d(width, width, 1))

    def forward(self, x):
        return self.net(x) + x


class Tokenizer(nn.Module):
    """The encoder of a discrete VAE, of a file of tacit tokenizer train dvae."""

    def __init__(self, c):
        super().__init__()
        with safe_open(c["tokenizer"], "pt") as f:
            note = f.metadata()
            weights = {n: f.get_tensor(n) for n in f.keys() if n.startswith("encoder.")}
        if note["method"] != "dvae":
            sys.exit(f"torch_masked.py: a tokenizer by {note['method']}, only dvae is done here")
        text = dict(line.split(" = ", 1) for line in note["config"].splitlines() if " = " in line)
        self.size, self.codes, hidden = (int(text[key]) for key in ("size", "codes", "hidden"))
        layers, width = [], 3
        for _ in range(int(text["stages"])):
            layers += [nn.Sequential(nn.Conv2d(width, hidden, 4, stride=2, padding=1), nn.ReLU()),
                       ResBlock(hidden)]
            width = hidden
        self.encoder = nn.Sequential(*layers, nn.Conv2d(hidden, self.codes, 1))
        self.load_state_dict(weights)
        utils.deactivate_requires_grad(self)
        (mean, std), (its_mean, its_std) = (
            [torch.tensor(v).view(3, 1, 1) for v in NORMALISE[name]]
            for name in (c["normalise"], text["normalise"]))
        self.scale, self.shift = std / its_std, (mean - its_mean) / its_std

    def view(self, images):
        images = images * self.scale + self.shift
        if images.shape[-1] == self.size:
            return images
        return F.interpolate(images, size=self.size, mode="bicubic", antialias=True)

    @torch.no_grad()
    def forward(self, images):
        return self.encoder(images).argmax(1).flatten(1)


class BEiT(Masked):
    def __init__(self, c, channels_last):
        super().__init__(c)
        tokenizer = Tokenizer(c)
        self.masks = Blockwise(self.side, c.whole("mask_patches"), c.whole("mask_least"))
        self.encoder = RelativeVit(c)
        self.lm_head = nn.Linear(self.sizes["embed_dim"], tokenizer.codes)
        self.begin()
        self.tokenizer = tokenizer

    def arrange(self, views, masks):
        return [*views, self.tokenizer.view(views[0])], masks.flatten(1)

    def loss(self, views, masks):
        words = self.tokenizer(views[1])[masks]
        return F.cross_entropy(self.lm_head(self.encoder(views[0], masks)[masks]), words)


class Hog(nn.Module):
    """HOGLayerC without a window, of nine bins."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        x = torch.tensor([[1., 0, -1], [2, 0, -2], [1, 0, -1]]).view(1, 1, 3, 3).repeat(3, 1, 1, 1)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", x.transpose(2, 3), persistent=False)

    @torch.no_grad()
    def forward(self, images):
        images = F.pad(images, (1, 1, 1, 1), mode="reflect")
        x, y = F.conv2d(images, self.x, groups=3), F.conv2d(images, self.y, groups=3)
        length = torch.stack([x, y], -1).norm(dim=-1).unsqueeze(2)
        phase = (torch.atan2(x, y) / math.pi * 9).unsqueeze(2)
        bins = torch.zeros(len(x), 3, 9, *x.shape[2:])
        bins.scatter_add_(2, phase.floor().long() % 9, length)
        cells = bins.unfold(3, self.cell, self.cell).unfold(4, self.cell, self.cell)
        return F.normalize(cells.sum(dim=[-1, -2]), p=2, dim=2)


class MaskedVit(VisionTransformer):
    def __init__(self, c):
        super().__init__(**vit_sizes(c), num_classes=0, drop_path_rate=c("drop_path"))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dim))

    def forward(self, images, mask):
        x = masked_tokens(self.patch_embed(images), mask, self.mask_token)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 1:]


class MaskFeat(Masked):
    def __init__(self, c, channels_last):
        super().__init__(c)
        c.need("target", "hog")
        count, cell = round(self.side ** 2 * c("mask_ratio")), c.whole("cell")
        self.masks = Blockwise(self.side, count, count // 5)
        self.hog, self.cells = Hog(cell), self.sizes["patch_size"] // cell
        self.encoder = MaskedVit(c)
        self.pred_head = nn.Linear(self.sizes["embed_dim"], 27 * self.cells ** 2)
        self.begin()

    def labels(self, images, mask):
        hog, n = self.hog(images).flatten(1, 2).permute(0, 2, 3, 1), self.cells
        return hog.unfold(1, n, n).unfold(2, n, n).flatten(1, 2).flatten(2)[mask]

    def loss(self, views, masks):
        masks = masks.flatten(1)
        made = self.pred_head(self.encoder(views[0], masks)[masks])
        return F.mse_loss(made, self.labels(views[0], masks))


def apply_mask(x, mask):
    return torch.gather(x, 1, mask[..., None].expand(-1, -1, x.shape[-1]))


class JepaEncoder(VisionTransformer):
    def __init__(self, c):
        super().__init__(**vit_sizes(c), num_classes=0, class_token=False, global_pool="",
                         drop_path_rate=c("drop_path"))
        self.pos_embed.requires_grad_(False)

    def forward(self, images, mask=None):
        x = self.patch_embed(images) + self.pos_embed
        return self.norm(self.blocks(x if mask is None else apply_mask(x, mask)))


class Predictor(nn.Module):
    def __init__(self, c, width, heads, patches):
        super().__init__()
        dim, norm = c.whole("predictor_dim"), functools.partial(nn.LayerNorm, eps=1e-6)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.predictor_embed = nn.Linear(width, dim)
        self.predictor_pos_embed = nn.Parameter(torch.zeros(1, patches, dim), requires_grad=False)
        self.predictor_blocks = nn.Sequential(
            *[Block(dim, c.whole("predictor_heads") or heads, qkv_bias=True, norm_layer=norm)
              for _ in range(c.whole("predictor_depth"))])
        self.predictor_norm = norm(dim)
        self.predictor_proj = nn.Linear(dim, width)

    def forward(self, x, seen, masks):
        positions = self.predictor_pos_embed.expand(len(x), -1, -1)
        x = self.predictor_embed(x) + apply_mask(positions, seen)
        asked = torch.cat([self.mask_token + apply_mask(positions, m) for m in masks])
        x = torch.cat([x.repeat(len(masks), 1, 1), asked], 1)
        return self.predictor_proj(self.predictor_norm(self.predictor_blocks(x))[:, seen.shape[1]:])


class IJepa(Masked):
    names = (("encoder.", ""), ("predictor.", ""), ("target.", "teacher."))

    def __init__(self, c, channels_last):
        super().__init__(c)
        c.need("norm_targets", "true")
        self.masks, self.momentum = Blocks(c, self.side), c("target_momentum")
        self.encoder, self.target = self.twin(lambda still: JepaEncoder(c))
        self.predictor = Predictor(c, self.sizes["embed_dim"], self.sizes["num_heads"],
                                   self.side ** 2)
        self.begin()

    def loss(self, views, masks):
        seen, blocks = masks
        with torch.no_grad():
            h = self.target(views[0])
            h = F.layer_norm(h, h.shape[-1:])
            h = torch.cat([apply_mask(h, m) for m in blocks])
        return F.smooth_l1_loss(self.predictor(self.encoder(views[0], seen), seen, blocks), h)

    @torch.no_grad()
    def after(self):
        ema, trained = list(self.target.parameters()), list(self.encoder.parameters())
        if not self.published:
            torch._foreach_lerp_(ema, trained, 1 - self.momentum)
            return
        for mean, value in zip(ema, trained):
            mean.mul_(self.momentum).add_((1 - self.momentum) * value)


class MAE(Masked):
    names = (*Masked.names, ("pos", "pos_embed"), ("dec_pos", "decoder_pos_embed"))

    def __init__(self, c, channels_last):
        super().__init__(c)
        c.need("mask_ratio", "0.75")
        c.need("norm_pixels", "true")
        self.masks, s = Orders(self.side ** 2), self.sizes
        self.encoder = MaskedAutoencoder(
            s["img_size"], s["patch_size"], s["embed_dim"], s["depth"], s["num_heads"],
            *(c.whole("decoder_" + name) for name in ("dim", "depth", "heads")))
        self.begin()

    def loss(self, views, masks):
        return self.encoder(views[0], masks)


METHODS = {"simmim": SimMIM, "maskfeat": MaskFeat, "beit": BEiT, "ijepa": IJepa, "mae": MAE}


if __name__ == "__main__":
    main(METHODS)
