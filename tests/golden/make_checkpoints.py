"""Makes tests/data/checkpoints with the official libraries.

Needs torch, numpy and safetensors. One object in every form that torch.save has had, and what its
tensors are (expected.safetensors, contiguous, under the flattened names). The files are committed;
run this only to change them.
"""

import argparse
import collections
import json
import pathlib
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

out = pathlib.Path(__file__).resolve().parent.parent / "data" / "checkpoints"
(out / "sharded").mkdir(parents=True, exist_ok=True)

base = torch.arange(60, dtype=torch.float32) / 8 - 3
weights = collections.OrderedDict(
    plain=base[:15].clone().reshape(3, 5),
    transposed=base[:15].clone().reshape(5, 3).t(),
    view=base[7:27].reshape(4, 5),
    strided=base.reshape(6, 10)[1::2, 1::3],
    half=torch.arange(4).half() / 2,
    bfloat=torch.arange(4).bfloat16() * 3,
    double=torch.arange(6, dtype=torch.float64).reshape(2, 3).t() / 3,
    scalar=torch.tensor(7),
    i32=torch.arange(3, dtype=torch.int32) - 1,
    i16=torch.arange(3, dtype=torch.int16) - 1,
    i8=torch.arange(3, dtype=torch.int8) - 1,
    u8=torch.arange(3, dtype=torch.uint8) + 253,
    flags=torch.tensor([True, False, True]),
    parameter=torch.nn.Parameter(base[:3].clone()),
    empty=torch.zeros(0, 4),
)
weights._metadata = collections.OrderedDict({"": {"version": 1}})
everything = {
    "teacher": {"module.backbone": weights},
    "epoch": 3,
    "args": argparse.Namespace(lr=1e-3, name="run", best=np.float64(3)),
    "optimizer": {
        "state": {0: {"exp_avg": base[30:33].clone(), "step": 5}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0]}],
    },
    "history": np.arange(3),
    "queue": [base[40:42].clone(), (base[50:53].clone(), None)],
}
flat = {"teacher.module.backbone." + k: v.detach() for k, v in weights.items()}
flat["optimizer.state.0.exp_avg"] = base[30:33]
flat["queue.0"] = base[40:42]
flat["queue.1.0"] = base[50:53]
save_file({k: v.contiguous().clone() for k, v in flat.items()}, out / "expected.safetensors")

for protocol in 2, 4, 5:
    torch.save(everything, out / f"zip{protocol}.pth", pickle_protocol=protocol)
    torch.save(everything, out / f"legacy{protocol}.pth", pickle_protocol=protocol,
               _use_new_zipfile_serialization=False)
torch.save(weights["plain"], out / "tensor.pt")
torch.save(torch.nn.Linear(2, 2), out / "module.pth")
# TorchScript, without the source text that it carries for its error messages.
torch.jit.script(torch.nn.Linear(2, 2)).save(out / "script.full")
with zipfile.ZipFile(out / "script.full") as full, zipfile.ZipFile(out / "script.pt", "w") as file:
    for name in full.namelist():
        if "/code/" not in name:
            file.writestr(name, full.read(name))
(out / "script.full").unlink()

# The pickles alone, as seeds for fuzzing.
pickles = out.parent / "pickles"
pickles.mkdir(exist_ok=True)
for protocol in 2, 4, 5:
    with zipfile.ZipFile(out / f"zip{protocol}.pth") as file:
        (pickles / f"protocol{protocol}.pkl").write_bytes(file.read(f"zip{protocol}/data.pkl"))

np.savez(out / "arrays.npz", x=np.arange(6, dtype="<f4").reshape(2, 3), **{"a/b": np.arange(3)})
np.savez_compressed(out / "compressed.npz", x=np.zeros(1000, "<f4"))

names = sorted(flat)
shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
for file, part in shards.items():
    save_file({k: flat[k].contiguous().clone() for k in part}, out / "sharded" / file)
index = {"metadata": {"total_size": 1}, "weight_map": {k: f for f, p in shards.items() for k in p}}
(out / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
