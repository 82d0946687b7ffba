#!/usr/bin/env python3
"""tacit knn against faiss, tacit probe against scikit-learn: the same vectors, the same cores, in turns.

    evaluate.py [--workload knn-384|knn-768|probe-10|probe-10-blob|probe-1000|probe-1000-blob]...
                [--rounds N] [--threads N] [--max-iter N] [--data DIR] [--csv FILE]

k-NN: 10,000 queries, 50,000 base vectors, k = 20. Ours is the whole program, from exec to exit, with
reading, checking and voting; faiss is IndexFlatIP.search alone, on vectors that are in memory and
normalised. Probe: 50,000 vectors, 384 values and 10 classes, or 768 and 1000, C = 1. scikit-learn is
LogisticRegression.fit alone (lbfgs, float32), ended by --max-iter or its own tolerance; ours is the
fit to a loss no larger than the one it reached, by the least --max-steps that gives it. Both losses
are computed here, in float64. The vectors are made from a seed: class means and noise with a spectrum
that falls as 1/i, off centre, as embeddings are; the blobs are white. Needs numpy, faiss-cpu and
scikit-learn; what is missing is skipped.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
TACIT = os.path.join(HERE, "..", "..", "build", "tacit")

PAUSE = 0.3  # seconds; the peers' threads spin for a while after their work

rows = []


def set_threads(count):
    """Of every BLAS; before numpy is there."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(count)


def line(args, *options):
    return [TACIT, *options, "--threads", str(args.threads), "--json"]


def tacit(args, *options):
    """(result, seconds of the whole program)."""
    time.sleep(PAUSE)
    start = time.perf_counter()
    done = subprocess.run(line(args, *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"evaluate.py: tacit {options[0]} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1]), seconds


PEAK = """import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ,
                     file_actions=[(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0)
                                   for fd in (1, 2)])
print(os.wait4(pid, 0)[2].ru_maxrss * 1024)"""


def peak_bytes(args, *options):
    """Started by a small process: a child's peak is at least what its parent had."""
    return int(subprocess.run([sys.executable, "-c", PEAK, *line(args, *options)], check=True,
                              stdout=subprocess.PIPE, text=True).stdout)


def report(workload, peer, ours, theirs, memory, inputs, note):
    ratios = sorted(t / o for o, t in zip(ours, theirs))
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    row = {"workload": workload, "ours_s": statistics.median(ours), "peer": peer,
           "peer_s": statistics.median(theirs), "ratio": statistics.median(ratios),
           "q1": quartiles[0], "q3": quartiles[2], "rounds": len(ours),
           "beyond_inputs_mb": (memory - inputs) / 1e6, "note": note}
    rows.append(row)
    print("{workload:16} ours {ours_s:7.3f} s  {peer} {peer_s:7.3f} s  ratio {ratio:.2f} "
          "({q1:.2f}-{q3:.2f}), {rounds} rounds, {beyond_inputs_mb:.0f} MB beyond the inputs; "
          "{note}".format(**row), flush=True)


def vectors(n, dim, classes, seed, blob=False):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    means = np.random.default_rng(7).standard_normal((classes, dim), dtype=np.float32)
    noise = rng.standard_normal((n, dim), dtype=np.float32)
    if blob:
        return means[y] * np.float32(0.3) + noise, y
    turn = np.linalg.qr(np.random.default_rng(8).standard_normal((dim, dim)))[0]
    scale = np.arange(1, dim + 1, dtype=np.float32) ** np.float32(-0.5)
    x = ((means[y] * np.float32(0.5) + noise) * scale) @ turn.astype(np.float32)
    return np.ascontiguousarray(x + np.float32(0.5)), y


def saved(args, name, n, dim, classes, seed, blob=False):
    path, labels = (os.path.join(args.data, f"{name}{end}") for end in (".npy", "-y.npy"))
    if not os.path.exists(labels):
        x, y = vectors(n, dim, classes, seed, blob)
        np.save(path, x)
        np.save(labels, y)
    return path, labels


def knn(args, dim):
    try:
        import faiss
    except ImportError as error:
        print(f"knn-{dim}: skipped: {error}")
        return
    faiss.omp_set_num_threads(args.threads)
    base, base_y = saved(args, f"base-{dim}", 50000, dim, 100, 1)
    query, query_y = saved(args, f"query-{dim}", 10000, dim, 100, 2)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (np.load(base), np.load(query))]
    index = faiss.IndexFlatIP(dim)
    index.add(unit[0])
    options = ["knn", "--train", base, "--train-labels", base_y, "--test", query, "--test-labels",
               query_y, "--k", "20"]
    index.search(unit[1], 20)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "near.npy")
        tacit(args, *options, "--neighbors", path)
        same = np.mean(np.sort(np.load(path)) == np.sort(index.search(unit[1], 20)[1]))
    ours, theirs, memory = [], [], peak_bytes(args, *options)
    for _ in range(args.rounds):
        ours.append(tacit(args, *options)[1])
        time.sleep(PAUSE)
        start = time.perf_counter()
        index.search(unit[1], 20)
        theirs.append(time.perf_counter() - start)
    inputs = os.path.getsize(base) + os.path.getsize(query)
    report(f"knn-{dim}", f"faiss {faiss.__version__}", ours, theirs, memory, inputs,
           f"{100 * same:.4f} % of the neighbours are faiss's, "
           f"{2e-9 * 10000 * 50000 * dim / statistics.median(ours):.0f} GFLOP/s")


