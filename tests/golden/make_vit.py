#!/usr/bin/env python3
"""Makes vit_weights.safetensors and vit_golden.safetensors, for test_vit_golden.c.

    python make_vit.py ../data

The weights are those of a small timm VisionTransformer with layer scale, stored as F16 (and the
vectors as F32); the golden file holds two images and what the network gives for them in double
precision, with layer scale and without, rounded to F32 once. Needs torch, timm and safetensors.
"""
import os
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
from chain import fill, timm  # noqa: E402

# odd sizes on purpose: no multiples of a vector, heads of 11
SIZES = dict(img_size=32, patch_size=8, embed_dim=44, depth=2, num_heads=4, mlp_ratio=2.5)


def network(weights, **more):
    model = timm.models.VisionTransformer(num_classes=0, global_pool="token", **SIZES, **more)
    if weights is None:
        fill(model, 3)
        weights = {k: v.half() if v.ndim > 1 else v for k, v in model.state_dict().items()}
    model.load_state_dict({k: v for k, v in weights.items() if k in model.state_dict()})
    return model.double().eval(), weights


def main():
    out = sys.argv[1]
    scaled, weights = network(None, init_values=1.0)
    plain, _ = network(weights)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4)).half()
    golden = {"images": images}
    for name, model in ("scaled", scaled), ("plain", plain):
        with torch.no_grad():
            tokens = model.forward_features(images.double())
        golden[name + ".cls"] = tokens[:, 0].float().contiguous()
        golden[name + ".patch"] = tokens[:, 1:].float().contiguous()
        golden[name + ".mean"] = tokens[:, 1:].mean(1).float()
    save_file(weights, os.path.join(out, "vit_weights.safetensors"))
    save_file(golden, os.path.join(out, "vit_golden.safetensors"))


main()
