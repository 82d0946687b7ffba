#!/usr/bin/env python3
"""PyTorch's side of methods.py: one method of self-supervised learning; stays alive.

    python torch_methods.py METHOD CONFIG THREADS [channels-last] [compiled]

CONFIG is the config.ini of a run of tacit pretrain METHOD: network, widths, crops, colours,
optimiser, batch and images (CIFAR's binary records or a list of JPEGs) are what it says, so both
sides do the same. Losses, heads, memory bank, shuffles and moving averages are those of lightly; of
DeepCluster-v2, which it has not, the mathematics is that of facebookresearch/swav,
main_deepclusterv2.py. Networks are torchvision's blocks and timm's ViT. As the authors of SwAV and
DINO, and as a careful user would: crops of one size go through the network together, gradients are
clipped without a loop.

The first line tells what FlopCounterMode counts in a step, and what a step had as its loss. Then,
a line each: "step" does a step on views that stay in memory; "open WORKERS IMAGES" makes the
DataLoader for the first so many images and reads it once; "epoch" goes through it once, from the
first request for data to the end of the last step (for DeepCluster with the k-means before it).
Rates and momenta stay as they are at the start; what waits an epoch does not wait. torch_masked.py
does so with the masked methods.
"""
import functools
import json
import os
import re
import sys
import time
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.flop_counter import FlopCounterMode

from torch_epochs import BICUBIC, MEAN, STD, Blur, Image, T, groups_of  # first: torchvision
from lightly import loss as losses
from lightly.models import batchnorm, modules, utils
from timm.models.vision_transformer import VisionTransformer
from torchvision.models.resnet import BasicBlock

