"""A pass over weights that only measures them, by the engine that fills files otherwise."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convert.writer import engine
from convert.writer.layout import Layout, Piece, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from convert.checkpoint import Checkpoint
    from convert.model.tensor import Origin, Ref

ROW_BYTES = 4


@dataclass(frozen=True, slots=True)
class Largest:
    """The size of each row's largest weight, in float32."""

    @property
    def name(self) -> str:
        return "largest"

    def row_bytes(self, columns: int) -> tuple[int, ...]:  # noqa: ARG002 - one number, however long a row is
        return (ROW_BYTES,)

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        sizes = np.maximum(rows.max(1), -rows.min(1))
        return (sizes.astype(np.float32).reshape(-1, 1).view(np.uint8),)


def largest(
    checkpoint: Checkpoint,
    origins: Mapping[Ref, Origin],
    tensors: Mapping[str, Sequence[Piece]],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> dict[str, float]:
    """Find the size of the largest weight of each tensor."""
    slots: dict[str, Slot] = {}
    at = 0
    for name, pieces in tensors.items():
        slots[name] = Slot(name, tuple(pieces), Largest(), (at,))
        at += slots[name].sizes_bytes[0]
    layout = Layout("largest", at, (), tuple(slots.values()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / layout.path
        engine.run(checkpoint, origins, [engine.Output(layout, path)], threads=threads, advance=advance)
        sizes = np.fromfile(path, np.float32)
    return {
        name: float(sizes[slot.offsets_bytes[0] // ROW_BYTES :][: slot.rows].max())
        for name, slot in slots.items()
    }
