"""DeepCluster's part of make_pretrain.py. v2: facebookresearch/swav, main_deepclusterv2.py and
src/resnet50.py, on one process. Of the memory's first pass the crops go through as in training, and
batch norm's running statistics are put back. The first: facebookresearch/deepcluster, main.py and
clustering.py, without Sobel, with clusters weighted in place of images drawn uniformly over them, and
features by the batch's statistics."""
import copy
import math

import numpy as np
import torch
from make_train import DECAY, generator, half, larc

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


def stream_of(to, epoch, use):
    w = to.philox(to.SEED, epoch << 8 | use, [0])[0]
    return int(w[0]) << 32 | int(w[1])


def normals(to, seed, name, n):
    """What tacit_param_init gives: params.c."""
    stream = 0xcbf29ce484222325
    for c in name.encode():
        stream = (stream ^ c) * 0x100000001b3 & 0xFFFFFFFFFFFFFFFF
    w = to.philox(seed, stream, np.arange((n + 3) // 4)).astype(np.float64)
    radius, angle = np.sqrt(-2 * np.log((w[:, 0::2] + 1) * 2.0 ** -32)), w[:, 1::2] * 2.0 ** -31 * math.pi
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(-1)[:n]
    return torch.from_numpy(x)


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


def make_first(to):
    clusters, pca, iterations, rate = 4, 6, 20, 0.02
    n = torch.nn
    net = to.JointNet(2).double()
    net.projector = n.Identity()
    net.classifier = n.Linear(net.width, clusters).double()
    init(net, 96)
    named = dict(net.named_parameters())
    rest = [p for name, p in named.items() if "classifier" not in name]
    sgd = torch.optim.SGD(rest, lr=1, momentum=0.9, weight_decay=DECAY)
    images = to.EPOCH * to.BATCH
    labels, weights, top = -torch.ones(images + to.BATCH).long(), torch.zeros(clusters).double(), None

    def preprocess_features(x):
        x = x - x.mean(0)
        values, vectors = torch.linalg.eigh(x.T @ x)
        values, vectors = values.flip(0)[:pca], vectors.flip(1)[:, :pca]
        assert values[-1] > 1e-5 * values[0]
        return n.functional.normalize(x @ vectors * values ** -0.5)

    def run_kmeans(epoch, x):
        centroids = x[first_rows(to, epoch, 5, 0, images, clusters)]
        for i in range(iterations + 1):
            labels = torch.cdist(x, centroids).min(dim=1)[1]
            counts = torch.bincount(labels, minlength=clusters)
            assert (counts > 0).all()  # nothing to split
            if i < iterations:
                centroids = torch.zeros_like(centroids).index_add_(0, labels, x) / counts[:, None]
        return labels, counts

    def begin(epoch):
        nonlocal top
        before = copy.deepcopy(net.state_dict())
        with torch.no_grad():
            features = torch.cat([net(to.pixels(epoch * to.EPOCH + s, 1, 12))
                                  for s in range(to.EPOCH)])
            net.load_state_dict(before)
            found, counts = run_kmeans(epoch, preprocess_features(features))
            labels[[to.sample(s, i) for s in range(to.EPOCH) for i in range(to.BATCH)]] = found
            weights.copy_(images / (clusters * counts.double()))
            w = normals(to, stream_of(to, epoch, 6), "classifier.weight", net.classifier.weight.numel())
            net.classifier.weight.copy_((w * 0.01).float().reshape(clusters, -1))
            net.classifier.bias.zero_()
        top = torch.optim.SGD(net.classifier.parameters(), lr=1, weight_decay=DECAY)

    def loss_of(step):
        if step % to.EPOCH == 0:
            begin(step // to.EPOCH)
        target = labels[[to.sample(step, i) for i in range(to.BATCH)]]
        output = net.classifier(net(to.pixels(step, 0, 12)))
        return (weights[target] * n.functional.cross_entropy(output, target, reduction="none")).mean()

    def step_of(step):
        for optimizer in sgd, top:
            optimizer.param_groups[0]["lr"] = to.rate_at(step, rate)
            optimizer.step()

    to.train("deepcluster1", named, loss_of, step_of)
    to.put("deepcluster1", "memory", {"labels": labels.double(), "weights": weights})
    to.golden["deepcluster1.running"] = net.layer2[0].bn1.running_var.float()
