#!/usr/bin/env python3
"""A folder of photos to embeddings.npy in int8: tacit extract against OpenVINO fed by Pillow.

    folder.py [--models NAME...] [--photos N] [--turns N] [--csv FILE]

Ours is the whole command, from its start: tacit extract --precision int8. The peer is what we found
to be the fastest way in Python: NNCF's quantisation of the same weights, done beforehand; conversion
to floats and normalisation inside OpenVINO's graph; Pillow decodes, and resizes the crop alone. In
two forms, and with batches of 1 and 8, of which a trial picks the fastest:

  processes  one for each CPU, each decoding for itself and computing with one thread
  streams    one process, a decoding thread for each CPU, and as many of OpenVINO's streams

They are warm and wait while ours has its turn; their start is not counted. Both sides write a .npy.
N photos are those of the large data (clothing, ImageNet), or of the demo, again and again. Needs
what run.py needs, OpenVINO and NNCF.
"""
import argparse
import concurrent.futures
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import turns

SIZE, RESIZED = 224, 256


# The peer's process ---------------------------------------------------------------------------------

def pixels(path):
    """The crop of 224 pixels behind a resize of the shorter side to 256, bytes (224, 224, 3)."""
    import numpy as np
    from PIL import Image
    with Image.open(path) as image:
        image = image.convert("RGB")
        width, height = image.size
        side = min(width, height) * SIZE / RESIZED
        left, top = (width - side) / 2, (height - side) / 2
        return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC,
                                       (left, top, left + side, top + side)))


def compiled(path, streams):
    import openvino as ov
    core = ov.Core()
    model = core.read_model(path)
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(
        [255 * m for m in (0.485, 0.456, 0.406)]).scale([255 * s for s in (0.229, 0.224, 0.225)])
    hints = ({"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1,
              "ENABLE_CPU_PINNING": False} if streams == 1 else
             {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": streams,
              "INFERENCE_NUM_THREADS": streams})
    return core.compile_model(steps.build(), "CPU", hints)


