#!/usr/bin/env python3
"""Makes resnet_*_weights.safetensors and resnet_*_golden.safetensors, for test_resnet.c.

    python make_resnet.py ../data

Narrow ResNets of timm, with both kinds of block and of stem, and weights as F16 (vectors as F32);
running statistics and fc as torchvision's files have them. The golden files hold images of two
sizes and what the network gives for them in double precision, rounded to F32 once: `mean` and
`patch`, with rows of channels. Needs torch, timm and safetensors.
"""
import os
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
from chain import timm  # noqa: E402
from timm.models.resnet import BasicBlock, Bottleneck, ResNet  # noqa: E402

# widths and sizes such that layers of each kind of tile are met; see the test
NETS = {
    "small": (BasicBlock, (2, 1, 1, 1), (32, 24, 16, 12), 32, [(32, 32), (28, 45)]),
    "bottleneck": (Bottleneck, (2, 1, 1, 1), (32, 16, 12, 8), None, [(64, 56), (75, 33)]),
}


def network(seed, block, layers, channels, stem):
    model = ResNet(block, layers, num_classes=3, channels=channels)
    if stem:
        model.conv1 = torch.nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        model.bn1 = torch.nn.BatchNorm2d(stem)
        model.maxpool = torch.nn.Identity()
        if channels[0] == stem:
            model.layer1[0].conv1 = torch.nn.Conv2d(stem, channels[0], 3, 1, 1, bias=False)
            model.layer1[0].downsample = None
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.state_dict().items():
            if not p.is_floating_point():
                continue
            x = torch.randn(p.shape, generator=g)
            if p.ndim == 4:
                p.copy_((x * (2 / p[0].numel()) ** 0.5).half())
            elif name.endswith("running_var"):
                p.copy_(x.abs() + 0.3)
            else:
                p.copy_(0.2 * x + (1 if name.endswith("weight") else 0))
    return model.eval()


def main():
    out = sys.argv[1]
    for seed, (name, (block, layers, channels, stem, sizes)) in enumerate(NETS.items(), 50):
        model = network(seed, block, layers, channels, stem)
        weights = {k: v.half() if v.ndim == 4 else v for k, v in model.state_dict().items()}
        save_file(weights, os.path.join(out, f"resnet_{name}_weights.safetensors"))
        golden = {}
        for i, size in enumerate(sizes):
            x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(9)).half()
            with torch.no_grad():
                y = model.double().forward_features(x.double())
            golden[f"images{i}"] = x
            golden[f"mean{i}"] = y.mean((2, 3)).float()
            golden[f"patch{i}"] = y.permute(0, 2, 3, 1).float().contiguous()
        save_file(golden, os.path.join(out, f"resnet_{name}_golden.safetensors"))


main()
