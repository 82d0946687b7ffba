"""SwAV's part of make_pretrain.py: facebookresearch/swav, main_swav.py and src/resnet50.py, on one
process: two crop sizes, prototypes that wait, a queue that fills and is used, apex's LARC."""
import torch
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


def make(to):
    """to: the module that collects, make_pretrain."""
    n = torch.nn
    net = to.JointNet(2).double()
    net.projector = n.Sequential(n.Linear(net.width, 16), n.BatchNorm1d(16), n.ReLU(),
                                 n.Linear(16, DIM)).double()
    net.prototypes = n.Linear(DIM, PROTOTYPES, bias=False).double()
    g = generator(91)
    for name, p in net.named_parameters():
        norm = p.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        p.data = half(torch.randn(p.shape, generator=g) * (0.1 if norm else 0.3) + middle)
    named = dict(net.named_parameters())
    state = {name: torch.zeros_like(p) for name, p in named.items()}
    head, net.projector = net.projector, n.Identity()  # forward is the backbone's alone
    length, queue = QUEUE - QUEUE % to.BATCH, None

    def loss_of(step):
        nonlocal queue
        if step // to.EPOCH >= QUEUE_EPOCH and queue is None:
            queue = torch.zeros(2, length, DIM).double()
        with torch.no_grad():
            w = net.prototypes.weight
            w.copy_(n.functional.normalize(w, dim=1, p=2))
        inputs = [to.pixels(step, v, 12 if v < 2 else LOCAL) for v in range(4)]
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
        with torch.no_grad():
            for name, p in named.items():
                if "prototypes" in name and step < FREEZE * to.EPOCH:
                    continue
                larc(p, state[name], to.rate_at(step, RATE), p.ndim < 2, trust=TRUST)

    to.train("swav", named, loss_of, step_of)
    to.golden["swav.state.queue"] = queue.float()
    to.golden["swav.running"] = net.layer2[0].bn1.running_var.float()
