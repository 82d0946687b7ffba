"""DINO's part of make_pretrain.py: facebookresearch/dino, main_dino.py, vision_transformer.py and utils.py,
on one process: two crop sizes, a teacher with a centre, a last layer that waits, gradients clipped one by
one. Once with a ViT, AdamW and a last layer with gains, once with a ResNet, SGD and batch norm in the head."""

import numpy as np
import torch
from make_train import dino_positions, generator, half, timm

N = torch.nn
LOCAL, OUTPUTS, HIDDEN, DIM, CROPS = 8, 12, 16, 8, 4
MOMENTUM, CENTRE, FREEZE, CLIP = 0.9, 0.9, 1, 2
TEMPERATURES = np.concatenate((np.linspace(0.04, 0.07, 3), np.ones(1) * 0.07))


def cosine_scheduler(base, final, epochs, steps, warmup_epochs=0):
    warmup = np.linspace(0, base, warmup_epochs * steps) if warmup_epochs else np.array([])
    iters = np.arange(epochs * steps - len(warmup))
    rest = final + 0.5 * (base - final) * (1 + np.cos(np.pi * iters / len(iters)))
    return np.concatenate((warmup, rest))


class Head(N.Module):
    """DINOHead."""

    def __init__(self, ins, norm, fixed_gain):
        super().__init__()
        layers = []
        for _ in range(2):
            layers += [N.Linear(ins, HIDDEN)] + [N.BatchNorm1d(HIDDEN)] * norm + [N.GELU()]
            ins = HIDDEN
        self.mlp = N.Sequential(*layers, N.Linear(HIDDEN, DIM))
        self.last_layer = N.utils.weight_norm(N.Linear(DIM, OUTPUTS, bias=False))
        self.last_layer.weight_g.data.fill_(1)
        self.last_layer.weight_g.requires_grad = not fixed_gain

    def forward(self, x):
        return self.last_layer(N.functional.normalize(self.mlp(x), dim=-1, p=2))


class VisionTransformer(timm.models.VisionTransformer):
    def __init__(self):
        super().__init__(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, mlp_ratio=4,
                         num_classes=0, global_pool="token")

    def forward(self, x):
        side = x.shape[-1] // 4
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1),
                            self.patch_embed.proj(x).flatten(2).transpose(1, 2)], dim=1)
        return self.norm(self.blocks(tokens + dino_positions(self.pos_embed, side)))[:, 0]


def multi_crop(net, crops):
    """MultiCropWrapper of global crops and, where there are more, local ones."""
    features = [net(torch.cat(crops[:2]))] + ([net(torch.cat(crops[2:]))] if crops[2:] else [])
    return net.projector(torch.cat(features))


class Loss:
    """DINOLoss."""

    def __init__(self):
        self.center = torch.zeros(1, OUTPUTS).double()

    def __call__(self, student_output, teacher_output, epoch):
        student = (student_output / 0.1).chunk(CROPS)
        temp = TEMPERATURES[epoch]
        teacher = torch.softmax((teacher_output - self.center) / temp, dim=-1).detach().chunk(2)
        losses = [torch.sum(-q * torch.log_softmax(s, dim=-1), dim=-1).mean()
                  for i, q in enumerate(teacher) for v, s in enumerate(student) if v != i]
        batch_center = teacher_output.detach().mean(dim=0, keepdim=True)
        self.center = self.center * CENTRE + batch_center * (1 - CENTRE)
        return sum(losses) / len(losses)


def run(to, section, network, side, seed, optimiser_of, rates, decays):
    student, teacher, g = network(), network(), generator(seed)
    for name, p in student.named_parameters():
        norm = p.ndim == 1
        middle = 1 if (norm and name.endswith("weight")) or name.endswith("weight_g") else 0
        if p.requires_grad:
            p.data = half(torch.randn(p.shape, generator=g) * (0.1 if middle or norm else 0.3) + middle)
    teacher.load_state_dict(student.state_dict())
    named = {n: p for n, p in student.named_parameters() if p.requires_grad}
    to.put(section, "init", named)
    groups = [[p for p in named.values() if p.ndim > 1], [p for p in named.values() if p.ndim < 2]]
    optimiser = optimiser_of([{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}])
    momentum = cosine_scheduler(MOMENTUM, 1, to.EPOCHS, to.EPOCH)
    loss_of, losses = Loss(), []
    for step in range(to.STEPS):
        optimiser.param_groups[0]["weight_decay"] = decays[step]
        for group in optimiser.param_groups:
            group["lr"] = rates[step]
        crops = [to.pixels(step, v, side if v < 2 else LOCAL) for v in range(CROPS)]
        with torch.no_grad():
            teacher_output = multi_crop(teacher, crops[:2])
        loss = loss_of(multi_crop(student, crops), teacher_output, step // to.EPOCH)
        losses.append(loss.detach())
        optimiser.zero_grad()
        loss.backward()
        for p in named.values():  # clip_gradients
            coefficient = CLIP / (p.grad.norm(2) + 1e-6)
            if coefficient < 1:
                p.grad.mul_(coefficient)
        if step == 0:
            to.put(section, "grad", {n: p.grad for n, p in named.items()})
        for n, p in named.items():  # cancel_gradients_last_layer
            if step // to.EPOCH < FREEZE and "last_layer" in n:
                p.grad = None
        optimiser.step()
        with torch.no_grad():
            for q, k in zip(student.parameters(), teacher.parameters()):
                k.mul_(momentum[step]).add_((1 - momentum[step]) * q)
    to.put(section, "after", named)
    to.put(section, "teacher", {n: p for n, p in teacher.named_parameters() if n in named})
    to.golden[f"{section}.losses"] = torch.stack(losses).float()
    to.golden[f"{section}.state.dino_loss.center"] = loss_of.center.float()
    if hasattr(student, "layer2"):
        to.golden[f"{section}.running"] = student.layer2[0].bn1.running_var.float()
        to.golden[f"{section}.teacher_running"] = teacher.layer2[0].bn1.running_var.float()


def make(to):
    """to: the module that collects, make_pretrain."""
    def vit():
        net = VisionTransformer()
        net.projector = Head(24, False, False)
        return net.double()

    class Features(to.JointNet):
        def forward(self, x):
            head, self.projector = self.projector, N.Identity()
            x, self.projector = super().forward(x), head
            return x

    def resnet():
        net = Features(2)
        net.projector = Head(net.width, True, True)
        return net.double()

    run(to, "dino", vit, 16, 41, torch.optim.AdamW,
        cosine_scheduler(2e-3, 1e-5, to.EPOCHS, to.EPOCH, to.WARMUP),
        cosine_scheduler(0.04, 0.4, to.EPOCHS, to.EPOCH))
    run(to, "dino-2", resnet, 12, 42,
        lambda groups: torch.optim.SGD(groups, lr=0, momentum=0.9),
        cosine_scheduler(0.005, 0, to.EPOCHS, to.EPOCH, to.WARMUP),
        cosine_scheduler(0.01, 0.01, to.EPOCHS, to.EPOCH))
