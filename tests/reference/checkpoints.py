#!/usr/bin/env python3
"""Full-size checkpoints, as libraries write them, through `tacit extract` against the library.

    python checkpoints.py [--full] [--tacit FILE]

Each network has random weights, is written by transformers' save_pretrained or by torch.save, and is
run in float64 on photos of exactly its input size. Nothing but the file is told to tacit, except
the mean and std of the pixels (0.5, which both sides use). Each image must reach a cosine of 0.999999
and a relative error, max |a - b| / max |b|, of 1e-5. Quick: two networks; --full: all. Where a
module is missing: one line that says so, and status 77.
"""
import argparse
import glob
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import transformers as tr
    import chain
    from chain import timm, torchvision
    from PIL import Image
except ImportError as error:
    print(f"skipped: checkpoints against PyTorch: {error} (it needs torch, torchvision, timm, "
          "transformers, safetensors, Pillow and numpy; TACIT_PYTHON names the Python that has them)")
    sys.exit(77)

COSINE, ERROR = 0.999999, 1e-5
SMALL = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
BASE = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)


def cls(y):
    return y.last_hidden_state[:, 0]


# name: (makes the network, its features, input size, how it is written, quick)
def hub(model, config, size, features=cls, quick=False):
    return (lambda: model(config), lambda m, x: features(m(pixel_values=x)), size, "hub", quick)


def saved(make, features, size, form, quick=False):
    return make, features, size, form, quick


def pooled(m, x):
    return m.forward_features(x).mean((2, 3))


def tv(name):
    return saved(lambda: getattr(torchvision.models, name)(),
                 lambda m, x: torch.nn.Sequential(*list(m.children())[:-1])(x).flatten(1), 224,
                 "zip", name == "resnet50")


CASES = {
    "transformers Dinov2 S/14": hub(tr.Dinov2Model, tr.Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518,
        patch_size=14), 224, quick=True),
    "transformers ViT B/16": hub(tr.ViTModel, tr.ViTConfig(**BASE), 224),
    "transformers Beit B/16": hub(tr.BeitModel, tr.BeitConfig(
        **BASE, use_relative_position_bias=True), 224, lambda y: y.pooler_output),
    "transformers DINOv3 S/16": hub(tr.DINOv3ViTModel, tr.DINOv3ViTConfig(
        **SMALL, num_register_tokens=4), 224),
    "transformers Dinov2 with registers B/14": hub(
        tr.Dinov2WithRegistersModel, tr.Dinov2WithRegistersConfig(
            hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518,
            patch_size=14), 224),
    "timm S/14 with registers at 518": saved(
        lambda: timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0),
        lambda m, x: m(x), 518, "legacy"),
    "timm BEiT B/16": saved(lambda: timm.create_model("beit_base_patch16_224"),
                            lambda m, x: m.fc_norm(m.forward_features(x)[:, 1:].mean(1)), 224,
                            "zip"),
    "timm ResNet-18": saved(lambda: timm.create_model("resnet18"), pooled, 224, "legacy"),
    "torchvision ResNet-34": tv("resnet34"),
    "torchvision ResNet-50": tv("resnet50"),
    "torchvision ResNet-101": tv("resnet101"),
}


def fill(model, seed):
    """Seeded values such that no parameter is without effect."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.state_dict().items():
            if not p.is_floating_point() or "inv_freq" in name:
                continue
            x = torch.randn(p.shape, generator=g)
            if p.ndim == 4 and p.shape[2] < 8:
                p.copy_(x * (2 / p[0].numel()) ** 0.5)
            elif name.endswith("running_var"):
                p.copy_(x.abs() * 0.1 + 0.9)
            elif p.ndim == 1 and any(w in name for w in ("norm", "bn", "downsample.1")) and \
                    name.endswith("weight") or any(w in name for w in ("gamma", "lambda")):
                p.copy_(x * 0.1 + (0.5 if "bn3" in name or "bn2" in name else 1))
            else:
                p.copy_(x * (0.05 if p.ndim > 1 else 0.1))
    return model.eval()


def write(model, form, folder):
    if form == "hub":
        model.save_pretrained(folder)
        os.remove(os.path.join(folder, "config.json"))
        return folder
    path = os.path.join(folder, "checkpoint.pth.tar")
    torch.save({"epoch": 1, "state_dict": {"module." + k: v for k, v in model.state_dict().items()}},
               path, _use_new_zipfile_serialization=form == "zip")
    return path


def photos(size, folder):
    """Two photos of the size, as PNG; their pixels (n, 3, size, size)."""
    os.makedirs(folder)
    pixels = []
    for i, path in enumerate(sorted(glob.glob(os.path.join(chain.ROOT, "demo", "photos", "**", "*.jpg"),
                                             recursive=True))[:2]):
        image = Image.open(path).convert("RGB").resize((size, size))
        image.save(os.path.join(folder, f"{i}.png"))
        pixels.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return (torch.stack(pixels).double() / 255 - 0.5) / 0.5


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--full", action="store_true")
    p.add_argument("--tacit", default=os.path.join(chain.ROOT, "build", "tacit"))
    args = p.parse_args()
    failed = count = 0
    for seed, (name, (make, features, size, form, quick)) in enumerate(CASES.items()):
        if not (quick or args.full):
            continue
        with tempfile.TemporaryDirectory() as d, torch.no_grad():
            model = fill(make(), seed)
            weights = write(model, form, d)
            x = photos(size, os.path.join(d, "photos"))
            done = subprocess.run(
                [args.tacit, "extract", "--weights", weights, "--images", os.path.join(d, "photos"),
                 "--out", os.path.join(d, "out"), "--size", str(size), "--crop-mode", "squash",
                 "--resize-by", "pillow", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5",
                 "--strict"], capture_output=True, text=True)
            count += 1
            if done.returncode:
                print(f"FAIL {name}: {done.stderr.strip()}")
                failed += 1
                continue
            ours = np.load(os.path.join(d, "out", "embeddings.npy")).astype(np.float64)
            want = features(model.double(), x).numpy()
            cosine = ((ours * want).sum(1) / np.linalg.norm(ours, axis=1) /
                      np.linalg.norm(want, axis=1)).min()
            error = (np.abs(ours - want).max(1) / np.abs(want).max(1)).max()
            good = cosine >= COSINE and error <= ERROR
            failed += not good
            print(f"{'ok  ' if good else 'FAIL'} {name}, {form}: cosine 1 - {1 - cosine:.1e}, "
                  f"relative error {error:.1e}", flush=True)
    print(f"checkpoints: {count - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
