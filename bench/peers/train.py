#!/usr/bin/env python3
"""Training steps of Tacit and of PyTorch in turns, in one run.

    python train.py [--net vit|mae|resnet18|resnet50] [--turns N] [--batch N] [--threads N]
                    [--tacit PATH]

A turn is one step of each: tacit bench pretrain (a process of its own, whose first step is not
counted), PyTorch eager with its fused attention (ResNets: channels last), and compiled by
torch.compile. The networks are timm's vit_small_patch16_224, facebookresearch/mae's with a decoder of
4 blocks of 256, torchvision's ResNets (18: with the stem for CIFAR); fp32, AdamW (fused). Prints the median of each, and of the ratios turn by turn.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "reference"))
from chain import timm, torchvision  # noqa: E402
from timm.models.vision_transformer import Block  # noqa: E402


class MaskedAutoencoder(torch.nn.Module):
    """The arithmetic of models_mae.py; positions are zeros, which costs the same."""

    def __init__(self, dim=384, depth=12, heads=6, dec_dim=256, dec_depth=4, dec_heads=8):
        super().__init__()
        self.patch_embed = torch.nn.Conv2d(3, dim, 16, 16)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, dim))
        self.mask_token = torch.nn.Parameter(torch.zeros(1, 1, dec_dim))
        self.register_buffer("pos", torch.zeros(1, 197, dim))
        self.register_buffer("dec_pos", torch.zeros(1, 197, dec_dim))
        self.blocks = torch.nn.Sequential(
            *[Block(dim, heads, qkv_bias=True) for _ in range(depth)])
        self.norm = torch.nn.LayerNorm(dim)
        self.decoder_embed = torch.nn.Linear(dim, dec_dim)
        self.decoder_blocks = torch.nn.Sequential(
            *[Block(dec_dim, dec_heads, qkv_bias=True) for _ in range(dec_depth)])
        self.decoder_norm = torch.nn.LayerNorm(dec_dim)
        self.decoder_pred = torch.nn.Linear(dec_dim, 768)

    def forward(self, images):
        n, kept = len(images), 49
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos[:, 1:]
        shuffle = torch.argsort(torch.rand(n, 196), dim=1)
        restore = torch.argsort(shuffle, dim=1)
        x = torch.gather(x, 1, shuffle[:, :kept, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([(self.cls_token + self.pos[:, :1]).expand(n, -1, -1), x], 1)
        x = self.decoder_embed(self.norm(self.blocks(x)))
        tokens = torch.cat([x[:, 1:], self.mask_token.expand(n, 196 - kept, -1)], 1)
        tokens = torch.gather(tokens, 1, restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], tokens], 1) + self.dec_pos
        pred = self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))[:, 1:]
        target = images.reshape(n, 3, 14, 16, 14, 16).permute(0, 2, 4, 3, 5, 1).reshape(n, 196, 768)
        mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        loss = ((pred - (target - mean) / (var + 1e-6) ** 0.5) ** 2).mean(-1)
        mask = torch.ones(n, 196).scatter(1, shuffle[:, :kept], 0)
        return (loss * mask).sum() / mask.sum()


class Features(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = timm.create_model("vit_small_patch16_224", num_classes=0)

    def forward(self, images):
        return self.net.forward_features(images).square().mean()


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


NETS = {"vit": (Features, 224, 32, "vit_small_patch16_224"),
        "mae": (MaskedAutoencoder, 224, 32, "mae vit_small"),
        "resnet18": (lambda: Maps("resnet18"), 32, 128, "resnet18_cifar"),
        "resnet50": (lambda: Maps("resnet50"), 224, 16, "resnet50")}


def peer(net, compiled, batch):
    model = NETS[net][0]()
    images = torch.randn(batch, 3, NETS[net][1], NETS[net][1])
    if net.startswith("resnet"):
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    loss_of = torch.compile(model) if compiled else model

    def step():
        start = time.perf_counter()
        optimiser.zero_grad()
        loss_of(images).backward()
        optimiser.step()
        return time.perf_counter() - start

    return step


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tacit", default=os.path.join(ROOT, "build", "tacit"))
    parser.add_argument("--net", choices=NETS, default="vit")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.batch = args.batch or NETS[args.net][2]
    torch.set_num_threads(args.threads)
    command = [args.tacit, "bench", "pretrain", "--json", "--rounds", "1", "--batch",
               str(args.batch), "--threads", str(args.threads), "--filter",
               NETS[args.net][3]]
    shares = []

    def tacit():
        rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = [r for r in map(json.loads, rows.splitlines()) if
               r["step"].startswith(NETS[args.net][3])]
        shares.append(row[0]["share"])
        return row[0]["time_s"]

    subjects = {"tacit": tacit, "pytorch eager": peer(args.net, False, args.batch),
                "pytorch compiled": peer(args.net, True, args.batch)}
    for name in list(subjects)[1:]:
        subjects[name]()
    times = {name: [] for name in subjects}
    for _ in range(args.turns):
        for name, step in subjects.items():
            times[name].append(step())
    for name, seconds in times.items():
        ratio = statistics.median(s / t for s, t in zip(seconds, times["tacit"]))
        print(f"{name:18} {statistics.median(seconds):7.3f} s ({min(seconds):.3f} to "
              f"{max(seconds):.3f})  {args.batch / statistics.median(seconds):6.2f} images/s  "
              f"{ratio:.2f} x tacit's time")
    print(f"tacit: {100 * statistics.median(shares):.1f} % of the FMA limit in the same turns; "
          f"torch {torch.__version__}, {args.threads} threads, batch {args.batch}")


main()