def objective(x, y, weight, bias, c):
    total, weight = 0.0, weight.astype(np.float64)
    for i in range(0, len(x), 5000):
        z = x[i:i + 5000].astype(np.float64) @ weight.T + bias
        z -= z.max(axis=1, keepdims=True)
        total += (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y[i:i + 5000]]).sum()
    return total / len(x) + (weight ** 2).sum() / (2 * c * len(x))


def probe(args, name, dim, classes, blob):
    try:
        import sklearn
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        print(f"{name}: skipped: {error}")
        return
    path, labels = saved(args, name, 50000, dim, classes, 1, blob)
    test, test_y = saved(args, name + "-test", 2000, dim, classes, 2, blob)
    x, y = np.load(path), np.load(labels)
    options = ["probe", "--train", path, "--train-labels", labels, "--test", test, "--test-labels",
               test_y, "--c", "1"]
    ours, theirs, steps = [], [], 0
    for _ in range(args.rounds):
        time.sleep(PAUSE)
        start = time.perf_counter()
        model = LogisticRegression(C=1, max_iter=args.max_iter).fit(x, y)
        theirs.append(time.perf_counter() - start)
        if not steps:
            want = objective(x, y, model.coef_, model.intercept_, 1)
            while not steps or result["objective"] > want:
                steps += 1
                result, _ = tacit(args, *options, "--max-steps", str(steps))
            memory = peak_bytes(args, *options, "--max-steps", str(steps))
        ours.append(tacit(args, *options, "--max-steps", str(steps))[0]["fit_s"])
        time.sleep(PAUSE)
    inputs = os.path.getsize(path) + os.path.getsize(test)
    report(name, f"scikit-learn {sklearn.__version__}", ours, theirs, memory, inputs,
           f"loss {result['objective']:.6g} after {steps} steps, theirs {want:.6g} after "
           f"{model.n_iter_[0]} iterations")


WORKLOADS = {
    "knn-384": lambda args: knn(args, 384),
    "knn-768": lambda args: knn(args, 768),
    "probe-10": lambda args: probe(args, "probe-10", 384, 10, False),
    "probe-10-blob": lambda args: probe(args, "probe-10-blob", 384, 10, True),
    "probe-1000": lambda args: probe(args, "probe-1000", 768, 1000, False),
    "probe-1000-blob": lambda args: probe(args, "probe-1000-blob", 768, 1000, True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=WORKLOADS, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--max-iter", type=int, default=100)
    parser.add_argument("--data", help="where the vectors are kept (default: a temporary folder)")
    parser.add_argument("--csv", help="append the results to this file")
    args = parser.parse_args()
    set_threads(args.threads)
    global np
    import numpy as np
    with tempfile.TemporaryDirectory() as folder:
        args.data = args.data or folder
        os.makedirs(args.data, exist_ok=True)
        for name in args.workload or WORKLOADS:
            WORKLOADS[name](args)
    if args.csv and rows:
        new = not os.path.exists(args.csv)
        with open(args.csv, "a", newline="") as f:
            writer = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
