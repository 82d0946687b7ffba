"""I-JEPA's part of make_pretrain.py: facebookresearch/ijepa, src/train.py, src/models/vision_transformer.py,
src/masks/multiblock.py, src/utils/schedulers.py, on one process, with the masks' draws tacit's."""

import math
from functools import partial

import torch
from make_train import generator, half, sincos
from timm.models.vision_transformer import Block

N = torch.nn
IMAGE, PATCH, DIM, HEADS, DEPTH, NARROW = 16, 4, 24, 3, 2, 12
SIDE = IMAGE // PATCH
BLOCKS, SCALE, ASPECT, CONTEXT, MIN_KEEP = 3, (0.2, 0.45), (0.75, 1.5), (0.85, 1.0), 1
RATES, DECAYS, MOMENTUM = (2e-4, 2e-3, 1e-6), (0.04, 0.4), 0.9
norm_layer = partial(N.LayerNorm, eps=1e-6)


def block_size(rand, side, scale, aspect):
    """MaskCollator._sample_block_size."""
    keep = int(side * side * (scale[0] + rand * (scale[1] - scale[0])))
    ratio = aspect[0] + rand * (aspect[1] - aspect[0])
    h, w = int(round(math.sqrt(keep * ratio))), int(round(math.sqrt(keep / ratio)))
    return min(h, side - 1), min(w, side - 1)


def block_mask(randint, side, size, min_keep, regions):
    """MaskCollator._sample_block_mask: the patches, and all that are not in the whole block."""
    h, w = size
    tries, timeout = 0, 20
    while True:
        top, left = randint(side - h), randint(side - w)
        mask = torch.zeros((side, side), dtype=torch.int32)
        mask[top:top + h, left:left + w] = 1
        complement = 1 - mask
        for region in regions[:max(len(regions) - tries, 0)]:
            mask = mask * region
        patches = torch.nonzero(mask.flatten()).flatten()
        if len(patches) > min_keep:
            return patches, complement
        timeout -= 1
        if timeout == 0:
            tries, timeout = tries + 1, 20


def block_masks(to, side, blocks, scale, aspect, context, min_keep, seed, epoch, step, samples):
    """MaskCollator.__call__: (batch, kept) and blocks of (batch, asked). to: make_pretrain, for its draws."""
    def stream(index, use):
        w = to.philox(seed, epoch << 8 | use, [index])[0]
        return int(w[0]) << 32 | int(w[1])

    rands = [(int(w) >> 8) * 2.0 ** -24 for w in to.words(seed, stream(step, 7), 2)]
    p_size = block_size(rands[0], side, scale, aspect)
    e_size = block_size(rands[1], side, context, (1.0, 1.0))
    predicted, seen = [], []
    for sample in samples:
        draws = iter(to.words(seed, stream(sample, 1), 2048))
        randint = lambda n: int(next(draws)) * n >> 32
        pairs = [block_mask(randint, side, p_size, min_keep, []) for _ in range(blocks)]
        predicted.append([p for p, _ in pairs])
        seen.append(block_mask(randint, side, e_size, min_keep, [c for _, c in pairs])[0])
    shortest = min(len(s) for s in seen)
    return (torch.stack([s[:shortest] for s in seen]),
            [torch.stack([p[b] for p in predicted]) for b in range(blocks)])


def apply_mask(x, mask):
    return torch.gather(x, 1, mask[..., None].expand(-1, -1, x.shape[-1]))


class Encoder(N.Module):
    def __init__(self):
        super().__init__()
        self.pos_embed = N.Parameter(sincos(DIM, SIDE)[:, 1:], requires_grad=False)
        self.patch_embed = N.Module()
        self.patch_embed.proj = N.Conv2d(3, DIM, PATCH, PATCH)
        self.blocks = N.Sequential(*[Block(DIM, HEADS, 4, qkv_bias=True, norm_layer=norm_layer)
                                     for _ in range(DEPTH)])
        self.norm = norm_layer(DIM)

    def forward(self, x, mask=None):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
        if mask is not None:
            x = apply_mask(x, mask)
        return self.norm(self.blocks(x))


class Predictor(N.Module):
    def __init__(self):
        super().__init__()
        self.mask_token = N.Parameter(torch.zeros(1, 1, NARROW))
        self.predictor_embed = N.Linear(DIM, NARROW)
        self.predictor_pos_embed = N.Parameter(sincos(NARROW, SIDE)[:, 1:], requires_grad=False)
        self.predictor_blocks = N.Sequential(Block(NARROW, HEADS, 4, qkv_bias=True,
                                                   norm_layer=norm_layer))
        self.predictor_norm = norm_layer(NARROW)
        self.predictor_proj = N.Linear(NARROW, DIM)

    def forward(self, x, seen, masks):
        pos = self.predictor_pos_embed.expand(len(x), -1, -1)
        x = self.predictor_embed(x) + apply_mask(pos, seen)
        asked = torch.cat([self.mask_token + apply_mask(pos, m) for m in masks])
        x = torch.cat([x.repeat(len(masks), 1, 1), asked], dim=1)
        return self.predictor_proj(self.predictor_norm(self.predictor_blocks(x))[:, seen.shape[1]:])


def make(to):
    """to: the module that collects, make_pretrain."""
    encoder, predictor, target = Encoder().double(), Predictor().double(), Encoder().double()
    named = {n: p for net in (encoder, predictor) for n, p in net.named_parameters() if p.requires_grad}
    g = generator(71)
    for name, p in named.items():
        norm = p.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        p.data = half(torch.randn(p.shape, generator=g) * (0.1 if norm else 0.3) + middle)
    target.load_state_dict(encoder.state_dict())
    decayed = [p for n, p in named.items() if "bias" not in n and p.ndim != 1]
    plain = [p for n, p in named.items() if "bias" in n or p.ndim == 1]
    adamw = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0}])
    warmup = to.WARMUP * to.EPOCH

    def loss_of(step):
        x, epoch = to.pixels(step, 0, IMAGE), step // to.EPOCH
        seen, masks = block_masks(to, SIDE, BLOCKS, SCALE, ASPECT, CONTEXT, MIN_KEEP, to.SEED, epoch,
                                  step % to.EPOCH, [to.sample(step, i) for i in range(to.BATCH)])
        with torch.no_grad():
            h = torch.nn.functional.layer_norm(target(x), (DIM,))
            h = torch.cat([apply_mask(h, m) for m in masks])
        return torch.nn.functional.smooth_l1_loss(predictor(encoder(x, seen), seen, masks), h)

    def step_of(step):
        s = step + 1  # the schedules count before they compute
        start, base, final = RATES
        rate = start + s / warmup * (base - start)
        if s >= warmup:
            part = (s - warmup) / (to.STEPS - warmup)
            rate = final + (base - final) * 0.5 * (1 + math.cos(math.pi * part))
        for group in adamw.param_groups:
            group["lr"] = rate
        adamw.param_groups[0]["weight_decay"] = (
            DECAYS[1] + (DECAYS[0] - DECAYS[1]) * 0.5 * (1 + math.cos(math.pi * s / to.STEPS)))
        adamw.step()
        m = MOMENTUM + step * (1 - MOMENTUM) / to.STEPS
        with torch.no_grad():
            for q, k in zip(encoder.parameters(), target.parameters()):
                k.mul_(m).add_((1 - m) * q)

    to.train("ijepa", named, loss_of, step_of)
    to.put("ijepa", "teacher", {n: p for n, p in target.named_parameters() if n in named})
