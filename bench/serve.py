#!/usr/bin/env python3
"""tacit serve: the most that it does, and the latencies at half of that.

    serve.py --images PATH [--weights FILE] [--seconds N] [--turns N] [--load X] [--bytes] [--json]
             [-- OPTION...]

PATH is a folder of JPEGs or PNGs; what is behind -- goes to tacit serve. Each turn starts servers anew:

  capacity  one client that always has a full queue of requests waiting: vectors a second
  even      one client, requests at equal distances, at --load (0.5) of that rate
  poisson   the same rate, at random distances: requests then come in company, and what queueing
            adds is in the latency however quick the server is (M/D/1 at half load: p99 is about
            three times the time of one request)

Latencies are the server's own, of its last line. The promise (p99 at most 1.3 times p50 at half
load) is about `even`: it says how steady the server is, where `poisson` says what a queue is. On a
machine that others use, p99 is theirs. Needs nothing but Python.
"""
import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TACIT = os.environ.get("TACIT", os.path.join(HERE, "..", "build", "tacit"))
QUEUE = 16


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--images", required=True)
    p.add_argument("--weights", default="default")
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--load", type=float, default=0.5)
    p.add_argument("--bytes", action="store_true", help="send images, not paths")
    p.add_argument("--json", action="store_true", help="print one object for each measurement")
    p.add_argument("options", nargs="*", help="of tacit serve")
    return p.parse_args()


def requests_of(folder, as_bytes):
    found = []
    for root, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.abspath(os.path.join(root, name))
            if not name.lower().endswith((".jpg", ".jpeg", ".png")):
                continue
            if as_bytes:
                with open(path, "rb") as f:
                    data = f.read()
                found.append(b"bytes %d\n" % len(data) + data)
            else:
                found.append(os.fsencode(path) + b"\n")
    if not found:
        sys.exit(f"serve.py: {folder}: no JPEG or PNG")
    return found


class Server:
    """A server of its own and one connection to it."""

    def __init__(self, args, folder):
        path = os.path.join(folder, "socket")
        self.process = subprocess.Popen(
            [TACIT, "serve", "--weights", args.weights, "--socket", path, "--queue", str(QUEUE),
             "--json", *args.options], stderr=subprocess.PIPE, text=True)
        self.client = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.client.connect(path)
                break
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(self.process.stderr.read())
                time.sleep(0.01)
        self.answers = self.client.makefile("rb")

    def answer(self):
        line = self.answers.readline()
        if b'"vector"' not in line:
            sys.exit(f"serve.py: no vector: {line[:200]!r}")

    def stop(self):
        """What it tells at its end."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        said = self.process.stderr.read().splitlines()
        if self.process.wait() != 0:
            sys.exit("\n".join(said))
        return json.loads(said[-1])


def capacity(server, requests, seconds):
    """Vectors a second with a full queue, after the first queue of them."""
    count, sent = 0, 0
    for _ in range(QUEUE):
        server.client.sendall(requests[sent % len(requests)])
        sent += 1
    start, first = None, 0
    while start is None or time.monotonic() - start < seconds:
        server.answer()
        count += 1
        if count == QUEUE:
            start, first = time.monotonic(), count
        server.client.sendall(requests[sent % len(requests)])
        sent += 1
    rate = (count - first) / (time.monotonic() - start)
    for _ in range(sent - count):
        server.answer()
    return rate


def paced(server, requests, seconds, rate, distance):
    """Sends at the moments that are due, whether answers have come or not."""
    def read(count):
        for _ in range(count):
            server.answer()

    count = max(1, int(seconds * rate))
    reader = threading.Thread(target=read, args=(count,), daemon=True)
    reader.start()
    due = time.monotonic()
    for i in range(count):
        time.sleep(max(0, due - time.monotonic()))
        server.client.sendall(requests[i % len(requests)])
        due += distance() / rate
    reader.join()


def main():
    args = parse_args()
    requests = requests_of(args.images, args.bytes)
    draws = random.Random(1)
    ratios = {"even": [], "poisson": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.turns):
            server = Server(args, folder)
            most = capacity(server, requests, args.seconds)
            told = server.stop()
            lines = [{"turn": turn, "what": "capacity", "vectors_per_s": round(most, 2), **told}]
            for what, distance in (("even", lambda: 1), ("poisson", lambda: draws.expovariate(1))):
                server = Server(args, folder)
                paced(server, requests, args.seconds, args.load * most, distance)
                told = server.stop()
                ratios[what].append(told["p99_s"] / told["p50_s"])
                lines.append({"turn": turn, "what": what, "p99_over_p50": ratios[what][-1],
                              "vectors_per_s": round(args.load * most, 2), **told})
            for line in lines:
                if args.json:
                    print(json.dumps(line), flush=True)
                else:
                    print(f"{line['what']:9} {line['vectors_per_s']:9.2f}/s  p50 {1e3 * line['p50_s']:8.2f} ms  "
                          f"p99 {1e3 * line['p99_s']:8.2f}  p99.9 {1e3 * line['p999_s']:8.2f}  "
                          f"{line['count']} vectors in {line['batches']} batches", flush=True)
    for what, all_of in ratios.items():
        print(f"p99 / p50, {what}: {statistics.median(all_of):.2f} "
              f"({min(all_of):.2f}-{max(all_of):.2f})", file=sys.stderr)


main()
