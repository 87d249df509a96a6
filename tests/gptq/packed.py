"""GPTQ's files read by numpy alone, and plain rounding to hold them against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Unpacked:
    """A matrix (out, in) of float32, and the step of each of its weights."""

    values: NDArray[np.float32]
    steps: NDArray[np.float32]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that lies in a folder's safetensors."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def unpack(stored: dict[str, torch.Tensor], name: str, bits: int) -> Unpacked:
    """Words of 32 bits hold a column's weights from the lowest bits up; zeros are stored less one."""
    words = stored[f"{name}.qweight"].numpy().view(np.uint32)  # (in * bits // 32, out)
    zeros = stored[f"{name}.qzeros"].numpy().view(np.uint32)  # (groups, out * bits // 32)
    scales = stored[f"{name}.scales"].float().numpy()  # (groups, out)
    groups = stored[f"{name}.g_idx"].numpy()  # (in,)
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    mask = np.uint32(2**bits - 1)
    levels = ((words[:, None, :] >> shifts[None, :, None]) & mask).reshape(-1, words.shape[1])
    offsets = ((zeros[:, :, None] >> shifts) & mask).reshape(zeros.shape[0], -1) + np.uint32(1)
    offsets &= mask
    steps = scales[groups]
    values = (levels.astype(np.float32) - offsets[groups].astype(np.float32)) * steps
    return Unpacked(np.ascontiguousarray(values.T), np.ascontiguousarray(steps.T))


def rounded(matrix: NDArray[np.float32], bits: int, group_size: int) -> NDArray[np.float32]:
    """Round each weight to the nearest of its group's levels, evenly around zero."""
    grouped = matrix.reshape(matrix.shape[0], -1, group_size)
    top = 2 ** (bits - 1)
    step = np.abs(grouped).max(axis=2, keepdims=True) * 2 / (2**bits - 1)
    step[step == 0] = 1
    levels = np.clip(np.round(grouped / step), -top, top - 1)
    return np.asarray((levels * step).reshape(matrix.shape), np.float32)


def widened(folder: Path) -> dict[str, torch.Tensor]:
    """A quantised folder's tensors as a plain checkpoint's, in float32."""
    stored = tensors(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    bits = config["quantization_config"]["bits"]
    is_turned = config["model_type"] == "gpt2"
    names = {name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")}
    plain = {
        name: tensor.float()
        for name, tensor in stored.items()
        if tensor.is_floating_point() and not (name.endswith(".scales"))
    }
    for name in names:
        values = unpack(stored, name, bits).values
        plain[f"{name}.weight"] = torch.from_numpy(values.T.copy() if is_turned else values)
    return plain
