#!/usr/bin/env python3
"""Methods of Tacit and of PyTorch in turns, in one run: joint-embedding ones beside lightly's,
those that mask beside the published code.

    python methods.py [--method moco swav deepcluster byol dino barlow vicreg simclr
                                simmim maskfeat beit ijepa mae]
                      [--preset quick] [--batch N] [--set KEY=VALUE]... [--images N] [--jpegs]
                      [--step-turns N] [--turns N] [--minutes N] [--threads N] [--workers N...]
                      [--compile] [--allocator NAME] [--csv FILE]
                      [--tokenizer FILE | --tokenizer-preset NAME] [--side-by-side]

Both sides train the same network on the first N images of cifar10/train_20k.bin below TACIT_DATA,
or with --jpegs of photos/imagenette96/train (96 x 96 pixels; every class alike), with the settings
of tacit pretrain METHOD --preset quick --set ...: batch, crops, colours, widths, prototypes, queue,
AdamW. Our run writes config.ini, and torch_methods.py makes of it the same in PyTorch: fp32,
channels last, fused AdamW, threads as ours. Of MoCo, whose batch norm goes by groups, the peer is
tried with lightly's own, which wants channels first, and with one for channels last. The default
network is a ResNet-18 with CIFAR's stem at 32 pixels, half as wide and half as deep; --set dim=0
--set depth=0 makes it whole, --set arch=vit_tiny_patch4_32 beside them a ViT.

Of methods that mask, torch_masked.py is the peer, which tells how it does them. It begins with the
weights, views and masks of ours; the first step's losses are printed, with a warning where they
differ by more than rounding. Its layout is tried channels last and first, and where there are
relative biases its attention as published, too; and all as published at once, the allocator being
the one PyTorch has by itself. The default network is a ViT-Tiny of patches of 4
at 32 pixels, half as wide and a third as deep; --set dim=0 --set depth=0 --set heads=0 makes it
whole. ViT-S/16 at 224 pixels, with heads and decoders of the published recipes:

    --method simmim maskfeat beit ijepa mae --preset imagenet --set arch=vit_small_patch16_224
    --set accumulate=1 --set drop_path=0 --batch 32 --images 64 --turns 0
    --tokenizer-preset imagenet

BEiT's tokenizer is one of random weights, of tacit tokenizer train dvae --epochs 0. --side-by-side
leaves PyTorch out and prints our steps of the methods in turns with each other, each beside the
first's: --method simmim ijepa mae --side-by-side, with the options above.

step is a training step alone, on views that stay in memory: moving averages, queues, Sinkhorn and
optimiser are in it, k-means is not. Ours is bench_methods. A turn is one step of each side, in a
random order.

epoch is what a run does from images on, an epoch of it: reading, views, steps, for DeepCluster also
k-means, which goes before it. Ours is the program itself, tacit pretrain --resume, for one epoch
more, by its own clock (wall_s): from the first batch to the checkpoint at the end; what exec,
opening and exit take beside is told. PyTorch's is alive and warm: from the first request for data
to the end of the last step, with a DataLoader whose workers persist and torchvision's transforms on
Pillow's pictures. Before, it is tried with each count of --workers on --trial-images; the fastest
is the peer.

Prints medians with quartiles, ratios formed turn by turn, what either side needs in GFLOP a step,
by tacit's count and by torch's FlopCounterMode, with a warning where they differ by a twentieth,
trained parameters, shares of the FMA rate measured in the same turns, and peak resident sets,
PyTorch's without its workers. --minutes is for all: a method's turns end when its share is used up,
each having one at least. Needs torch, torchvision, timm, lightly and Pillow.
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
from epochs import photos

METHODS = ["moco", "swav", "deepcluster", "byol", "dino", "barlow", "vicreg"]
MASKED = ["simmim", "maskfeat", "beit", "ijepa", "mae"]
RECORD = 3073  # bytes of one of CIFAR's
EPOCHS = 1000  # of a run that none of ours comes to the end of
APART = 0.05   # the most by which the sides' FLOPs may differ
# And, from the same weights, their losses, which is rounding. Edges of bins of gradients decide
# more: in fp64 PyTorch's loss of MaskFeat is ours, in fp32 it puts some gradients in a bin beside.
ROUNDING = {"maskfeat": 3e-3}
PACKAGES = ("torch", "torchvision", "timm", "lightly", "pillow")


def skip(why):
    print(f"skipped: methods: {why}")
    sys.exit(77)


def check_packages():
    from importlib import util
    lacking = [p for p in PACKAGES if not util.find_spec({"pillow": "PIL"}.get(p, p))]
    if lacking:
        skip(f"{', '.join(lacking)} not there: start this with a Python that has "
             f"{', '.join(PACKAGES)}")


def images_file(count, folder, jpegs):
    """The first so many records, or a list of JPEGs."""
    if jpegs:
        paths = photos(count)
        if not paths:
            sys.exit(77)
        if len(paths) < count:
            sys.exit(f"methods.py: there are {len(paths)} photos, not {count}")
        path = os.path.join(folder, "images.txt")
        with open(path, "w") as f:
            f.writelines(p + "\n" for p in paths)
        return path
    data = os.environ.get("TACIT_DATA", os.path.join(turns.ROOT, "..", "shared", "data"))
    whole = os.path.abspath(os.path.join(data, "cifar10", "train_20k.bin"))
    if not os.path.isfile(whole):
        skip(f"{whole} is not there; TACIT_DATA names the folder of the data")
    path = os.path.join(folder, "images.bin")
    with open(whole, "rb") as f, open(path, "wb") as to:
        to.write(f.read(count * RECORD))
    if os.path.getsize(path) < count * RECORD:
        sys.exit(f"methods.py: {whole} has not {count} images")
    return path


def tokenizer_file(images, folder, args):
    """Unless there is one already, a tokenizer as it is before the first step."""
    if not args.tokenizer:
        out = os.path.join(folder, "tokenizer")
        subprocess.run([args.tacit, "tokenizer", "train", "dvae", "--preset",
                        args.tokenizer_preset, "--epochs", "0", "--images", images, "--out", out,
                        "--set", "warmup_epochs=0", "--set", "accumulate=1", "--batch", "1",
                        "--json"], check=True, stdout=subprocess.DEVNULL)
        args.tokenizer = os.path.join(out, "tokenizer.safetensors")
    return args.tokenizer


def turns_until(count, end):
    """Up to so many; behind the first, none is begun that is not likely to end in time."""
    longest = 0
    for i in range(count):
        begun = time.monotonic()
        if i and begun + longest > end:
            return
        yield i
        longest = max(longest, time.monotonic() - begun)


class Program:
    """tacit pretrain, an epoch at a time; the first is done here."""

    def __init__(self, method, images, folder, args):
        self.method, self.args = method, args
        self.out = os.path.join(folder, method)
        self.epoch_steps, self.epochs = args.images // args.batch, 0
        self.peak, self.aside = 0, []
        settings = ["checkpoint_minutes=0", *args.set]
        if method == "moco" and not any(s.startswith("queue=") for s in args.set):
            settings.append(f"queue={min(2048, self.epoch_steps * args.batch)}")
        if method == "beit":
            settings.append(f"tokenizer={tokenizer_file(images, folder, args)}")
        self.options = ["--preset", args.preset, "--images", images, "--batch", str(args.batch),
                        "--kind", "list" if args.jpegs else "cifar10", "--epochs", str(EPOCHS)]
        for setting in settings:
            self.options += ["--set", setting]
        self.plan = self.run(*self.options, "--dry-run")
        self.epoch()
        self.config = os.path.join(self.out, "config.ini")

    def run(self, *options):
        command = [self.args.tacit, "pretrain", self.method, "--threads", str(self.args.threads),
                   "--json", *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"methods.py: {' '.join(command)} ended with {done.returncode}")
        return json.loads(done.stdout.splitlines()[-1])

    def epoch(self):
        """Images a second."""
        begin = ["--resume"] if self.epochs else self.options
        self.epochs += 1
        time.sleep(turns.PAUSE)
        start = time.perf_counter()
        result = self.run(*begin, "--out", self.out, "--steps",
                          str(self.epochs * self.epoch_steps))
        self.aside.append(time.perf_counter() - start - result["wall_s"])
        self.peak = max(self.peak, result["peak_bytes"])
        return result["images_s"]

    def waits(self):
        """What share of the last epoch's time went by without a step."""
        with open(os.path.join(self.out, "log.jsonl")) as f:
            steps = [json.loads(line) for line in f][-self.epoch_steps:]
        data = sum(s["data_s"] for s in steps)
        return data / (data + sum(s[part + "_s"] for s in steps
                                  for part in ("forward", "backward", "optimiser")))


