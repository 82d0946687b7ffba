"""Makes tests/data/containers with the official libraries.

Needs safetensors, torch and numpy. The files are committed; run this only to change them.
"""

import json
import pathlib
import struct

import numpy as np
import torch
from safetensors.torch import save_file

out = pathlib.Path(__file__).resolve().parent.parent / "data" / "containers"
out.mkdir(parents=True, exist_ok=True)


def ramp(*shape, dtype=torch.float32):
    """0, 1, 2, ... wherever that can be, so that a test can say what it expects."""
    n = int(np.prod(shape)) if shape else 1
    return torch.arange(n).reshape(shape).to(dtype)


every = {
    "f32.weight": ramp(3, 5) / 8 - 0.5,
    "f16": ramp(2, 3, dtype=torch.float16) / 4,
    "bf16": ramp(7, dtype=torch.bfloat16) * 2,
    "f64": ramp(2, dtype=torch.float64) / 3,
    "i64": ramp(3, dtype=torch.int64) - 1,
    "i32": ramp(3, dtype=torch.int32) - 1,
    "i16": ramp(3, dtype=torch.int16) - 1,
    "i8": ramp(3, dtype=torch.int8) - 1,
    "u8": ramp(3, dtype=torch.uint8) + 253,
    "bool": ramp(4, dtype=torch.int64) % 2 == 1,
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    'naïve "Köder" \\ \U0001f41f\t': ramp(1) + 42,
}
save_file(every, out / "every.safetensors", metadata={"format": "pt"})

# As the first releases wrote it: no padding, tensors at any byte.
bytes_of = {"odd": np.arange(3, dtype=np.uint8), "x": np.arange(4, dtype="<f4")}
header, data = {}, b""
for name, array in bytes_of.items():
    kind = {"uint8": "U8", "float32": "F32"}[array.dtype.name]
    header[name] = {
        "dtype": kind,
        "shape": list(array.shape),
        "data_offsets": [len(data), len(data) + array.nbytes],
    }
    data += array.tobytes()
text = json.dumps(header).encode()
text += b" " * (len(text) % 8 == 0)  # so that it is unaligned for certain
(out / "unpadded.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)

# What our own writer must give byte for byte.
save_file(
    {
        "b": ramp(2, 2),
        "a": ramp(3),
        "h": ramp(1, dtype=torch.float16),
        "n": ramp(2, dtype=torch.int64),
        "q": ramp(3, dtype=torch.uint8),
        "z": ramp(2, dtype=torch.bfloat16),
    },
    out / "written.safetensors",
    metadata={"for\tmat": "p\"t\\"},
)

np.save(out / "rows.npy", np.arange(12, dtype="<f4").reshape(3, 4))
np.save(out / "half.npy", np.arange(6, dtype="<f2"))
np.save(out / "scalar.npy", np.array(7, dtype="<i8"))
np.save(out / "columns.npy", np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3)))
np.save(out / "objects.npy", np.array([None, "a"], dtype=object))
np.save(out / "records.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
np.save(out / "foreign.npy", np.arange(3, dtype=">f4"))
with open(out / "version2.npy", "wb") as file:
    np.lib.format.write_array(file, np.arange(4, dtype="|u1"), version=(2, 0))
