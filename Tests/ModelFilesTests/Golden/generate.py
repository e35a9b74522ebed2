"""Writes the golden files of ModelFilesTests beside this script.

Needs numpy, torch, safetensors, gguf, huggingface_hub:  python generate.py
"""

import os
import shutil

import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
random = np.random.default_rng(20240607)


def path(name):
    return os.path.join(HERE, name)


def blocks():
    """Every readable GGUF type, with what the gguf package makes of it."""
    writer = GGUFWriter(path("blocks.gguf"), "llama")
    writer.add_uint8("test.uint8", 200)
    writer.add_int8("test.int8", -100)
    writer.add_uint16("test.uint16", 60000)
    writer.add_int16("test.int16", -30000)
    writer.add_uint32("test.uint32", 4000000000)
    writer.add_int32("test.int32", -2000000000)
    writer.add_uint64("test.uint64", 18446744073709551615)
    writer.add_int64("test.int64", -9223372036854775808)
    writer.add_float32("test.float32", 0.1)
    writer.add_float64("test.float64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "grüße 🙂")
    writer.add_array("test.strings", ["a", "", "Ġb\n", "e\u0301", "\u00e9"])
    writer.add_array("test.integers", [1, -2, 3])
    writer.add_array("test.floats", [0.5, -1.25])
    writer.add_array("test.bools", [True, False, True])
    writer.add_array("test.bytes", bytes([1, 2, 255]))
    expected = {}

    def add(name, raw, qtype, values):
        writer.add_tensor(name, raw, raw_dtype=qtype)
        expected[name] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    for qtype in [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1]:
        values = random.standard_normal((3, 64)).astype(np.float32) * 3
        raw = quantize(values, qtype)
        add(qtype.name, raw, qtype, dequantize(raw, qtype))
    # The packing of any bytes is valid for the K formats; only the f16 scales must be finite.
    scales_at = {T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
    for qtype, places in scales_at.items():
        size = GGML_QUANT_SIZES[qtype][1]
        raw = random.integers(0, 256, (2, 2 * size), dtype=np.uint8)
        for block in raw.reshape(-1, size):
            for place in places:
                block[place : place + 2] = np.array([random.standard_normal()], dtype=np.float16).view(np.uint8)
        add(qtype.name, raw, qtype, dequantize(raw, qtype))
    # One dimension, three dimensions.
    line = random.standard_normal(7).astype(np.float32)
    add("line", line, T.F32, line)
    cube = random.standard_normal((2, 3, 4)).astype(np.float16)
    add("cube", cube, T.F16, cube.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, path("blocks.safetensors"))


def mixed():
    """The dtypes of safetensors, as the Python library writes them."""
    generator = torch.Generator().manual_seed(7)
    special = torch.tensor([0.0, -0.0, 1.0, -1.5, 65504.0, 6e-8, -6e-8, 5.9e-5, float("inf"), float("-inf"), float("nan")])
    tensors = {
        "f32": torch.randn(3, 5, generator=generator),
        "f16": torch.randn(4, 9, generator=generator).half(),
        "bf16": torch.randn(2, 3, 7, generator=generator).bfloat16(),
        "special.f16": special.half(),
        "special.bf16": special.bfloat16(),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "grüße.e\u0301": torch.tensor([1.0]),
        "grüße.\u00e9": torch.tensor([2.0]),
        "positions": torch.arange(4),
        "mask": torch.tensor([True, False]),
        "f64": torch.tensor([1.0], dtype=torch.float64),
    }
    save_file(tensors, path("mixed.safetensors"), metadata={"format": "pt", "note": "two\nlines"})
    floats = {k: v.float().contiguous() for k, v in tensors.items() if k not in ("positions", "mask", "f64")}
    save_file(floats, path("mixed-f32.safetensors"))


def sharded():
    """A folder with an index, as huggingface_hub writes it."""
    generator = torch.Generator().manual_seed(8)
    folder = path("sharded")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    tensors = {f"layers.{i}.weight": torch.randn(6, 4, generator=generator).bfloat16() for i in range(5)}
    save_torch_state_dict(tensors, folder, max_shard_size=110)
    save_file({k: v.float() for k, v in tensors.items()}, path("sharded-f32.safetensors"))


blocks()
mixed()
sharded()
