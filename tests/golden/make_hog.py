#!/usr/bin/env python3
"""Makes hog_golden.safetensors: 1,000 HOG targets for test_hog.c, and as many block-wise masks for
test_masks.c.

    python make_hog.py ../data

hog: HOGLayerC of facebookresearch/SlowFast (slowfast/models/operators.py, no Gaussian window, as its
image recipe has it), in double, of float32 pixels that the test draws as well (case_of, pixels_of). In
double its gradients are exact and no angle is near enough to a bin's edge to be rounded over it, so bins
can be asked to be equal: `bins` has a hash of each case's, by cells of 1 x 1; `hog` the histograms by
cells. In float32 the operator itself puts 2 % of these pixels elsewhere, all where a gradient across
is 0 but for rounding, so that its sign, and with it the choice of bin 0 or 8, is noise; they are counted.
masks: MaskingGenerator of microsoft/unilm (beit/masking_generator.py), which SlowFast's image recipe
uses with the fifth part of the patches as the least block, with tacit's draws in place of `random`.
"""
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

from make_pretrain import philox, words
from make_pretrain_maskfeat import Draws, Hog, MaskingGenerator

CASES, SEED = 1000, 19
MASK_GRIDS = [(14, 0.4), (8, 0.4), (4, 0.4), (14, 0.6), (16, 0.5)]


def case_of(case):
    """Kind, height, width, cell."""
    w = [int(v) for v in words(SEED, 2 * case, 8)]
    cell = (2, 4, 8, 8)[w[0] % 4]
    return w[1] % 4, cell * (1 + w[2] % 2) + w[3] % cell, cell + w[4] % (cell + cell // 2), cell


def pixels_of(case, kind, height, width):
    w = words(SEED, 2 * case + 1, 3 * height * width + 8)
    bits = w[8:].astype(np.int64).reshape(3, height, width)
    if kind == 0:  # any numbers from -2 to 2
        x = (bits >> 8).astype(np.float32) * np.float32(2.0 ** -22) - np.float32(2)
    elif kind == 1:  # bytes, normalised
        x = ((bits & 255).astype(np.float32) - np.float32(115)) / np.float32(58)
    elif kind == 2:  # few grey levels: flat places, and gradients along an axis
        x = ((bits & 3) * 64).astype(np.float32) / np.float32(58)
    else:  # slopes, one for each channel, every fourth of which is flat in one direction
        a = (w[:3].astype(np.int64) % 7 - 3).reshape(3, 1, 1)
        b = (w[3:6].astype(np.int64) % 7 - 3).reshape(3, 1, 1)
        y, t = np.mgrid[:height, :width]
        x = (a * y + b * t).astype(np.float32) / np.float32(16)
    return torch.from_numpy(x)[None]


def hash_of(bins):
    """FNV-1a, 32 bits."""
    h = 2166136261
    for b in bins.reshape(-1).tolist():
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return h


def make_hog(golden):
    hashes, values, pixels, other = [], [], 0, 0
    for case in range(CASES):
        kind, height, width, cell = case_of(case)
        x = pixels_of(case, kind, height, width)
        out, bins = Hog(cell, torch.float64)(x.double())
        hashes.append(hash_of(bins))
        values.append(out.flatten().float())
        pixels += bins.numel()
        other += int((Hog(cell, torch.float32)(x)[1] != bins).sum())
    golden["bins"] = torch.from_numpy(np.array(hashes, dtype=np.uint32).view(np.int32))
    golden["hog"] = torch.cat(values)
    print(f"{pixels} pixels, {other} of which the operator in float32 puts elsewhere, {len(golden['hog'])} values")


def make_masks(golden):
    packed, short = [], 0
    for case in range(CASES):
        side, ratio = MASK_GRIDS[case % len(MASK_GRIDS)]
        generate = MaskingGenerator(side, ratio)
        mask = generate(Draws(philox, SEED, 3, case))
        short += int(mask.sum()) < generate.count
        packed.append(np.packbits(mask.reshape(-1), bitorder="little"))
    golden["masks"] = torch.from_numpy(np.concatenate(packed))
    print(f"{short} of {CASES} masks are short of their number")


if __name__ == "__main__":
    golden = {}
    make_hog(golden)
    make_masks(golden)
    save_file(golden, os.path.join(sys.argv[1], "hog_golden.safetensors"))
