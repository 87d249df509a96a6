"""What each matrix lost of its output by rounding, layer by layer: darker where it is more."""

from __future__ import annotations

import math
import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CELL, GAP, LABELS, HEADING = 16, 2, 190, 18
LAYER = re.compile(r"(?:^|\.)(\d+)\.(.+)")
# A share of the output that is drawn as nothing, and one that is drawn in full.
LEAST, MOST = 0.001, 0.3
FAINTEST = 0.06


def losses(errors: Mapping[str, float]) -> str:
    """Draw a row for each kind of matrix, a cell for each layer; nothing where there are no errors."""
    cells: dict[str, dict[int, float]] = {}
    for name, error in errors.items():
        if found := LAYER.search(name.removesuffix(".weight").removesuffix(".qweight")):
            cells.setdefault(found[2], {})[int(found[1])] = error
    if not cells:
        return ""
    layers = 1 + max(max(row) for row in cells.values())
    step = CELL + GAP
    width, height = LABELS + layers * step, HEADING + len(cells) * step
    about = "share of each matrix's output that was lost"
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    drawn = [f'<svg class="losses" {size} role="img" aria-label="{about}">']
    drawn += [
        f'<text x="{LABELS + layer * step + CELL / 2:g}" y="12" text-anchor="middle">{layer}</text>'
        for layer in range(0, layers, 5)
    ]
    for number, (kind, row) in enumerate(cells.items()):
        top = HEADING + number * step
        drawn.append(f'<text x="{LABELS - 8}" y="{top + 12}" text-anchor="end">{escape(kind)}</text>')
        for layer, error in sorted(row.items()):
            place = f'x="{LABELS + layer * step}" y="{top}" width="{CELL}" height="{CELL}"'
            hover = f"<title>layer {layer}, {escape(kind)}: {error:.1%}</title>"
            drawn.append(f'<rect class="good" {place} fill-opacity="{_shade(error):.2f}">{hover}</rect>')
    return "".join([*drawn, "</svg>"])


def _shade(error: float) -> float:
    share = math.log(max(error, LEAST) / LEAST) / math.log(MOST / LEAST)
    return max(FAINTEST, min(1.0, share))
