"""SwAV's part of make_pretrain.py: facebookresearch/swav, main_swav.py and src/resnet50.py, on one
process: two crop sizes, prototypes that wait, a queue that fills and is used. Once with a ResNet and
apex's LARC, once with a ViT, which takes small crops as DINO's, and AdamW."""
import torch
from make_pretrain_dino import VisionTransformer
from make_train import generator, half, larc

LOCAL, FREEZE, QUEUE, QUEUE_EPOCH, PROTOTYPES, DIM = 8, 1, 19, 1, 6, 8
TEMPERATURE, EPSILON, ITERATIONS, RATE, TRUST = 0.1, 0.05, 3, 0.02, 0.01


def sinkhorn(q):
    """distributed_sinkhorn on one process: q (prototypes, samples)."""
    q = q / q.sum()
    rows, columns = q.shape
    for _ in range(ITERATIONS):
        q = q * (1 / rows / q.sum(1)).unsqueeze(1)
        q = q * (1 / columns / q.sum(0)).unsqueeze(0)
    return (q / q.sum(0, keepdim=True)).T


def run(to, section, net, width, side, seed, optimiser_of):
    """net: the backbone, whose projector is an Identity so far. optimiser_of(named) gives what does a step,
    of the step and the parameters that take it."""
    n = torch.nn
    net.projector = n.Sequential(n.Linear(width, 16), n.BatchNorm1d(16), n.ReLU(), n.Linear(16, DIM))
    net.prototypes = n.Linear(DIM, PROTOTYPES, bias=False)
    net.double()
    g = generator(seed)
    for name, p in net.named_parameters():
        norm = p.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        p.data = half(torch.randn(p.shape, generator=g) * (0.1 if norm else 0.3) + middle)
    named = dict(net.named_parameters())
    optimise = optimiser_of(named)
    head, net.projector = net.projector, n.Identity()  # forward is the backbone's alone
    length, queue = QUEUE - QUEUE % to.BATCH, None

    def loss_of(step):
        nonlocal queue
        if step // to.EPOCH >= QUEUE_EPOCH and queue is None:
            queue = torch.zeros(2, length, DIM).double()
        with torch.no_grad():
            w = net.prototypes.weight
            w.copy_(n.functional.normalize(w, dim=1, p=2))
        inputs = [to.pixels(step, v, side if v < 2 else LOCAL) for v in range(4)]
        features = torch.cat([net(torch.cat(inputs[:2])), net(torch.cat(inputs[2:]))])
        embedding = n.functional.normalize(head(features), dim=1, p=2)
        output = net.prototypes(embedding)
        embedding = embedding.detach()
        bs, loss = to.BATCH, 0
        for i, crop in enumerate((0, 1)):
            with torch.no_grad():
                out = output[bs * crop:bs * (crop + 1)]
                if queue is not None:
                    if not torch.all(queue[i, -1, :] == 0):
                        out = torch.cat((queue[i] @ net.prototypes.weight.T, out))
                    queue[i, bs:] = queue[i, :-bs].clone()
                    queue[i, :bs] = embedding[crop * bs:(crop + 1) * bs]
                q = sinkhorn(torch.exp(out / EPSILON).T)[-bs:]
            subloss = 0
            for v in [v for v in range(4) if v != crop]:
                p = torch.softmax(output[bs * v:bs * (v + 1)] / TEMPERATURE, dim=1)
                subloss = subloss - torch.mean(torch.sum(q * torch.log(p), dim=1))
            loss = loss + subloss / 3
        return loss / 2

    def step_of(step):
        wait = step < FREEZE * to.EPOCH
        optimise(step, {name: p for name, p in named.items() if not (wait and "prototypes" in name)})

    to.train(section, named, loss_of, step_of)
    to.golden[f"{section}.state.queue"] = queue.float()


def make(to):
    """to: the module that collects, make_pretrain."""
    def apex(named):
        state = {name: torch.zeros_like(p) for name, p in named.items()}

        @torch.no_grad()
        def optimise(step, moving):
            for name, p in moving.items():
                larc(p, state[name], to.rate_at(step, RATE), p.ndim < 2, trust=TRUST)
        return optimise

    def adamw(named):
        groups = [{"params": [p for p in named.values() if p.ndim > 1]},
                  {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=1, weight_decay=0.01, eps=0.01)

        def optimise(step, moving):
            for name, p in named.items():
                if name not in moving:
                    p.grad = None
            for group in optimiser.param_groups:
                group["lr"] = to.rate_at(step, 5e-3)
            optimiser.step()
        return optimise

    net = to.JointNet(2)
    run(to, "swav", net, net.width, 12, 91, apex)
    to.golden["swav.running"] = net.layer2[0].bn1.running_var.float()
    run(to, "swav-2", VisionTransformer(), 24, 16, 92, adamw)
