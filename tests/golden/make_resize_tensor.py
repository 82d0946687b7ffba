#!/usr/bin/env python3
"""Makes resize_tensor.txt: what torchvision's resize of tensors and timm's ResizeKeepRatio give.

    python make_resize_tensor.py resize_tensor.txt

Needs torch, torchvision, timm, Pillow, numpy and libxxhash, on a CPU with AVX2. Pictures are those of
make_resize.py.

    <kind> <pillow> <w> <h> <box h> <box w> <squash> <crop h> <crop w> <floor> <filter> ...

where kind is pillow or tensor_u8, and a hash of the cropped bytes follows, or tensor, and 24 of the
normalised floats follow: those at i * n / 24 of all n.
"""
import random
import sys

import numpy as np
import PIL.Image
import torch

library = torch.library.Library("torchvision", "DEF")  # for a torchvision without its binary part
for op in ("nms", "qnms"):
    library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision.transforms.v2.functional as F  # noqa: E402
from timm.data.transforms import ResizeKeepRatio  # noqa: E402

from make_resize import FILTERS, MEAN, STD, digest, picture  # noqa: E402

VERSION = int(PIL.__version__.split(".")[0])


def target(w, h, box, squash):
    """(height, width) after the resize."""
    if squash:
        return box
    if box[0] == box[1]:
        short = box[0]
        return (int(short * h / w), short) if w <= h else (short, int(short * w / h))
    return tuple(ResizeKeepRatio.get_params(PIL.Image.new("1", (w, h)), box, 0.0))


def crop(x, ch, cw, floor):
    """The middle of the last two dimensions."""
    h, w = x.shape[-2:]
    half = (lambda n: n // 2) if floor else (lambda n: int(round(n / 2.0)))
    top, left = half(h - ch), half(w - cw)
    return x[..., top:top + ch, left:left + cw]


def cases():
    rng = random.Random(41)
    yield from [(500, 375, (256, 256), 1, 256, 256, 0, 0), (500, 375, (256, 256), 0, 224, 224, 1, 0),
                (375, 500, (256, 256), 0, 224, 224, 0, 1), (2000, 1500, (224, 224), 1, 224, 224, 0, 0),
                (64, 64, (64, 64), 1, 64, 64, 0, 1), (40, 30, (256, 256), 1, 256, 256, 0, 1),
                (300, 200, (256, 400), 0, 224, 368, 0, 1), (200, 300, (256, 400), 0, 224, 368, 1, 0)]
    for i in range(40):
        w, h = rng.randint(2, 400), rng.randint(2, 400)
        box = (rng.randint(2, 150), rng.randint(2, 150))
        if i % 2:
            box = (box[0], box[0])
        squash = i % 4 < 2
        oh, ow = target(w, h, box, squash)
        yield (w, h, box, int(squash), rng.randint(1, oh), rng.randint(1, ow), i % 3 % 2,
               rng.randint(0, 2))


def main():
    lines = []
    modes = [F.InterpolationMode.BILINEAR, F.InterpolationMode.BICUBIC, F.InterpolationMode.LANCZOS]
    for w, h, box, squash, ch, cw, floor, filt in cases():
        img = picture(w, h)
        oh, ow = target(w, h, box, squash)
        head = f"{VERSION} {w} {h} {box[0]} {box[1]} {squash} {ch} {cw} {floor} {filt}"
        hwc = lambda x: np.ascontiguousarray(x.numpy().transpose(1, 2, 0))
        p = F.pil_to_tensor(img.resize((ow, oh), FILTERS[filt]))
        lines.append(f"pillow {head} {digest(hwc(crop(p, ch, cw, floor)))}\n")
        u8 = F.resize(F.pil_to_tensor(img), [oh, ow], modes[filt], antialias=True)
        lines.append(f"tensor_u8 {head} {digest(hwc(crop(u8, ch, cw, floor)))}\n")
        x = F.pil_to_tensor(img).to(torch.float32) * (1 / 255)
        x = crop(F.resize(x, [oh, ow], modes[filt], antialias=True), ch, cw, floor)
        x = F.normalize(x, MEAN, STD).contiguous().numpy().reshape(-1)
        some = " ".join(f"{x[i * x.size // 24]:.9g}" for i in range(24))
        lines.append(f"tensor {head} {some}\n")
    with open(sys.argv[1], "w") as out:
        out.writelines(lines)


main()
