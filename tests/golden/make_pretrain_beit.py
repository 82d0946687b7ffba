"""BEiT's part of make_pretrain.py: microsoft/unilm, beit/modeling_pretrain.py, engine_for_pretraining.py,
masking_generator.py; its ViT is in make_pretrain_simmim.py, its tokenizer, of which the file is written
here, in make_tokenizers.py."""

import math
import os

import numpy as np
import torch
from make_pretrain_maskfeat import Draws, MaskingGenerator
from make_pretrain_simmim import DIM, IMAGE, PATCH, Vit, begin, run
from make_train import generator
from safetensors.torch import save_file

N = torch.nn
SIDE, COUNT, LEAST, CLIP, BASE, FINAL = IMAGE // PATCH, 6, 2, 0.5, 2e-3, 1e-5
SETTINGS = {"size": IMAGE, "stages": 2, "hidden": 6, "codes": 10, "code_dim": 5, "normalise": "half"}


class Beit(N.Module):
    def __init__(self, codes):
        super().__init__()
        self.encoder, self.lm_head = Vit(), N.Linear(DIM, codes)

    def forward(self, x, mask):
        return self.lm_head(self.encoder(x, mask)[mask])


def tokenizer(folder):
    """A discrete VAE of float32 weights, and its file."""
    from make_tokenizers import DiscreteVAE
    net, g = DiscreteVAE(), generator(91)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=g) * 0.25
    text = "".join(f"{k} = {v}\n" for k, v in SETTINGS.items())
    save_file({n: p.data for n, p in net.named_parameters()}, os.path.join(folder, "tokenizer_weights.safetensors"),
              metadata={"tacit.tokenizer": "1", "method": "dvae", "config": text})
    return net.double()


def make(to, folder):
    vae = tokenizer(folder)
    net = Beit(SETTINGS["codes"]).double()
    begin(net, 92, 0.3)
    generate = MaskingGenerator(SIDE, COUNT / SIDE ** 2)
    assert generate.count == COUNT
    generate.least = LEAST
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.double).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.double).view(3, 1, 1)
    close = []

    def words(x):
        """get_codebook_indices of the pixels as the tokenizer has them normalised."""
        with torch.no_grad():
            logits = vae.encoder((x * std + mean - 0.5) / 0.5)
        two = logits.topk(2, dim=1).values
        close.append((two[:, 0] - two[:, 1]).min())
        return logits.argmax(1).flatten(1)

    def loss_of(step):
        x = to.pixels(step, 0, IMAGE)
        masks = [generate(Draws(to.philox, to.SEED, step // to.EPOCH, to.sample(step, i)))
                 for i in range(to.BATCH)]
        mask = torch.from_numpy(np.stack(masks)).bool().flatten(1)
        return N.functional.cross_entropy(net(x, mask), words(x)[mask])

    def rate_of(step):
        """cosine_scheduler of utils.py: the warm-up is np.linspace's."""
        warmup, steps = to.WARMUP * to.EPOCH, to.STEPS
        if step < warmup:
            return BASE * step / (warmup - 1)
        return FINAL + 0.5 * (BASE - FINAL) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    run(to, "beit", net, loss_of, rate_of, CLIP, (0.9, 0.999))
    assert min(close) > 1e-5  # no token is decided by rounding
