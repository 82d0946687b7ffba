"""The runs of MoCo in make_pretrain.py: facebookresearch/moco (moco/builder.py; its CIFAR demo for
batch norm in groups and for the symmetric loss) and facebookresearch/moco-v3 (moco/builder.py, vits.py),
in the order of their forward."""
import math

import torch
from torch.nn import functional as F

# Of AdamW: with the usual one it makes steps of rounding, where a bias is not seen by a loss.
EPS = 0.01


class SplitBatchNorm(torch.nn.BatchNorm2d):
    """Each group of a batch for itself, as on as many machines; the running statistics take the
    groups' mean, as in the demo."""
    groups = 2

    def forward(self, x):
        parts, means, variances = [], [], []
        for part in x.chunk(self.groups):
            mean, var = self.running_mean.clone(), self.running_var.clone()
            parts.append(F.batch_norm(part, mean, var, self.weight, self.bias, True, self.momentum,
                                      self.eps))
            means.append(mean)
            variances.append(var)
        self.running_mean.copy_(torch.stack(means).mean(0))
        self.running_var.copy_(torch.stack(variances).mean(0))
        return torch.cat(parts)


def split(module):
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm2d):
            setattr(module, name, SplitBatchNorm(child.num_features).double())
        else:
            split(child)


def encoder(p):
    n, net = torch.nn, p.JointNet(2)
    net.projector = n.Sequential(n.Linear(net.width, 16), n.ReLU(), n.Linear(16, 8))
    split(net)
    return net.double()


def begin(p, net, seed):
    """Draws initial weights. Gives what is trained."""
    g = p.generator(seed)
    for name, x in net.named_parameters():
        norm = x.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        if name != "pos_embed":
            x.data = p.half(torch.randn(x.shape, generator=g) * (0.1 if norm else 0.3) + middle)
    return {name: x for name, x in net.named_parameters() if x.requires_grad}


def make_moco(p, section, symmetric, queue_length, seed, rate):
    net, key = encoder(p), encoder(p)
    named = begin(p, net, seed)
    key.load_state_dict(net.state_dict())
    queue = p.half(F.normalize(torch.randn(queue_length, 8, generator=p.generator(seed + 100))))
    p.golden[f"{section}.init.queue"] = queue.half()
    sgd = torch.optim.SGD(net.parameters(), lr=1, momentum=0.9, weight_decay=p.base.DECAY)

    @torch.no_grad()
    def follow():
        for a, b in zip(net.parameters(), key.parameters()):
            b.copy_(b * 0.9 + a * (1 - 0.9))

    def contrast(step, im_q, im_k):
        q = F.normalize(net(im_q), dim=1)
        with torch.no_grad():
            shuffle = torch.tensor(p.shuffled(step // p.EPOCH, step % p.EPOCH, len(im_k), use=4))
            k = F.normalize(key(im_k[shuffle]), dim=1)[torch.argsort(shuffle)]
        positive = torch.einsum("nc,nc->n", q, k).unsqueeze(-1)
        logits = torch.cat([positive, q @ queue.T], dim=1) / 0.2
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long)), k

    def loss_of(step):
        views = [p.pixels(step, v, 12) for v in (0, 1)]
        follow()
        loss, k = contrast(step, *views)
        if symmetric:
            other, k1 = contrast(step, *views[::-1])
            loss, k = loss + other, torch.cat([k1, k])
        at = step * len(k) % queue_length
        queue_next[at:at + len(k)] = k
        return loss

    def step_of(step):
        queue.copy_(queue_next)  # enqueued behind the logits
        sgd.param_groups[0]["lr"] = p.rate_at(step, rate)
        sgd.step()

    queue_next = queue.clone()
    p.train(section, named, loss_of, step_of)
    follow()  # the next step's first deed
    p.put(section, "teacher", dict(key.named_parameters()))
    p.put(section, "state", {"queue": queue})
    p.golden[f"{section}.running"] = net.layer2[0].bn1.running_var.float()
    p.golden[f"{section}.teacher_running"] = key.layer2[0].bn1.running_var.float()


