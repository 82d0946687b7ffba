#!/usr/bin/env python3
"""Makes pretrain_golden.safetensors, for test_trainer.c: 20 steps of each method in double precision.

    python make_pretrain.py ../data

mae: facebookresearch/mae (make_train.py), AdamW, warm-up and cosine of util/lr_sched.py.
simclr: a ResNet as torchvision has it; the head, the loss and the LARS of google-research/simclr
(tf2/model.py, tf2/objective.py, tf2/lars_optimizer.py), written out here, with its schedule.
byol: deepmind-research/byol's loss, target and schedules; barlow: facebookresearch/barlowtwins' loss;
vicreg: facebookresearch/vicreg's; with moco-v3's LARS, which is theirs too, written out here; moco, moco3, swav, deepcluster, dino,
maskfeat, simmim, beit, ijepa: make_pretrain_<method>.py.
Pixels and masks are tacit's draws (kernels/rt/rng.c, pretrain/draws.c), computed here too. For each:
initial weights, the losses, the gradients of the first step, the weights after the last, those of a
teacher, a queue, a centre, a memory. Needs torch, timm, numpy and safetensors.
"""
import math
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

import make_pretrain_beit
import make_pretrain_deepcluster
import make_pretrain_dino
import make_pretrain_ijepa
import make_pretrain_maskfeat
import make_pretrain_moco
import make_pretrain_simmim
import make_pretrain_swav
import make_train as base
from make_train import Residual, generator, half

STEPS, EPOCH, SEED, BATCH = 20, 5, 11, 8
WARMUP, EPOCHS = 1, 4
# Contrast of noise in batches this small is chaotic: at higher rates PyTorch's own float32 leaves its
# float64 within the 20 steps. More trust makes the weights' steps large enough to be told apart.
TRUST = 0.01
golden = {}


