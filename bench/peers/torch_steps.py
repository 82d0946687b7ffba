#!/usr/bin/env python3
"""PyTorch's side of train.py: one network in one configuration; stays alive, does a step a line.

    python torch_steps.py NET BATCH THREADS [channels-last] [compiled]

The networks are timm's vit_small_patch16_224 to its class token, facebookresearch/mae's with a
decoder of 4 blocks of 256, torchvision's ResNets (18: with the stem for CIFAR). fp32, fused
attention, fused AdamW, gradients set to None. Two steps are done before the first line, so that
what is compiled is.
"""
import functools
import json
import os
import sys
import time

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(os.path.join(ROOT, "tests", "reference"))
from chain import timm, torchvision  # noqa: E402
from timm.models.vision_transformer import Block  # noqa: E402


class MaskedAutoencoder(torch.nn.Module):
    """The arithmetic of models_mae.py; positions are zeros, which costs the same."""

    def __init__(self, size=224, patch=16, dim=384, depth=12, heads=6, dec_dim=256, dec_depth=4,
                 dec_heads=8):
        super().__init__()
        norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
        self.patch, self.side = patch, size // patch
        self.patches = self.side ** 2
        self.patch_embed = torch.nn.Conv2d(3, dim, patch, patch)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, dim))
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 1, dec_dim))
        self.register_buffer("pos", torch.zeros(1, 1 + self.patches, dim))
        self.register_buffer("dec_pos", torch.zeros(1, 1 + self.patches, dec_dim))
        self.blocks = torch.nn.Sequential(
            *[Block(dim, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)])
        self.norm = norm(dim)
        self.decoder_embed = torch.nn.Linear(dim, dec_dim)
        self.decoder_blocks = torch.nn.Sequential(
            *[Block(dec_dim, dec_heads, qkv_bias=True, norm_layer=norm) for _ in range(dec_depth)])
        self.decoder_norm = norm(dec_dim)
        self.decoder_pred = torch.nn.Linear(dec_dim, 3 * patch ** 2)

    def target(self, images):
        n, side, patch = len(images), self.side, self.patch
        x = images.reshape(n, 3, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1)
        x = x.reshape(n, side * side, 3 * patch ** 2)
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6) ** 0.5

    def forward(self, images, shuffle=None):
        """shuffle: of each image an order of the patches, of which the first stay; None: random."""
        n, patches, kept = len(images), self.patches, self.patches // 4
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos[:, 1:]
        if shuffle is None:
            shuffle = torch.argsort(torch.rand(n, patches), dim=1)
        restore = torch.argsort(shuffle, dim=1)
        x = torch.gather(x, 1, shuffle[:, :kept, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([(self.cls_token + self.pos[:, :1]).expand(n, -1, -1), x], 1)
        x = self.decoder_embed(self.norm(self.blocks(x)))
        tokens = torch.cat([x[:, 1:], self.mask_token.expand(n, patches - kept, -1)], 1)
        tokens = torch.gather(tokens, 1, restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], tokens], 1) + self.dec_pos
        pred = self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))[:, 1:]
        loss = ((pred - self.target(images)) ** 2).mean(-1)
        mask = torch.ones(n, patches).scatter(1, shuffle[:, :kept], 0)
        return (loss * mask).sum() / mask.sum()


class Features(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = timm.create_model("vit_small_patch16_224", num_classes=0)

    def forward(self, images):
        return self.net(images).square().mean()


class Maps(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.net = getattr(torchvision.models, name)()
        self.net.fc = torch.nn.Identity()
        if name == "resnet18":
            self.net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.net.maxpool = torch.nn.Identity()

    def forward(self, images):
        return self.net(images).square().mean()


NETS = {"vit": (Features, 224), "mae": (MaskedAutoencoder, 224),
        "resnet50": (lambda: Maps("resnet50"), 224), "resnet18": (lambda: Maps("resnet18"), 32)}


def main():
    net, batch, threads, *how = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    make, size = NETS[net]
    model, images = make(), torch.randn(int(batch), 3, size, size)
    if "channels-last" in how:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    loss_of = torch.compile(model) if "compiled" in how else model

    def step():
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss_of(images).backward()
        optimiser.step()
        return time.perf_counter() - start

    def say(what):
        print(json.dumps(what), flush=True)

    step(), step()
    say({"torch": torch.__version__, "timm": timm.__version__})
    for _ in sys.stdin:
        say({"time_s": step()})


if __name__ == "__main__":
    main()
