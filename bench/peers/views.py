#!/usr/bin/env python3
"""Training's views against torchvision's transforms on PIL images, one thread each, interleaved.

    python views.py [--photos N] [--rounds N] [--recipes mae simclr dino] [--csv FILE]

For each recipe both sides make all views of the same photos, from decoded pixels and from the bytes
of the JPEGs (decoded once for all views), as normalised float tensors; with draws of their own, new
in each round. They take turns in a random order; ratios are formed round by round and their median
is reported. simclr: two views of 224, RandomResizedCrop(0.08 to 1, bicubic), flip, ColorJitter(0.8,
0.8, 0.8, 0.2) with 0.8, gray with 0.2, PIL's GaussianBlur(0.1 to 2) with 0.5. dino: main_dino.py's
DataAugmentationDINO, two of 224 and eight of 96. mae: one crop (0.2 to 1) and flip. Needs what
tests/reference/chain.py needs and build/bench/bench_views; the photos are chain.photos().
"""
import argparse
import io
import os
import random
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "reference"))
import chain  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageFilter, ImageOps  # noqa: E402
from torchvision import transforms as T  # noqa: E402

BICUBIC = T.InterpolationMode.BICUBIC


class Blur:
    def __call__(self, img):
        return img.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2)))


class Solarize:
    def __call__(self, img):
        return ImageOps.solarize(img)


def sometimes(p, transform):
    return T.RandomApply([transform], p=p)


def chain_of(size, scale, jitter=None, blur=0, solarize=0):
    steps = [T.RandomResizedCrop(size, scale=scale, interpolation=BICUBIC),
             T.RandomHorizontalFlip(p=0.5)]
    if jitter:
        steps += [sometimes(0.8, T.ColorJitter(*jitter)), T.RandomGrayscale(p=0.2)]
    if blur:
        steps.append(sometimes(blur, Blur()))
    if solarize:
        steps.append(sometimes(solarize, Solarize()))
    return T.Compose(steps + [T.ToTensor(), T.Normalize(chain.MEAN, chain.STD)])


SIMCLR, DINO = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.2, 0.1)
RECIPES = {
    "mae": [chain_of(224, (0.2, 1))],
    "simclr": [chain_of(224, (0.08, 1), SIMCLR, 0.5)] * 2,
    "dino": [chain_of(224, (0.4, 1), DINO, 1), chain_of(224, (0.4, 1), DINO, 0.1, 0.2)]
            + [chain_of(96, (0.05, 0.4), DINO, 0.5)] * 8,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = [p for p in chain.photos(options.photos) if not p.lower().endswith(".png")]
    encoded = [open(p, "rb").read() for p in paths]
    decoded = [Image.open(io.BytesIO(b)).convert("RGB") for b in encoded]
    rows = ["recipe,from,photos,ours_ms,torchvision_ms,ratio"]
    for recipe in options.recipes:
        views = RECIPES[recipe]
        ours = subprocess.Popen([os.path.join(ROOT, "build", "bench", "bench_views"), recipe, *paths],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def run_ours(what, turn):
            ours.stdin.write(f"{what} {turn}\n")
            ours.stdin.flush()
            return float(ours.stdout.readline())

        def run_theirs(what, turn):
            start = time.perf_counter()
            for b, img in zip(encoded, decoded):
                if what == "jpeg":
                    img = Image.open(io.BytesIO(b)).convert("RGB")
                for view in views:
                    view(img)
            return time.perf_counter() - start

        for what in ("decoded", "jpeg"):
            times = {run_ours: [], run_theirs: []}
            for turn in range(options.rounds + 1):  # the first is not counted
                for side in random.sample(list(times), 2):
                    times[side].append(side(what, turn) * 1000 / len(paths))
            a, b = (t[1:] for t in times.values())
            ratio = statistics.median(y / x for x, y in zip(a, b))
            rows.append(f"{recipe},{what},{len(paths)},{statistics.median(a):.3f},"
                        f"{statistics.median(b):.3f},{ratio:.2f}")
            print(f"{recipe}, {what}: {statistics.median(a):.2f} ms a photo, torchvision and Pillow "
                  f"{statistics.median(b):.2f} ms, {ratio:.2f} x", flush=True)
        ours.stdin.close()
        ours.wait()
    if options.csv:
        with open(options.csv, "w") as f:
            f.write("\n".join(rows) + "\n")


main()
