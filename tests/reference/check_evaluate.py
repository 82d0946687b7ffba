#!/usr/bin/env python3
"""k-NN and probes against the same computed in Python, on the same vectors.

    check_evaluate.py TACIT TRAIN TRAIN_LABELS TEST TEST_LABELS [--c C]...

TRAIN and TEST are .npy of float32, labels .npy of integers. Compared are

- neighbours (rows, ties included) and accuracies with an exhaustive search in float64;
- accuracies with DINO's rule as eval_knn.py has it: float32 product, torch.topk, exp(s / T);
- tacit probe --c C with scikit-learn's LogisticRegression of the same C, solved to the end in float64:
  objective within 1e-4 of it, test accuracy within 0.05 points.

Needs numpy, torch and scikit-learn; ends with status 77 where they are missing, 1 where something
differs by more.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
except ImportError as error:
    print(f"check_evaluate: skipped: {error}")
    sys.exit(77)

KS = [10, 20, 100, 200]
T = 0.07
KNN_POINTS = 0.1  # between our accuracy and DINO's
PROBE_POINTS = 0.05
OBJECTIVE = 1e-4

passed = failed = 0


def check(good, text):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    print(("ok    " if good else "FAIL  ") + text, flush=True)


def tacit(args, *options):
    line = [args.tacit, *options, "--train", args.train, "--train-labels", args.train_labels,
            "--test", args.test, "--test-labels", args.test_labels, "--json"]
    out = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(text) for text in out.splitlines()]


def neighbours_in_double(train, test, k):
    """(rows, similarities) of the k nearest, of equal similarity the lower row first."""
    def unit(x):
        x = x.astype(np.float64)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    base, rows, similarities = unit(train), [], []
    for i in range(0, len(test), 500):
        s = unit(test[i:i + 500]) @ base.T
        order = np.argsort(-s, axis=1, kind="stable")[:, :k]
        rows.append(order)
        similarities.append(np.take_along_axis(s, order, axis=1))
    return np.concatenate(rows), np.concatenate(similarities)


def vote(classes, weights, count):
    votes = np.zeros((len(classes), count))
    for j in range(classes.shape[1]):  # in the order of the neighbours
        votes[np.arange(len(classes)), classes[:, j]] += weights[:, j]
    return votes


def top(votes, truth, n):
    best = np.argsort(-votes, axis=1, kind="stable")[:, :n]
    return 100 * np.mean((best == truth[:, None]).any(axis=1))


def dino(train, train_y, test, test_y, k, classes):
    """The rule of facebookresearch/dino eval_knn.py, in its precision."""
    base = torch.nn.functional.normalize(torch.from_numpy(train), dim=1).t()
    query = torch.nn.functional.normalize(torch.from_numpy(test), dim=1)
    right = [0, 0]
    for i in range(0, len(query), 500):
        similarity, index = torch.mm(query[i:i + 500], base).topk(k, largest=True, sorted=True)
        found = torch.from_numpy(train_y)[index]
        one_hot = torch.nn.functional.one_hot(found, classes).float()
        votes = (one_hot * similarity.div(T).exp()[:, :, None]).sum(1)
        correct = votes.sort(1, True)[1].eq(torch.from_numpy(test_y[i:i + 500])[:, None])
        right[0] += correct[:, :1].sum().item()
        right[1] += correct[:, :5].sum().item()
    return [100 * r / len(query) for r in right]


def check_knn(args, train, train_y, test, test_y):
    classes = int(train_y.max()) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "near.npy")
        results = tacit(args, "knn", "--k", ",".join(map(str, KS)), "--neighbors", path)
        ours = np.load(path)
        ours_s = np.load(path.replace(".npy", "-similarities.npy"))
    rows, similarities = neighbours_in_double(train, test, ours.shape[1])
    close = np.abs(ours_s - similarities).max()
    check(close < 1e-6, f"similarities within {close:.2g} of float64")
    differ = ours != rows  # a rank may differ where float64 itself cannot tell two rows apart
    base = train.astype(np.float64)
    base /= np.maximum(np.linalg.norm(base, axis=1, keepdims=True), 1e-12)
    true = 0
    for i, j in zip(*np.nonzero(differ)):
        q = test[i].astype(np.float64)
        q /= max(np.linalg.norm(q), 1e-12)
        true += abs(q @ base[ours[i, j]] - q @ base[rows[i, j]]) > 1e-14
    check(true == 0, f"neighbours: {differ.sum()} of {rows.size} ranks differ from float64, "
          f"{true} of them by more than its rounding")
    for k, result in zip(KS, results):
        found, s = train_y[rows[:, :k]], similarities[:, :k]
        for name, weights, mine in (("weighted", np.exp(s / T), result),
                                    ("majority", np.ones_like(s), result["majority"])):
            votes = vote(found, weights, classes)
            want = [top(votes, test_y, 1), top(votes, test_y, 5)]
            got = [mine["top1"], mine["top5"]]
            check(np.allclose(want, got, atol=1e-9), f"k {k} {name}: {got[0]:.2f} {got[1]:.2f}, "
                  f"float64 {want[0]:.2f} {want[1]:.2f}")
        want = dino(train, train_y, test, test_y, k, classes)
        check(abs(want[0] - result["top1"]) <= KNN_POINTS and
              abs(want[1] - result["top5"]) <= KNN_POINTS,
              f"k {k}: {result['top1']:.2f} {result['top5']:.2f}, "
              f"DINO {want[0]:.2f} {want[1]:.2f}")


def check_probe(args, c, train, train_y, test, test_y):
    result, = tacit(args, "probe", "--c", str(c))
    model = LogisticRegression(C=c, max_iter=20000, tol=1e-7)
    x = train.astype(np.float64)
    model.fit(x, train_y)
    z = x @ model.coef_.T + model.intercept_
    z -= z.max(axis=1, keepdims=True)
    loss = np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), train_y])
    objective = loss + (model.coef_ ** 2).sum() / (2 * c * len(x))
    accuracy = 100 * np.mean(model.predict(test.astype(np.float64)) == test_y)
    off = result["objective"] / objective - 1
    check(abs(off) <= OBJECTIVE, f"C {c}: objective {result['objective']:.8g}, scikit-learn "
          f"{objective:.8g} ({off:+.1e})")
    check(abs(accuracy - result["top1"]) <= PROBE_POINTS,
          f"C {c}: accuracy {result['top1']:.2f}, scikit-learn {accuracy:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("tacit", "train", "train_labels", "test", "test_labels"):
        parser.add_argument(name)
    parser.add_argument("--c", type=float, action="append", default=[])
    args = parser.parse_args()
    train, test = np.load(args.train), np.load(args.test)
    train_y, test_y = np.load(args.train_labels), np.load(args.test_labels)
    check_knn(args, train, train_y, test, test_y)
    for c in args.c or [0.01, 1]:
        check_probe(args, c, train, train_y, test, test_y)
    print(f"check_evaluate: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