BILINEAR = T.InterpolationMode.BILINEAR
NORMALISE = {"imagenet": (MEAN, STD), "half": ((0.5,) * 3, (0.5,) * 3),
             "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))}
VITS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # width, heads


class Config(dict):
    """Settings by name, as text; numbers by calling it."""

    def __init__(self, path):
        with open(path) as f:
            pairs = (line.split("=", 1) for line in f if not line.startswith("#"))
            super().__init__((key.strip(), value.strip()) for key, value in pairs)
        self.folder = os.path.dirname(path)

    def __call__(self, name):
        text = self[name]
        return text == "true" if text in ("true", "false") else float(text)

    def whole(self, name):
        return int(self(name))

    def need(self, name, *values):
        if self.get(name, values[0]) not in values:
            sys.exit(f"torch_methods.py: {name} = {self[name]} is not done here, only "
                     f"{' or '.join(values)}")


# ---- views

class Views(Dataset):
    """All views of a picture, and its place. Records are kept as torchvision.datasets.CIFAR10 keeps
    them; JPEGs of a list are read each time, as by ImageFolder."""

    def __init__(self, c):
        if c["kind"] == "list":
            with open(c["images"]) as f:
                self.pictures = f.read().splitlines()
        else:
            records = np.fromfile(c["images"], np.uint8).reshape(-1, 3073)[:, 1:]
            pictures = records.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            self.pictures = np.ascontiguousarray(pictures)
        self.views = views_of(c)

    def picture(self, i):
        if isinstance(self.pictures, np.ndarray):
            return Image.fromarray(self.pictures[i])
        with Image.open(self.pictures[i]) as image:
            return image.convert("RGB")

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        picture = self.picture(i)
        return [view(picture) for view in self.views], i


def view_of(c, size, scale, second="", local=False):
    """The chain of tacit's view_settings.c, with torchvision's transforms on Pillow's pictures."""
    def probability(name):
        other = name + ("_local" if local else second)
        return c(other) if other != name and c(other) >= 0 else c(name)

    bicubic = c["filter"] == "bicubic"
    chain = [T.RandomResizedCrop(size, scale,
                                 interpolation=BICUBIC if bicubic else BILINEAR),
             T.RandomHorizontalFlip(c("flip"))]
    if "jitter" in c:
        chain += colours_of(c, probability)
    chain.append(T.ToTensor())
    if c["normalise"] != "none":
        chain.append(T.Normalize(*NORMALISE[c["normalise"]]))
    return T.Compose(chain)


def colours_of(c, probability):
    chain = []
    colours = [c("jitter") * c(name) for name in ("brightness", "contrast", "saturation", "hue")]
    if c("jitter"):
        chain.append(T.RandomApply([T.ColorJitter(*colours)], c("jitter_probability")))
    if c("gray"):
        chain.append(T.RandomGrayscale(c("gray")))
    if probability("blur"):
        chain.append(T.RandomApply([Blur()], probability("blur")))
    if probability("solarise"):
        chain.append(T.RandomSolarize(128, probability("solarise")))
    return chain


def views_of(c):
    size, scale = c.whole("size") or 32, (c("crop_min"), c("crop_max"))
    views = [view_of(c, size, scale), view_of(c, size, scale, "_second")]
    for _ in range(c.whole("local_crops") if "local_crops" in c else 0):
        views.append(view_of(c, c.whole("local_size"), (c("local_min"), c("local_max")),
                             local=True))
    return views


# ---- networks

class GroupedNorm(nn.BatchNorm2d):
    """lightly's SplitBatchNorm, which wants channels first, for channels last."""

    def __init__(self, channels, groups):
        super().__init__(channels)
        self.groups = groups

    def forward(self, x):
        return torch.cat([super(GroupedNorm, self).forward(part)
                          for part in x.chunk(self.groups)])


def norm_of(groups, channels_last):
    if groups < 2:
        return nn.BatchNorm2d
    return functools.partial(GroupedNorm if channels_last else batchnorm.SplitBatchNorm,
                             **{"groups" if channels_last else "num_splits": groups})


def resnet(c, norm):
    """torchvision's, of basic blocks; it has the width and the depth for no other ResNet."""
    c.need("arch", "resnet18", "resnet18_cifar")
    width, depth = c.whole("dim") or 64, c.whole("depth") or 2
    if c["arch"].endswith("cifar"):
        layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(width), nn.ReLU(inplace=True)]
    else:
        layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), norm(width), nn.ReLU(inplace=True),
                  nn.MaxPool2d(3, 2, 1)]
    before = width
    for stage in range(4):
        for block in range(depth):
            stride, out = 2 if stage and not block else 1, width << stage
            shortcut = None
            if stride > 1 or before != out:
                shortcut = nn.Sequential(nn.Conv2d(before, out, 1, stride, bias=False), norm(out))
            layers.append(BasicBlock(before, out, stride, shortcut, norm_layer=norm))
            before = out
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    return net, before


def vit_sizes(c):
    """By the names of timm's arguments."""
    size, patch, image = re.fullmatch(r"vit_(\w+?)_patch(\d+)_(\d+)", c["arch"]).groups()
    width, heads = VITS[size]
    return {"img_size": c.whole("size") or int(image), "patch_size": c.whole("patch") or int(patch),
            "embed_dim": c.whole("dim") or width, "depth": c.whole("depth") or 12,
            "num_heads": c.whole("heads") or heads}


def vit(c, still):
    sizes = vit_sizes(c)
    return VisionTransformer(**sizes, num_classes=0, dynamic_img_size=True,
                             drop_path_rate=0 if still else c("drop_path")), sizes["embed_dim"]


class Tower(nn.Module):
    """Backbone and head. Views of one size go through together, and all through the head, unless
    each is to go alone."""

    def __init__(self, c, head, groups=1, channels_last=False, still=False):
        super().__init__()
        self.backbone, width = vit(c, still) if c["arch"].startswith("vit") else \
            resnet(c, norm_of(groups, channels_last))
        self.head = head(width)

    def forward(self, views):
        if isinstance(views, torch.Tensor):
            return self.head(self.backbone(views))
        sizes = sorted({v.shape[-1] for v in views}, reverse=True)
        features = [self.backbone(torch.cat([v for v in views if v.shape[-1] == size]))
                    for size in sizes]
        return self.head(torch.cat(features))


