"""Safetensors files written by hand, so that a test can write a wrong one."""

import json
from typing import Any


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