def mlp(ins, hidden, dim, layers, last_bn):
    """_build_mlp."""
    n, parts = torch.nn, []
    for _ in range(layers - 1):
        parts += [n.Linear(ins, hidden, bias=False), n.BatchNorm1d(hidden), n.ReLU()]
        ins = hidden
    parts.append(n.Linear(ins, dim, bias=False))
    return n.Sequential(*parts, *([n.BatchNorm1d(dim, affine=False)] if last_bn else []))


def resnet(p):
    net = p.JointNet(3)
    net.projector = mlp(net.width, 16, 8, 2, True)
    return net.double()


def vit(p):
    """vits.py: fixed positions, a patch embedding that stays as it began."""
    dim, grid = 24, 4

    class Net(p.base.timm.models.VisionTransformer):
        def forward(self, x):
            return self.projector(self.forward_features(x)[:, 0])

    net = Net(img_size=16, patch_size=4, embed_dim=dim, depth=2, num_heads=3, num_classes=0,
              global_pool="token")
    net.projector = mlp(dim, 16, 8, 3, True)
    net.double()
    w = torch.arange(grid, dtype=torch.double)
    grid_w, grid_h = torch.meshgrid(w, w, indexing="ij")  # as torch.meshgrid is there
    omega = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.double) / (dim // 4))
    parts = [f(m.flatten()[:, None] * omega) for m in (grid_w, grid_h)
             for f in (torch.sin, torch.cos)]
    table = torch.cat([torch.zeros(1, dim, dtype=torch.double), torch.cat(parts, dim=1)])
    net.pos_embed.data = table[None].to(net.cls_token.dtype)
    for x in net.pos_embed, net.patch_embed.proj.weight, net.patch_embed.proj.bias:
        x.requires_grad = False
    return net


def make_moco3(p, section, make, side, temperature, seed, rate):
    net, key = make(p), make(p)
    is_vit = make is vit
    net.predictor = mlp(8, 16, 8, 2, is_vit).double()
    named = begin(p, net, seed)
    key.load_state_dict({n: x for n, x in net.state_dict().items()
                         if not n.startswith("predictor")})
    state = {name: torch.zeros_like(x) for name, x in named.items()}
    adamw = torch.optim.AdamW(named.values(), lr=1, weight_decay=0.1, eps=EPS)

    @torch.no_grad()
    def follow(step):  # adjust_moco_momentum
        m = 1.0 - 0.5 * (1.0 + math.cos(math.pi * step / p.STEPS)) * (1.0 - 0.9)
        online = dict(net.named_parameters())
        for name, x in key.named_parameters():
            x.copy_(x * m + online[name] * (1.0 - m))

    def contrast(q, k):
        q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
        logits = q @ k.T / temperature
        return F.cross_entropy(logits, torch.arange(len(q))) * (2 * temperature)

    def loss_of(step):
        x1, x2 = (p.pixels(step, v, side) for v in (0, 1))
        q1, q2 = net.predictor(net(x1)), net.predictor(net(x2))
        with torch.no_grad():
            follow(step)
            k1, k2 = key(x1), key(x2)
        return contrast(q1, k2) + contrast(q2, k1)

    @torch.no_grad()
    def step_of(step):
        if is_vit:
            adamw.param_groups[0]["lr"] = p.rate_at(step, rate)
            adamw.step()
        else:
            for name, x in named.items():
                p.lars(x, state[name], p.rate_at(step, rate), 1.0)

    if is_vit:
        p.put(section, "init", {n: x for n, x in net.named_parameters() if "patch_embed" in n})
    p.train(section, named, loss_of, step_of)
    follow(p.STEPS)  # the next step's first deed
    trained = {n: x for n, x in key.named_parameters() if n in named}
    p.put(section, "teacher", trained)
    if not is_vit:
        p.golden[f"{section}.running"] = net.layer2[0].bn1.running_var.float()
        p.golden[f"{section}.teacher_running"] = key.layer2[0].bn1.running_var.float()