def work(path, streams, batch):
    """Answers a line of JSON, {paths, out, first, rows}, when the rows are in the file."""
    import numpy as np
    import openvino as ov
    model = compiled(path, streams)
    decoders = concurrent.futures.ThreadPoolExecutor(streams) if streams > 1 else None
    print("{}", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        with open(job["paths"]) as f:
            paths = f.read().splitlines()[job["first"]:job["first"] + job["rows"]]
        out = np.lib.format.open_memmap(job["out"], mode="r+")
        queue = ov.AsyncInferQueue(model, 2 * streams) if streams > 1 else None
        if queue:
            def keep(request, at):
                out[at[0]:at[0] + at[1]] = request.get_output_tensor(0).data[:at[1]]
            queue.set_callback(keep)
            images = decoders.map(pixels, paths)
        else:
            request = model.create_infer_request()
            images = map(pixels, paths)
        buffer, count = np.zeros((batch, SIZE, SIZE, 3), np.uint8), 0
        for i, image in enumerate(images):
            buffer[count] = image
            count += 1
            if count == batch or i == len(paths) - 1:
                first = job["first"] + i + 1 - count
                if queue:
                    queue.start_async([buffer.copy()], (first, count))
                else:
                    request.infer([buffer], share_inputs=True)
                    out[first:first + count] = request.get_output_tensor(0).data[:count]
                count = 0
        if queue:
            queue.wait_all()
        out.flush()
        print("{}", flush=True)


class Theirs:
    def __init__(self, form, path, batch, cpus):
        count, streams = (cpus, 1) if form == "processes" else (1, cpus)
        self.name = f"{form}, batch {batch}"
        command = [sys.executable, os.path.abspath(__file__), "--worker", path, str(streams),
                   str(batch)]
        self.sides = [turns.Side(self.name, command, greets=True) for _ in range(count)]

    def seconds(self, paths, rows, dim, out):
        import numpy as np
        time.sleep(turns.PAUSE)
        start = time.perf_counter()
        np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=(rows, dim)).flush()
        cuts = [rows * i // len(self.sides) for i in range(len(self.sides) + 1)]
        for side, first, end in zip(self.sides, cuts, cuts[1:]):
            side.process.stdin.write(json.dumps(
                {"paths": paths, "out": out, "first": first, "rows": end - first}) + "\n")
            side.process.stdin.flush()
        for side in self.sides:
            side.answer()
        return time.perf_counter() - start

    def close(self):
        for side in self.sides:
            side.close()


# Measuring ------------------------------------------------------------------------------------------

def ours(args, weights, paths, out):
    shutil.rmtree(out, ignore_errors=True)
    time.sleep(turns.PAUSE)
    start = time.perf_counter()
    done = subprocess.run([args.tacit, "extract", "--weights", weights, "--images", paths, "--kind",
                           "list", "--precision", "int8", "--out", out],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"folder.py: tacit extract: {done.stderr.strip()}")
    return time.perf_counter() - start


def compare(name, args, paths, folder):
    import numpy as np
    import chain
    import run
    model = chain.network(name)
    weights = os.path.join(folder, f"{name}.safetensors")
    chain.save(model, weights)
    transform = chain.transform()
    with open(paths) as f:
        lines = f.read().splitlines()
    run.calibration[:] = [transform(chain.decode(open(p, "rb").read())).unsqueeze(0).numpy()
                          for p in lines[:16]]
    candidates = []
    for batch in (1, 8):
        onnx = os.path.join(folder, f"{name}-{batch}.onnx")
        example = np.concatenate(run.calibration[:batch])
        run.export(model, example, onnx)
        run.openvino_int8(model, onnx, example, 1)
        candidates += [(form, onnx.replace(".onnx", ".nncf.xml"), batch)
                       for form in ("processes", "streams")]
    dim, cpus = model.num_features, turns.cpus()
    trial, few = os.path.join(folder, "trial.txt"), max(64, args.photos // 8)
    with open(trial, "w") as f:
        f.writelines(line + "\n" for line in lines[:few])
    out, trials = os.path.join(folder, "theirs.npy"), {}
    for candidate in candidates:
        side = Theirs(*candidate, cpus)
        trials[candidate] = min(side.seconds(trial, few, dim, out) for _ in range(2))
        print(f"{name}, {side.name}: {few / trials[candidate]:.1f} images/s in a trial",
              file=sys.stderr, flush=True)
        side.close()
    theirs = Theirs(*min(trials, key=trials.get), cpus)
    theirs.seconds(trial, few, dim, out)  # warm
    mine, times = os.path.join(folder, "ours"), ([], [])
    for _ in range(args.turns):
        times[0].append(ours(args, weights, paths, mine))
        times[1].append(theirs.seconds(paths, len(lines), dim, out))
    theirs.close()
    a, b = np.load(os.path.join(mine, "embeddings.npy")), np.load(out)
    cosine = float(np.mean(np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
    low, ratio, high = turns.quartiles([t / m for m, t in zip(*times)])
    row = {"net": name, "photos": len(lines), "threads": cpus, "turns": args.turns,
           "images_s": round(len(lines) / statistics.median(times[0]), 2), "peer": theirs.name,
           "peer_images_s": round(len(lines) / statistics.median(times[1]), 2),
           "ratio": round(ratio, 3), "ratio_q1": round(low, 3), "ratio_q3": round(high, 3),
           "cosine": round(cosine, 5)}
    print(f"{name}, {row['photos']} photos: {row['images_s']} images/s, OpenVINO in {theirs.name} "
          f"{row['peer_images_s']}: {ratio:.2f} times ({low:.2f} to {high:.2f}); mean cosine of the two {cosine:.4f}",
          flush=True)
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--models", nargs="+", default=["vit_tiny_patch16", "vit_small_patch16"])
    p.add_argument("--photos", type=int, default=10000)
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--tacit", default=turns.TACIT)
    p.add_argument("--csv")
    args = p.parse_args()
    print(f"{turns.cpu_name()}, {turns.cpus()} CPUs; "
          + turns.versions("torch", "timm", "Pillow", "openvino", "nncf"))
    sys.path.insert(0, os.path.join(turns.ROOT, "tests", "reference"))
    import chain
    rows = []
    with tempfile.TemporaryDirectory(prefix="tacit-folder-") as folder:
        found = [os.path.abspath(path) for path in chain.photos(args.photos)]
        paths = os.path.join(folder, "photos.txt")
        with open(paths, "w") as f:
            f.writelines(found[i % len(found)] + "\n" for i in range(args.photos))
        for name in args.models:
            rows.append(compare(name, args, paths, folder))
    if args.csv:
        turns.write_csv(args.csv, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
