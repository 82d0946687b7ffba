#!/usr/bin/env python3
"""Training steps of Tacit and of PyTorch in turns, in one run.

    python train.py [--net vit mae resnet50 resnet18] [--turns N] [--batch N] [--threads N]
                    [--no-compile] [--allocator NAME] [--csv FILE]

A turn is one step of each side, in a random order. The sides are processes of their own, which have
done a step or two before: bench_steps, which is tacit bench pretrain a step a line, and
torch_steps.py eager, for ResNets also channels last, and compiled by torch.compile (ResNets:
channels last). All do forward, loss, backward and AdamW in fp32, on images of noise that stay in
memory; the masked autoencoder draws masks and has its own loss. Batches, unless told: 32 for the
ViTs at 224, 16 for ResNet-50 at 224, 128 for ResNet-18 at 32.

Prints medians with quartiles, the ratios to ours, formed turn by turn, with a mark at PyTorch's
configuration of the least median; shares of the FMA rate that was measured in the same turns; and
the peak resident set of each process. Python must have what tests/reference/chain.py needs.
"""
import argparse
import os
import random
import sys

import turns

# by name: batch, what tacit bench pretrain calls it
NETS = {"vit": (32, "vit_small_patch16_224"), "mae": (32, "mae vit_small_patch16_224"),
        "resnet50": (16, "resnet50"), "resnet18": (128, "resnet18_cifar")}
LABELS = {"vit": "ViT-S/16, full step", "mae": "ViT-S/16 MAE, decoder 4 x 256",
          "resnet50": "ResNet-50", "resnet18": "ResNet-18, CIFAR stem, 32 x 32"}


def configurations(net, args):
    hows = [[], ["channels-last"], ["channels-last", "compiled"]] if net.startswith("resnet") else \
        [[], ["compiled"]]
    return [how for how in hows if args.compile or "compiled" not in how]


def open_sides(net, batch, args):
    """Ours first; what PyTorch cannot do is told and left out."""
    ours = turns.Side("tacit", [args.bench_steps, NETS[net][1], str(batch), str(args.threads)])
    sides = [ours]
    for how in configurations(net, args):
        name = " ".join(["pytorch", *(how or ["eager"])])
        command = [sys.executable, os.path.join(turns.HERE, "torch_steps.py"), net, str(batch),
                   str(args.threads), *how]
        try:
            sides.append(turns.Side(name, command, args.environment, greets=True))
        except RuntimeError as error:
            print(f"{net}: left out: {error}", flush=True)
    return sides


def measure(net, args):
    batch = args.batch or NETS[net][0]
    sides = open_sides(net, batch, args)
    ours = sides[0]
    times, limits = {side.name: [] for side in sides}, []
    for _ in range(args.turns):
        for side in random.sample(sides, len(sides)):
            row = side.ask()
            times[side.name].append(row["time_s"])
            if side is ours:
                gflop = row["gflop"]
                limits.append(gflop / row["time_s"] / row["share"] if row["share"] else 0)
    medians = {name: turns.quartiles(t)[1] for name, t in times.items()}
    best = min((name for name in times if name != ours.name), key=medians.get, default=None)
    limit = turns.quartiles(limits)[1]
    print(f"\n{LABELS[net]}, batch {batch}, {args.threads} threads; the FMA limit is "
          f"{limit:.0f} GFLOP/s", flush=True)
    rows = []
    for side in sides:
        low, mid, high = turns.quartiles(times[side.name])
        q1, ratio, q3 = turns.quartiles([t / o for o, t in zip(times[ours.name], times[side.name])])
        share = turns.quartiles([gflop / t / g if g else 0
                                 for t, g in zip(times[side.name], limits)])[1]
        rows.append({"net": net, "batch": batch, "threads": args.threads, "side": side.name,
                     "best_peer": int(side.name == best), "turns": args.turns,
                     "median_s": f"{mid:.4f}", "q1_s": f"{low:.4f}", "q3_s": f"{high:.4f}",
                     "images_s": f"{batch / mid:.3f}", "ratio": f"{ratio:.3f}",
                     "ratio_q1": f"{q1:.3f}", "ratio_q3": f"{q3:.3f}", "share": f"{share:.3f}",
                     "limit_gflops": f"{limit:.1f}", "peak_mb": f"{side.peak_bytes() / 1e6:.0f}"})
        print(f"  {side.name:31} {mid:7.3f} s ({low:.3f}-{high:.3f}) {batch / mid:7.2f} images/s"
              f" {100 * share:5.1f} % of the limit {side.peak_bytes() / 1e6:6.0f} MB"
              f"  {ratio:.2f} x ({q1:.2f}-{q3:.2f}){'  <- best peer' if side.name == best else ''}",
              flush=True)
        side.close()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=turns.cpus())
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--allocator", choices=turns.ALLOCATORS, default=turns.BEST_ALLOCATOR,
                        help="PyTorch's")
    parser.add_argument("--bench-steps", default=os.path.join(turns.ROOT, "build", "bench",
                                                              "bench_steps"))
    parser.add_argument("--csv")
    args = parser.parse_args()
    if not os.access(args.bench_steps, os.X_OK):
        sys.exit(f"train.py: {args.bench_steps}: not there; build it: ninja -C build")
    args.environment = turns.torch_environment(args.threads, args.allocator)
    print(f"{turns.cpu_name()}, {args.threads} threads; {turns.versions('torch', 'timm')}, "
          f"allocator {args.allocator}", flush=True)
    rows = [row for net in args.net for row in measure(net, args)]
    if args.csv:
        turns.write_csv(args.csv, rows)


if __name__ == "__main__":
    main()
