"""DeepCluster's part of make_pretrain.py: v2, facebookresearch/swav, main_deepclusterv2.py and
src/resnet50.py, on one process. Of the memory's first pass the crops go through as in training, and
batch norm's running statistics are put back."""
import copy

import torch
from make_train import generator, half, larc

LOCAL, HEADS, PROTOTYPES, DIM = 8, 3, 4, 8
TEMPERATURE, ITERATIONS, RATE, TRUST = 0.1, 10, 0.02, 0.01
CROPS_FOR_ASSIGN = 0, 1


def first_rows(to, epoch, use, which, rows, count):
    """The rows that k-means begins with: kmeans.c."""
    w = to.philox(to.SEED, epoch << 8 | use, [which])[0]
    draws = to.words(to.SEED, int(w[0]) << 32 | int(w[1]), count)
    order = list(range(rows))
    for i in range(count):
        j = i + (int(draws[i]) * (rows - i) >> 32)
        order[i], order[j] = order[j], order[i]
    return order[:count]


def init(net, seed):
    g = generator(seed)
    for name, p in net.named_parameters():
        norm = p.ndim == 1
        middle = 1 if norm and name.endswith("weight") else 0
        p.data = half(torch.randn(p.shape, generator=g) * (0.1 if norm else 0.3) + middle)


def make(to):
    """to: the module that collects, make_pretrain."""
    n = torch.nn
    net = to.JointNet(2).double()
    net.projector = n.Sequential(n.Linear(net.width, 16), n.BatchNorm1d(16), n.ReLU(),
                                 n.Linear(16, DIM)).double()
    init(net, 94)
    named = dict(net.named_parameters())
    state = {name: torch.zeros_like(p) for name, p in named.items()}
    head, net.projector = net.projector, n.Identity()  # forward is the backbone's alone
    images = to.EPOCH * to.BATCH
    index = torch.zeros(images).long()
    memory = torch.zeros(2, images, DIM).double()
    prototypes = torch.zeros(HEADS, PROTOTYPES, DIM).double()
    assignments = None

    def embed(step):
        inputs = [to.pixels(step, v, 12 if v < 2 else LOCAL) for v in range(4)]
        features = torch.cat([net(torch.cat(inputs[:2])), net(torch.cat(inputs[2:]))])
        return n.functional.normalize(head(features), dim=1, p=2)

    def remember(step, emb):
        start, bs = step % to.EPOCH * to.BATCH, to.BATCH
        index[start:start + bs] = torch.tensor([to.sample(step, i) for i in range(bs)])
        for i, crop in enumerate(CROPS_FOR_ASSIGN):
            memory[i][start:start + bs] = emb[crop * bs:(crop + 1) * bs].detach()

    def cluster_memory(epoch):
        found = -torch.ones(HEADS, images + to.BATCH).long()
        for h in range(HEADS):
            x = memory[h % 2]
            centroids = x[first_rows(to, epoch, 5, h, images, PROTOTYPES)]
            for i in range(ITERATIONS + 1):
                assigned = (x @ centroids.T).max(dim=1)[1]
                if i == ITERATIONS:
                    break
                counts = torch.bincount(assigned, minlength=PROTOTYPES)
                sums = torch.zeros_like(centroids).index_add_(0, assigned, x)
                mask = counts > 0
                centroids[mask] = sums[mask] / counts[mask].unsqueeze(1)
                centroids = n.functional.normalize(centroids, dim=1, p=2)
            prototypes[h] = centroids
            found[h][index] = assigned
        return found

    def loss_of(step):
        nonlocal assignments
        if not step:
            before = copy.deepcopy(net), copy.deepcopy(head)
            with torch.no_grad():
                for s in range(to.EPOCH):
                    remember(s, embed(s))
            net.load_state_dict(before[0].state_dict())
            head.load_state_dict(before[1].state_dict())
        if step % to.EPOCH == 0:
            assignments = cluster_memory(step // to.EPOCH)
        emb = embed(step)
        loss = 0
        for h in range(HEADS):
            scores = emb @ prototypes[h].T / TEMPERATURE
            idx = [to.sample(step, i) for i in range(to.BATCH)]
            loss = loss + n.functional.cross_entropy(scores, assignments[h][idx].repeat(4))
        embed.last = emb
        return loss / HEADS

    def step_of(step):
        with torch.no_grad():
            for name, p in named.items():
                larc(p, state[name], to.rate_at(step, RATE), p.ndim < 2, trust=TRUST)
        remember(step, embed.last)

    to.train("deepcluster", named, loss_of, step_of)
    to.put("deepcluster", "memory", {"embeddings": memory, "samples": index.double(),
                                     "labels": assignments.double(), "prototypes": prototypes})
    to.golden["deepcluster.running"] = net.layer2[0].bn1.running_var.float()
