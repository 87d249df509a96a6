"""What MatMulNBits' bytes stand for, written down the slow way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from convert.model.decoder import Ref, Role
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from convert.writer.codecs.matmul_nbits import NBits


# Too small to be worth blocks, or read by an operator that wants floats.
KEPT = {
    Role.POSITION, Role.ROUTER, Role.SHARED_ROUTER, Role.DELTA_CONV, Role.CONV, Role.STATE_CONV,
}  # fmt: skip


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
    decoder, origins, _ = tiny.origins_of(recipe)
    made = tiny.tensors(recipe)
    whole = tiny.rows_of(made, origins[Ref(Role.EMBED)], decoder.vocab_size)[0]
    untied = dequantised(whole, head) if decoder.is_tied else None
    for ref, shape in decoder.shapes():
        if len(shape) == 1 or ref.role in KEPT or decoder.norm_of(ref):
            continue
        stored = {Role.EMBED: embedding, Role.LAYER_EMBED: embedding, Role.HEAD: head}
        codec = stored.get(ref.role, body)
        matrix, rows = tiny.rows_of(made, origins[ref], shape[0])
        matrix[rows] = dequantised(np.ascontiguousarray(matrix[rows]), codec)
    if untied is not None:
        made["lm_head.weight"] = untied
    folder.mkdir()
    tiny.write_safetensors(folder / "model.safetensors", made, "F32")
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return folder