def ours_of(program, args):
    """Which writes, beside the configuration, what it began with."""
    return turns.Side("tacit", [args.bench_methods, program.method, program.config,
                                str(args.threads), program.out], greets=True)


def open_sides(program, args):
    """Ours first; what PyTorch cannot do is told and left out."""
    method, sides = program.method, [ours_of(program, args)]
    hows = [["channels-last"]]
    if method in MASKED:
        hows.append(["as-published"])
    if method == "moco" or method in MASKED:
        hows.append([])
    if method in ("simmim", "beit"):
        hows.append(["channels-last", "plain-attention"])
    if args.compile:
        hows.append(["channels-last", "compiled"])
    script = "torch_masked.py" if method in MASKED else "torch_methods.py"
    for how in hows:
        name = " ".join(["pytorch", *(how or ["channels first"])])
        command = [sys.executable, os.path.join(turns.HERE, script), method, program.config,
                   str(args.threads), *how]
        try:
            sides.append(turns.Side(name, command, args.published if how == ["as-published"]
                                    else args.environment, greets=True))
        except RuntimeError as error:
            print(f"{method}: left out: {error}", flush=True)
    if len(sides) < 2:
        sys.exit(f"methods.py: {method}: there is no peer")
    return sides


def say_parity(program, gflop, peer):
    ours, theirs = program.plan["parameters"], peer["parameters"]
    apart = abs(peer["gflop"] / gflop - 1)
    print(f"  a step: tacit {gflop:.4g} GFLOP, pytorch {peer['gflop']:.4g}; trained parameters "
          f"{ours / 1e6:.3f} M and {theirs / 1e6:.3f} M"
          f"{'; WARNING: not the same work' if apart > APART else ''}", flush=True)


