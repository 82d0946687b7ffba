#!/usr/bin/env python3
"""PyTorch's side of epochs.py: a training program from JPEGs on; stays alive, does an epoch a line.

    python torch_epochs.py mae|simclr LIST BATCH THREADS

Lines: "open WORKERS IMAGES" makes the DataLoader, for the first so many of LIST, reads it once and
does a step; "compile" does two steps with what torch.compile makes. "epoch eager" and "epoch
compiled" go through the data once. Each is answered by its seconds, an epoch's being those from the
first request for data to the end of the last step.

What it does is what a careful user of PyTorch would write: workers that persist, torchvision's
transforms on PIL images, Pillow's own Gaussian blur (a fraction of the time of torchvision's),
fused attention and optimisers, ResNets channels last. SimCLR's loss is NT-Xent.
"""
import json
import random
import sys
import time

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from torch_steps import MaskedAutoencoder, torchvision
from PIL import Image, ImageFilter  # noqa: E402
from torchvision import transforms as T  # noqa: E402

BICUBIC = T.InterpolationMode.BICUBIC
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Blur:
    def __call__(self, img):
        return img.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2)))


class Photos(Dataset):
    """As ImageFolder opens them; every view of a photo, of one decode."""

    def __init__(self, paths, view, count):
        self.paths, self.view, self.count = paths, view, count

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with open(self.paths[i], "rb") as f:
            img = Image.open(f).convert("RGB")
        return [self.view(img) for _ in range(self.count)]


class SimCLR(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torchvision.models.resnet18(zero_init_residual=True)
        self.net.fc = torch.nn.Identity()
        self.head = torch.nn.Sequential(
            torch.nn.Linear(512, 512, bias=False), torch.nn.BatchNorm1d(512), torch.nn.ReLU(),
            torch.nn.Linear(512, 128, bias=False), torch.nn.BatchNorm1d(128))
        self.head[4].bias.requires_grad_(False)

    def forward(self, images):
        z = F.normalize(self.head(self.net(images)))
        scores = z @ z.T / 0.5
        scores = scores.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        other = torch.arange(len(z)).roll(len(z) // 2)
        return F.cross_entropy(scores, other)


class Mae:
    size, views = 64, 1
    view = T.Compose([
        T.RandomResizedCrop(size, scale=(0.2, 1), interpolation=BICUBIC),
        T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)])

    def __init__(self):
        self.model = MaskedAutoencoder(self.size, 8, 192, 12, 3, 128, 2, 4)

    def optimiser(self, groups):
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True)

    def batch(self, views):
        return views[0]


class Simclr:
    size, views = 64, 2
    view = T.Compose([
        T.RandomResizedCrop(size, interpolation=BICUBIC), T.RandomHorizontalFlip(),
        T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8), T.RandomGrayscale(p=0.2),
        T.RandomApply([Blur()], p=0.5), T.ToTensor()])

    def __init__(self):
        self.model = SimCLR().to(memory_format=torch.channels_last)

    def optimiser(self, groups):
        return torch.optim.SGD(groups, lr=0.12, momentum=0.9, weight_decay=5e-4, fused=True)

    def batch(self, views):
        return torch.cat(views).contiguous(memory_format=torch.channels_last)


def groups_of(model):
    """Biases and norms do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [{"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0}]


def main():
    name, list_file, batch, threads = sys.argv[1:]
    batch = int(batch)
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    with open(list_file) as f:
        paths = f.read().split("\n")[:-1]
    work = {"mae": Mae, "simclr": Simclr}[name]()
    optimiser = work.optimiser(groups_of(work.model))
    how = {"eager": work.model, "compiled": torch.compile(work.model)}

    def step(views, loss_of):
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(work.batch(views))
        loss.backward()
        optimiser.step()
        return loss.item()

    def say(what):
        print(json.dumps(what), flush=True)

    loader, first = None, None
    say({"torch": torch.__version__})
    for line in sys.stdin:
        what, *words = line.split()
        start = time.perf_counter()
        if what == "open":
            del loader  # ends its workers
            workers, images = map(int, words)
            loader = DataLoader(Photos(paths[:images], work.view, work.views), batch, shuffle=True,
                                drop_last=True, num_workers=workers, persistent_workers=workers > 0)
            for first in loader:  # all of it, that nothing is left in the queues
                pass
            step(first, how["eager"])
        elif what == "compile":
            step(first, how["compiled"]), step(first, how["compiled"])
        else:
            images = 0
            for views in loader:
                loss = step(views, how[words[0]])
                images += batch
        say({"seconds": time.perf_counter() - start, **(
            {"images": images, "loss": loss} if what == "epoch" else {})})


if __name__ == "__main__":
    main()
