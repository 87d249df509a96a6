"""What MatMulNBits' bytes stand for, written down the slow way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from convert.model.config import Config
from convert.model.decoder import Role
from convert.model.families import find_family
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from convert.writer.codecs.matmul_nbits import NBits


def dequantised(rows: NDArray[np.float32], codec: NBits | None) -> NDArray[np.float32]:
    """Go from weights to bytes and back."""
    if codec is None:
        return rows
    packed, scales, *zero_points = codec.encode(rows)
    count, columns = rows.shape
    blocks = -(-columns // codec.block_size)
    numbers = unpacked(packed, codec.bits).reshape(count, blocks, codec.block_size).astype(np.float32)
    middle = float(1 << (codec.bits - 1))
    zeros: NDArray[np.float32] = np.full((count, blocks), middle, np.float32)
    if zero_points:
        zeros = unpacked(zero_points[0], codec.bits)[:, :blocks].astype(np.float32)
    steps = scales.view({"F32": np.float32, "F16": np.float16}[codec.scale]).astype(np.float32)
    values = (numbers - zeros[..., None]) * steps[..., None]
    return np.asarray(values.reshape(count, -1)[:, :columns], np.float32)


def unpacked(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Take bytes apart, the lower half first."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


def make_dequantised(
    folder: Path, recipe: tiny.Recipe, body: NBits, head: NBits | None, embedding: NBits | None
) -> Path:
    """Write the checkpoint that an artifact of quantised weights should be as good as, its head untied."""
    config = {**tiny.CONFIGS[recipe.model_type], **recipe.changes}
    family = find_family(Config(config))
    naming = family.naming
    names = {role: (naming.prefix + name).split(".{layer}") for role, name in naming.names.items()}
    flipped = tuple(names[role][-1] + ".weight" for role in naming.transposed)
    made: dict[str, NDArray[np.float32]] = {}
    for name, values in tiny.tensors(recipe).items():
        if values.ndim == 1 or (Role.POSITION in names and name.startswith(names[Role.POSITION][0])):
            made[name] = values
        elif name.startswith(names[Role.EMBED][0]):
            made[name] = dequantised(values, embedding)
            if family.describe(Config(config)).is_tied:
                made["lm_head.weight"] = dequantised(values, head)
        elif name == "lm_head.weight":
            made[name] = dequantised(values, head)
        elif flipped and name.endswith(flipped):
            made[name] = dequantised(values.T.copy(), body).T.copy()
        else:
            made[name] = dequantised(values, body)
    folder.mkdir()
    tiny.write_safetensors(folder / "model.safetensors", made, "F32")
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return folder