def say_losses(method, sides):
    """Of the first step, from the same weights, views and masks."""
    ours, *theirs = [side.greeting["loss"] for side in sides]
    worst = max(abs(loss / ours - 1) for loss in theirs)
    same = worst < ROUNDING.get(method, 1e-4)
    print(f"  the first step's loss: tacit {ours:.7g}, pytorch "
          f"{', '.join(f'{loss:.7g}' for loss in theirs)}"
          f"{'' if same else '; WARNING: not the same'}", flush=True)


def row_of(method, what, side, values, ours, args, **more):
    """A side's part of the table. values: seconds of its turns; ours: of ours."""
    low, mid, high = turns.quartiles(values)
    q1, ratio, q3 = turns.quartiles([t / o for o, t in zip(ours, values)])
    settings = " ".join(["jpegs"] * args.jpegs + args.set)
    return {"method": method, "what": what, "preset": args.preset, "settings": settings,
            "batch": args.batch, "threads": args.threads, "side": side, "turns": len(values),
            "median_s": f"{mid:.4f}", "q1_s": f"{low:.4f}", "q3_s": f"{high:.4f}",
            "images_s": f"{args.batch / mid:.2f}", "ratio": f"{ratio:.3f}", "ratio_q1": f"{q1:.3f}",
            "ratio_q3": f"{q3:.3f}", "share": "", "limit_gflops": "", "gflop": "", **more}


def say_row(row, tail):
    print(f"  {row['what']:5} {row['side']:32} {float(row['median_s']):7.3f} s "
          f"({float(row['q1_s']):.3f}-{float(row['q3_s']):.3f}) a step, "
          f"{float(row['images_s']):7.1f} images/s, {row['peak_mb']:>5} MB, {row['ratio']} x "
          f"({row['ratio_q1']}-{row['ratio_q3']}){tail}", flush=True)


