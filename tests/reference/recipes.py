#!/usr/bin/env python3
"""`tacit extract --weights FOLDER`, with no other word (or what a name below says), against the library that wrote the folder.

    python recipes.py [--tacit FILE]

timm's save_for_hf and transformers' save_pretrained write networks with random weights and the
configurations that go with them; the library's own preprocessing and network, in float64, give the
reference. Each photo must reach a cosine of 0.999999 and a relative error, max |a - b| / max |b|, of
1e-5. Pillow's back end is the reference of transformers' processors but DINOv3's, which has none.
The last line is the count, the exit status 1 where a check failed. Where a module is missing: one
line that says so, and status 77.
"""
import argparse
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import chain
    import timm
    import transformers as tr
    from timm.models import save_for_hf
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
    from transformers.models.dinov3_vit.image_processing_dinov3_vit import DINOv3ViTImageProcessor
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
except ImportError as error:
    print(f"skipped: recipes of PyTorch's libraries: {error}")
    sys.exit(77)

COSINE, ERROR = 0.999999, 1e-5
SMALL = dict(hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=384)


def timm_case(name, cfg, size=None, **args):
    """size: height and width that are told to both, where it is not the configuration's."""
    def make(folder):
        model = timm.create_model(name, pretrained=False, num_classes=0, pretrained_cfg_overlay=cfg,
                                  **args)
        chain.fill(model, 1).eval()
        save_for_hf(model, folder, safe_serialization=True)
        data = timm.data.resolve_model_data_config(model)
        if size:
            model.set_input_size(img_size=size)
            data["input_size"] = (3, *size)
        transform = timm.data.create_transform(**data)
        return model.double(), lambda image: transform(image)[None], lambda model, x: model(x)
    return make


def hf_case(model_class, config, processor, feature):
    def make(folder):
        model = chain.fill(model_class(config), 1).eval()
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        saved = os.path.join(folder, "preprocessor_config.json")
        if not os.path.exists(saved):
            sys.exit(f"recipes: {type(processor).__name__} wrote no preprocessor_config.json")
        return (model.double(), lambda image: processor(image, return_tensors="pt")["pixel_values"],
                lambda model, x: feature(model(pixel_values=x)))
    return make


def cls(y):
    return y.last_hidden_state[:, 0]


def pooled(y):
    return y.pooler_output.flatten(1)


CASES = {
    "timm ViT, bicubic 0.9": timm_case("vit_tiny_patch16_224", {}, depth=4),
    "timm ViT, bilinear squash 0.95": timm_case(
        "vit_tiny_patch16_224", dict(crop_mode="squash", interpolation="bilinear", crop_pct=0.95,
                                     mean=(0.4, 0.4, 0.5), std=(0.3, 0.2, 0.3)), depth=4),
    "timm ViT --size 192x256": timm_case("vit_tiny_patch16_224", {}, (192, 256), depth=4),
    "timm DINOv2 at 126": timm_case("vit_small_patch14_dinov2", dict(input_size=(3, 126, 126)),
                                    img_size=126, depth=4),
    "timm DINOv3": timm_case("vit_small_patch16_dinov3", {}, depth=4),
    "timm CLIP, quick GELU": timm_case("vit_base_patch32_clip_quickgelu_224", {}, depth=3),
    "timm ResNet-50": timm_case("resnet50", {}),
    "transformers ViT": hf_case(
        tr.ViTModel, tr.ViTConfig(**SMALL), ViTImageProcessorPil(), cls),
    "transformers ViT at 160": hf_case(
        tr.ViTModel, tr.ViTConfig(image_size=160, layer_norm_eps=1e-6, **SMALL),
        ViTImageProcessorPil(size=dict(height=160, width=160), resample=3,
                             image_mean=[0.48, 0.45, 0.4], image_std=[0.2, 0.25, 0.3]), cls),
    "transformers Dinov2": hf_case(
        tr.Dinov2Model, tr.Dinov2Config(image_size=518, patch_size=14, **{
            k: v for k, v in SMALL.items() if k != "intermediate_size"}),
        BitImageProcessorPil(size=dict(shortest_edge=256), image_mean=[0.485, 0.456, 0.406],
                             image_std=[0.229, 0.224, 0.225]), cls),
    "transformers DINOv3": hf_case(
        tr.DINOv3ViTModel, tr.DINOv3ViTConfig(num_register_tokens=4, **SMALL),
        DINOv3ViTImageProcessor(), cls),
    "transformers CLIP": hf_case(
        tr.CLIPVisionModel, tr.CLIPVisionConfig(patch_size=32, hidden_act="quick_gelu", **SMALL),
        CLIPImageProcessorPil(), pooled),
    "transformers ResNet": hf_case(
        tr.ResNetModel, tr.ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512],
                                        layer_type="basic"),
        ConvNextImageProcessorPil(size=dict(shortest_edge=224)), pooled),
}


def extract(tacit, weights, images, out, options):
    done = subprocess.run([tacit, "extract", "--weights", weights, "--images", images, "--out", out,
                           "--strict", *options], capture_output=True, text=True)
    if done.returncode:
        print(f"FAIL tacit extract: status {done.returncode}: {done.stderr.strip()}")
        return None
    print("     " + done.stderr.splitlines()[0])
    return np.load(os.path.join(out, "embeddings.npy"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")  # as parity.py takes it
    parser.add_argument("--tacit", default=os.path.join(chain.ROOT, "build", "tacit"))
    options = parser.parse_args()
    passed = failed = 0
    photos = chain.photos(6)
    with tempfile.TemporaryDirectory() as work:
        images = os.path.join(work, "images")
        os.mkdir(images)
        for i, path in enumerate(photos):
            os.symlink(os.path.abspath(path), os.path.join(images, f"{i:02d}.jpg"))
        for number, (name, make) in enumerate(CASES.items()):
            folder = os.path.join(work, f"model{number}")
            model, prepare, forward = make(folder)
            rows = []
            with torch.no_grad():
                for path in photos:
                    x = prepare(chain.decode(open(path, "rb").read()))
                    rows.append(forward(model, x.double()).numpy()[0])
            want = np.stack(rows)
            ours = extract(options.tacit, folder, images, os.path.join(work, f"out{number}"),
                           name.split()[2:] if "--" in name else [])
            good = ours is not None and ours.shape == want.shape
            if good:
                cosine = chain.cosine(ours, want).min()
                error = chain.relative_error(ours, want).max()
                good = bool(cosine >= COSINE and error <= ERROR)
                print(f"{'ok  ' if good else 'FAIL'} {name}: cosine 1 - {1 - cosine:.1e}, relative "
                      f"error {error:.2e}", flush=True)
            elif ours is not None:
                print(f"FAIL {name}: {ours.shape} for {want.shape}")
            passed, failed = passed + good, failed + (not good)
    print(f"recipes: {passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
