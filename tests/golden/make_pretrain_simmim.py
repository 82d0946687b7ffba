"""SimMIM's part of make_pretrain.py: microsoft/SimMIM, models/simmim.py, models/vision_transformer.py,
optimizer.py, lr_scheduler.py, data/data_simmim.py; its ViT is BEiT's, too (beit/modeling_finetune.py of
microsoft/unilm). Tensors are put under timm's names, and q_bias and v_bias as one, with zeros for the keys."""

import math

import torch
from make_train import generator, half

N = torch.nn
IMAGE, PATCH, UNIT, RATIO = 16, 4, 8, 0.6
DIM, DEPTH, HEADS = 24, 2, 3
START, BASE, DROP, CLIP = 1e-4, 2e-3, 0.1, 0.5


def unit_mask(order, side, unit, ratio):
    """MaskGenerator: the map of masked patches, of an order of the squares."""
    across = side // unit
    mask = torch.zeros(across * across, dtype=torch.double)
    mask[order[:math.ceil(across * across * ratio)]] = 1
    return mask.reshape(across, across).repeat_interleave(unit, 0).repeat_interleave(unit, 1)


def relative_index(h, w):
    """relative_position_index of RelativePositionBias."""
    places = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")).flatten(1)
    apart = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0)
    rows = (2 * h - 1) * (2 * w - 1)
    index = torch.zeros(h * w + 1, h * w + 1, dtype=torch.long)
    index[1:, 1:] = (apart[..., 0] + h - 1) * (2 * w - 1) + apart[..., 1] + w - 1
    index[0, :], index[:, 0], index[0, 0] = rows, rows + 1, rows + 2
    return index


class Block(N.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = N.LayerNorm(DIM, eps=1e-6), N.LayerNorm(DIM, eps=1e-6)
        self.qkv, self.proj = N.Linear(DIM, 3 * DIM, bias=False), N.Linear(DIM, DIM)
        self.q_bias, self.v_bias = N.Parameter(torch.zeros(DIM)), N.Parameter(torch.zeros(DIM))
        self.fc1, self.fc2 = N.Linear(DIM, 4 * DIM), N.Linear(4 * DIM, DIM)
        self.gamma_1, self.gamma_2 = N.Parameter(torch.ones(DIM)), N.Parameter(torch.ones(DIM))

    def attention(self, x, bias):
        b, n, _ = x.shape
        qkv = N.functional.linear(x, self.qkv.weight,
                                  torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias)))
        q, k, v = qkv.reshape(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = (q * (DIM // HEADS) ** -0.5) @ k.transpose(-2, -1) + bias
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, -1))

    def forward(self, x, bias):
        x = x + self.gamma_1 * self.attention(self.norm1(x), bias)
        return x + self.gamma_2 * self.fc2(N.functional.gelu(self.fc1(self.norm2(x))))


class Vit(N.Module):
    def __init__(self):
        super().__init__()
        side = IMAGE // PATCH
        self.patch_embed = N.Conv2d(3, DIM, PATCH, PATCH)
        self.cls_token = N.Parameter(torch.zeros(1, 1, DIM))
        self.mask_token = N.Parameter(torch.zeros(1, 1, DIM))
        self.table = N.Parameter(torch.zeros((2 * side - 1) ** 2 + 3, HEADS))
        self.index = relative_index(side, side)
        self.blocks = N.ModuleList([Block() for _ in range(DEPTH)])
        self.norm = N.LayerNorm(DIM, eps=1e-6)

    def forward(self, image, mask):
        """The normalised tokens of patches; mask (batch, patches)."""
        x = self.patch_embed(image).flatten(2).transpose(1, 2)
        w = mask.unsqueeze(-1).to(x.dtype)
        x = x * (1 - w) + self.mask_token * w
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        bias = self.table[self.index].permute(2, 0, 1)
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)[:, 1:]


def begin(net, seed, deviation):
    g = generator(seed)
    for name, p in net.named_parameters():
        norm = p.ndim == 1
        middle = 1 if "norm" in name and name.endswith("weight") else 0.5 if "gamma" in name else 0
        p.data = half(torch.randn(p.shape, generator=g) * (0.1 if norm else deviation) + middle)


