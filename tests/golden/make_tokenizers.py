#!/usr/bin/env python3
"""Makes tokenizer_golden.safetensors, for test_trainer.c: 20 steps of each tokenizer in double precision.

    python make_tokenizers.py ../data

dvae: microsoft/unilm's beit, modeling_discrete_vae.py (DiscreteVAE), whose batchmean is a sum over all
tokens, which is divided by their number here; cosines of the temperature and the weight of the KL
divergence by the step, as Ramesh et al. 2021, appendix A.2.
vqkd: microsoft/unilm's beit2, modeling_vqkd.py and norm_ema_quantizer.py, whose VisionTransformer is timm's
here (fused biases of q, k and v); the network to distil from is that of make_pretrain_maskfeat.py.
What is drawn and what is stored is as in make_pretrain.py. Needs torch, timm, numpy and safetensors.
"""
import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import make_pretrain as to
from make_pretrain_deepcluster import first_rows
from make_pretrain_maskfeat import Deep
from make_train import generator, half, timm

SIZE, STAGES, HIDDEN, CODES, DIM = 16, 2, 6, 10, 5
TOKENS = (SIZE >> STAGES) ** 2
KL_WEIGHT, KL_SHARE, COLD, COLD_SHARE = 0.05, 0.25, 0.5, 0.5
GUMBEL = 8


class ResBlock(nn.Module):
    def __init__(self, chan):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(chan, chan, 3, padding=1), nn.ReLU(),
                                 nn.Conv2d(chan, chan, 3, padding=1), nn.ReLU(), nn.Conv2d(chan, chan, 1))

    def forward(self, x):
        return self.net(x) + x


class DiscreteVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.codebook = nn.Embedding(CODES, DIM)
        enc, dec, enc_in, dec_in = [], [], 3, DIM
        for _ in range(STAGES):
            enc += [nn.Sequential(nn.Conv2d(enc_in, HIDDEN, 4, stride=2, padding=1), nn.ReLU()),
                    ResBlock(HIDDEN)]
            dec += [nn.Sequential(nn.ConvTranspose2d(dec_in, HIDDEN, 4, stride=2, padding=1), nn.ReLU()),
                    ResBlock(HIDDEN)]
            enc_in = dec_in = HIDDEN
        self.encoder = nn.Sequential(*enc, nn.Conv2d(HIDDEN, CODES, 1))
        self.decoder = nn.Sequential(*dec, nn.Conv2d(HIDDEN, 3, 1))

    def forward(self, img, gumbels, temp, distance):
        logits = self.encoder(img)
        soft_one_hot = ((logits + gumbels) / temp).softmax(1)  # F.gumbel_softmax, hard=False
        sampled = torch.einsum("b n h w, n d -> b d h w", soft_one_hot, self.codebook.weight)
        log_qy = F.log_softmax(logits.flatten(2).transpose(1, 2), dim=-1)
        log_uniform = torch.log(torch.tensor([1.0 / CODES], dtype=torch.double))
        kl_div = F.kl_div(log_uniform, log_qy, None, None, "batchmean", log_target=True)
        return (distance(img, self.decoder(sampled)), kl_div / (len(img) * TOKENS),
                logits.argmax(1).flatten(1))


