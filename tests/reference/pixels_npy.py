#!/usr/bin/env python3
"""Raw pixels as vectors: pixels_npy.py OUT FILE [LABELS], the baseline that an embedding has to beat.

FILE is a CIFAR-10 binary file, or IDX images (.gz or not) with LABELS beside them. Writes OUT.npy,
float32 in [0, 1], one row an image, and OUT-labels.npy. Needs numpy.
"""
import gzip
import sys

import numpy as np


def idx(path, header):
    data = open(path, "rb").read()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    return np.frombuffer(data, np.uint8)[header:]


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__.strip())
    if len(sys.argv) == 4:
        y = idx(sys.argv[3], 8)
        x = idx(sys.argv[2], 16).reshape(len(y), -1)
    else:
        records = np.fromfile(sys.argv[2], np.uint8).reshape(-1, 3073)
        x, y = records[:, 1:], records[:, 0]
    np.save(sys.argv[1] + ".npy", x / np.float32(255))
    np.save(sys.argv[1] + "-labels.npy", y.astype(np.int64))


if __name__ == "__main__":
    main()
