#!/usr/bin/env python3
"""Compares decoded, resized, cropped and normalised pixels with Pillow's, file by file.

    check_pixels.py BUILD/tests/tool_pixels FOLDER...

Takes every file below the folders that Pillow decodes, and of a folder with a manifest.csv (see the
data's README) those that it expects to decode. A picture more than 100 times as long as wide is only
squashed, since Pillow makes the whole of it. Runs with Pillow 13, or 12 up to 12.1, and asks for
its order of passes. Needs numpy and libxxhash; with PyTorch the floats are its own. Exit status 1
where a file differs, or where Pillow decodes what tool_pixels does not.
"""
import csv
import ctypes
import os
import subprocess
import sys
import warnings

import numpy as np
import PIL
from PIL import Image

try:
    import torch
    torch.set_num_threads(1)
except ImportError:
    torch = None

xxh = ctypes.CDLL("libxxhash.so.0")
xxh.XXH3_64bits.restype = ctypes.c_uint64
xxh.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
FILTERS = [Image.BILINEAR, Image.BICUBIC, Image.LANCZOS]
RECIPES = [(256, 0, 224, 1), (224, 0, 224, 0), (96, 1, 96, 2)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def digest(a):
    data = np.ascontiguousarray(a).tobytes()
    return f"{xxh.XXH3_64bits(data, len(data)):016x}"


def crop(img, resize, squash, side, filt):
    """torchvision's Resize(resize) and CenterCrop(side)."""
    w, h = img.size
    if squash:
        out = (resize, resize)
    elif w <= h:
        out = (resize, int(resize * h / w))
    else:
        out = (int(resize * w / h), resize)
    img = img.resize(out, FILTERS[filt])
    left, top = int(round((img.width - side) / 2.0)), int(round((img.height - side) / 2.0))
    return np.asarray(img.crop((left, top, left + side, top + side)))


def floats(a):
    """torchvision's to_tensor and normalize."""
    if torch:
        t = torch.from_numpy(a.copy()).permute((2, 0, 1)).contiguous().to(torch.float32).div(255)
        mean, std = (torch.as_tensor(c, dtype=torch.float32).view(-1, 1, 1) for c in (MEAN, STD))
        return t.sub_(mean).div_(std).numpy()
    f = a.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return (f - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]


def files(folder):
    manifest = os.path.join(folder, "manifest.csv")
    if os.path.exists(manifest):
        with open(manifest, newline="") as rows:
            return [os.path.join(folder, row["file"]) for row in csv.DictReader(rows)
                    if row["expected"] == "decodes"]
    return [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]


def main():
    version = int(PIL.__version__.split(".")[0])
    warnings.simplefilter("ignore")
    paths = sorted(p for folder in sys.argv[2:] for p in files(folder) if "\n" not in p)
    ours = []
    for recipe in RECIPES:
        out = subprocess.run([sys.argv[1], *map(str, recipe), str(version)], check=True, text=True,
                             input="".join(p + "\n" for p in paths), stdout=subprocess.PIPE)
        ours.append(out.stdout.splitlines())
        assert len(ours[-1]) == len(paths)
    same = different = refused = skipped = 0
    for i, path in enumerate(paths):
        try:
            img = Image.open(path)
            known = img.format in ("JPEG", "PNG")
            img = img.convert("RGB")
        except Exception:
            known = False
        if not known:
            skipped += 1
            continue
        if ours[0][i].startswith("-"):
            refused += 1
            print(f"refused: {path} {ours[0][i]}")
            continue
        decoded = f"{img.width} {img.height} {digest(np.asarray(img))}"
        for recipe, lines in zip(RECIPES, ours):
            if max(img.size) > 100 * min(img.size) and not recipe[1]:
                continue
            a = crop(img, *recipe)
            want = f"{decoded} {digest(a)} {digest(floats(a))}"
            if lines[i] == want:
                same += 1
            else:
                different += 1
                print(f"different: {path} {recipe}: {want}, ours {lines[i]}")
    print(f"Pillow {PIL.__version__}{', PyTorch ' + torch.__version__ if torch else ''}: "
          f"{same} same, {different} different, {refused} files refused; {skipped} files not read "
          f"by Pillow as JPEG or PNG")
    return 1 if different or refused else 0


sys.exit(main())