def mlp(c, width, last_norm=None, bias=False):
    """Linear, BN, ReLU, ..., Linear."""
    hidden, out = c.whole("head_hidden") or width, c.whole("head_dim")
    blocks = []
    for _ in range(c.whole("head_layers") - 1):
        blocks.append((width, hidden, nn.BatchNorm1d(hidden), nn.ReLU()))
        width = hidden
    blocks.append((width, out, last_norm and last_norm(out), None, bias))
    return modules.heads.ProjectionHead(blocks)


# ---- methods

class Method(nn.Module):
    """A step: loss(views, places) and, behind the optimiser, after(). teachers take no gradient."""

    def images(self, c):
        return Views(c)

    def first(self, loader):
        """The batch that stays in memory, as the loader gives them."""
        return next(iter(loader))

    def arrange(self, views, places):
        """Before a step, and no part of one."""
        return views, places

    def towers(self):
        """What torch.compile is asked for."""
        return [m for m in self.modules() if isinstance(m, Tower)]

    def loss(self, views, places):
        raise NotImplementedError

    def after(self):
        pass

    def survey(self, batches):
        """Before the first step, of all images."""

    def begin_epoch(self):
        pass

    def twin(self, make):
        """Two networks with the same values, the second without gradient."""
        first, second = make(False), make(True)
        second.load_state_dict(first.state_dict())
        utils.deactivate_requires_grad(second)
        return first, second


class SimCLR(Method):
    def __init__(self, c, channels_last):
        super().__init__()
        last = nn.BatchNorm1d if c("head_norm") else None
        self.net = Tower(c, lambda width: mlp(c, width, last, bias=not last))
        self.criterion = losses.NTXentLoss(temperature=c("temperature"))

    def loss(self, views, places):
        return self.criterion(*self.net(views).chunk(2))


class MoCo(Method):
    def __init__(self, c, channels_last):
        super().__init__()
        c.need("symmetric", "false")
        c.need("head_layers", "2")

        def head(width):
            return modules.MoCoProjectionHead(width, c.whole("head_hidden") or width,
                                              c.whole("head_dim"))

        self.query, self.key = self.twin(
            lambda still: Tower(c, head, c.whole("bn_groups"), channels_last, still))
        self.criterion = losses.NTXentLoss(
            temperature=c("temperature"),
            memory_bank_size=(c.whole("queue"), c.whole("head_dim")))
        self.momentum = c("key_momentum")

    def loss(self, views, places):
        query = self.query(views[0])
        with torch.no_grad():
            keys, shuffle = utils.batch_shuffle(views[1])
            keys = utils.batch_unshuffle(self.key(keys), shuffle)
        return self.criterion(query, keys)

    def after(self):
        utils.update_momentum(self.query, self.key, self.momentum)


class BYOL(Method):
    def __init__(self, c, channels_last):
        super().__init__()
        hidden, dim = c.whole("head_hidden"), c.whole("head_dim")
        self.online, self.target = self.twin(lambda still: Tower(
            c, lambda width: modules.BYOLProjectionHead(width, hidden, dim), still=still))
        self.predictor = modules.BYOLPredictionHead(dim, hidden, dim)
        self.criterion = losses.NegativeCosineSimilarity()
        self.momentum = c("target_momentum")

    def loss(self, views, places):
        with torch.no_grad():
            targets = [self.target(v) for v in views]
        predictions = [self.predictor(self.online(v)) for v in views]
        return sum(self.criterion(p, z) for p, z in zip(predictions, reversed(targets)))

    def after(self):
        utils.update_momentum(self.online, self.target, self.momentum)


class BarlowTwins(Method):
    def __init__(self, c, channels_last):
        super().__init__()
        self.net = Tower(c, lambda width: mlp(c, width))
        self.criterion = losses.BarlowTwinsLoss(c("lambda"))
        self.scale = c("loss_scale")

    def loss(self, views, places):
        return self.scale * self.criterion(*[self.net(v) for v in views])


