#!/usr/bin/env python3
"""Makes masks_golden.safetensors, for test_masks.c: a thousand masks of each method by the official
operators, given tacit's draws in place of theirs.

    python make_masks.py ../data

mae: random_masking of facebookresearch/mae (models_mae.py). simmim: MaskGenerator of microsoft/SimMIM
(data/data_simmim.py), of which the map is held. ijepa: MaskCollator of facebookresearch/ijepa
(src/masks/multiblock.py), written out in make_pretrain_ijepa.py. Of each case the 64-bit FNV-1a of its
numbers, each as one word: lengths, then patches. Needs torch, timm, numpy and safetensors.
"""
import os
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

import make_pretrain as draws
from make_pretrain_ijepa import block_masks
from make_pretrain_simmim import unit_mask

CASES = 1000
# side, blocks, scale, aspect, context, min_keep: the published, and what makes contexts short
SETTINGS = [
    (14, 4, (0.15, 0.2), (0.75, 1.5), (0.85, 1.0), 10),
    (16, 4, (0.15, 0.2), (0.75, 1.5), (0.85, 1.0), 10),
    (8, 4, (0.15, 0.2), (0.75, 1.5), (0.85, 1.0), 4),
    (8, 6, (0.2, 0.5), (0.75, 1.5), (0.5, 1.0), 6),
    (4, 3, (0.2, 0.45), (0.75, 1.5), (0.85, 1.0), 1),
    (12, 16, (0.15, 0.3), (0.3, 3.0), (0.2, 0.8), 9),
    (7, 1, (0.1, 0.9), (1.0, 1.0), (0.6, 0.7), 2),
    (3, 2, (0.4, 0.6), (0.75, 1.5), (0.5, 1.0), 1),
]
UNITS = [(14, 2, 0.6), (48, 8, 0.6), (8, 2, 0.6), (4, 2, 0.5), (6, 1, 0.75)]  # side, unit, ratio
PATCHES = [(196, 49), (64, 16), (16, 4), (256, 102), (9, 1)]


def fnv(numbers):
    h = 0xCBF29CE484222325
    for n in numbers:
        h = (h ^ int(n)) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return np.uint64(h).astype(np.int64)


def order_of(seed, epoch, sample, n):
    draws.SEED = seed
    return draws.shuffled(epoch, sample, n)


def mae(case):
    n, kept = PATCHES[case % len(PATCHES)]
    order = order_of(case, case % 13, case % 101, n)
    noise = np.empty(n)
    noise[order] = np.arange(n) / n  # draws that sort into this order
    shuffle = torch.argsort(torch.from_numpy(noise))
    return fnv(shuffle.tolist()), kept


def simmim(case):
    side, unit, ratio = UNITS[case % len(UNITS)]
    order = order_of(case, case % 13, case % 101, (side // unit) ** 2)
    return fnv(unit_mask(order, side, unit, ratio).flatten().tolist())


def ijepa(case):
    side, blocks, scale, aspect, context, least = SETTINGS[case % len(SETTINGS)]
    batch = 1 + case % 5
    seen, masks = block_masks(draws, side, blocks, scale, aspect, context, least, case, case % 13,
                              case % 101, [case * 5 + i for i in range(batch)])
    numbers = [seen.shape[1], masks[0].shape[1]] + seen.flatten().tolist()
    return fnv(numbers + torch.stack(masks, 1).flatten().tolist())


if __name__ == "__main__":
    cases = range(CASES)
    save_file({"mae": np.array([mae(c)[0] for c in cases]),
               "simmim": np.array([simmim(c) for c in cases]),
               "ijepa": np.array([ijepa(c) for c in cases])},
              os.path.join(sys.argv[1], "masks_golden.safetensors"))
