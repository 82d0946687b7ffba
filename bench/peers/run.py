#!/usr/bin/env python3
"""Tacit against ONNX Runtime, OpenVINO and PyTorch: same weights, same photos, one interleaved run.

    python run.py [--json FILE] [--markdown FILE] [--models ...] [--batches ...] [--threads ...]
                  [--rounds N] [--cell-seconds N] [--parts network preprocess photo] [--quick]
                  [--precision int8|bf16] [--photo-models ...]

All engines of a cell (network, batch, threads) are alive at once and take turns, in a new random
order each round, until --rounds or --cell-seconds are over. A turn: a pause in which other engines'
threads stop spinning, the machine's limit (10 ms of fused multiply-adds in registers), one untimed
run, then timed runs for --turn-ms. An engine's time in a round is the median of its turn; ratios
are formed round by round, so that a slow spell meets both sides, and their median is reported.
Nothing is pinned to a CPU. Before timing, every engine's vectors are compared with ours: one that
computes something else is left out.

Each peer by its own advice: ONNX Runtime with all graph optimisations (--engines can add it after
its transformer optimiser); OpenVINO with fp32 forced and the latency hint; PyTorch eager with fused
attention, in either memory format where it convolves, and compiled with freezing where a C++ compiler
is there. With --precision int8, ours computes products in 8 bits, and so do OpenVINO after NNCF's
quantisation (calibrated on the photos, for transformers; its other layers in bf16 where the CPU has
it, which is its default, and in fp32) and ONNX Runtime after its dynamic one, of networks that convolve the static one, too; the cosine of each to
the fp32 vectors is told; with --precision bf16 OpenVINO and PyTorch are told to use it, too. What is missing is skipped, and the output says so. Needs what tests/reference/chain.py needs, and build/bench/bench_vit.
"""
import argparse
import copy
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests",
                                "reference"))
try:
    import numpy as np
    import PIL
    import torch
    import chain
except ImportError as error:
    sys.exit(f"run.py: {error}: it needs torch, torchvision, timm, safetensors, Pillow and numpy")

MODELS = ["vit_tiny_patch16", "vit_small_patch16", "vit_base_patch16"]
COSINE = 0.99999  # to ours; below, an engine computes something else
COSINE_ROUNDED = 0.9
PAUSE = 0.02      # seconds; OpenMP's threads spin for a few milliseconds after their work
SIZE = 224

notes = []  # what was skipped, and why


def note(text):
    if text not in notes:
        notes.append(text)
        print("note: " + text, file=sys.stderr, flush=True)


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


class Ours:
    """bench_vit, a line at a time."""
    name = "Tacit"

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        answer = self.process.stdout.readline()
        if not answer or answer.startswith("error"):
            sys.exit(f"run.py: bench_vit: {line}: {answer.strip() or 'it ended'}")
        return answer.split()

    def times(self, line):
        return [float(t) for t in self.ask(line)]

    def limit(self, threads):
        return float(self.ask(f"fma {threads}")[0]) * 1e9

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# Engines: build(model, onnx, example, threads) gives a function of a (batch, 3, H, W) array ----------

def build_onnxruntime(onnx, threads):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # its threads spin within a run, and stop when it is over: the next engine's turn is its own
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def onnxruntime(model, onnx, example, threads):
    return build_onnxruntime(onnx, threads)


def onnxruntime_fused(model, onnx, example, threads):
    fused = onnx.replace(".onnx", ".fused.onnx")
    if not os.path.exists(fused):
        import logging
        logging.disable(logging.INFO)
        from onnxruntime.transformers import optimizer
        dim = model.embed_dim
        optimised = optimizer.optimize_model(onnx, model_type="vit", hidden_size=dim,
                                             num_heads=model.blocks[0].attn.num_heads)
        optimised.save_model_to_file(fused)
    return build_onnxruntime(fused, threads)


def build_openvino(model, threads, hints):
    import openvino as ov
    compiled = ov.Core().compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **hints})
    request = compiled.create_infer_request()

    def run(x):
        request.infer([x], share_inputs=True)
        return request.get_output_tensor(0).data
    return run