class VICReg(Method):
    def __init__(self, c, channels_last):
        super().__init__()
        self.net = Tower(c, lambda width: mlp(c, width))
        self.criterion = losses.VICRegLoss(c("invariance"), c("variance"), c("covariance"))

    def loss(self, views, places):
        return self.criterion(*[self.net(v) for v in views])


class Prototypes(Method):
    """What SwAV and DeepCluster have in common."""

    def __init__(self, c):
        super().__init__()
        self.net = Tower(c, lambda width: modules.SwaVProjectionHead(
            width, c.whole("head_hidden"), c.whole("head_dim")))

    def embed(self, views):
        return F.normalize(self.net(views))


class SwAV(Prototypes):
    def __init__(self, c, channels_last):
        super().__init__(c)
        c.need("queue", "0")
        self.prototypes = modules.SwaVPrototypes(c.whole("head_dim"), c.whole("prototypes"))
        self.criterion = losses.SwaVLoss(c("temperature"), c.whole("sinkhorn_iterations"),
                                         c("epsilon"))

    def loss(self, views, places):
        self.prototypes.normalize()
        scores = self.prototypes(self.embed(views)).chunk(len(views))
        return self.criterion(scores[:2], scores[2:])


class DeepCluster(Prototypes):
    """Clusterings h take the embeddings of crop h % 2; places are those of images in the data."""

    def __init__(self, c, channels_last):
        super().__init__(c)
        c.need("kmeans", "true")
        self.clusters, self.iterations = c.whole("prototypes"), c.whole("kmeans_iterations")
        self.temperature, dim = c("temperature"), c.whole("head_dim")
        self.heads = nn.ModuleList(nn.Linear(dim, self.clusters, bias=False)
                                   for _ in range(c.whole("clusterings")))
        utils.deactivate_requires_grad(self.heads)
        self.dim = dim

    def survey(self, batches):
        images = batches.dataset
        self.memory = torch.zeros(2, len(images), self.dim)
        self.assignments = torch.full((len(self.heads), len(images)), -100)
        with torch.no_grad():
            for views, places in batches:
                self.remember(self.embed(views[:2]), places)

    def remember(self, embeddings, places):
        for crop, z in enumerate(embeddings[:2 * len(places)].chunk(2)):
            self.memory[crop, places] = z

    @torch.no_grad()
    def begin_epoch(self):
        for h, head in enumerate(self.heads):
            points = self.memory[h % 2]
            centroids = points[torch.randperm(len(points))[:self.clusters]]
            for iteration in range(self.iterations + 1):
                nearest = (points @ centroids.T).argmax(1)
                if iteration == self.iterations:
                    break
                sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
                filled = torch.bincount(nearest, minlength=self.clusters) > 0
                centroids = F.normalize(torch.where(filled[:, None], sums, centroids))
            head.weight.copy_(centroids)
            self.assignments[h] = nearest

    def loss(self, views, places):
        z = self.embed(views)
        with torch.no_grad():
            self.remember(z.detach(), places)
        return sum(F.cross_entropy(head(z) / self.temperature, a[places].repeat(len(views)))
                   for head, a in zip(self.heads, self.assignments)) / len(self.heads)


class DINO(Method):
    def __init__(self, c, channels_last):
        super().__init__()

        def head(width):
            return modules.DINOProjectionHead(
                width, c.whole("head_hidden"), c.whole("head_dim"), c.whole("outputs"),
                batch_norm=c("head_norm"), norm_last_layer=c("norm_last_layer"))

        self.student, self.teacher = self.twin(lambda still: Tower(c, head, still=still))
        self.criterion = losses.DINOLoss(
            c.whole("outputs"), teacher_temp=c("teacher_temperature"),
            student_temp=c("student_temperature"), center_momentum=c("centre_momentum"))
        self.momentum = c("teacher_momentum")

    def loss(self, views, places):
        with torch.no_grad():
            targets = self.teacher(views[:2]).chunk(2)
        return self.criterion(list(targets), list(self.student(views).chunk(len(views))))

    def after(self):
        utils.update_momentum(self.student, self.teacher, self.momentum)


