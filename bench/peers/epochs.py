#!/usr/bin/env python3
"""Epochs from JPEGs of Tacit and of PyTorch in turns, in one run.

    python epochs.py [--workload mae simclr] [--images N] [--turns N] [--batch N] [--threads N]
                     [--no-compile] [--allocator NAME] [--csv FILE]

mae is a masked autoencoder at 64 pixels: ViT-Ti with patches of 8, a decoder of 2 blocks of 128,
AdamW. simclr is SimCLR with ResNet-18 (the usual stem) at 64 pixels: two views with the published
augmentation and Pillow's blur, a head of two layers, SGD. The images are the 96 x 96 JPEGs of
photos/imagenette96/train below TACIT_DATA; of them an epoch here has N (--images, 0: all), every
class alike. Batches of 128.

A turn is an epoch of each side in the midst of training, in a random order. Ours is the second of
two of tacit pretrain, as its log has it. PyTorch's is torch_epochs.py, alive and warm: from the
first request for data to the end of the last step. Before, it is tried with 0, 1 and 2 workers of
its DataLoader, and compiled, on epochs of a few batches (--trial-images); the fastest is the peer.

Beside that stands ours as a program that trains for one epoch: from exec to exit, with opening,
initial weights, the first touch of memory and the files at its end, which PyTorch's is spared.

Prints images a second, medians with least and most; the ratio turn by turn; and the peak resident
set: ours beside what --dry-run says, PyTorch's without its workers.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import turns

BATCH = 128
COMMON = ["size=64", "accumulate=1", "warmup_epochs=0", "lr_scale=none", "schedule=constant"]
WORKLOADS = {
    "mae": ["arch=vit_tiny_patch16_224", "patch=8", "decoder_dim=128", "decoder_depth=2",
            "decoder_heads=4", "lr=1e-3"],
    "simclr": ["arch=resnet18", "optimiser=sgd", "lr=0.12", "weight_decay=5e-4", "temperature=0.5",
               "loss=mean", "head_layers=2"],
}
LABELS = {"mae": "MAE, ViT-Ti/8 at 64 pixels, decoder 2 x 128",
          "simclr": "SimCLR, ResNet-18 at 64 pixels"}


def photos(count):
    """The first of each class, in turns; None where they are not there."""
    data = os.environ.get("TACIT_DATA", os.path.join(turns.ROOT, "..", "shared", "data"))
    folder = os.path.abspath(os.path.join(data, "photos", "imagenette96", "train"))
    if not os.path.isdir(folder):
        print(f"skipped: epochs: {folder} is not there; TACIT_DATA names the folder of the data")
        return None
    classes = [sorted(os.path.join(where, f) for f in files if f.endswith(".jpg"))
               for where, _, files in sorted(os.walk(folder)) if files]
    mixed = [c[i] for i in range(max(map(len, classes))) for c in classes if i < len(c)]
    return mixed[:count or len(mixed)]


class Ours:
    """tacit pretrain, two epochs each time."""

    def __init__(self, name, list_file, images, folder, args):
        self.command = [args.tacit, "pretrain", name, "--images", list_file, "--kind", "list",
                        "--epochs", "2", "--batch", str(args.batch), "--threads", str(args.threads),
                        "--json"]
        for setting in COMMON + WORKLOADS[name]:
            self.command += ["--set", setting]
        self.folder, self.batch, self.steps = folder, args.batch, images // args.batch
        self.peak, self.programs, self.waits = 0, [], []
        self.promised = self.run("--dry-run")["peak_bytes"]

    def run(self, *options):
        done = subprocess.run([*self.command, *options], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"epochs.py: tacit pretrain ended with {done.returncode}")
        return json.loads(done.stdout.splitlines()[-1])

    def epoch(self):
        """Images a second, in the second epoch."""
        out = os.path.join(self.folder, f"run{len(self.programs)}")
        time.sleep(turns.PAUSE)
        start = time.perf_counter()
        result = self.run("--out", out)
        seconds = time.perf_counter() - start
        self.peak = max(self.peak, result["peak_bytes"])
        with open(os.path.join(out, "log.jsonl")) as f:
            second = [json.loads(line) for line in f][self.steps:]
        took, images = sum(self.batch / s["images_s"] for s in second), self.steps * self.batch
        self.waits.append(sum(s["data_s"] for s in second) / took)
        self.programs.append(images / (seconds - took))
        return images / took


class Theirs:
    """The fastest way of torch_epochs.py."""

    def __init__(self, name, list_file, images, args):
        command = [sys.executable, os.path.join(turns.HERE, "torch_epochs.py"), name, list_file,
                   str(args.batch), str(args.threads)]
        self.side = turns.Side("pytorch", command, args.environment, greets=True)
        self.how, speeds = "eager", {}
        trial = min(args.trial_images, images)
        for workers in args.workers * 3:  # in turns: the machine's mood changes meanwhile
            self.side.ask(f"open {workers} {trial}")
            speeds[workers] = max(speeds.get(workers, 0), self.epoch())
        self.workers = max(speeds, key=speeds.get)
        told = [f"{w} workers {s:.1f}" for w, s in speeds.items()]
        self.side.ask(f"open {self.workers} {trial}")
        if args.compile:
            self.side.ask("compile")
            eager, compiled = self.epoch(), self.epoch("compiled")
            self.how = "compiled" if compiled > eager else "eager"
            told += [f"{self.workers} workers again, eager {eager:.1f}, compiled {compiled:.1f}"]
        print(f"  trials on {trial} images, images/s: {', '.join(told)}", flush=True)
        self.side.ask(f"open {self.workers} {images}")

    def epoch(self, how=None):
        answer = self.side.ask(f"epoch {how or self.how}")
        return answer["images"] / answer["seconds"]


def measure(name, paths, folder, args):
    list_file = os.path.join(folder, "images.txt")
    with open(list_file, "w") as f:
        f.writelines(path + "\n" for path in paths)
    print(f"\n{LABELS[name]}, batch {args.batch}: epochs of {len(paths) // args.batch} steps, on "
          f"{len(paths)} JPEGs", flush=True)
    ours = Ours(name, list_file, len(paths), folder, args)
    theirs = Theirs(name, list_file, len(paths), args)
    speeds = {ours: [], theirs: []}
    for _ in range(args.turns):
        for side in random.sample(list(speeds), 2):
            speeds[side].append(side.epoch())
    peak = theirs.side.peak_bytes()
    theirs.side.close()
    a, b = (sorted(s) for s in speeds.values())
    ratios = sorted(x / y for x, y in zip(speeds[ours], speeds[theirs]))
    programs = [x / y for x, y in zip(ours.programs, speeds[theirs])]
    mid, other, ratio, program = (turns.quartiles(v)[1] for v in (a, b, ratios, programs))
    peer = f"pytorch {theirs.how}, {theirs.workers} workers"
    print(f"  tacit {mid:.1f} images/s ({a[0]:.1f}-{a[-1]:.1f}), {peer} {other:.1f} "
          f"({b[0]:.1f}-{b[-1]:.1f}): {ratio:.2f} x ({ratios[0]:.2f}-{ratios[-1]:.2f}), "
          f"{args.turns} turns\n"
          f"  of tacit's time {100 * turns.quartiles(ours.waits)[1]:.1f} % wait for data; as a program "
          f"of one epoch, from exec to exit, it has {turns.quartiles(ours.programs)[1]:.1f} images/s: "
          f"{program:.2f} x\n"
          f"  peak resident: tacit {ours.peak / 1e6:.0f} MB, --dry-run said "
          f"{ours.promised / 1e6:.0f}; pytorch without its workers {peak / 1e6:.0f} MB", flush=True)
    return {"workload": name, "batch": args.batch, "threads": args.threads, "images": len(paths),
            "turns": args.turns, "ours_images_s": f"{mid:.2f}", "peer": peer,
            "peer_images_s": f"{other:.2f}", "ratio": f"{ratio:.3f}",
            "ratio_least": f"{ratios[0]:.3f}", "ratio_most": f"{ratios[-1]:.3f}",
            "program_ratio": f"{program:.3f}",
            "ours_peak_mb": f"{ours.peak / 1e6:.0f}",
            "dry_run_peak_mb": f"{ours.promised / 1e6:.0f}", "peer_peak_mb": f"{peak / 1e6:.0f}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--trial-images", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=turns.cpus())
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2],
                        help="counts to try of the DataLoader's")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--allocator", choices=turns.ALLOCATORS, default=turns.BEST_ALLOCATOR,
                        help="PyTorch's")
    parser.add_argument("--tacit", default=turns.TACIT)
    parser.add_argument("--csv")
    args = parser.parse_args()
    paths = photos(args.images)
    if not paths:
        sys.exit(77)
    if len(paths) < args.batch:
        sys.exit(f"epochs.py: {len(paths)} images are no batch of {args.batch}")
    args.environment = turns.torch_environment(args.threads, args.allocator)
    versions = turns.versions("torch", "torchvision", "timm", "pillow")
    print(f"{turns.cpu_name()}, {args.threads} threads; {versions}, allocator {args.allocator}",
          flush=True)
    rows = []
    for name in args.workload:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, paths, folder, args))
    if args.csv:
        turns.write_csv(args.csv, rows)


if __name__ == "__main__":
    main()