def measure_steps(program, sides, end, args):
    """Rows, and the fastest peer."""
    ours = sides[0]
    times, limits, gflop = {side: [] for side in sides}, [], 0
    for _ in turns_until(args.step_turns, end):
        for side in random.sample(sides, len(sides)):
            row = side.ask("step")
            times[side].append(row["time_s"])
            if side is ours:
                gflop = row["gflop"]
                limits.append(gflop / row["time_s"] / row["share"] if row["share"] else 0)
    best = min(sides[1:], key=lambda side: turns.quartiles(times[side])[1])
    say_parity(program, gflop, best.greeting)
    rows = []
    for side in sides:
        share = turns.quartiles([gflop / t / g if g else 0
                                 for t, g in zip(times[side], limits)])[1]
        rows.append(row_of(program.method, "step", side.name, times[side], times[ours], args,
                           best_peer=int(side is best), share=f"{share:.3f}",
                           limit_gflops=f"{turns.quartiles(limits)[1]:.1f}",
                           gflop=f"{side.greeting.get('gflop', gflop):.2f}",
                           peak_mb=f"{side.peak_bytes() / 1e6:.0f}"))
        say_row(rows[-1], f", {100 * share:.1f} % of the limit"
                          f"{'  <- best peer' if side is best else ''}")
    return rows, best


def choose_workers(peer, args):
    """Opens the peer's DataLoader with the count that is fastest."""
    speeds, trial = {}, min(args.trial_images, args.images)
    for workers in args.workers:
        if len(args.workers) > 1:
            peer.ask(f"open {workers} {trial}")
            answer = peer.ask("epoch")
            speeds[workers] = answer["images"] / answer["time_s"]
    best = max(speeds, key=speeds.get, default=args.workers[0])
    told = ", ".join(f"{w} workers {s:.1f}" for w, s in speeds.items())
    if told:
        print(f"  trials on {trial} images, images/s: {told}", flush=True)
    peer.ask(f"open {best} {args.images}")
    return best


def measure_epochs(program, peer, end, args):
    workers = choose_workers(peer, args)
    seconds = {"tacit": [], "pytorch": []}  # a step

    def ours():
        seconds["tacit"].append(args.batch / program.epoch())

    def theirs():
        answer = peer.ask("epoch")
        seconds["pytorch"].append(answer["time_s"] * args.batch / answer["images"])

    waits = []
    for _ in turns_until(args.turns, end):
        for side in random.sample([ours, theirs], 2):
            side()
        waits.append(program.waits())
    rows = []
    for name, peak in ("tacit", program.peak), ("pytorch", peer.peak_bytes()):
        theirs = name == "pytorch"
        side = f"{peer.name}, {workers} workers" if theirs else name
        rows.append(row_of(program.method, "epoch", side, seconds[name], seconds["tacit"], args,
                           best_peer=int(theirs), peak_mb=f"{peak / 1e6:.0f}"))
        say_row(rows[-1], "" if theirs else
                f", --dry-run said {program.plan['peak_bytes'] / 1e6:.0f} MB")
    print(f"  {len(waits)} turns of {program.epoch_steps} steps; of tacit's time "
          f"{100 * turns.quartiles(waits)[1]:.1f} % wait for data; exec, opening and exit are "
          f"{turns.quartiles(program.aside[1:])[1]:.2f} s beside", flush=True)
    return rows


def measure(method, images, folder, end, args):
    print(f"\n{method}, preset {args.preset} {' '.join(args.set)}, batch {args.batch}, "
          f"{args.threads} threads, {args.images} {'JPEGs' if args.jpegs else 'records'}",
          flush=True)
    begun = time.monotonic()
    program = Program(method, images, folder, args)
    sides = open_sides(program, args)
    if method in MASKED:
        say_losses(method, sides)
    rows, best = measure_steps(program, sides, begun + (end - begun) / 2, args)
    for side in sides:
        if side is not best:
            side.close()
    if args.turns:
        rows += measure_epochs(program, best, end, args)
    best.close()
    print(f"  {time.monotonic() - begun:.0f} s in all", flush=True)
    return rows