def openvino(model, onnx, example, threads):
    import openvino as ov
    return build_openvino(ov.Core().read_model(onnx), threads, {"INFERENCE_PRECISION_HINT": "f32"})


calibration = []  # images of one


def is_convolutional(model):
    return not hasattr(model, "pos_embed")


def calibration_batches(n):
    """Of n images, as the graph is."""
    return [np.concatenate(calibration[i:i + n]) for i in range(0, len(calibration) - n + 1, n)]


def openvino_int8(model, onnx, example, threads, **hints):
    import logging
    import nncf
    import openvino as ov
    path = onnx.replace(".onnx", ".nncf.xml")
    if not os.path.exists(path):
        nncf.set_log_level(logging.ERROR)
        batches = calibration_batches(len(example))
        kind = None if is_convolutional(model) else nncf.ModelType.TRANSFORMER
        ov.save_model(nncf.quantize(ov.Core().read_model(onnx), nncf.Dataset(batches),
                                    model_type=kind), path)
    return build_openvino(ov.Core().read_model(path), threads, hints)


def openvino_int8_f32(model, onnx, example, threads):
    return openvino_int8(model, onnx, example, threads, INFERENCE_PRECISION_HINT="f32")


def onnxruntime_int8(model, onnx, example, threads):
    quantised = onnx.replace(".onnx", ".dynamic.onnx")
    if not os.path.exists(quantised):
        from onnxruntime.quantization import QuantType, quantize_dynamic
        quantize_dynamic(onnx, quantised, weight_type=QuantType.QInt8, per_channel=True)
    return build_onnxruntime(quantised, threads)


