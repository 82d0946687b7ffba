"""Sides of a comparison that take turns in one run: each a process that answers a line with a line.

What is measured stays alive and waits, without work, while the others have their turn; so a slow
spell of the machine meets all of them, and no side pays for the memory of another. Used by
train.py, epochs.py and methods.py.
"""
import ctypes.util
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TACIT = os.path.join(ROOT, "build", "tacit")
PAUSE = 0.3  # seconds; threads of OpenMP spin for a while after their work


def cpus():
    return len(os.sched_getaffinity(0))


def cpu_name():
    with open("/proc/cpuinfo") as f:
        return next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")),
                    "unknown CPU")


def peak_bytes(pid):
    """The most that a process which is still there has held, since its exec."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


# PyTorch's tuning guide asks for an allocator that keeps what was freed, and for huge pages: by
# default much of a step's memory comes from the system anew.
ALLOCATORS = {
    "glibc": lambda: {},
    "glibc, kept, huge pages": lambda: {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:"
                                        "glibc.malloc.mmap_max=0:glibc.malloc.top_pad=268435456:"
                                        "glibc.malloc.trim_threshold=68719476736"},
    "tcmalloc": lambda: preload("tcmalloc_minimal"),
    "jemalloc": lambda: preload("jemalloc"),
}
BEST_ALLOCATOR = "glibc, kept, huge pages"


def preload(name):
    found = ctypes.util.find_library(name)
    if not found:
        sys.exit(f"lib{name} is not installed; see --allocator")
    return {"LD_PRELOAD": found}


def torch_environment(threads, allocator):
    return {**os.environ, "OMP_NUM_THREADS": str(threads), **ALLOCATORS[allocator]()}


def versions(*packages):
    """Of these; without importing them."""
    from importlib import metadata
    found = []
    for name in packages:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            sys.exit(f"{name} is not there: start this with a Python that has it")
    return ", ".join(found)


class Side:
    """One process. What it says first, it says when it is ready."""

    def __init__(self, name, command, env=None, greets=False):
        self.name = name
        self.process = subprocess.Popen(command, env=env, text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.greeting = self.answer() if greets else {}

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, line=""):
        time.sleep(PAUSE)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def peak_bytes(self):
        return peak_bytes(self.process.pid)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def quartiles(values):
    if len(values) == 1:
        return [*values] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def write_csv(path, rows):
    import csv
    with open(path, "w", newline="") as f:
        writer = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
