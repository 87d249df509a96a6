"""Plots as inline SVG: no script, no font, colours from the page's style."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from verify.report import ArtifactResult
    from verify.sample import Spread

WIDTH = 460
LEFT, RIGHT = 48, 16
ROW = 30
# A letter of the page's font, on average; names are cut to what fits.
LETTER = 8.0
# Below it a divergence is rounding, and a logarithm would make it look like a difference.
SMALLEST_KL = 1e-6


@dataclass(frozen=True)
class Bar:
    """One artifact's speed."""

    name: str
    value: Spread
    passed: bool


def size_and_quality(artifacts: Sequence[ArtifactResult]) -> str:
    """Where each artifact stands between small and true: size to the right, divergence upwards."""
    points = [
        (artifact.size_bytes, max(SMALLEST_KL, artifact.quality.kl_mean), artifact)
        for artifact in artifacts
        if artifact.quality and artifact.size_bytes
    ]
    if not points:
        return ""
    height, top, bottom = 260, 26, 44
    across = _scale([0.0, *(size * 1.08 for size, _, _ in points)], LEFT, WIDTH - RIGHT)
    low = 10 ** math.floor(math.log10(min(kl for _, kl, _ in points)))
    high = 10 ** math.ceil(math.log10(max(kl for _, kl, _ in points)) + 1e-9)
    decades = round(math.log10(high / low)) or 1
    parts = []
    for step in range(decades + 1):
        y = height - bottom - (height - bottom - top) * step / decades
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, _power(low * 10**step), "end"))
    for tick in _ticks(max(size for size, _, _ in points)):
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(_text(x, height - bottom + 18, words.size(tick), "middle"))
    parts.append(_text(LEFT, 14, "KL divergence, nats (log)", "start", "axis"))
    parts.append(_text(WIDTH - RIGHT, height - 8, "size", "end", "axis"))
    placed: list[tuple[float, float]] = []
    for size, kl, artifact in sorted(points, key=lambda point: point[1]):
        x = across(size)
        y = height - bottom - (height - bottom - top) * math.log10(kl / low) / decades
        mark = "good" if artifact.passed else "bad"
        parts.append(f'<circle class="{mark}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts += _label(x, y, artifact.name, placed)
    return _svg(height, parts, "Size against KL divergence from the source")


def speeds(artifacts: Sequence[ArtifactResult], which: str) -> str:
    """A bar for each artifact; the whisker is the middle half of the repetitions."""
    bars = [
        Bar(artifact.name, spread, artifact.passed)
        for artifact in artifacts
        if artifact.speed and (spread := getattr(artifact.speed, which))
    ]
    if not bars:
        return ""
    left = min(190.0, 30 + LETTER * max(len(bar.name) for bar in bars))
    across = _scale([0.0, *(bar.value.high for bar in bars)], left, WIDTH - 70)
    parts = []
    for number, bar in enumerate(bars):
        y = 8 + number * ROW
        end = across(bar.value.median)
        parts.append(_text(left - 8, y + 14, _cut(bar.name, left), "end", "name"))
        mark, thick = "good" if bar.passed else "bad", ROW - 11
        place = f'x="{left:.1f}" y="{y}" width="{max(1.0, end - left):.1f}" height="{thick}" rx="3"'
        parts.append(f'<rect class="{mark}" {place}/>')
        low, high, middle = across(bar.value.low), across(bar.value.high), y + thick / 2
        caps = "".join(f"M{at:.1f} {middle - 4:.1f}v8" for at in (low, high))
        parts.append(f'<path class="whisker" d="M{low:.1f} {middle:.1f}H{high:.1f}{caps}"/>')
        parts.append(_text(max(end, high) + 8, y + 14, f"{words.number(bar.value.median)}/s", "start"))
    return _svg(ROW * len(bars) + 8, parts, "Tokens a second")


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    highest = max(values) or 1.0
    return lambda value: start + (end - start) * value / highest


def _ticks(highest: float) -> Iterator[float]:
    """Four or so round numbers from zero."""
    rough = highest / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return (step * number for number in range(int(highest * 1.04 / step) + 1))


def _power(value: float) -> str:
    """A power of ten, short enough to stand beside its line."""
    return f"{value:.2g}" if value > 0.009 else f"{value:.0e}".replace("e-0", "e-")


def _label(x: float, y: float, name: str, placed: list[tuple[float, float]]) -> list[str]:
    """A name beside its point, moved away from names that are there already."""
    place = y + 4
    while any(abs(place - other) < 14 and abs(x - at) < 130 for at, other in placed):
        place -= 14
    placed.append((x, place))
    is_right = x > WIDTH * 0.6
    at, anchor = (x - 11, "end") if is_right else (x + 11, "start")
    return [_text(at, place, _cut(name, x - LEFT if is_right else WIDTH - x), anchor, "name")]


def _cut(text: str, room: float) -> str:
    most = max(4, int(room / LETTER) - 2)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    body = "".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