def onnxruntime_static(model, onnx, example, threads):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(calibration_batches(len(example)))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    quantised = onnx.replace(".onnx", ".static.onnx")
    if not os.path.exists(quantised):
        prepared = onnx.replace(".onnx", ".prepared.onnx")
        quant_pre_process(onnx, prepared)
        quantize_static(prepared, quantised, Reader(), per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return build_onnxruntime(quantised, threads)


def openvino_bf16(model, onnx, example, threads):
    import openvino as ov
    return build_openvino(ov.Core().read_model(onnx), threads, {"INFERENCE_PRECISION_HINT": "bf16"})


def in_bf16(build):
    """The same of a model in bfloat16."""
    def built(model, onnx, example, threads):
        run = build(copy.deepcopy(model).bfloat16(), onnx, torch.from_numpy(example).bfloat16(),
                    threads)
        return lambda x: run(torch.from_numpy(x).bfloat16())
    return built


def pytorch(model, onnx, example, threads):
    def run(x):
        with torch.inference_mode():
            return model(torch.as_tensor(x)).float().numpy()
    return run


def pytorch_channels_last(model, onnx, example, threads):
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def run(x):
        with torch.inference_mode():
            return last(torch.from_numpy(x).to(memory_format=torch.channels_last)).numpy()
    return run


def pytorch_compiled(model, onnx, example, threads):
    if not (shutil.which("g++") or shutil.which("clang++")):
        raise RuntimeError("no C++ compiler")
    from torch._inductor import config
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    with config.patch({"cpp.threads": threads, "freezing": True}), torch.no_grad():
        compiled = torch.compile(model)
        compiled(torch.as_tensor(example))

    def run(x):
        with torch.no_grad():
            return compiled(torch.as_tensor(x)).float().numpy()
    return run


ENGINES = {"ONNX Runtime": onnxruntime, "ONNX Runtime, fused": onnxruntime_fused,
           "OpenVINO": openvino, "PyTorch": pytorch,
           "PyTorch, channels last": pytorch_channels_last, "PyTorch, compiled": pytorch_compiled}
INT8 = {"OpenVINO, NNCF": openvino_int8, "OpenVINO, NNCF, rest fp32": openvino_int8_f32,
        "ONNX Runtime, dynamic": onnxruntime_int8, "ONNX Runtime, static": onnxruntime_static}
BF16 = {"OpenVINO, bf16": openvino_bf16, "PyTorch, bf16": in_bf16(pytorch),
        "PyTorch, bf16, compiled": in_bf16(pytorch_compiled)}
DEFAULT = [name for name in ENGINES if name != "ONNX Runtime, fused"]  # slower than without


def export(model, example, path):
    """Through TorchScript, which is ten times as quick as the newer exporter; the graphs that the
    engines make of either run equally fast. The newer one where it is gone."""
    names = {"input_names": ["images"], "output_names": ["vectors"], "verbose": False}
    image = (torch.from_numpy(example),)
    try:
        torch.onnx.export(model, image, path, dynamo=False, opset_version=17, **names)
    except Exception:
        torch.onnx.export(model, image, path, dynamo=True, external_data=False, **names)


# Measuring ------------------------------------------------------------------------------------------

class Entrant:
    """Takes turns; keeps, round by round, the median time and the limit just before it.
    turn(warm, count) gives `count` times in seconds, after `warm` untimed runs."""

    def __init__(self, name, turn):
        self.name, self.turn = name, turn
        self.medians, self.every, self.limits = [], [], []
        self.guess = None

    def take(self, ours, threads, seconds):
        time.sleep(PAUSE)
        limit = ours.limit(threads)
        if self.guess is None:
            self.guess = self.turn(1, 1)[0]
            return  # the first round is a warm-up
        count = max(1, min(1000, round(seconds / self.guess)))
        times = self.turn(1 if self.guess < 2 * seconds else 0, count)
        self.guess = min(times)
        self.medians.append(statistics.median(times))
        self.every += times
        self.limits.append(limit)


def timed(run):
    def turn(warm, count):
        for _ in range(warm):
            run()
        times = []
        for _ in range(count):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return times
    return turn


def rounds_of(entrants, ours, threads, args):
    torch.set_num_threads(threads)
    order = random.Random(1)
    start = time.monotonic()
    for done in range(args.rounds + 1):
        if done > args.least_rounds and time.monotonic() - start > args.cell_seconds:
            break
        for e in order.sample(entrants, len(entrants)):
            e.take(ours, threads, args.turn_ms / 1e3)


def quartiles(values):
    return [round(float(q), 4) for q in np.percentile(values, [25, 50, 75])]


def report(entrants, flop, per):
    """The cell's numbers. The first entrant is ours. Times are divided by `per` images."""
    ours, peers = entrants[0], entrants[1:]
    cell = {"engines": {}}
    for e in entrants:
        one = {"median_ms": 1e3 * statistics.median(e.medians) / per,
               "min_ms": 1e3 * min(e.every) / per,
               "p90_ms": 1e3 * float(np.percentile(e.every, 90)) / per}
        if flop:
            one["share_of_limit"] = statistics.median(
                flop / t / limit for t, limit in zip(e.medians, e.limits))
        if e is not ours:
            one["ratio"] = quartiles([p / o for p, o in zip(e.medians, ours.medians)])
        cell["engines"][e.name] = {k: v if isinstance(v, list) else round(v, 4)
                                   for k, v in one.items()}
    limits = [limit for e in entrants for limit in e.limits]
    cell["rounds"] = len(ours.medians)
    cell["limit_gflops"] = [round(x / 1e9, 1) for x in quartiles(limits)]
    if peers:
        best = min(peers, key=lambda e: statistics.median(e.medians))
        cell["best_peer"] = best.name
        cell["ratio"] = cell["engines"][best.name]["ratio"]
    return cell


def flop_of(model, size):
    """2 x multiply-adds of one forward, one image."""
    if not hasattr(model, "pos_embed"):
        return flop_of_convolutions(model, size)
    dim, patches = model.embed_dim, model.patch_embed.num_patches
    tokens = patches + model.num_prefix_tokens
    patch = model.patch_embed.proj.weight[0].numel()
    mlp = model.blocks[0].mlp.fc1.out_features
    block = tokens * dim * (4 * dim + 2 * mlp) + 2 * tokens * tokens * dim
    return 2 * (patches * patch * dim + len(model.blocks) * block)


def flop_of_convolutions(model, size):
    counts = []
    hooks = [m.register_forward_hook(
        lambda m, x, y: counts.append(2 * y[0].numel() * m.weight[0].numel()))
        for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def build_engines(model, example, threads, args, folder, label):
    """The engines that can be had, by name, as functions of an array."""
    onnx = os.path.join(folder, f"{label}.onnx")
    runs = {}
    for name in args.engines:
        if name in ("PyTorch, channels last", "ONNX Runtime, static") and not is_convolutional(model):
            continue
        try:
            if name[:4] in ("ONNX", "Open") and not os.path.exists(onnx):
                export(model, example, onnx)
            runs[name] = {**ENGINES, **INT8, **BF16}[name](model, onnx, example, threads)
        except ImportError as error:
            note(f"{name} skipped: {first_line(error)}")
        except Exception as error:  # whatever an engine raises, the others go on
            note(f"{name} skipped ({label}): {first_line(error)}")
    return runs


def same_vectors(runs, images, expected, label, least):
    """Leaves out what does not give our vectors; the cosines of the rest."""
    cosines = {}
    for name in list(runs):
        cosine = float(chain.cosine(np.array(runs[name](images)), expected).min())
        if cosine >= least:
            cosines[name] = 1 - cosine
        else:
            note(f"{name} left out ({label}): cosine {cosine:.6f} to ours")
            del runs[name]
    return cosines


def network_cells(ours, args, files, folder):
    cells = []
    for name in args.models:
        model = chain.network(name)
        weights = os.path.join(folder, f"{name}.safetensors")
        chain.save(model, weights)
        size = chain.SIZES.get(name, 224)
        flop = flop_of(model, size)
        transform = chain.transform(size)
        images = np.stack([transform(chain.decode(f)).numpy() for f in files])
        calibration[:] = [image[np.newaxis] for image in images]
        for batch in args.batches:
            x = np.ascontiguousarray(images[:batch])
            raw = os.path.join(folder, "images.f32")
            x.tofile(raw)
            for threads in args.threads:
                torch.set_num_threads(threads)
                ours.ask(f"open fp32 {weights}")
                ours.ask(f"images {batch} {raw}")
                label = f"{name}-batch{batch}"
                runs = build_engines(model, x, threads, args, folder, label)
                vectors = os.path.join(folder, "vectors.f32")
                ours.ask(f"vectors {batch} {threads} {vectors}")
                expected = np.fromfile(vectors, np.float32).reshape(batch, -1)
                rounded = args.precision != "fp32"
                cosines = same_vectors(runs, x, expected, label,
                                       COSINE_ROUNDED if rounded else COSINE)
                if rounded:  # from here on
                    ours.ask(f"open {args.precision} {weights}")
                    ours.ask(f"images {batch} {raw}")
                    ours.ask(f"vectors {batch} {threads} {vectors}")
                    got = np.fromfile(vectors, np.float32).reshape(batch, -1)
                    cosines[ours.name] = 1 - float(chain.cosine(got, expected).min())
                entrants = [Entrant(ours.name, lambda warm, n: ours.times(
                    f"forward {warm} {n} {batch} {threads}"))]
                entrants += [Entrant(k, timed(lambda run=run: run(x))) for k, run in runs.items()]
                rounds_of(entrants, ours, threads, args)
                cell = report(entrants, flop * batch, batch)
                cell = {"part": "network", "model": name, "batch": batch, "threads": threads,
                        "gflop": round(flop / 1e9, 3), **cell}
                for k, c in cosines.items():
                    cell["engines"][k]["one_minus_cosine"] = float(f"{c:.2e}")
                cells.append(cell)
                say(cell)
        for file in os.listdir(folder):  # the next network needs the room
            if file.endswith((".onnx", ".data", ".xml", ".bin")):
                os.unlink(os.path.join(folder, file))
    return cells


def preprocess_cells(ours, args, files, folder):
    """Bytes, or decoded pixels, to planar floats, on one thread: Pillow and torchvision."""
    transform = chain.transform()
    decoded = [chain.decode(f) for f in files]
    expected = np.stack([transform(image).numpy() for image in decoded])
    pixels = os.path.join(folder, "pixels.f32")
    ours.ask(f"pixels {pixels}")
    got = np.fromfile(pixels, np.float32).reshape(expected.shape)
    worst = float(np.abs(got - expected).max())
    if worst:
        note(f"prepared pixels differ from torchvision's by up to {worst:g} (Pillow "
             f"{PIL.__version__}; the order of its passes changed with 12.2 and 13)")
    cells = []
    for what, command, run in (
            ("decode + resize + crop + normalise", "prepare",
             lambda: [transform(chain.decode(f)) for f in files]),
            ("resize + crop + normalise", "resize", lambda: [transform(d) for d in decoded])):
        entrants = [Entrant(ours.name, lambda _, n, c=command: ours.times(f"{c} {n}")),
                    Entrant("Pillow + torchvision", timed(run))]
        rounds_of(entrants, ours, 1, args)
        cell = {"part": "preprocess", "what": what, "threads": 1, "photos": len(files),
                "largest_difference": worst, **report(entrants, 0, len(files))}
        cells.append(cell)
        say(cell)
    return cells


def photo_cells(ours, args, files, photo_list, folder):
    """One photo after the other, JPEG bytes to vector: each engine behind Pillow and torchvision."""
    transform = chain.transform()

    def prepare(data):
        return transform(chain.decode(data)).unsqueeze(0).numpy()
    cells = []
    calibration[:] = [prepare(f) for f in files]
    for name in args.photo_models:
        model = chain.network(name)
        weights = os.path.join(folder, "photo.safetensors")
        chain.save(model, weights)
        ours.ask(f"open {args.precision} {weights}")
        ours.ask(f"photos {photo_list}")
        for threads in args.threads:
            torch.set_num_threads(threads)
            runs = build_engines(model, calibration[0], threads, args, folder, f"photo-{name}")
            entrants = [Entrant(ours.name, lambda _, n: ours.times(f"embed {n} {threads}"))]
            entrants += [Entrant(k, timed(lambda run=run: [run(prepare(f)) for f in files]))
                         for k, run in runs.items()]
            rounds_of(entrants, ours, threads, args)
            cell = {"part": "photo", "model": name, "threads": threads,
                    "photos": len(files), **report(entrants, 0, len(files))}
            cells.append(cell)
            say(cell)
    return cells


# Output ---------------------------------------------------------------------------------------------

def title(cell):
    if cell["part"] == "network":
        return f"{cell['model']}, batch {cell['batch']}, {cell['threads']} thread(s)"
    if cell["part"] == "photo":
        return f"JPEG bytes to vector, {cell['model']}, {cell['threads']} thread(s)"
    return f"{cell['what']}, 1 thread"


def say(cell):
    times = ", ".join(f"{k} {e['median_ms']:.2f}" for k, e in cell["engines"].items())
    ratio = f"; {cell['ratio'][1]:.2f} x {cell['best_peer']}" if "ratio" in cell else ""
    print(f"{title(cell)}: ms an image: {times}{ratio}", file=sys.stderr, flush=True)


def markdown(result):
    m = result["machine"]
    lines = [f"{m['cpu']}, {m['cpus']} CPUs; " + ", ".join(f"{k} {v}" for k, v in
                                                           result["versions"].items()), "",
             "Milliseconds an image: median (least). Ratio: the best peer's time by ours, median of "
             f"up to {result['settings']['rounds']} rounds (quartiles); above 1 we are first. Share: of the "
             "FMA rate measured in the same turns.", ""]
    header = ["", "Tacit", "best peer", "", "ratio", "share", "the peer's", "the other peers"]
    for part in dict.fromkeys(cell["part"] for cell in result["cells"]):
        lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        for cell in (c for c in result["cells"] if c["part"] == part):
            engines, best = cell["engines"], cell.get("best_peer")

            def ms(name):
                return f"{engines[name]['median_ms']:.2f} ({engines[name]['min_ms']:.2f})"

            def share(name):
                s = engines.get(name, {}).get("share_of_limit")
                return f"{100 * s:.0f} %" if s is not None else ""
            low, mid, high = cell.get("ratio", [float("nan")] * 3)
            rest = ", ".join(f"{k} {ms(k)}" for k in engines if k not in ("Tacit", best))
            lines.append("| " + " | ".join([
                title(cell), ms("Tacit"), ms(best) if best else "", best or "none",
                f"**{mid:.2f}** ({low:.2f}-{high:.2f})", share("Tacit"), share(best), rest]) + " |")
        lines.append("")
    lines += [f"- {n}" for n in result["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def cpu_name():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def versions():
    found = {"Python": platform.python_version(), "Pillow": PIL.__version__}
    for name in ("torch", "torchvision", "timm", "onnxruntime", "openvino"):
        try:
            found[name] = __import__(name).__version__.split("-")[0]
        except Exception as error:
            found[name] = f"none ({first_line(error)})"
    return found


def main():
    p = argparse.ArgumentParser(description="Tacit against other engines, interleaved")
    p.add_argument("--models", nargs="+", default=MODELS,
                   choices=list(chain.NETWORKS) + list(chain.CONVOLUTIONAL))
    p.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--engines", nargs="+", choices=[*ENGINES, *INT8, *BF16])
    p.add_argument("--precision", default="fp32", choices=["fp32", "int8", "bf16"],
                   help="of the networks; preprocess is left out with int8 and bf16")
    p.add_argument("--parts", nargs="+", default=["network", "preprocess", "photo"],
                   choices=["network", "preprocess", "photo"])
    p.add_argument("--photo-models", nargs="+", default=MODELS[:1], choices=MODELS,
                   help="networks of the part photo")
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--cell-seconds", type=float, default=60,
                   help="no further rounds after that, once --least-rounds are done")
    p.add_argument("--least-rounds", type=int, default=5)
    p.add_argument("--turn-ms", type=float, default=100)
    p.add_argument("--photos", type=int, default=16, help="photos of preprocess and photo")
    p.add_argument("--quick", action="store_true", help="ViT-Ti, batch 1, 2 rounds: does it work")
    p.add_argument("--bench-vit", default=os.path.join(chain.ROOT, "build", "bench", "bench_vit"))
    p.add_argument("--json", help="write all numbers here")
    p.add_argument("--markdown", help="write the tables here, too")
    args = p.parse_args()
    if args.precision != "fp32":
        args.parts = [part for part in args.parts if part != "preprocess"]
    args.engines = args.engines or {"fp32": DEFAULT, "int8": list(INT8),
                                    "bf16": list(BF16)}[args.precision]
    if args.quick:
        args.models, args.batches, args.rounds, args.photos = MODELS[:1], [1], 2, 4
    allowed = len(os.sched_getaffinity(0))
    for n in args.threads:
        if n > allowed:
            note(f"{n} threads skipped: this process may use {allowed} CPUs")
    args.threads = [n for n in args.threads if n <= allowed]
    paths = chain.photos(max([args.photos] + args.batches))
    files = [open(path, "rb").read() for path in paths]
    if not os.access(args.bench_vit, os.X_OK):
        sys.exit(f"run.py: {args.bench_vit}: not there; build it: ninja -C build")
    ours = Ours(args.bench_vit)
    result = {"machine": {"cpu": cpu_name(), "cpus": allowed, "system": platform.release()},
              "versions": versions(), "cells": [], "notes": notes,
              "settings": {k: getattr(args, k) for k in ("precision", "rounds", "turn_ms", "photos")}}
    with tempfile.TemporaryDirectory(prefix="tacit-peers-") as folder:
        if "preprocess" in args.parts or "photo" in args.parts:
            photo_list = os.path.join(folder, "photos.txt")
            with open(photo_list, "w") as f:
                f.writelines(os.path.abspath(path) + "\n" for path in paths[:args.photos])
            photos = files[:args.photos]
            if "preprocess" in args.parts:
                chain.save(chain.network(MODELS[0]), os.path.join(folder, "photo.safetensors"))
                ours.ask(f"open fp32 {os.path.join(folder, 'photo.safetensors')}")
                ours.ask(f"photos {photo_list}")
                result["cells"] += preprocess_cells(ours, args, photos, folder)
            if "photo" in args.parts:
                result["cells"] += photo_cells(ours, args, photos, photo_list, folder)
        if "network" in args.parts:
            result["cells"] += network_cells(ours, args, files, folder)
    ours.close()
    text = markdown(result)
    print(text, end="")
    if args.markdown:
        with open(args.markdown, "w") as f:
            f.write(text)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
