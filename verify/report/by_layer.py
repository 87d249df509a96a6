"""Pictures of a model's matrices: a row for each kind, a cell for each layer."""

from __future__ import annotations

import math
import re
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

CELL, GAP, LABELS, HEADING = 16, 2, 190, 18
LAYER = re.compile(r"(?:^|\.)(\d+)\.(.+)")
# A share of the output that is drawn as nothing, and one that is drawn in full.
LEAST, MOST = 0.001, 0.3
FAINTEST = 0.06
# The name of a type begins with its bits: IQ4_XS, 4bit_g64, int8_64, BF16.
BITS = re.compile(r"\d+")
# So many bits would be drawn in full; 16 are legible on their shade.
FULL_BITS = 20


class Cell(NamedTuple):
    """What is drawn of a matrix."""

    shade: float
    hover: str
    text: str = ""


def losses(errors: Mapping[str, float]) -> str:
    """Draw what each matrix lost of its output by rounding: darker where it is more."""
    cells = {name: Cell(_lost(error), f"{error:.1%}") for name, error in errors.items()}
    return _drawn(cells, "share of each matrix's output that was lost")


def types(encodings: Mapping[str, str]) -> str:
    """Draw the bits of each matrix's type: darker where they are more."""
    found = {name: (encoding, BITS.search(encoding)) for name, encoding in _matrices(encodings).items()}
    cells = {
        name: Cell(min(1.0, int(bits[0]) / FULL_BITS), encoding, bits[0])
        for name, (encoding, bits) in found.items()
        if bits
    }
    return _drawn(cells, "bits of each matrix's type")


def besides_layers(encodings: Mapping[str, str]) -> list[tuple[str, str]]:
    """List the matrices that are in no layer, with their types."""
    found = _matrices(encodings).items()
    return [(name.removesuffix(".weight"), encoding) for name, encoding in found if not LAYER.search(name)]


def _matrices(encodings: Mapping[str, str]) -> dict[str, str]:
    return {name: each for name, each in encodings.items() if name.endswith(".weight") and "norm" not in name}


def _drawn(found: Mapping[str, Cell], about: str) -> str:
    """Draw the cells; nothing where no name has a layer."""
    rows: dict[str, dict[int, Cell]] = {}
    for name, cell in found.items():
        if place := LAYER.search(name.removesuffix(".weight").removesuffix(".qweight")):
            rows.setdefault(place[2], {})[int(place[1])] = cell
    if not rows:
        return ""
    layers = 1 + max(max(row) for row in rows.values())
    step = CELL + GAP
    width, height = LABELS + layers * step, HEADING + len(rows) * step
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    drawn = [f'<svg class="layers" {size} role="img" aria-label="{about}">']
    drawn += [
        f'<text x="{LABELS + layer * step + CELL / 2:g}" y="12" text-anchor="middle">{layer}</text>'
        for layer in range(0, layers, 5)
    ]
    for number, (kind, row) in enumerate(rows.items()):
        top = HEADING + number * step
        drawn.append(f'<text x="{LABELS - 8}" y="{top + 12}" text-anchor="end">{escape(kind)}</text>')
        for layer, cell in sorted(row.items()):
            left = LABELS + layer * step
            square = f'x="{left}" y="{top}" width="{CELL}" height="{CELL}"'
            hover = f"<title>layer {layer}, {escape(kind)}: {escape(cell.hover)}</title>"
            drawn.append(f'<rect class="good" {square} fill-opacity="{cell.shade:.2f}">{hover}</rect>')
            if cell.text:
                middle = f'x="{left + CELL / 2:g}" y="{top + 12}" text-anchor="middle"'
                drawn.append(f'<text class="bits" {middle}>{escape(cell.text)}</text>')
    return "".join([*drawn, "</svg>"])


def _lost(error: float) -> float:
    share = math.log(max(error, LEAST) / LEAST) / math.log(MOST / LEAST)
    return max(FAINTEST, min(1.0, share))
