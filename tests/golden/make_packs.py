#!/usr/bin/env python3
"""Writes tests/data/packs: small packs, by the description in formats/pack.h alone.

Needs the package xxhash. The bytes are the same on every run.
"""
import os
import struct

import xxhash

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "packs")
NONE = 0xffffffff


def pixels(width, height, seed):
    return bytes((seed + 7 * i + i * i // 11) % 256 for i in range(3 * width * height))


def pack(samples):
    """samples: (path, label or None, width, height, seed)"""
    pictures, entries, paths, labels = b"", b"", b"", []
    for path, label, width, height, seed in samples:
        rgb = pixels(width, height, seed)
        if label is not None and label not in labels:
            labels.append(label)
        number = NONE if label is None else labels.index(label)
        entries += struct.pack("<QQIIQII", 64 + len(pictures), xxhash.xxh3_64_intdigest(rgb), width,
                               height, len(paths), number, 0)
        pictures += rgb + bytes(-len(rgb) % 64)
        paths += path + b"\0"
    names, begins = b"", b""
    for label in labels:
        begins += struct.pack("<Q", len(paths) + len(names))
        names += label + b"\0"
    head = b"\x89TPK\r\n\x1a\n" + struct.pack("<IIQQQQQ", 1, len(labels), len(samples),
                                            64 + len(pictures), len(paths) + len(names), 0, 0)
    tables = entries + begins + paths + names
    return head + struct.pack("<Q", xxhash.xxh3_64_intdigest(head + tables)) + pictures + tables


def main():
    os.makedirs(OUT, exist_ok=True)
    packs = {
        "one.pack": [(b"x.png", None, 1, 1, 9)],
        "small.pack": [(b"cat/0.jpg", b"cat", 5, 3, 0), (b"dog/1.jpg", b"dog", 8, 8, 50),
                       (b"2.jpg", None, 3, 7, 100), (b"cat/\xff 3.jpg", b"cat", 1, 30, 150)],
        "empty_names.pack": [(b"", b"", 2, 2, 1), (b"", b"", 2, 2, 2)],
    }
    for name, samples in packs.items():
        with open(os.path.join(OUT, name), "wb") as f:
            f.write(pack(samples))


main()
