#!/usr/bin/env python3
"""Makes resize.txt: what Pillow's resize gives, as hashes, for test_preprocess.c.

    python make_resize.py resize.txt

rewrites the lines of the Pillow that is installed (12 or 13) and leaves the other's. Needs numpy and
libxxhash. Pictures come from the project's random numbers, so that no file is needed.

    resize <pillow> <w> <h> <out w> <out h> <hash: bilinear> <bicubic> <lanczos>
    recipe <pillow> <w> <h> <resize> <squash> <crop h> <crop w> <filter> <hash: bytes> <floats>
"""
import ctypes
import random
import sys

import numpy as np
import PIL
from PIL import Image

xxh = ctypes.CDLL("libxxhash.so.0")
xxh.XXH3_64bits.restype = ctypes.c_uint64
xxh.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

FILTERS = [Image.BILINEAR, Image.BICUBIC, Image.LANCZOS]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def digest(a):
    data = np.ascontiguousarray(a).tobytes()
    return f"{xxh.XXH3_64bits(data, len(data)):016x}"


def philox(seed, stream, blocks):
    c = [np.arange(blocks, dtype=np.uint64), np.zeros(blocks, np.uint64)]
    c += [np.full(blocks, stream, np.uint64), np.zeros(blocks, np.uint64)]
    k0, k1, low, half = seed, 0, np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> half) ^ c[1] ^ np.uint64(k0), p1 & low,
             (p0 >> half) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).astype("<u4").reshape(-1)


def picture(w, h):
    n = w * h * 3
    a = philox(w, h, (n + 15) // 16).view(np.uint8)[:n]
    if (w + h) % 2:  # black and white: sums overshoot and are clipped
        a = np.where(a & 128, 255, 0).astype(np.uint8)
    return Image.fromarray(a.reshape(h, w, 3))


def recipe(img, size, squash, ch, cw, filt):
    """torchvision's Resize(size), CenterCrop((ch, cw)); ToTensor, Normalize."""
    w, h = img.size
    if squash:
        out = (size, size)
    elif w <= h:
        out = (size, int(size * h / w))
    else:
        out = (int(size * w / h), size)
    img = img.resize(out, filt)
    w, h = img.size
    pw, ph = max(cw - w, 0), max(ch - h, 0)
    a = np.pad(np.asarray(img), ((ph // 2, (ph + 1) // 2), (pw // 2, (pw + 1) // 2), (0, 0)))
    top, left = int(round((a.shape[0] - ch) / 2.0)), int(round((a.shape[1] - cw) / 2.0))
    a = a[top:top + ch, left:left + cw]
    f = a.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    f = (f - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]
    assert f.dtype == np.float32
    return a, f


def sizes():
    rng = random.Random(20261123)
    some = lambda most: int(round(most ** rng.random()))
    yield from [(1, 1, 1, 1), (1, 1, 224, 224), (1, 500, 224, 224), (500, 1, 224, 224),
                (1, 700, 1, 3), (700, 1, 3, 1), (3, 2, 7, 5), (64, 64, 64, 64), (64, 64, 64, 31),
                (64, 64, 31, 64), (64, 64, 64, 90), (64, 64, 90, 64), (500, 375, 341, 256),
                (375, 500, 256, 341), (20, 2020, 20, 100), (20, 2020, 40, 100), (7, 701, 7, 700),
                (7, 700, 7, 600), (100, 300, 100, 100), (100, 300, 90, 100), (100, 300, 80, 100),
                (200, 500, 100, 300), (201, 500, 101, 300), (201, 500, 100, 300)]
    for i in range(300):
        most = 700 if i % 4 == 0 else 200
        w, h, ow, oh = some(most), some(most), some(most), some(most)
        if i % 3 == 0:  # narrow to wide and high to low: the two orders differ
            ow, oh = w + some(40), max(1, h - some(most))
        yield w, h, ow, oh


def recipes():
    rng = random.Random(7)
    for w, h in [(500, 375), (375, 500), (224, 224), (256, 256), (333, 500), (96, 96), (32, 32),
                 (1, 1), (1, 300), (300, 1), (257, 3), (9, 909)]:
        yield w, h, 256, 0, 224, 224, 1
        yield w, h, 224, 0, 224, 224, 0
        yield w, h, 64, 1, 56, 72, 2
    for _ in range(60):
        yield (rng.randint(1, 400), rng.randint(1, 400), rng.randint(1, 150), rng.randint(0, 1),
               rng.randint(1, 150), rng.randint(1, 150), rng.randint(0, 2))


def main():
    version = int(PIL.__version__.split(".")[0])
    assert version in (12, 13)
    assert version == 13 or PIL.__version__ < "12.2", "12.2 and 12.3 have an order of their own"
    try:
        kept = [s for s in open(sys.argv[1]) if int(s.split()[1]) != version]
    except FileNotFoundError:
        kept = []
    new = []
    for w, h, ow, oh in sizes():
        img = picture(w, h)
        hashes = [digest(np.asarray(img.resize((ow, oh), f))) for f in FILTERS]
        new.append(f"resize {version} {w} {h} {ow} {oh} {' '.join(hashes)}\n")
    for w, h, size, squash, ch, cw, filt in recipes():
        a, f = recipe(picture(w, h), size, squash, ch, cw, FILTERS[filt])
        new.append(f"recipe {version} {w} {h} {size} {squash} {ch} {cw} {filt} "
                   f"{digest(a)} {digest(f)}\n")
    with open(sys.argv[1], "w") as out:
        out.writelines(kept + new if version == 13 else new + kept)


if __name__ == "__main__":
    main()
