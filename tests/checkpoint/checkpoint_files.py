"""Seeded tensors of every dtype, and safetensors written by hand so that a test can write a wrong one."""

import json
from typing import Any

import torch

TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def bits(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor of any dtype, row-major."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def seeded_tensors() -> dict[str, torch.Tensor]:
    """One small tensor of each dtype, a scalar, an empty one and one with a Chinese name."""
    noise = torch.Generator().manual_seed(7)
    tensors = {
        f"layer.{dtype}": torch.randint(0, 2, (5, 3), generator=noise).to(torch_dtype)
        for dtype, torch_dtype in TORCH_DTYPES.items()
    }
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    tensors["名字"] = torch.randn(4, 2, 3, generator=noise)
    return tensors


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    """One tensor's header entry."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def assemble(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    """Length, header, data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def sound() -> bytes:
    """A correct file of two tensors."""
    return assemble({"a": entry("F32", [2, 2], 0, 16), "b": entry("BF16", [3], 16, 22)}, bytes(range(22)))