def gumbels(step):
    """tacit_gumbel of each image: (batch, codes, h, w)."""
    rows = []
    for i in range(to.BATCH):
        a, b = to.philox(to.SEED, step // to.EPOCH << 8 | GUMBEL, [to.sample(step, i)])[0][:2]
        w = to.words(to.SEED, int(a) << 32 | int(b), TOKENS * CODES)
        u = ((w >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0 ** -23
        side = SIZE >> STAGES
        rows.append((-np.log(-np.log(u))).reshape(side, side, CODES).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(rows))


def cosine(start, end, share, step):
    t = min(1.0, step / to.STEPS / share)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * t))


def make_dvae(section, distance, seed):
    model, g = DiscreteVAE().double(), generator(seed)
    for p in model.parameters():
        p.data = half(torch.randn(p.shape, generator=g) * 0.25)
    named = dict(model.named_parameters())
    adamw = torch.optim.AdamW([{"params": [p for p in named.values() if p.ndim > 1], "weight_decay": 0.05},
                               {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0}],
                              betas=(0.9, 0.999))
    hits = torch.zeros(CODES)

    def loss_of(step):
        square, kl, ids = model(to.pixels(step, 0, SIZE), gumbels(step),
                                cosine(1.0, COLD, COLD_SHARE, step), distance)
        if step % to.EPOCH == 0:
            hits.zero_()
        hits.add_(torch.bincount(ids.flatten(), minlength=CODES))
        return square + cosine(0.0, KL_WEIGHT, KL_SHARE, step) * kl

    def step_of(step):
        for group in adamw.param_groups:
            group["lr"] = to.rate_at(step, 2e-3)
        adamw.step()

    to.train(section, named, loss_of, step_of)
    to.golden[f"{section}.state.hits"] = hits


VIT = dict(embed_dim=24, num_heads=3, mlp_ratio=4, num_classes=0, global_pool="token")
K, CODE_DIM, DECAY, BETA, GRID = 6, 8, 0.9, 1.0, 4


def l2norm(t):
    return F.normalize(t, p=2, dim=-1)


class NormEMAVectorQuantizer(nn.Module):
    """kmeans_init; what statistics it has beside are left out."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(K, CODE_DIM)
        self.embedding.weight.requires_grad = False

    def begin(self, samples):
        means = samples[first_rows(to, 0, 5, 0, len(samples), K)]
        for _ in range(10):
            buckets = (samples @ means.t()).max(dim=-1).indices
            bins = torch.bincount(buckets, minlength=K)
            new = torch.zeros_like(means).index_add_(0, buckets, samples) / bins.clamp(min=1)[:, None]
            means = torch.where((bins == 0)[:, None], means, l2norm(new))
        self.embedding.weight.data.copy_(means)

    def forward(self, z, step):
        z = l2norm(z)
        flat = z.reshape(-1, CODE_DIM)
        if step == 0:
            self.begin(flat.detach())
        w = self.embedding.weight
        d = flat.pow(2).sum(1, keepdim=True) + w.pow(2).sum(1) - 2 * flat @ w.t()
        ids = torch.argmin(d, dim=1)
        z_q = self.embedding(ids).view(z.shape).clone()
        bins = torch.bincount(ids, minlength=K).double()
        zero = (bins == 0)[:, None]
        with torch.no_grad():
            new = torch.zeros_like(w).index_add_(0, ids, flat) / bins.masked_fill(bins == 0, 1)[:, None]
            new = torch.where(zero, w, l2norm(new))
            w.copy_(l2norm(w * DECAY + new * (1 - DECAY)))
        loss = BETA * F.mse_loss(z_q.detach(), z)
        return z + (z_q - z).detach(), loss, ids


class VQKD(timm.models.VisionTransformer):
    """The encoder is the module itself."""

    def __init__(self, out):
        super().__init__(img_size=SIZE, patch_size=SIZE // GRID, depth=2, **VIT)
        dim = VIT["embed_dim"]
        self.quantize = NormEMAVectorQuantizer()
        self.decoder = timm.models.VisionTransformer(img_size=GRID, patch_size=1, in_chans=CODE_DIM,
                                                     depth=1, **VIT)
        self.encode_task_layer = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, CODE_DIM))
        self.decode_task_layer = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, out))

    def loss(self, x, target, step):
        z = self.encode_task_layer(self.forward_features(x)[:, 1:])
        z_q, commitment, ids = self.quantize(z, step)
        z_q = z_q.transpose(1, 2).reshape(len(x), CODE_DIM, GRID, GRID)
        rec = self.decode_task_layer(self.decoder.forward_features(z_q)[:, 1:])
        target = target.view(rec.shape)
        target = target / target.norm(dim=-1, keepdim=True)
        rec = rec / rec.norm(dim=-1, keepdim=True)
        return commitment + (1 - (target * rec).sum(-1)).mean(), ids


def make_vqkd(out, seed):
    deep = Deep(out)
    model, g = VQKD(64).double(), generator(seed)
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for name, p in named.items():
        gain = name.endswith("weight") and p.ndim == 1
        p.data = half(torch.randn(p.shape, generator=g) * 0.2 + (1.0 if gain else 0.0))
    plain = [p for n, p in named.items() if p.ndim < 2 or "cls_token" in n or "pos_embed" in n]
    rest = [p for n, p in named.items() if not (p.ndim < 2 or "cls_token" in n or "pos_embed" in n)]
    adamw = torch.optim.AdamW([{"params": rest, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
                              betas=(0.9, 0.99))
    every = torch.ones(to.BATCH, GRID, GRID).bool()
    hits = torch.zeros(K)

    def loss_of(step):
        x = to.pixels(step, 0, SIZE)
        loss, ids = model.loss(x, deep.labels(x, every), step)
        if step % to.EPOCH == 0:
            hits.zero_()
        hits.add_(torch.bincount(ids, minlength=K))
        return loss

    def step_of(step):
        for group in adamw.param_groups:
            group["lr"] = to.rate_at(step, 1e-3)
        adamw.step()

    to.train("vqkd", named, loss_of, step_of)
    to.golden["vqkd.state.hits"] = hits
    to.golden["vqkd.state.quantize.embedding.weight"] = model.quantize.embedding.weight.data.float()


if __name__ == "__main__":
    make_dvae("dvae", F.mse_loss, 81)
    make_dvae("dvae-2", F.smooth_l1_loss, 84)
    make_vqkd(sys.argv[1], 91)
    save_file(to.golden, os.path.join(sys.argv[1], "tokenizer_golden.safetensors"))
