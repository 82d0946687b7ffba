#!/usr/bin/env python3
"""Makes views.txt: what torchvision's transforms on PIL images give, as hashes, for test_views.c.

    python make_views.py views.txt

Needs what reference/chain.py needs, with Pillow 13, and libxxhash. Pictures are make_resize.py's.

    view <w> <h> <a line as in view_line.h> <hash: bytes> <floats>
    crop <w> <h> <scale> <scale> <means of width, height, left, top> <their deviations>
"""
import ctypes
import os
import random
import sys

import numpy as np
import PIL
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
import chain  # noqa: E402, F401, which can import torchvision
from PIL import Image, ImageFilter, ImageOps  # noqa: E402
from torchvision.transforms import InterpolationMode, RandomResizedCrop  # noqa: E402
from torchvision.transforms import functional as F  # noqa: E402

xxh = ctypes.CDLL("libxxhash.so.0")
xxh.XXH3_64bits.restype = ctypes.c_uint64
xxh.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
MODES = [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ADJUST = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]


def digest(a):
    data = np.ascontiguousarray(a).tobytes()
    return f"{xxh.XXH3_64bits(data, len(data)):016x}"


def single(x):
    """As torch's uniform_ gives it."""
    return float(np.float32(x))


def draw(rng, w, h, size):
    """Draws of every kind, often at the ends of their ranges."""
    ratio = rng.choice([0.05, 0.3, 0.6, 1.0])
    cw, ch = (max(1, round(side * rng.uniform(ratio, 1))) for side in (w, h))
    if rng.random() < 0.2 and size <= min(w, h):
        cw = ch = size  # nothing to resize
    ops = rng.sample(range(4), rng.choice([0, 1, 2, 4, 4, 4]))
    factors = [single(rng.choice([0, 1, 0.2, rng.uniform(0, 2), rng.uniform(0.6, 1.4)]))
               for _ in range(3)] + [single(rng.choice([0, 0.5, -0.5, rng.uniform(-0.5, 0.5)]))]
    sigma = single(rng.choice([0, 0.1, 2, rng.uniform(0.1, 2), rng.uniform(0.1, 2), 8]))
    return {"size": size, "filter": rng.randrange(2), "left": rng.randint(0, w - cw),
            "top": rng.randint(0, h - ch), "width": cw, "height": ch, "flip": rng.randrange(2),
            "ops": ops, "factors": factors, "gray": int(rng.random() < 0.2),
            "sigma": sigma if rng.random() < 0.6 else None,
            "threshold": rng.choice([128, 128, 0, 1, 255, 256]) if rng.random() < 0.3 else None}


def line(d):
    return " ".join(map(str, [
        d["size"], d["filter"], d["left"], d["top"], d["width"], d["height"], d["flip"],
        "".join(map(str, d["ops"])) or "-", *(f"{f:.9g}" for f in d["factors"]), d["gray"],
        "-" if d["sigma"] is None else f"{d['sigma']:.9g}",
        "-" if d["threshold"] is None else d["threshold"]]))


def view(img, d):
    """The chain of transforms with its draws given."""
    img = F.resized_crop(img, d["top"], d["left"], d["height"], d["width"], [d["size"]] * 2,
                         MODES[d["filter"]])
    if d["flip"]:
        img = F.hflip(img)
    for op in d["ops"]:
        img = ADJUST[op](img, d["factors"][op])
    if d["gray"]:
        img = F.rgb_to_grayscale(img, 3)
    if d["sigma"] is not None:
        img = img.filter(ImageFilter.GaussianBlur(d["sigma"]))
    if d["threshold"] is not None:
        img = ImageOps.solarize(img, d["threshold"])
    return img


def hashes(img):
    floats = F.normalize(F.to_tensor(img), MEAN, STD).numpy()
    return f"{digest(np.asarray(img).transpose(2, 0, 1))} {digest(floats)}"


def main():
    from make_resize import picture
    if int(PIL.__version__.split(".")[0]) != 13:
        sys.exit(f"needs Pillow 13, not {PIL.__version__}")
    rng = random.Random(1)
    out = []
    for w, h in [(1, 1), (3, 2), (32, 32), (96, 64), (61, 140), (200, 180), (33, 400), (300, 225)]:
        img = picture(w, h)
        for size in (1, 7, 32, 32, 61, 96, 96, 130):
            for _ in range(2):
                d = draw(rng, w, h, size)
                out.append(f"view {w} {h} {line(d)} {hashes(view(img, d))}")
    torch.manual_seed(1)
    for w, h, lo, hi in [(32, 32, 0.08, 1), (500, 375, 0.08, 1), (375, 500, 0.2, 1),
                         (224, 224, 0.05, 0.4), (1000, 60, 0.3, 1), (40, 300, 0.08, 1)]:
        img = Image.new("RGB", (w, h))
        boxes = np.array([RandomResizedCrop.get_params(img, [lo, hi], [3 / 4, 4 / 3])
                          for _ in range(20000)], float)[:, [3, 2, 1, 0]]
        out.append(f"crop {w} {h} {lo} {hi} " + " ".join(
            f"{x:.4f}" for x in [*boxes.mean(0), *boxes.std(0)]))
    with open(sys.argv[1], "w") as f:
        f.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