def groups(net):
    """get_pretrain_param_groups, and get_parameter_groups of beit/optim_factory.py."""
    named = dict(net.named_parameters())
    plain = [n for n, p in named.items() if p.ndim == 1 or n.endswith("cls_token")]
    return [{"params": [p for n, p in named.items() if n not in plain]},
            {"params": [named[n] for n in plain], "weight_decay": 0}]


def timm_names(tensors):
    """A ViT's tensors, and what is beside it, by our names."""
    out = {}
    for name, x in tensors.items():
        name = name.removeprefix("encoder.")
        for a, b in [("patch_embed.", "patch_embed.proj."), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma"),
                     (".qkv.", ".attn.qkv."), (".proj.", ".attn.proj."), (".fc", ".mlp.fc")]:
            name = name.replace(a, b) if not name.startswith("patch_embed.proj") else name
        if name == "table":
            name = "rel_pos_bias.relative_position_bias_table"
        if name.endswith("q_bias"):
            out[name.replace("q_bias", "attn.qkv.bias")] = [x, torch.zeros_like(x)]
        elif name.endswith("v_bias"):
            out[name.replace("v_bias", "attn.qkv.bias")].append(x)
        else:
            out[name] = x
    return {n: torch.cat(x) if isinstance(x, list) else x for n, x in out.items()}


def run(to, section, net, loss_of, rate_of, clip, betas):
    """AdamW with clipping; gradients are held as they are behind it."""
    named = dict(net.named_parameters())
    adamw = torch.optim.AdamW(groups(net), weight_decay=0.05, betas=betas, eps=1e-8)
    to.put(section, "init", timm_names(named))
    losses = []
    for step in range(to.STEPS):
        adamw.zero_grad()
        loss = loss_of(step)
        losses.append(loss.detach())
        loss.backward()
        N.utils.clip_grad_norm_(net.parameters(), clip)
        if step == 0:
            to.put(section, "grad", timm_names({n: p.grad for n, p in named.items()}))
        for group in adamw.param_groups:
            group["lr"] = rate_of(step)
        adamw.step()
    to.put(section, "after", timm_names(named))
    to.golden[f"{section}.losses"] = torch.stack(losses).float()


def norm_targets(x, window):
    """(x - mean) / deviation of what of the window lies in the image."""
    pool = N.AvgPool2d(window, 1, window // 2, count_include_pad=False)
    count = N.AvgPool2d(window, 1, window // 2, divisor_override=1)(torch.ones_like(x))
    mean = pool(x)
    variance = ((pool(x * x) - mean * mean) * count / (count - 1)).clamp(min=0)
    return (x - mean) / (variance + 1e-6).sqrt()


class SimMIM(N.Module):
    def __init__(self, window):
        super().__init__()
        self.window = window
        self.encoder = Vit()
        self.decoder = N.Sequential(N.Conv2d(DIM, PATCH ** 2 * 3, 1), N.PixelShuffle(PATCH))

    def forward(self, image, mask):
        z, side = self.encoder(image, mask.flatten(1)), IMAGE // PATCH
        made = self.decoder(z.permute(0, 2, 1).reshape(len(z), DIM, side, side))
        mask = mask.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2).unsqueeze(1)
        if self.window:
            image = norm_targets(image, self.window)
        return ((image - made).abs() * mask).sum() / (mask.sum() + 1e-5) / 3


def make(to, section="simmim", window=0, seed=81):
    """to: the module that collects, make_pretrain."""
    net = SimMIM(window).double()
    begin(net, seed, 0.3)
    warmup, side, unit = to.WARMUP * to.EPOCH, IMAGE // PATCH, UNIT // PATCH

    def loss_of(step):
        orders = [to.shuffled(step // to.EPOCH, to.sample(step, i), (side // unit) ** 2)
                  for i in range(to.BATCH)]
        masks = torch.stack([unit_mask(o, side, unit, RATIO) for o in orders])
        return net(to.pixels(step, 0, IMAGE), masks)

    def rate_of(step):
        t = max(step - 1, 0)  # the scheduler is called behind the optimiser
        return START + t * (BASE - START) / warmup if t < warmup else BASE * DROP ** (t >= 3 * to.EPOCH)

    run(to, section, net, loss_of, rate_of, CLIP, (0.9, 0.999))
