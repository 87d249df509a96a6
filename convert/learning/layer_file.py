"""What was learned of one layer in a file that is mapped, so that memory holds what is being used of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.model.decoder import Ref, Role
from convert.rounding import Factor, Part
from convert.rounding.factor import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of matrices that are multiplied with the same: None where no factor was found."""

    refs: tuple[Ref, ...]
    token_count: int
    squares: NDArray[np.float32]  # of each column's inputs, added up
    factor: Factor | None


def write_layer(path: Path, learned: Sequence[Learned]) -> None:
    """Write a layer's squares and factors; the file appears whole."""
    header = json.dumps([_entry(each) for each in learned]).encode()
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(len(header).to_bytes(LENGTH_BYTES, "little"))
        file.write(header)
        file.write(bytes(-file.tell() % 4))
        for each in learned:
            file.write(each.squares.data)
            for piece in each.factor.parts if each.factor else ():
                for values in (piece.order, piece.weights, *piece.panels):
                    file.write(np.ascontiguousarray(values).data)
    part.replace(path)


def read_layer(path: Path) -> tuple[Learned, ...]:
    """Map what is kept of a layer."""
    mapped = np.memmap(path, np.uint8, mode="r")
    length = int.from_bytes(mapped[:LENGTH_BYTES].tobytes(), "little")
    entries = json.loads(mapped[LENGTH_BYTES : LENGTH_BYTES + length].tobytes())
    at = LENGTH_BYTES + length
    values = mapped[at + -at % 4 :].view(np.float32)
    numbers = _Reader(values)
    return tuple(_learned(entry, numbers) for entry in entries)


class _Reader:
    def __init__(self, values: NDArray[np.float32]) -> None:
        self._values, self._at = values, 0

    def take(self, rows: int, columns: int = 1) -> NDArray[np.float32]:
        first, self._at = self._at, self._at + rows * columns
        return self._values[first : self._at].reshape(rows, columns)


def _entry(learned: Learned) -> dict[str, Any]:
    factor = learned.factor
    return {
        "refs": [[ref.role, ref.layer, ref.part, ref.expert] for ref in learned.refs],
        "tokens": learned.token_count,
        "columns": len(learned.squares),
        "key": factor.key if factor else None,
        "damp": factor.damp if factor else None,
        "parts": [[part.first, part.columns] for part in factor.parts] if factor else [],
    }


def _learned(entry: dict[str, Any], numbers: _Reader) -> Learned:
    refs = tuple(Ref(Role(role), layer, part, expert) for role, layer, part, expert in entry["refs"])
    squares = numbers.take(entry["columns"])[:, 0]
    parts = tuple(_part(first, columns, numbers) for first, columns in entry["parts"])
    factor = None if entry["key"] is None else Factor(entry["key"], entry["damp"], parts)
    return Learned(refs, entry["tokens"], squares, factor)


def _part(first: int, columns: int, numbers: _Reader) -> Part:
    order = numbers.take(columns)[:, 0].view(np.int32)
    weights = numbers.take(columns)[:, 0]
    return Part(first, order, weights, tuple(_panels(columns, numbers)))


def _panels(columns: int, numbers: _Reader) -> Iterator[NDArray[np.float32]]:
    for first in range(0, columns, BLOCK):
        yield numbers.take(columns - first, min(BLOCK, columns - first))
