#!/usr/bin/env python3
"""Views of photos against torchvision's transforms on PIL images, given the same draws.

    python views.py [--full] [--tool FILE] [--seed N]

Random draws of every operation (golden/make_views.py) on photos from TACIT_DATA, else the demo's:
the bytes before normalisation and the floats after it must be the same, bit for bit. Quick: 200
views; --full: 5000. The last line is the count, the exit status 1 where a view differs. Where a
module is missing: one line that says so, and status 77.
"""
import argparse
import os
import random
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(HERE, "..", "golden"))
try:
    import PIL
    import chain
    import make_views
except ImportError as error:
    print(f"skipped: views with torchvision: {error} (it needs torch, torchvision, timm, Pillow 13 "
          "and numpy; TACIT_PYTHON names the Python that has them)")
    sys.exit(77)
if int(PIL.__version__.split(".")[0]) < 13:
    print(f"skipped: views with torchvision: Pillow 13 is needed, this is {PIL.__version__}")
    sys.exit(77)
from PIL import Image  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--tool", default=os.path.join(ROOT, "build", "tests", "tool_views"))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    paths = chain.photos(40)
    cases = []
    for _ in range(5000 if options.full else 200):
        path = rng.choice(paths)
        with Image.open(path) as img:
            w, h = img.size
        cases.append((path, make_views.draw(rng, w, h, rng.choice([32, 64, 96, 160, 224]))))
    text = "".join(f"{path}\n{make_views.line(d)}\n" for path, d in cases)
    ours = subprocess.run([options.tool], input=text, capture_output=True, text=True)
    if ours.returncode:
        sys.exit(f"views: {options.tool}: status {ours.returncode}: {ours.stderr.strip()}")
    failed = 0
    for (path, d), got in zip(cases, ours.stdout.splitlines(), strict=True):
        want = make_views.hashes(make_views.view(Image.open(path).convert("RGB"), d))
        if got != want:
            failed += 1
            print(f"FAIL {path} {make_views.line(d)}: {want}, ours {got}")
    print(f"seed {options.seed}, Pillow {PIL.__version__}")
    print(f"views: {len(cases) - failed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
