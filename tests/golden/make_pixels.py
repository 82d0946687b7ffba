#!/usr/bin/env python3
"""The pixels that Pillow gives: Image.open(file).convert("RGB"), as XXH3-64 of the RGB8 bytes.

    make_pixels.py DATA tests/data/images > pixels.tsv
    make_pixels.py DATA > pixels_large.tsv        DATA/odd-images, then each folder of DATA/photos

One line a file, in the order of the paths' bytes: path, width, height, hash ("error" where Pillow
refuses it), and how DATA/odd-images/manifest.csv expects it to end. A folder of photos is one line:
path, number of files, 0, hash of its files' hashes, "decodes". The committed tables are Pillow
13.0.0's (libjpeg-turbo 3.2.0); 12.1.1 (3.1.3) gives the same. Needs Pillow and libxxhash.so.0.
"""
import argparse
import csv
import ctypes
import os
import struct
import sys
import warnings

import PIL
from PIL import Image, features

xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def pixels(path):
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except Exception:  # Pillow raises SyntaxError, OSError, ValueError, MemoryError, ...
        return 0, 0, None
    data = rgb.tobytes()
    return rgb.width, rgb.height, xxhash.XXH3_64bits(data, len(data))


def files(root):
    paths = []
    for folder, _, names in os.walk(root):
        paths += [os.path.join(folder, name) for name in names]
    return sorted((os.path.relpath(p, root) for p in paths), key=os.fsencode)


def line(name, width, height, value, expected):
    word = "error" if value is None else f"{value:016x}"
    print(name, width, height, word, expected, sep="\t")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("data")
    args.add_argument("images", nargs="?", help="a part of DATA/odd-images with the same names")
    args = args.parse_args()
    warnings.simplefilter("ignore")
    print(f"# Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}",
          file=sys.stderr)
    odd = os.path.join(args.data, "odd-images")
    with open(os.path.join(odd, "manifest.csv"), newline="") as table:
        expected = {row["file"]: row["expected"] for row in csv.DictReader(table)}
    root = args.images or odd
    for name in files(root):
        if name in expected:
            line(name, *pixels(os.path.join(root, name)), expected[name])
    if args.images:
        return
    photos = os.path.join(args.data, "photos")
    for folder in sorted({os.path.dirname(name) for name in files(photos)}, key=os.fsencode):
        names = files(os.path.join(photos, folder))
        hashes = [pixels(os.path.join(photos, folder, name))[2] for name in names]
        data = b"".join(struct.pack("<Q", h) for h in hashes)
        line("photos/" + folder, len(names), 0, xxhash.XXH3_64bits(data, len(data)), "decodes")


if __name__ == "__main__":
    main()
