"""Checkpoints as those of `checkpoint`, stored with fewer bits."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.checkpoint.tensor import STORED_AS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Part = tuple[str, str, tuple[int, ...], bytes | None]

BLOCK, GROUP = 128, 32
SECTIONS: dict[str, dict[str, Any]] = {
    "fp8": {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]},
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "packed": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": GROUP}}},
    },
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": GROUP},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"},
}


def parts(kind: str, name: str, rows: int, columns: int) -> Iterator[Part]:
    """List a quantized matrix's tensors; those without content stay holes in the file."""
    stem = name.removesuffix(".weight")
    ones = np.ones
    if kind == "fp8":
        grid = (-(-rows // BLOCK), -(-columns // BLOCK))
        yield name, "F8_E4M3", (rows, columns), None
        yield f"{name}_scale_inv", "F32", grid, ones(grid, np.float32).tobytes()
    elif kind == "nvfp4":
        yield name, "U8", (rows, columns // 2), None
        yield f"{name}_scale", "F8_E4M3", (rows, columns // 16), b"\x38" * (rows * columns // 16)
        yield f"{name}_scale_2", "F32", (), ones((), np.float32).tobytes()
    elif kind == "packed":
        scale = ones((rows, columns // GROUP), np.float16)
        yield f"{stem}.weight_packed", "I32", (rows, columns // 8), None
        yield f"{stem}.weight_scale", "F16", scale.shape, scale.tobytes()
        yield f"{stem}.weight_shape", "I64", (2,), np.array([rows, columns]).tobytes()
    else:
        scale = ones((columns // GROUP, rows), np.float16)
        codes = (columns // 8, rows) if kind == "gptq" else (columns, rows // 8)
        yield f"{stem}.qweight", "I32", codes, None
        yield f"{stem}.qzeros", "I32", (columns // GROUP, rows // 8), None
        yield f"{stem}.scales", "F16", scale.shape, scale.tobytes()
        if kind == "gptq":
            order = np.arange(columns, dtype=np.int32) // GROUP
            yield f"{stem}.g_idx", "I32", (columns,), order.tobytes()


def make_quantized(folder: Path, kind: str, named: Mapping[str, tuple[int, ...]], plain: Path) -> None:
    """Write a checkpoint whose codes are zeros, as holes in a sparse file, and whose scales are ones."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": SECTIONS[kind]}))
    tensors: list[Part] = []
    for name, size in named.items():
        if "_proj.weight" in name:
            tensors += parts(kind, name, size[0], size[1])
        else:
            tensors.append((name, "BF16", size, None))
    header, at = {}, 0
    contents: list[tuple[int, bytes]] = []
    for name, dtype, size, content in tensors:
        length = math.prod(size) * STORED_AS[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(size), "data_offsets": [at, at + length]}
        if content is not None:
            contents.append((at, content))
        at += length
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        data = stream.tell()
        stream.truncate(data + at)
        for offset, content in contents:
            stream.seek(data + offset)
            stream.write(content)
