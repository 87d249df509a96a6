"""Size against truth as an SVG file: no script, no font to fetch, and a background of its own.

The Hub shows it through <img>, where no style of the page reaches it: it follows the reader's light or dark
by itself, and is readable on any page, since it lies on its own ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from convert.publish.card.label import label
from convert.publish.card.markdown import one_line
from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from convert.publish.bundle import Bundle

WIDTH, HEIGHT = 760, 394
LEFT, RIGHT, TOP, BOTTOM = 84, 36, 80, 62
LETTER = 8.2  # of a name, on average
# Below it a divergence is rounding, and a logarithm would make it look like a difference.
SMALLEST_KL = 1e-6
# A source further to the right than this would press all artifacts against the axis.
FARTHEST_SOURCE = 8.0
LONGEST_NAME = 28
STYLE = """
text{font:14px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:#4b5563}
.ground{fill:#ffffff;stroke:#d1d5db}.grid{stroke:#e5e7eb}.axis{stroke:#9ca3af}
.title{font-size:16px;font-weight:600;fill:#111827}.name{font-weight:600;fill:#111827}
.good{fill:#2563eb}.waived{fill:#ffffff;stroke:#d97706;stroke-width:3}
.source{stroke:#6b7280;stroke-dasharray:5 5}.spread{stroke:#2563eb;stroke-width:2;opacity:.45}
@media(prefers-color-scheme:dark){
text{fill:#9ca3af}.ground{fill:#111827;stroke:#374151}.grid{stroke:#1f2937}.axis{stroke:#6b7280}
.title,.name{fill:#f3f4f6}.good{fill:#60a5fa}.waived{fill:#111827;stroke:#fbbf24}
.source{stroke:#9ca3af}.spread{stroke:#60a5fa}}
"""


@dataclass(frozen=True)
class Point:
    """One artifact."""

    name: str
    size_bytes: int
    kl: float
    low: float
    high: float
    is_waived: bool


def render(bundle: Bundle) -> bytes | None:
    """The file; None where nothing was measured that could be drawn."""
    points = _points(bundle)
    if not points:
        return None
    parts = list(_drawn(points, bundle.report.source.size_bytes))
    title = "Size and distance from the source"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{title}"><title>{title}</title><style>{STYLE}</style>'
    )
    return "\n".join([head, *parts, "</svg>", ""]).encode()


def _points(bundle: Bundle) -> list[Point]:
    found = []
    for candidate in bundle.candidates:
        quality = candidate.result.quality
        if quality is None or not math.isfinite(quality.kl_mean):
            continue
        kl = max(SMALLEST_KL, quality.kl_mean)
        interval = quality.intervals.get("kl_mean")
        found.append(
            Point(
                label(candidate),
                candidate.manifest.size_bytes,
                kl,
                max(SMALLEST_KL, interval.low) if interval else kl,
                max(SMALLEST_KL, interval.high) if interval else kl,
                bool(candidate.waived),
            )
        )
    return sorted(found, key=lambda point: (point.size_bytes, point.name))


def _drawn(points: Sequence[Point], source_bytes: int) -> Iterator[str]:
    largest = max(point.size_bytes for point in points) or 1
    has_source = 0 < source_bytes <= FARTHEST_SOURCE * largest
    end_bytes = max(largest, source_bytes if has_source else 0) * 1.12
    low = 10 ** math.floor(math.log10(min(point.low for point in points)))
    high = 10 ** math.ceil(math.log10(max(point.high for point in points)) - 1e-9)
    high = max(high, low * 10)
    decades = math.log10(high / low)

    def across(size_bytes: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * size_bytes / end_bytes

    def down(kl: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * math.log10(kl / low) / decades

    yield f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>'
    yield _text(24, 32, "Size and distance from the source", "start", "title")
    yield _text(24, 52, "mean KL divergence in nats, logarithmic: lower is closer", "start")
    yield from _grid(low, decades, end_bytes, across, down)
    if has_source:
        x = across(source_bytes)
        yield f'<path class="source" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield _text(x - 8, TOP + 14, f"source, {words.size(source_bytes)}", "end")
    placed: list[tuple[float, float, float]] = []
    for point in sorted(points, key=lambda each: each.kl):
        x, y = across(point.size_bytes), down(point.kl)
        yield f'<path class="spread" d="M{x:.1f} {down(point.high):.1f}V{down(point.low):.1f}"/>'
        yield f'<circle class="{"waived" if point.is_waived else "good"}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
        yield _name(point, x, y, placed)


def _grid(
    low: float,
    decades: float,
    end_bytes: float,
    across: Callable[[float], float],
    down: Callable[[float], float],
) -> Iterator[str]:
    for step in range(round(decades) + 1):
        value = low * 10**step
        y = down(value)
        kind = "axis" if step == 0 else "grid"
        yield f'<path class="{kind}" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield _text(
            LEFT - 10, y + 5, f"{value:g}" if value > 9e-4 else f"{value:.0e}".replace("e-0", "e-"), "end"
        )
    for tick in _ticks(end_bytes):
        x = across(tick)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield _text(x, HEIGHT - BOTTOM + 22, words.size(tick) if tick else "0", "middle")
    yield _text(WIDTH - RIGHT, HEIGHT - 14, "size of the files", "end")


def _name(point: Point, x: float, y: float, placed: list[tuple[float, float, float]]) -> str:
    """A name beside its point, moved away from names that stand there."""
    shown = one_line(point.name)
    shown = shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"
    shown += ", waived" if point.is_waived else ""
    width = LETTER * len(shown)
    is_left = x + 14 + width > WIDTH - RIGHT
    start = x - 14 - width if is_left else x + 14
    place = y + 5
    while any(
        abs(place - other) < 17 and start < end and begin < start + width for begin, end, other in placed
    ):
        place -= 17
    placed.append((start, start + width, place))
    return _text(x - 14 if is_left else x + 14, place, shown, "end" if is_left else "start", "name")


def _ticks(highest: float) -> Iterator[float]:
    """Five or so round numbers from zero."""
    rough = highest / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return (step * number for number in range(int(highest / step) + 1))


def _text(x: float, y: float, shown: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}</text>'
