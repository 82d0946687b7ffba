"""MaskFeat's part of make_pretrain.py: facebookresearch/SlowFast, slowfast/models/masked.py, operators.py,
head_helper.py and datasets/imagenet.py, on one process; make_hog.py has its targets and masks alone, too."""

import math
import os

import numpy as np
import torch
from make_train import fill, generator, half, norm_free, timm
from safetensors.torch import save_file

SIDE, CELL, RATIO, CLIP = 4, 2, 0.4, 0.02


class Hog(torch.nn.Module):
    """HOGLayerC without a Gaussian window: length and angle of gradients, bins, sums of cells, l2."""

    def __init__(self, pool, dtype):
        super().__init__()
        self.pool = pool
        x = torch.tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=dtype)
        self.x = x.view(1, 1, 3, 3).repeat(3, 1, 1, 1)
        self.y = self.x.transpose(2, 3)

    def forward(self, x):
        """The histograms, and the bins, 9 where there is no gradient."""
        conv = torch.nn.functional.conv2d
        x = torch.nn.functional.pad(x, pad=(1, 1, 1, 1), mode="reflect")
        gx, gy = conv(x, self.x, groups=3), conv(x, self.y, groups=3)
        norm = torch.stack([gx, gy], dim=-1).norm(dim=-1)
        bins = (torch.atan2(gx, gy) / math.pi * 9).floor().long() % 9
        out = torch.zeros(*norm.shape[:2], 9, *norm.shape[2:], dtype=x.dtype)
        out.scatter_add_(2, bins.unsqueeze(2), norm.unsqueeze(2))
        out = out.unfold(3, self.pool, self.pool).unfold(4, self.pool, self.pool).sum(dim=[-1, -2])
        return torch.nn.functional.normalize(out, p=2, dim=2), torch.where(norm > 0, bins, 9)


class Draws:
    """In the place of `random`: four words for each block that is tried, by a philox."""

    def __init__(self, philox, seed, epoch, sample):
        w = philox(seed, epoch << 8 | 1, [sample])[0]
        self.philox, self.seed, self.stream = philox, seed, int(w[0]) << 32 | int(w[1])
        self.tried = 0

    def attempt(self):
        self.words = iter(self.philox(self.seed, self.stream, [self.tried])[0].tolist())
        self.tried += 1

    def uniform(self, low, high):
        return low + (high - low) * (next(self.words) * 2.0 ** -32)

    def randint(self, low, high):
        return low + (next(self.words) * (high - low + 1) >> 32)


class MaskingGenerator:
    """beit/masking_generator.py of microsoft/unilm, with the least block of SlowFast's imagenet.py."""

    def __init__(self, side, ratio):
        self.side, self.count = side, round(side * side * ratio)
        self.least, self.log_aspect_ratio = self.count // 5, (math.log(0.3), math.log(1 / 0.3))

    def block(self, random, mask, most):
        for _ in range(10):
            random.attempt()
            area = random.uniform(self.least, most)
            aspect = math.exp(random.uniform(*self.log_aspect_ratio))
            h, w = int(round(math.sqrt(area * aspect))), int(round(math.sqrt(area / aspect)))
            if w < self.side and h < self.side:
                top, left = random.randint(0, self.side - h), random.randint(0, self.side - w)
                new = h * w - int(mask[top:top + h, left:left + w].sum())
                if 0 < new <= most:
                    mask[top:top + h, left:left + w] = 1
                    return new
        return 0

    def __call__(self, random):
        mask, count = np.zeros((self.side, self.side), dtype=np.uint8), 0
        while count < self.count:
            new = self.block(random, mask, self.count - count)
            if not new:
                break
            count += new
        return mask


class MaskFeat(timm.models.VisionTransformer):
    def __init__(self, values):
        super().__init__(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, mlp_ratio=4,
                         num_classes=0, global_pool="token")
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 1, 24))
        self.pred_head = torch.nn.Linear(24, values)

    def forward(self, x, mask):
        """_maskfeat_forward: the predictions of masked patches."""
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        float_mask = mask.flatten(1).unsqueeze(-1).to(x.dtype)
        x = x * (1 - float_mask) + self.mask_token.expand(*x.shape[:2], -1) * float_mask
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.pred_head(self.norm(self.blocks(x))[:, 1:][mask.flatten(1)])


