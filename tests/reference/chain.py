"""The PyTorch side of a comparison: timm's networks with seeded weights, photos, torchvision's chain.

Used by parity.py beside this file and by bench/peers. Needs torch, torchvision, timm, safetensors,
Pillow and numpy.
"""
import io
import os
import sys

import numpy as np
import torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def import_torchvision():
    """torchvision built for another torch fails to import for want of two operators, which nothing
    here calls: declare them and try again."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        lib = torch.library.Library("torchvision", "DEF")
        lib.define("nms(Tensor d, Tensor s, float t) -> Tensor")
        lib.define("qnms(Tensor d, Tensor s, float t) -> Tensor")
        import torchvision
        torchvision.declared = lib  # it is undone when the library is collected
    return torchvision


torchvision = import_torchvision()
import timm  # noqa: E402, it imports torchvision
from PIL import Image  # noqa: E402
from torchvision import transforms  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# timm's names of the networks by ours
NETWORKS = {
    "vit_tiny_patch16": "vit_tiny_patch16_224",
    "vit_small_patch16": "vit_small_patch16_224",
    "vit_base_patch16": "vit_base_patch16_224",
    "vit_large_patch16": "vit_large_patch16_224",
    "vit_small_patch14": "vit_small_patch14_dinov2",  # has layer scale
    "vit_base_patch14": "vit_base_patch14_dinov2",
    "vit_small_patch8": "vit_small_patch8_224",
    "vit_base_patch8": "vit_base_patch8_224",
    "vit_small_patch14_reg4": "vit_small_patch14_reg4_dinov2",
}
SIZES = {"vit_small_patch14_reg4": 518, "resnet18_cifar": 32}  # pixels a side; the others: 224


def fill(model, seed):
    """Seeded values such that no parameter is without effect: timm starts biases at 0, gains at 1."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            x = torch.randn(p.shape, generator=g)
            if "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.1 * x)
            elif ".ls" in name:
                p.copy_(0.5 + 0.1 * x)
            elif name.endswith("bias"):
                p.copy_(0.02 * x)
            elif p.ndim == 4:  # the patch embedding: keeps the variance of its input
                p.copy_(x / p[0].numel() ** 0.5)
            elif p.ndim == 2:
                p.copy_(x / p.shape[1] ** 0.5)
            else:  # class token, position table
                p.copy_(0.1 * x)
    return model


def fill_norms(model, seed):
    """Seeded values of batch normalisation: timm starts the last gain of each block at 0, so that
    what the block computes does not count, and means at 0 and variances at 1."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                n = m.num_features
                m.weight.copy_(0.7 + 0.1 * torch.randn(n, generator=g))
                m.bias.copy_(0.1 * torch.randn(n, generator=g))
                m.running_mean.copy_(0.1 * torch.randn(n, generator=g))
                m.running_var.copy_(0.5 + torch.rand(n, generator=g))
    return model


# the same, of convolutions; timed, and compared in checkpoints.py
CONVOLUTIONAL = {"resnet18": "resnet18", "resnet50": "resnet50", "resnet18_cifar": "resnet18"}


def network(name, seed=1):
    """The network of that name at its size of `SIZES`, without a head."""
    if name in CONVOLUTIONAL:
        torch.manual_seed(seed)
        model = timm.create_model(CONVOLUTIONAL[name], pretrained=False, num_classes=0).eval()
        if name.endswith("_cifar"):  # as SimCLR's appendix B.9 has it: 3 x 3 of stride 1, no pooling
            model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
            model.maxpool = torch.nn.Identity()
        return fill_norms(model, seed).eval()
    model = timm.create_model(NETWORKS[name], pretrained=False, num_classes=0,
                              img_size=SIZES.get(name, 224))
    fill(model, seed).eval()
    return model


def save(model, path):
    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)


def data_folder():
    """The folder of the large data, where there is one."""
    path = os.environ.get("TACIT_DATA", os.path.join(ROOT, "..", "shared", "data"))
    return path if os.path.isdir(os.path.join(path, "photos")) else None


def photos(count):
    """Paths of `count` photos: clothing and ImageNet in turns, else the demo's."""
    data = data_folder()

    def below(*folders):
        return sorted(os.path.join(d, f) for folder in folders
                      for d, _, files in os.walk(folder) for f in files
                      if f.lower().endswith((".jpg", ".jpeg")))
    if data:
        native = below(os.path.join(data, "photos", "imagenet-native"))
        clothes = below(os.path.join(data, "photos", "clothing10", "val"))
        step = max(1, len(clothes) // count)
        both = [p for pair in zip(clothes[::step], native) for p in pair]
        rest = [p for p in clothes[::step] + clothes if p not in both]
        return (both + list(dict.fromkeys(rest)))[:count]
    return below(os.path.join(ROOT, "demo", "photos"))[:count]


def transform(size=224):
    return transforms.Compose([
        transforms.Resize(size * 8 // 7, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])


def decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def features(model, x, kinds):
    """What `tacit extract --features` writes for a batch x, as NumPy arrays by kind."""
    with torch.no_grad():
        tokens = model.forward_features(x)  # after the final norm
    cls, patches = tokens[:, 0], tokens[:, 1:]
    mean = patches.mean(1)
    every = {"cls": cls, "mean": mean, "patch": patches, "cls+mean": torch.cat([cls, mean], 1)}
    return {kind: every[kind].numpy() for kind in kinds}


def cosine(a, b):
    """Cosine similarity of the rows of a and b, in double precision."""
    a, b = (x.astype(np.float64).reshape(len(x), -1) for x in (a, b))
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def relative_error(a, reference):
    """max |a - b| / max |b| of each row."""
    a, b = (x.astype(np.float64).reshape(len(x), -1) for x in (a, reference))
    return np.abs(a - b).max(1) / np.abs(b).max(1)
