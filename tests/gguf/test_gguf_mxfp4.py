"""Experts that are stored as MXFP4 stay as they are in llama.cpp's MXFP4: no weight changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from safetensors.numpy import save_file

from convert.checkpoint import open_checkpoint
from tests import tiny
from tests.gguf import oracle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GROUP = 32
# Of E2M1: the code of a negative zero, and the least code whose block keeps its exponent.
NEGATIVE_ZERO, FOUR = 8, 6


def stored(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Make a model whose experts are random blocks, and name these by their tensors."""
    recipe = tiny.Recipe("gpt_oss", {"quantization_config": {"quant_method": "mxfp4"}}, spread=0.03)
    random, blocks = np.random.default_rng(5), {}
    tensors: dict[str, NDArray[Any]] = {}
    for name, values in tiny.tensors(tiny.Recipe("gpt_oss", spread=0.03)).items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            tensors[name] = values
            continue
        experts, columns, rows = values.shape
        codes = random.integers(0, 16, (experts, rows, columns // GROUP, GROUP), np.uint8)
        codes[:, 1::8] %= FOUR  # whose largest code leaves room, and so has another exponent there
        codes[:, 3::8] = 0
        exponents = random.integers(115, 125, codes.shape[:3], np.uint8)
        tensors[f"{name}_blocks"] = codes[..., 0::2] | codes[..., 1::2] << 4
        tensors[f"{name}_scales"] = exponents
        lower, upper = codes[..., : GROUP // 2], codes[..., GROUP // 2 :]
        blocks[name] = np.concatenate([exponents[..., None], lower | upper << 4], axis=-1)
    tiny.make(folder, recipe)
    save_file(tensors, folder / "model.safetensors")
    return blocks


def test_weights_are_kept_and_so_are_bytes(tmp_path: Path) -> None:
    blocks = stored(tmp_path / "model")
    (path,) = oracle.convert_folder(tmp_path / "model", tmp_path / "out", ["MXFP4_MOE"])["MXFP4_MOE"]
    made = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with open_checkpoint(tmp_path / "model") as checkpoint:
        for layer in range(4):
            for part, name, start, step in (
                ("gate", "gate_up_proj", 0, 2), ("up", "gate_up_proj", 1, 2), ("down", "down_proj", 0, 1),
            ):  # fmt: skip
                source = f"model.layers.{layer}.mlp.experts.{name}"
                tensor = made[f"blk.{layer}.ffn_{part}_exps.weight"]
                assert tensor.tensor_type.name == "MXFP4"
                found = gguf.dequantize(tensor.data, tensor.tensor_type)
                wanted = [
                    checkpoint.rows(source, 0, int(tensor.shape[1]) * step, index=expert, is_transposed=True)
                    for expert in range(len(found))
                ]
                assert np.array_equal(found, np.stack(wanted)[:, start::step])
                bytes_ = tensor.data.reshape(*found.shape[:2], -1, GROUP // 2 + 1)
                kept = blocks[source][:, start::step]
                codes = np.concatenate([kept[..., 1:] & 15, kept[..., 1:] >> 4], axis=-1)
                is_usual = ((codes & 7) >= FOUR).any(-1) & (codes != NEGATIVE_ZERO).all(-1)
                assert is_usual.any()
                assert np.array_equal(bytes_[is_usual], kept[is_usual])


def test_other_matrices_have_eight_bits(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("gpt_oss"))
    assert json.loads((folder / "config.json").read_text("utf-8"))["model_type"] == "gpt_oss"
    (artifact,) = oracle.planned(folder, ["MXFP4_MOE"])
    types = {name: kind for name, kind in artifact.encodings.items() if kind != "F32"}
    assert {kind for name, kind in types.items() if "_exps" in name} == {"MXFP4"}
    assert {kind for name, kind in types.items() if "_exps" not in name} == {"Q8_0"}
