"""The plots of a report: quality against size and speed, memory against context, throughput against users.

The card's picture by itself, as the Hub shows it through <img>, carries STYLE, which follows the reader's
light or dark and draws its own ground. A page brings its own style.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from verify.quality import Quality
from verify.report import words
from verify.report.chart import Axis, Chart, Line, Mark, Rule, decades, lines, room, scatter
from verify.report.svg import HEIGHT, WIDTH, About, svg

__all__ = [
    "HEIGHT",
    "STYLE",
    "WIDTH",
    "Point",
    "by_size",
    "by_speed",
    "by_users",
    "memory",
    "quality",
    "there",
]
# Below it a divergence is rounding, and a logarithm would make it look like a difference.
SMALLEST_KL = 1e-6
# A source further to the right than this would press all artifacts against the axis.
FARTHEST_SOURCE = 8.0
NAMED = 255  # to the right of lines, for their names
TITLE = "Size and distance from the source"
SUBTITLE = "mean KL divergence in nats, logarithmic: lower is closer"
STYLE = """
text{font:14px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:#4b5563}
.ground{fill:#ffffff;stroke:#d1d5db}.grid{stroke:#e5e7eb}.axis,.lead{stroke:#9ca3af}
.title{font-size:16px;font-weight:600;fill:#111827}.name{font-size:13px;font-weight:600;fill:#111827}
.good{fill:#2563eb}.waived{fill:#ffffff;stroke:#d97706;stroke-width:3}
.source{stroke:#6b7280;stroke-dasharray:5 5}.spread{stroke:#2563eb;stroke-width:2;opacity:.45}
@media(prefers-color-scheme:dark){
text{fill:#9ca3af}.ground{fill:#111827;stroke:#374151}.grid{stroke:#1f2937}.axis,.lead{stroke:#6b7280}
.title,.name{fill:#f3f4f6}.good{fill:#60a5fa}.waived{fill:#111827;stroke:#fbbf24}
.source{stroke:#9ca3af}.spread{stroke:#60a5fa}}
"""


@dataclass(frozen=True)
class Point:
    """One artifact in the plots of quality."""

    name: str
    size_bytes: int
    kl: float
    low: float
    high: float
    verdict: str  # the class that draws it: good, waived, failed, or guess where nothing was measured
    tok_s: float | None = None
    link: str = ""
    key: str = ""  # of its row on the page
    why: str = ""  # it is ruled out

    @classmethod
    def of(
        cls, name: str, size_bytes: int | None, quality: Quality | None, verdict: str, **more: Any
    ) -> Self | None:
        """Make a point of what was measured; None where that cannot be drawn."""
        if quality is None or not size_bytes or not math.isfinite(quality.kl_mean):
            return None
        interval = quality.intervals.get("kl_mean")
        low, high = (interval.low, interval.high) if interval else (quality.kl_mean, quality.kl_mean)
        kl, low, high = (max(SMALLEST_KL, each) for each in (quality.kl_mean, low, high))
        return cls(name, size_bytes, kl, low, high, verdict, **more)

    def mark(self, x: float, what: str) -> Mark:
        """Draw it at a place across; `what` says what that is."""
        about = "" if self.verdict != "guess" else "about "
        hover = f"{self.name}: KL {about}{words.number(self.kl)}{what and ', '}{what}" if self.link else ""
        spread = (self.low, self.high) if self.high > self.low else None
        return Mark(self.name, x, self.kl, self.verdict, spread, About(hover, self.link, self.key, self.why))


def quality(found: Iterable[Point | None], source_bytes: int, style: str = "") -> str:
    """Plot size against divergence as a file by itself. Without points it is empty."""
    return by_size([each for each in found if each], source_bytes, style=style)


def by_size(
    points: Sequence[Point], source_bytes: int, gates: Sequence[Rule] = (), style: str = "", *,
    has_front: bool = False,
) -> str:  # fmt: skip
    """Plot size against divergence, with the source's size where that is near enough."""
    if not points:
        return ""
    largest = max(point.size_bytes for point in points)
    has_source = 0 < source_bytes <= FARTHEST_SOURCE * largest
    end_bytes = max(largest, source_bytes if has_source else 0) * 1.12
    across = Axis("size of the files", 0.0, end_bytes, lambda tick: words.size(tick) if tick else "0")
    rules = [*_kl_gates(gates, points)]
    if has_source:
        rules.append(Rule(f"source, {words.size(source_bytes)}", "source", x=float(source_bytes)))
    marks = [each.mark(each.size_bytes, words.size(each.size_bytes)) for each in _ordered(points)]
    chart = Chart(TITLE, SUBTITLE, across, _kl_axis(points, rules))
    kept = None if style else _data("size", marks, rules)
    return svg(HEIGHT, scatter(chart, marks, rules, has_front=has_front), TITLE, style, kept)


def by_speed(points: Sequence[Point], gates: Sequence[Rule], where: str) -> str:
    """Plot speed against divergence, as measured on one machine."""
    timed = [each for each in points if each.tok_s]
    if not timed:
        return ""
    across = Axis(f"tokens a second{where}", 0.0, 1.12 * max(each.tok_s or 0 for each in timed), _plain)
    rules = [*_kl_gates(gates, timed), *(each for each in gates if each.x is not None)]
    marks = [each.mark(each.tok_s or 0, f"{words.number(each.tok_s)} tokens/s") for each in _ordered(timed)]
    chart = Chart("Speed and distance from the source", SUBTITLE, across, _kl_axis(timed, rules))
    return svg(HEIGHT, scatter(chart, marks, rules, more_is_better=True, has_front=True), chart.title)


def there(points: Sequence[Point]) -> str:
    """Plot the speed on the machine that a reader chooses against divergence."""
    timed = [each for each in points if each.tok_s]
    if not timed:
        return ""
    across = Axis("tokens a second for each user", 0.0, 1.12 * max(each.tok_s or 0 for each in timed), _plain)
    marks = [each.mark(each.tok_s or 0, "") for each in _ordered(timed)]
    chart = Chart("Speed on the chosen machine", SUBTITLE, across, _kl_axis(timed, ()))
    drawn = scatter(chart, marks, more_is_better=True, has_front=True)
    own = [mark for mark in marks if mark.kind != "guess"]
    return svg(HEIGHT, drawn, chart.title, data=_data("speed", own, ()))


def memory(drawn: Sequence[Line], limits: Sequence[Rule], subtitle: str, room_bytes: float = 0.0) -> str:
    """Plot the memory that each takes against the length of its texts, and what a machine has."""
    if not drawn:
        return ""
    pairs = [pair for each in drawn for pair in (*each.points, *each.marks)]
    across = decades("tokens of context", (tokens for tokens, _ in pairs), _tokens, base=2)
    most = max(taken for _, taken in pairs)
    rules = [each for each in limits if each.y and each.y < 2 * most]  # others would press the lines together
    near = room_bytes if room_bytes < 2 * most else 0.0
    highest = 1.1 * max(most, near, *(each.y or 0.0 for each in rules), 0.0)
    up = Axis("", 0.0, highest, lambda tick: words.size(tick) if tick else "0")
    chart = Chart("Memory and length of texts", subtitle, across, up, NAMED)
    parts = [*lines(chart, drawn, rules)]
    if room_bytes:
        parts.append(room(chart, room_bytes, words.size(room_bytes)))
    measured = [each for each in drawn if each.marks]
    return svg(HEIGHT, parts, chart.title, data=_data("memory", measured, rules))


def _data(name: str, drawn: Sequence[Mark | Line], rules: Sequence[Rule]) -> dict[str, str]:
    """Describe what was measured, and limits, for a script that draws the plot for other machines."""
    measured = [asdict(each) for each in drawn if each.kind != "guess"]
    spec = {"drawn": measured, "rules": [asdict(each) for each in rules]}
    return {"plot": name, "spec": json.dumps(spec, ensure_ascii=False)}


def by_users(drawn: Sequence[Line], title: str, subtitle: str) -> str:
    """Plot a figure against how many ask at once."""
    found = [each for each in drawn if len(each.points) > 1]
    if not found:
        return ""
    pairs = [pair for each in found for pair in each.points]
    counts = tuple(sorted({users for users, _ in pairs}))
    across = Axis("requests at once", 0.0, counts[-1], _plain, only=counts)
    up = Axis("", 0.0, 1.1 * max(value for _, value in pairs), _plain)
    return svg(HEIGHT, lines(Chart(title, subtitle, across, up, NAMED), found), title)


def _ordered(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: (point.kl, point.size_bytes, point.name))


def _kl_axis(points: Sequence[Point], rules: Sequence[Rule]) -> Axis:
    ends = [value for point in points for value in (point.low, point.high)]
    return decades("KL", [*ends, *(each.y for each in rules if each.y)], _kl)


def _kl_gates(gates: Sequence[Rule], points: Sequence[Point]) -> Iterator[Rule]:
    """Yield the limits that are near enough to what was measured to be drawn."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    return (each for each in gates if each.y is not None and low / 100 < each.y < high * 100)


def _kl(value: float) -> str:
    return f"{value:g}" if value > 9e-4 else f"{value:.0e}".replace("e-0", "e-")


def _tokens(value: float) -> str:
    return f"{value / 1024:g}k" if value >= 1024 else f"{value:g}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
