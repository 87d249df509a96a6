"""Plots as SVG: no script, no font, colors from a style sheet.

A page brings its own style. A picture by itself, as the Hub shows it through <img>, carries STYLE, which
follows the reader's light or dark and draws its own ground.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Self

from verify.quality import Quality
from verify.report import ArtifactResult, words

WIDTH, HEIGHT = 760, 394  # the height is that of the quality plot
LEFT, RIGHT, TOP, BOTTOM = 84, 36, 80, 62
ROW = 30  # of a bar
LETTER = 8.2  # of a name, on average
LONGEST_NAME = 28
# Below it a divergence is rounding, and a logarithm would make it look like a difference.
SMALLEST_KL = 1e-6
# A source further to the right than this would press all artifacts against the axis.
FARTHEST_SOURCE = 8.0
TITLE = "Size and distance from the source"
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
    """One artifact in the quality plot."""

    name: str
    size_bytes: int
    kl: float
    low: float
    high: float
    verdict: str  # the class that draws it: good, waived, failed

    @classmethod
    def of(cls, name: str, size_bytes: int | None, quality: Quality | None, verdict: str) -> Self | None:
        """Make a point of what was measured; None where that cannot be drawn."""
        if quality is None or not size_bytes or not math.isfinite(quality.kl_mean):
            return None
        interval = quality.intervals.get("kl_mean")
        low, high = (interval.low, interval.high) if interval else (quality.kl_mean, quality.kl_mean)
        kl, low, high = (max(SMALLEST_KL, each) for each in (quality.kl_mean, low, high))
        return cls(name, size_bytes, kl, low, high, verdict)


def quality(found: Iterable[Point | None], source_bytes: int, style: str = "") -> str:
    """Plot size against divergence; with a style as a file by itself. Without points it is empty."""
    points = sorted(filter(None, found), key=lambda point: (point.kl, point.size_bytes, point.name))
    return _svg(HEIGHT, _quality(points, source_bytes), TITLE, style) if points else ""


def speeds(artifacts: Sequence[ArtifactResult], which: str) -> str:
    """Draw a bar for each artifact; the whisker is the middle half of the repetitions."""
    bars = [
        (artifact, spread)
        for artifact in artifacts
        if artifact.speed and (spread := getattr(artifact.speed, which))
    ]
    if not bars:
        return ""
    left = 30 + LETTER * min(LONGEST_NAME, max(len(artifact.name) for artifact, _ in bars))
    across = _scale(left, WIDTH - 90, max(spread.high for _, spread in bars))
    thick, parts = ROW - 11, []
    for number, (artifact, spread) in enumerate(bars):
        y, end, low, high = 8 + number * ROW, *map(across, (spread.median, spread.low, spread.high))
        middle = y + thick / 2
        place = f'x="{left:.1f}" y="{y}" width="{max(1.0, end - left):.1f}" height="{thick}" rx="3"'
        caps = "".join(f"M{at:.1f} {middle - 4:.1f}v8" for at in (low, high))
        parts += [
            _text(left - 8, y + 15, _cut(artifact.name), "end", "name"),
            f'<rect class="{"good" if artifact.passed else "failed"}" {place}/>',
            f'<path class="whisker" d="M{low:.1f} {middle:.1f}H{high:.1f}{caps}"/>',
            _text(max(end, high) + 8, y + 15, f"{words.number(spread.median)}/s", "start"),
        ]
    return _svg(ROW * len(bars) + 8, parts, "Tokens a second")


def _quality(points: Sequence[Point], source_bytes: int) -> Iterator[str]:
    largest = max(point.size_bytes for point in points)
    has_source = 0 < source_bytes <= FARTHEST_SOURCE * largest
    end_bytes = max(largest, source_bytes if has_source else 0) * 1.12
    low = 10 ** math.floor(math.log10(min(point.low for point in points)))
    high = 10 ** math.ceil(math.log10(max(point.high for point in points)) - 1e-9)
    decades = round(math.log10(max(high, low * 10) / low))
    across, rise = _scale(LEFT, WIDTH - RIGHT, end_bytes), _scale(HEIGHT - BOTTOM, TOP, decades)

    def down(kl: float) -> float:
        return rise(math.log10(kl / low))

    yield f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>'
    yield _text(24, 32, TITLE, "start", "title")
    yield _text(24, 52, "mean KL divergence in nats, logarithmic: lower is closer", "start")
    for step in range(decades + 1):
        value, y = low * 10**step, rise(step)
        yield f'<path class="{"grid" if step else "axis"}" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        shown = f"{value:g}" if value > 9e-4 else f"{value:.0e}".replace("e-0", "e-")
        yield _text(LEFT - 10, y + 5, shown, "end")
    for tick in _ticks(end_bytes):
        x = across(tick)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield _text(x, HEIGHT - BOTTOM + 22, words.size(tick) if tick else "0", "middle")
    yield _text(WIDTH - RIGHT, HEIGHT - 14, "size of the files", "end")
    if has_source:
        x = across(source_bytes)
        yield f'<path class="source" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield _text(x - 8, TOP + 14, f"source, {words.size(source_bytes)}", "end")
    placed: list[tuple[float, float, float]] = []
    for point in points:
        x, y = across(point.size_bytes), down(point.kl)
        yield f'<path class="spread" d="M{x:.1f} {down(point.high):.1f}V{down(point.low):.1f}"/>'
        yield f'<circle class="{point.verdict}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
        yield _name(point, x, y, placed)


def _scale(start: float, end: float, highest: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * value / (highest or 1.0)


def _ticks(highest: float) -> Iterator[float]:
    """Yield five or so round numbers from zero."""
    rough = highest / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return (step * number for number in range(int(highest / step) + 1))


def _name(point: Point, x: float, y: float, placed: list[tuple[float, float, float]]) -> str:
    """Write a name next to its point, moved away from the names that are there already."""
    shown = _cut(point.name) + ("" if point.verdict == "good" else f", {point.verdict}")
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


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _text(x: float, y: float, shown: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    visible = "".join(char if char.isprintable() else "\ufffd" for char in shown)
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(visible)}</text>'


def _svg(height: float, parts: Iterable[str], title: str, style: str = "") -> str:
    """Put the parts together; one with a style is a file, and one without goes into a page."""
    file = f' xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}"' if style else ""
    return "\n".join(
        [
            f'<svg{file} viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">',
            f"<title>{escape(title)}</title>{f'<style>{style}</style>' if style else ''}",
            *parts,
            "</svg>\n",
        ]
    )
