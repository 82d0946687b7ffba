#!/usr/bin/env python3
"""Writes tests/data/datasets: the seeds of the fuzz targets for tars, lists and IDX files.

Only the standard library. The bytes are the same on every run.
"""
import gzip
import io
import os
import struct
import tarfile

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "datasets")

SAMPLE = [("d/", None), ("d/0.jpg", b"zero"), ("d/0.cls", b" 7\n"), ("d/1.cls", b"cat"),
          ("d/1.JPEG", b"one"), ("d/1.json", b"{}"), ("__meta__/x.jpg", b"x"), ("README", b"x"),
          ("d/2.a.png", b"a"), ("d/2.b.png", b""), ("d/2.a.png", b"again")]


def tar(form, members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data or b""))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "d/0.jpg"
        archive.addfile(link)
    data = out.getvalue().rstrip(b"\0")  # most of the padding is of no use to a fuzzer
    return data + bytes(-len(data) % 512 + 1024)


def idx(*dims):
    count = 1
    for d in dims:
        count *= d
    return (struct.pack(">BBBB", 0, 0, 8, len(dims)) + struct.pack(">%dI" % len(dims), *dims)
            + bytes(i % 256 for i in range(count)))


def main():
    long_name = "a" * 60 + "/" + "b" * 120 + ".jpg"
    files = {
        "ustar.tar": tar(tarfile.USTAR_FORMAT, SAMPLE),
        "gnu.tar": tar(tarfile.GNU_FORMAT, [(long_name, b"x"), ("e.png", b"y")]),
        "pax.tar": tar(tarfile.PAX_FORMAT, [("\u00e9.jpg", b"x"), (long_name, b"y")]),
        "gray.idx": idx(3, 2, 5),
        "colour.idx": idx(2, 2, 1, 3),
        "labels.idx": idx(4),
        "labels.txt": b"\xef\xbb\xbfa b.jpg\tcat\r\n\r\n/x/\xff\xfe.png\t\n\tlost\nlast\tx\ty",
        "print0.txt": b"a\nb.jpg\0\0c\td.png\0tail",
    }
    files["ustar.tar.gz"] = gzip.compress(files["ustar.tar"], mtime=0)
    files["gray.idx.gz"] = gzip.compress(files["gray.idx"], mtime=0)
    os.makedirs(OUT, exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(OUT, name), "wb") as out:
            out.write(data)


if __name__ == "__main__":
    main()
