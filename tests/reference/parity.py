#!/usr/bin/env python3
"""Embeddings of `tacit extract` against the whole PyTorch chain, computed now.

    python parity.py [--full] [--tacit FILE]

For each network, with random weights: Pillow and torchvision's transforms, then timm's network (its
fused attention) in float64 as the reference and in float32 for comparison; and `tacit extract` on
the same weights and photos. Each image must reach a cosine of 0.999999 and a relative error,
max |a - b| / max |b|, of 1e-5; over all images the largest error may be twice PyTorch's own.
Quick: ViT-Ti/16 and S/16 on 8 photos; --full: Ti, S, B, L at patch 16, S, B at 14 and 8 on 32.
The last line is the count, the exit status 1 where a check failed. Where a module is missing: one
line that says so, and status 77.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
    import PIL
    import safetensors  # noqa: F401
    import torch
    import chain
except ImportError as error:
    print(f"skipped: parity with PyTorch: {error} (it needs torch, torchvision, timm, safetensors, "
          "Pillow and numpy; TACIT_PYTHON names the Python that has them)")
    sys.exit(77)

QUICK = ["vit_tiny_patch16", "vit_small_patch16"]
FEATURES_OF = "vit_tiny_patch16"  # the network on which every kind of feature is compared
KINDS = ["cls", "mean", "cls+mean", "patch"]
COSINE, ERROR, AGAINST_FP32 = 0.999999, 1e-5, 2.0


def extract(tacit, weights, images, kind, out):
    pillow = "13" if int(PIL.__version__.split(".")[0]) >= 13 else "12"
    done = subprocess.run([tacit, "extract", "--weights", weights, "--images", images, "--out", out,
                           "--features", kind, "--pillow", pillow, "--resize", "256", "--strict"],
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"parity: tacit extract: status {done.returncode}: {done.stderr.strip()}")
    return np.load(os.path.join(out, "embeddings.npy"))


def forward(model, images, kinds, batch=4):
    """The features of all images, in the precision of the model, by kind."""
    dtype = next(model.parameters()).dtype
    parts = [chain.features(model, x.to(dtype), kinds) for x in images.split(batch)]
    return {kind: np.concatenate([part[kind] for part in parts]) for kind in kinds}


def compare(name, kind, ours, exact, fp32):
    """One line about it; whether all three bounds hold."""
    if ours.shape[0] != exact.shape[0] or ours.size != exact.size or ours.dtype != np.float32:
        print(f"FAIL {name} {kind}: {ours.dtype} {ours.shape} for {exact.shape}")
        return False
    if not np.isfinite(ours).all():
        print(f"FAIL {name} {kind}: values that are not finite")
        return False
    cosine = chain.cosine(ours, exact).min()
    error, own = chain.relative_error(ours, exact).max(), chain.relative_error(fp32, exact).max()
    good = bool(cosine >= COSINE and error <= ERROR and error <= AGAINST_FP32 * own)
    print(f"{'ok  ' if good else 'FAIL'} {name} {kind}: cosine 1 - {1 - cosine:.1e}, relative error "
          f"{error:.2e}, PyTorch's in fp32 {own:.2e}, ratio {error / own:.2f}", flush=True)
    return good


def main():
    options = argparse.ArgumentParser(description="tacit extract against PyTorch")
    options.add_argument("--full", action="store_true", help="every network, 32 photos")
    options.add_argument("--tacit", default=os.path.join(chain.ROOT, "build", "tacit"))
    args = options.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    paths = chain.photos(32 if args.full else 8)
    if not args.full or len(paths) < 32:
        print(f"{len(paths)} photos" + ("" if args.full else "; --full: all networks, 32 photos"))
    transform = chain.transform()
    images = torch.stack([transform(chain.decode(open(p, "rb").read())) for p in paths])
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="tacit-parity-") as folder:
        photo_list = os.path.join(folder, "photos.txt")
        with open(photo_list, "w") as f:
            f.writelines(os.path.abspath(p) + "\n" for p in paths)
        weights = os.path.join(folder, "weights.safetensors")
        for number, name in enumerate(chain.NETWORKS if args.full else QUICK):
            start = time.monotonic()
            kinds = KINDS if name == FEATURES_OF else ["cls"]
            model = chain.network(name, seed=number + 1)
            chain.save(model, weights)
            fp32 = forward(model, images, kinds)
            exact = forward(model.double(), images, kinds)
            del model
            for kind in kinds:
                ours = extract(args.tacit, weights, photo_list, kind,
                               os.path.join(folder, f"{name}-{kind}"))
                if compare(name, kind, ours, exact[kind], fp32[kind]):
                    passed += 1
                else:
                    failed += 1
            print(f"     {time.monotonic() - start:.0f} s", flush=True)
    print(f"parity: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
