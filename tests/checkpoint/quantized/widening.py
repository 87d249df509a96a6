"""Quantized tensors in a folder, and the comparison of what is read with a reference, bit by bit."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file

from convert.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.checkpoint import Checkpoint, TensorInfo

NOISE = torch.Generator()


def seeded(*shape: int, seed: int = 7) -> torch.Tensor:
    """Make numbers like weights."""
    return torch.randn(shape, generator=NOISE.manual_seed(seed)) * 0.1


def codes(high: int, *shape: int, low: int = 0, seed: int = 3) -> torch.Tensor:
    """Make whole numbers."""
    return torch.randint(low, high, shape, generator=NOISE.manual_seed(seed))


def words(unpacked: torch.Tensor, bits: int, axis: int) -> torch.Tensor:
    """Pack codes into words of 32 bits along an axis, the first in the lowest bits."""
    per_word = 32 // bits
    moved = unpacked.movedim(axis, -1)
    missing = -moved.shape[-1] % per_word
    padded = torch.nn.functional.pad(moved, (0, missing)).reshape(*moved.shape[:-1], -1, per_word)
    packed = (padded.long() << torch.arange(0, 32, bits)).sum(-1)
    return torch.where(packed >= 2**31, packed - 2**32, packed).int().movedim(-1, axis).contiguous()


def save(
    folder: Path, section: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], **config: Any
) -> Path:
    """Write the tensors, and a config that says how they are quantized."""
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": section}))
    return folder


def assert_widened(folder: Path, name: str, reference: torch.Tensor) -> TensorInfo:
    """Compare all of a matrix, or of a stack, with the reference: by rows, by columns, and across blocks."""
    wanted = reference.numpy()
    assert wanted.dtype == np.float32
    with open_checkpoint(folder) as checkpoint:
        info = checkpoint.tensors[name]
        assert info.shape == wanted.shape
        assert info.stored_as
        if wanted.ndim == 2:
            _compare(checkpoint, name, None, wanted)
        else:
            for index, matrix in enumerate(wanted):
                _compare(checkpoint, name, index, matrix)
    return info


def _compare(checkpoint: Checkpoint, name: str, index: int | None, wanted: np.ndarray[Any, Any]) -> None:
    for is_transposed, matrix in ((False, wanted), (True, wanted.T)):
        rows = len(matrix)
        cuts = sorted({0, 1, rows // 3 + 1, min(rows // 2 + 3, rows), rows - 1, rows})
        for start, stop in [(0, rows), *itertools.pairwise(cuts)]:
            found = checkpoint.rows(name, start, stop, index=index, is_transposed=is_transposed)
            assert found.flags.c_contiguous
            assert found.tobytes() == matrix[start:stop].tobytes(), (is_transposed, start, stop)
            checkpoint.release_rows(name, start, stop, index=index, is_transposed=is_transposed)