def philox(seed, stream, index):
    """Philox4x32-10 for an array of indices: (n, 4) uint32."""
    index = np.asarray(index, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    c = [index & low, index >> np.uint64(32), np.full_like(index, stream & 0xFFFFFFFF),
         np.full_like(index, stream >> 32)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1)


def words(seed, stream, n):
    return philox(seed, stream, np.arange((n + 3) // 4)).reshape(-1)[:n]


def pixels(step, view, side):
    """What the test's feed gives."""
    w = words(7, 1000 * step + view, BATCH * 3 * side * side)
    x = (w >> np.uint64(8)).astype(np.float64) * 2.0 ** -24 * 4 - 2
    return torch.from_numpy(x.reshape(BATCH, 3, side, side))


def sample(step, i):
    return (step * BATCH + i) % (EPOCH * BATCH)


def shuffled(epoch, sample, n, use=1):
    """tacit_draw_mask, and with another use tacit_draw_order."""
    w = philox(SEED, epoch << 8 | use, [sample])[0]
    draws = words(SEED, int(w[0]) << 32 | int(w[1]), n)
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = int(draws[i]) * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return order


def rate_at(step, base_rate):
    """Linear warm-up from 0 and a cosine to 0, by the fraction of the epoch."""
    e = step / EPOCH
    if e < WARMUP:
        return base_rate * e / WARMUP
    return base_rate * 0.5 * (1 + math.cos(math.pi * (e - WARMUP) / (EPOCHS - WARMUP)))


def put(section, kind, tensors):
    for name, x in tensors.items():
        x = x.detach().contiguous()
        golden[f"{section}.{kind}.{name}"] = x.half() if kind == "init" else x.float().clone()


def train(section, named, loss_of, step_of):
    put(section, "init", named)
    losses = []
    for step in range(STEPS):
        for p in named.values():
            p.grad = None
        loss = loss_of(step)
        loss.backward()
        losses.append(loss.detach())
        if step == 0:
            put(section, "grad", {n: p.grad for n, p in named.items()})
        step_of(step)
    put(section, "after", named)
    golden[f"{section}.losses"] = torch.stack(losses).float()


def make_mae():
    base.MLP, base.DEC_MLP, base.KEPT = 4 * base.DIM, 4 * base.DEC_DIM, 4
    model = base.MaskedAutoencoder().double()
    g = generator(6)
    for name, p in model.named_parameters():
        if "pos_embed" not in name:
            gain = name.endswith("weight") and p.ndim == 1
            p.data = half(torch.randn(p.shape, generator=g) * 0.15 + (1.0 if gain else 0.0))
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    plain = [p for n, p in named.items() if base.norm_free(p, n)]
    rest = [p for n, p in named.items() if not base.norm_free(p, n)]
    adamw = torch.optim.AdamW([{"params": rest, "weight_decay": 0.05},
                               {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.95))

    def loss_of(step):
        order = [shuffled(step // EPOCH, sample(step, i), base.PATCHES) for i in range(BATCH)]
        return model(pixels(step, 0, base.IMAGE), torch.tensor(order))

    def step_of(step):
        for group in adamw.param_groups:
            group["lr"] = rate_at(step, 2e-3)
        adamw.step()

    train("mae", named, loss_of, step_of)


class JointNet(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        n, ins = torch.nn, width
        self.conv1, self.bn1 = n.Conv2d(3, width, 3, 1, 1, bias=False), n.BatchNorm2d(width)
        for s in range(4):
            out = width << s
            setattr(self, f"layer{s + 1}",
                    n.Sequential(Residual(ins, out, out, 2 if s else 1, False)))
            ins = out
        self.width = ins

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        for s in range(4):
            x = getattr(self, f"layer{s + 1}")(x)
        return self.projector(x.mean((2, 3)))


class ContrastiveNet(JointNet):
    def __init__(self, width, hidden, dim):
        super().__init__(width)
        n, ins = torch.nn, self.width
        self.projector = n.Sequential(n.Linear(ins, hidden, bias=False), n.BatchNorm1d(hidden),
                                      n.ReLU(), n.Linear(hidden, hidden, bias=False),
                                      n.BatchNorm1d(hidden), n.ReLU(),
                                      n.Linear(hidden, dim, bias=False), n.BatchNorm1d(dim))
        self.projector[7].bias.requires_grad = False  # center=False


def contrastive_loss(hidden, temperature):
    """objective.py, add_contrastive_loss on one replica."""
    hidden = hidden / hidden.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
    h1, h2 = hidden.chunk(2)
    n = len(h1)
    labels, masks = torch.arange(n), torch.eye(n, dtype=torch.double) * 1e9
    aa, bb = h1 @ h1.T / temperature - masks, h2 @ h2.T / temperature - masks
    ab, ba = h1 @ h2.T / temperature, h2 @ h1.T / temperature
    loss_a = torch.nn.functional.cross_entropy(torch.cat([ab, aa], 1), labels)
    loss_b = torch.nn.functional.cross_entropy(torch.cat([ba, bb], 1), labels)
    return loss_a + loss_b


def make_simclr():
    net = ContrastiveNet(4, 16, 8).double()
    g = generator(12)
    for name, p in net.named_parameters():
        norm = p.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        p.data = half(torch.randn(p.shape, generator=g) * (0.1 if norm else 0.3) + middle)
    net.projector[7].bias.data.zero_()
    named = {n: p for n, p in net.named_parameters() if p.requires_grad}
    state = {n: torch.zeros_like(p) for n, p in named.items()}

    def step_of(step):
        with torch.no_grad():
            for n, p in named.items():
                base.lars_rate(p, state[n], rate_at(step, 0.01), p.ndim < 2, TRUST)

    train("simclr", named,
          lambda step: contrastive_loss(net(torch.cat([pixels(step, v, 12) for v in (0, 1)])), 0.5),
          step_of)
    golden["simclr.running"] = net.layer2[0].bn1.running_var.float()


def head(ins, hidden, dim, layers, bias):
    """Linear, BN, ReLU, ..., Linear without bias."""
    n, parts = torch.nn, []
    for _ in range(layers - 1):
        parts += [n.Linear(ins, hidden, bias=bias), n.BatchNorm1d(hidden), n.ReLU()]
        ins = hidden
    return n.Sequential(*parts, n.Linear(ins, dim, bias=False))


def lars(p, v, rate, bias_rate):
    """moco-v3's, BYOL's, Barlow Twins' and VICReg's."""
    dp = p.grad
    if p.ndim > 1:
        dp = dp + base.DECAY * p
        w_norm, u_norm = p.norm(), dp.norm()
        dp = dp * (TRUST * w_norm / u_norm if w_norm > 0 and u_norm > 0 else 1.0)
    v.mul_(0.9).add_(dp)
    p.sub_((rate if p.ndim > 1 else rate * bias_rate) * v)


# Seeds and rates were picked among a few: in networks this tiny a gradient can cancel to where
# float32 is 1.2e-5 to 2.2e-5 off, beyond the test's 1e-5 (barlow 1 of 2 seeds, vicreg 4 of 5).
def make_joint(section, net, seed, loss_of_views, rate, bias_rate=1.0, after=None):
    """Both views go through the network one by one."""
    g = generator(seed)
    for name, p in net.named_parameters():
        norm = p.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        p.data = half(torch.randn(p.shape, generator=g) * (0.1 if norm else 0.3) + middle)
    named = dict(net.named_parameters())
    state = {n: torch.zeros_like(p) for n, p in named.items()}

    def step_of(step):
        with torch.no_grad():
            for n, p in named.items():
                lars(p, state[n], rate_at(step, rate), bias_rate)
            if after:
                after(step)

    train(section, named, lambda step: loss_of_views(pixels(step, 0, 12), pixels(step, 1, 12)),
          step_of)


def make_byol():
    net = JointNet(2).double()
    net.projector = head(net.width, 16, 8, 2, True).double()
    net.predictor = head(8, 16, 8, 2, True).double()
    target = JointNet(2).double()
    target.projector = head(target.width, 16, 8, 2, True).double()
    begun = []

    def regression(x, y):  # utils/helpers.py
        x, y = (v / v.square().sum(-1, keepdim=True).sqrt() for v in (x, y))
        return (x - y).square().sum(-1)

    def loss(a, b):
        if not begun:
            target.load_state_dict({n: t for n, t in net.state_dict().items()
                                    if not n.startswith("predictor")})
            begun.append(True)
        p = [net.predictor(net(v)) for v in (a, b)]
        with torch.no_grad():
            t = [target(v) for v in (a, b)]
        return (regression(p[0], t[1]) + regression(p[1], t[0])).mean()

    def after(step):  # utils/schedules.py, target_ema
        tau = 1 - (1 - 0.9) * (math.cos(math.pi * step / STEPS) + 1) / 2
        online = dict(net.named_parameters())
        for name, p in target.named_parameters():
            p.copy_(tau * p + (1 - tau) * online[name])

    make_joint("byol", net, 32, loss, 0.02, after=after)
    put("byol", "teacher", dict(target.named_parameters()))
    golden["byol.running"] = net.layer2[0].bn1.running_var.float()


def make_barlow():
    net = JointNet(2).double()
    net.projector = head(net.width, 16, 8, 3, False).double()
    bn = torch.nn.BatchNorm1d(8, affine=False).double()

    def loss(a, b):  # main.py
        c = bn(net(a)).T @ bn(net(b)) / BATCH
        on_diag = (torch.diagonal(c) - 1).square().sum()
        return on_diag + 0.02 * (c.square().sum() - torch.diagonal(c).square().sum())

    make_joint("barlow", net, 33, loss, 0.02, bias_rate=0.1)
    golden["barlow.running"] = net.layer2[0].bn1.running_var.float()


def make_vicreg():
    net = JointNet(2).double()
    net.projector = head(net.width, 16, 8, 3, True).double()

    def loss(a, b):  # main_vicreg.py
        x, y = net(a), net(b)
        repr_loss = torch.nn.functional.mse_loss(x, y)
        x, y = x - x.mean(dim=0), y - y.mean(dim=0)
        std_x, std_y = (torch.sqrt(v.var(dim=0) + 0.0001) for v in (x, y))
        std_loss = torch.relu(1 - std_x).mean() / 2 + torch.relu(1 - std_y).mean() / 2
        cov_loss = 0
        for v in (x, y):
            cov = v.T @ v / (BATCH - 1)
            cov_loss += (cov.square().sum() - torch.diagonal(cov).square().sum()) / v.shape[1]
        return 25 * repr_loss + 25 * std_loss + cov_loss

    make_joint("vicreg", net, 64, loss, 0.005)
    golden["vicreg.running"] = net.layer2[0].bn1.running_var.float()


if __name__ == "__main__":
    make_mae()
    make_simclr()
    make_byol()
    make_barlow()
    make_vicreg()
    this = sys.modules[__name__]
    make_pretrain_moco.make_moco(this, "moco", False, 24, 41, 0.02)
    make_pretrain_moco.make_moco(this, "moco-2", True, 32, 46, 0.02)
    make_pretrain_moco.make_moco3(this, "moco3", make_pretrain_moco.resnet, 12, 1.0, 51, 0.02)
    make_pretrain_moco.make_moco3(this, "moco3-2", make_pretrain_moco.vit, 16, 0.2, 55, 5e-3)
    make_pretrain_swav.make(this)
    make_pretrain_deepcluster.make(this)
    make_pretrain_deepcluster.make_first(this)
    make_pretrain_dino.make(this)
    make_pretrain_maskfeat.make(this, sys.argv[1])
    make_pretrain_simmim.make(this)
    make_pretrain_simmim.make(this, "simmim-2", 5, 82)
    make_pretrain_beit.make(this, sys.argv[1])
    make_pretrain_ijepa.make(this)
    save_file(golden, os.path.join(sys.argv[1], "pretrain_golden.safetensors"))
