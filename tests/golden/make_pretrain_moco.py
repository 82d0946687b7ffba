"""The runs of MoCo in make_pretrain.py: facebookresearch/moco (moco/builder.py; its CIFAR demo for
batch norm in groups and for the symmetric loss), in the order of its forward."""
import torch
from torch.nn import functional as F


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


def make_moco(p, section, symmetric, queue_length, seed, rate):
    net, key = encoder(p), encoder(p)
    g = p.generator(seed)
    for name, x in net.named_parameters():
        norm = x.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        x.data = p.half(torch.randn(x.shape, generator=g) * (0.1 if norm else 0.3) + middle)
    key.load_state_dict(net.state_dict())
    queue = p.half(F.normalize(torch.randn(queue_length, 8, generator=g)))
    p.golden[f"{section}.init.queue"] = queue.half()
    named = dict(net.named_parameters())
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