def summary(rows):
    """Of each method, the best peer's time by ours."""
    print(f"\n{'pytorch / tacit':16} {'step':>22} {'epoch':>22}")
    for method in dict.fromkeys(r["method"] for r in rows):
        cells = [next((f"{r['ratio']} ({r['ratio_q1']}-{r['ratio_q3']})" for r in rows
                       if (r["method"], r["what"], r["best_peer"]) == (method, what, 1)), "")
                 for what in ("step", "epoch")]
        print(f"{method:16} {cells[0]:>22} {cells[1]:>22}")


def side_by_side(images, folder, end, args):
    """Our step of each method, by the first's."""
    sides = {}
    for method in args.method:
        sides[method] = ours_of(Program(method, images, folder, args), args)
    times = {method: [] for method in sides}
    for _ in turns_until(args.step_turns, end):
        for method in random.sample(list(sides), len(sides)):
            times[method].append(sides[method].ask("step")["time_s"])
    first, rows = times[args.method[0]], []
    print(f"\nour steps by {args.method[0]}'s, preset {args.preset} {' '.join(args.set)}, batch "
          f"{args.batch}, {args.threads} threads")
    for method, side in sides.items():
        rows.append(row_of(method, "step", "tacit", times[method], first, args,
                           peak_mb=f"{side.peak_bytes() / 1e6:.0f}"))
        say_row({**rows[-1], "side": method}, "")
        side.close()
    return rows


def main():
    parser = argparse.ArgumentParser(description=" ".join(__doc__.split("\n\n")[0].split()))
    parser.add_argument("--method", nargs="+", choices=[*METHODS, "simclr", *MASKED],
                        default=METHODS)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=1024, help="of an epoch")
    parser.add_argument("--jpegs", action="store_true", help="an epoch decodes photos")
    parser.add_argument("--trial-images", type=int, default=256)
    parser.add_argument("--step-turns", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3, help="of epochs; 0: steps alone")
    parser.add_argument("--minutes", type=float, default=20, help="for all methods")
    parser.add_argument("--threads", type=int, default=turns.cpus())
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2],
                        help="counts to try of the DataLoader's")
    parser.add_argument("--compile", action="store_true",
                        help="try torch.compile too; it takes minutes to compile")
    parser.add_argument("--allocator", choices=turns.ALLOCATORS, default=turns.BEST_ALLOCATOR,
                        help="PyTorch's")
    parser.add_argument("--tokenizer", help="BEiT's: a discrete VAE's tokenizer.safetensors")
    parser.add_argument("--tokenizer-preset", default="quick",
                        help="of the one that is made where there is none")
    parser.add_argument("--side-by-side", action="store_true",
                        help="our steps alone, of all methods in turns with each other")
    parser.add_argument("--tacit", default=turns.TACIT)
    parser.add_argument("--bench-methods", default=os.path.join(turns.ROOT, "build", "bench",
                                                                "bench_methods"))
    parser.add_argument("--csv")
    args = parser.parse_args()
    check_packages()
    for program in args.tacit, args.bench_methods:
        if not os.access(program, os.X_OK):
            sys.exit(f"methods.py: {program}: not there; build it: ninja -C build")
    if args.images < 2 * args.batch:
        sys.exit(f"methods.py: {args.images} images are not two batches of {args.batch}")
    args.trial_images = max(args.trial_images, args.batch)
    args.environment = turns.torch_environment(args.threads, args.allocator)
    args.published = turns.torch_environment(args.threads, "glibc")
    print(f"{turns.cpu_name()}, {args.threads} threads; {turns.versions(*PACKAGES)}, "
          f"allocator {args.allocator}", flush=True)
    end, rows = time.monotonic() + 60 * args.minutes, []
    with tempfile.TemporaryDirectory() as folder:
        images = images_file(args.images, folder, args.jpegs)
        if args.side_by_side:
            rows = side_by_side(images, folder, end, args)
            if args.csv:
                turns.write_csv(args.csv, rows)
            return
        for i, method in enumerate(args.method):
            now = time.monotonic()
            rows += measure(method, images, folder, now + (end - now) / (len(args.method) - i),
                            args)
            if args.csv:
                turns.write_csv(args.csv, rows)
    summary(rows)


if __name__ == "__main__":
    main()