def labels(x, mask):
    """_get_hog_label_2d."""
    hog = Hog(CELL, torch.float64)(x)[0].flatten(1, 2)
    n = hog.shape[-1] // SIDE
    hog = hog.permute(0, 2, 3, 1).unfold(1, n, n).unfold(2, n, n).flatten(1, 2).flatten(2)
    return hog[mask.flatten(1)]


# Another normalisation than the network's own, another size, and another grid than its positions'.
FROZEN = dict(img_size=15, patch_size=5, embed_dim=64, depth=1, num_heads=1, mlp_ratio=1, num_classes=0,
              global_pool="token")
CIFAR = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Deep:
    """Paper, section 3.2, deep features: the cosine distance, between what is l2-normalised, of the
    patches of a network that was trained before (here of random weights)."""

    def __init__(self, out):
        weights = timm.models.VisionTransformer(**FROZEN)
        fill(weights, 81)
        weights = {k: v.half() for k, v in weights.state_dict().items()}
        save_file(weights, os.path.join(out, "frozen_weights.safetensors"))
        weights["pos_embed"] = self.positions(weights["pos_embed"].double())
        self.size = SIDE * FROZEN["patch_size"]
        self.net = timm.models.VisionTransformer(**{**FROZEN, "img_size": self.size})
        self.net.double().load_state_dict(weights)
        self.net.eval()

    @staticmethod
    def positions(table):
        """facebookresearch/dino, vision_transformer.py: interpolate_pos_encoding."""
        side = math.isqrt(table.shape[1] - 1)
        grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        grid = torch.nn.functional.interpolate(grid, scale_factor=((SIDE + 0.1) / side,) * 2,
                                               mode="bicubic")
        return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    @torch.no_grad()
    def labels(self, x, mask):
        (mean, std), (its_mean, its_std) = (
            [torch.tensor(v, dtype=x.dtype).view(3, 1, 1) for v in pair] for pair in (CIFAR, IMAGENET))
        x = (x * std + mean - its_mean) / its_std
        x = torch.nn.functional.interpolate(x, size=self.size, mode="bicubic", antialias=True)
        return self.net.forward_features(x)[:, 1:][mask.flatten(1)]


def cosine(x, y):
    x, y = (torch.nn.functional.normalize(v, dim=-1) for v in (x, y))
    return (x - y).square().sum(dim=-1).mean()


def make(to, out):
    run(to, "maskfeat", MaskFeat(27 * (4 // CELL) ** 2), torch.nn.functional.mse_loss, labels, CLIP)
    run(to, "maskfeat-2", MaskFeat(FROZEN["embed_dim"]), cosine, Deep(out).labels, 0.5)


def run(to, section, model, distance, labels_of, clip):
    model, g = model.double(), generator(71)
    for name, p in model.named_parameters():
        gain = name.endswith("weight") and p.ndim == 1
        p.data = half(torch.randn(p.shape, generator=g) * 0.15 + (1.0 if gain else 0.0))
    named = dict(model.named_parameters())
    plain = [p for n, p in named.items() if norm_free(p, n)]
    rest = [p for n, p in named.items() if not norm_free(p, n)]
    adamw = torch.optim.AdamW([{"params": rest, "weight_decay": 0.05},
                               {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.999))
    generate, losses = MaskingGenerator(SIDE, RATIO), []
    to.put(section, "init", named)
    for step in range(to.STEPS):
        x = to.pixels(step, 0, 16)
        mask = torch.from_numpy(np.stack(
            [generate(Draws(to.philox, to.SEED, step // to.EPOCH, to.sample(step, i)))
             for i in range(to.BATCH)])).bool()
        loss = distance(model(x, mask), labels_of(x, mask))
        losses.append(loss.detach())
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        if step == 0:
            to.put(section, "grad", {n: p.grad for n, p in named.items()})
        for group in adamw.param_groups:
            group["lr"] = to.rate_at(step, 2e-3)
        adamw.step()
    to.put(section, "after", named)
    to.golden[f"{section}.losses"] = torch.stack(losses).float()