METHODS = {"moco": MoCo, "swav": SwAV, "deepcluster": DeepCluster, "byol": BYOL, "dino": DINO,
           "barlow": BarlowTwins, "vicreg": VICReg, "simclr": SimCLR}


# ---- training

def optimiser_of(c, model, fused):
    c.need("optimiser", "adamw", "sgd")
    c.need("accumulate", "1")
    rate = c("lr") * (c("batch") / 256 if c["lr_scale"] == "linear" else 1)
    if c["optimiser"] == "sgd":
        return torch.optim.SGD(groups_of(model), rate, c("momentum"), nesterov=c("nesterov"),
                               weight_decay=c("weight_decay"), fused=fused)
    return torch.optim.AdamW(groups_of(model), rate, (c("beta1"), c("beta2")), c("eps"),
                             c("weight_decay"), fused=fused)


def clip_each(parameters, most):
    """Each tensor's gradient to that norm at most, as clip_gradients of facebookresearch/dino."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((most / (norms + 1e-6)).clamp(max=1)))


class Program:
    def __init__(self, make, c, how):
        self.batch, self.clip, self.clip_each = c.whole("batch"), c("clip"), c("clip_tensor")
        self.layout = torch.channels_last if "channels-last" in how else torch.contiguous_format
        self.model = make(c, "channels-last" in how).to(memory_format=self.layout)
        published = self.model.published = "as-published" in how
        if published or "plain-attention" in how:
            for module in self.model.modules():
                if hasattr(module, "fused_attn"):
                    module.fused_attn = False
        self.images = self.model.images(c)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = optimiser_of(c, self.model, fused=not published)
        self.loader = self.load(0, len(self.images))
        self.model.survey(self.loader)
        self.model.begin_epoch()
        self.kept = self.arrange(self.model.first(self.loader))
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self.value = self.step(*self.kept)  # fused attention is not counted
        self.gflop = counter.get_total_flops() / 1e9
        if "compiled" in how:
            for module in self.model.towers():
                module.compile()
            self.step(*self.kept)
        self.step(*self.kept)

    def load(self, workers, count):
        part = Subset(self.images, range(count)) if count < len(self.images) else self.images
        return DataLoader(part, self.batch, shuffle=True, drop_last=True, num_workers=workers,
                          persistent_workers=workers > 0,
                          collate_fn=getattr(self.images, "collate", None))

    def arrange(self, batch):
        views, places = batch
        return self.model.arrange([v.contiguous(memory_format=self.layout) for v in views], places)

    def step(self, views, places):
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.model.loss(views, places)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.trained, self.clip, foreach=True)
        if self.clip_each:
            clip_each(self.trained, self.clip_each)
        self.optimiser.step()
        self.model.after()
        return loss.item()

    def open(self, workers, count):
        self.loader = None  # ends its workers
        self.loader = self.load(workers, count)
        for _ in self.loader:  # all of it, that nothing is left in the queues
            pass

    def epoch(self):
        self.model.begin_epoch()
        for batch in self.loader:
            self.value = self.step(*self.arrange(batch))
        return len(self.loader) * self.batch

    def answer(self, what, *words):
        images, start = self.batch, time.perf_counter()
        if what == "open":
            self.open(*map(int, words))
        elif what == "epoch":
            images = self.epoch()
        else:
            self.value = self.step(*self.kept)
        return {"time_s": time.perf_counter() - start, "images": images, "loss": self.value}


def main(methods):
    name, config, threads, *how = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    warnings.simplefilter("ignore", FutureWarning)  # of lightly's use of weight_norm
    program = Program(methods[name], Config(config), how)
    parameters = sum(p.numel() for p in program.trained)

    def say(what):
        print(json.dumps(what), flush=True)

    say({"torch": torch.__version__, "gflop": program.gflop, "parameters": parameters,
         "loss": program.value})
    for line in sys.stdin:
        say(program.answer(*line.split()))


if __name__ == "__main__":
    main(METHODS)
