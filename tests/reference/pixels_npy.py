#!/usr/bin/env python3
"""Raw pixels as vectors, the baseline that an embedding has to beat.

    pixels_npy.py [--size N] [--normalise] OUT FILE [LABELS]

FILE is a CIFAR-10 binary file, a folder of a folder for each class, whose images are resized to N x N
(64) by Pillow's bicubic filter, or IDX images (.gz or not) with LABELS beside them. Writes OUT.npy,
float32 in [0, 1], or with ImageNet's mean and deviation of the channels taken out, one row an image,
and OUT-labels.npy. Needs numpy, for folders Pillow.
"""
import argparse
import gzip
import os

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def idx(path, header):
    data = open(path, "rb").read()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    return np.frombuffer(data, np.uint8)[header:]


def folder(path, size):
    from PIL import Image

    x, y = [], []
    for label, name in enumerate(sorted(os.listdir(path))):
        for image in sorted(os.listdir(os.path.join(path, name))):
            with Image.open(os.path.join(path, name, image)) as i:
                pixels = i.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
            x.append(np.asarray(pixels).transpose(2, 0, 1).ravel())
            y.append(label)
    return np.stack(x), np.array(y)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--normalise", action="store_true", help="of images in colour")
    parser.add_argument("out")
    parser.add_argument("file")
    parser.add_argument("labels", nargs="?")
    args = parser.parse_args()
    if args.labels:
        y = idx(args.labels, 8)
        x = idx(args.file, 16).reshape(len(y), -1)
    elif os.path.isdir(args.file):
        x, y = folder(args.file, args.size)
    else:
        records = np.fromfile(args.file, np.uint8).reshape(-1, 3073)
        x, y = records[:, 1:], records[:, 0]
    x = x / np.float32(255)
    if args.normalise:
        channels = x.reshape(len(x), 3, -1)
        x = ((channels - np.float32(MEAN)[:, None]) / np.float32(STD)[:, None]).reshape(x.shape)
    np.save(args.out + ".npy", x)
    np.save(args.out + "-labels.npy", y.astype(np.int64))


if __name__ == "__main__":
    main()
