"""Charts: axes, marks, lines, the front of the best, and limits; a style sheet colors them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from verify.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LINE,
    RIGHT,
    TOP,
    WIDTH,
    About,
    Names,
    cut,
    linked,
    path,
    text,
)


@dataclass(frozen=True)
class Axis:
    """A scale: from a value to its place, with round numbers along it."""

    label: str
    low: float
    high: float
    show: Callable[[float], str]
    is_log: bool = False
    base: int = 10
    only: tuple[float, ...] = ()  # ticks, where the values are few

    def place(self, value: float, start: float, end: float) -> float:
        """Return where a value lies between two places."""
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return start + (end - start) * min(1.02, max(-0.02, share))

    def ticks(self) -> list[float]:
        """Return some round numbers on the scale."""
        if self.only:
            return [*self.only]
        if self.is_log:
            count = round(math.log(self.high / self.low, self.base))
            step = max(1, math.ceil(count / 8))
            return [self.low * self.base**number for number in range(0, count + 1, step)]
        rough = (self.high - self.low) / 5 or 1.0
        unit = 10.0 ** math.floor(math.log10(rough))
        step_size = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
        return [
            self.low + step_size * number for number in range(int((self.high - self.low) / step_size) + 1)
        ]


def decades(label: str, values: Iterable[float], show: Callable[[float], str], base: int = 10) -> Axis:
    """Make a logarithmic axis from and to a power of the base that holds all values."""
    found = list(values)
    low = float(base) ** math.floor(math.log(min(found), base) + 1e-9)
    high = float(base) ** math.ceil(math.log(max(found), base) - 1e-9)
    return Axis(label, low, max(high, low * base), show, is_log=True, base=base)


@dataclass(frozen=True)
class Mark:
    """One point, with its name next to it."""

    name: str
    x: float
    y: float
    kind: str = "good"  # the class that draws it
    spread: tuple[float, float] | None = None  # the interval of y
    about: About = field(default_factory=About)


@dataclass(frozen=True)
class Rule:
    """A line across the chart: a limit, or the source."""

    name: str
    kind: str
    x: float | None = None
    y: float | None = None


@dataclass(frozen=True)
class Line:
    """A figure as another one grows; solid where it was measured."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "measured"
    marks: Sequence[tuple[float, float]] = ()  # what was measured on it
    about: About = field(default_factory=About)


@dataclass(frozen=True)
class Chart:
    """What a chart is called, and its axes."""

    title: str
    subtitle: str
    across: Axis
    up: Axis
    right: int = RIGHT  # of the axes; lines need room for their names

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pair of values lies."""
        return self.across.place(x, LEFT, WIDTH - self.right), self.up.place(y, HEIGHT - BOTTOM, TOP)


def _frame(chart: Chart) -> Iterator[str]:
    """Draw the ground, the titles, and both axes with their round numbers."""
    across, up, bottom = chart.across, chart.up, HEIGHT - BOTTOM
    yield f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>'
    yield text(24, 32, chart.title, "start", "title")
    yield text(24, 52, chart.subtitle, "start", "label")
    for number, tick in enumerate(up.ticks()):
        y = up.place(tick, bottom, TOP)
        yield f'<path class="{"grid" if number else "axis"}" d="M{LEFT} {y:.1f}H{WIDTH - chart.right}"/>'
        yield text(LEFT - 10, y + 5, up.show(tick), "end")
    for tick in across.ticks():
        x = across.place(tick, LEFT, WIDTH - chart.right)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>'
        yield text(x, bottom + 22, across.show(tick), "middle")
    yield text(WIDTH - chart.right, HEIGHT - 14, across.label, "end", "label")


def scatter(
    chart: Chart,
    marks: Sequence[Mark],
    rules: Sequence[Rule] = (),
    *,
    more_is_better: bool = False,
    has_front: bool = False,
) -> Iterator[str]:
    """Draw points with their intervals, the front of those that none surpasses, and limits as lines."""
    yield from _frame(chart)
    names = Names()
    for each in marks:
        names.keep_clear(*chart.at(each.x, each.y))
    for rule in rules:
        yield from _rule(rule, chart, names)
    if has_front:
        able = [each for each in marks if each.kind != "failed" and not each.about.why]
        best = front(able, more_is_better=more_is_better)
        if len(best) > 1:
            corners = list(_steps([chart.at(each.x, each.y) for each in best]))
            names.avoid(corners)
            yield f'<path class="front" d="{path(corners)}"/>'
    for each in marks:
        x, y = chart.at(each.x, each.y)
        shown = cut(each.name) + ("" if each.kind in ("good", "guess") else f", {each.kind}")
        parts = [f'<circle class="{each.kind}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>']
        if each.spread:
            low, high = (chart.at(each.x, value)[1] for value in each.spread)
            parts.insert(0, f'<path class="spread" d="M{x:.1f} {high:.1f}V{low:.1f}"/>')
        parts.append(names.write(shown, x, y))
        yield linked("".join(parts), each.about)


def lines(chart: Chart, drawn: Sequence[Line], rules: Sequence[Rule] = ()) -> Iterator[str]:
    """Draw lines, each with its name to the right, in the order of their ends."""
    yield from _frame(chart)
    for rule in rules:
        yield from _rule(rule, chart, Names())
    ordered = sorted(drawn, key=lambda one: chart.at(*one.points[-1])[1])
    heights = _apart([chart.at(*each.points[-1])[1] + 5 for each in ordered])
    for each, height in zip(ordered, heights, strict=True):
        places = [chart.at(*point) for point in each.points]
        x, y = places[-1]
        parts = [f'<path class="line {each.kind}" d="{path(places)}"/>']
        parts += [_dot(*chart.at(*point)) for point in each.marks]
        edge = WIDTH - chart.right
        parts.append(f'<path class="lead" d="{path([(x + 5, y), (edge + 20, height - 5)])}"/>')
        parts.append(text(edge + 24, height, cut(each.name), "start", "name"))
        yield linked("".join(parts), each.about)


def room(chart: Chart, room_bytes: float, shown: str) -> str:
    """Draw what a machine has for a model as a line, or say that it is above the chart."""
    is_above = room_bytes > chart.up.high
    y = TOP if is_above else chart.at(chart.across.low, room_bytes)[1]
    said = f"{shown} of room: above this" if is_above else f"{shown} of room"
    return (
        f'<path class="room" d="M{LEFT} {y:.1f}H{WIDTH - chart.right}"/>'
        f"{text(LEFT + 8, y - 7, said, 'start', 'room')}"
    )


def _dot(x: float, y: float) -> str:
    return f'<circle class="good" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def _apart(heights: Sequence[float]) -> list[float]:
    """Move names apart that would lie on each other, and up where they would leave the chart."""
    found: list[float] = []
    for height in heights:
        found.append(max(height, found[-1] + LINE) if found else height)
    over = max(0.0, found[-1] - (HEIGHT - BOTTOM + 20))
    for place in reversed(range(len(found))):
        after = found[place + 1] if place + 1 < len(found) else math.inf
        found[place] = min(found[place], after - LINE, found[-1] - over if over else math.inf)
    return found


def front(marks: Sequence[Mark], *, more_is_better: bool) -> list[Mark]:
    """Return those that no other surpasses: nearer to the source at no more size, or at no less speed."""
    found: list[Mark] = []
    for each in sorted(marks, key=lambda one: (-one.x if more_is_better else one.x, one.y)):
        if not found or each.y < found[-1].y:
            found.append(each)
    return found


def _steps(places: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    yield places[0]
    for (_, before), (x, y) in pairwise(places):
        yield x, before
        yield x, y


def _rule(rule: Rule, chart: Chart, names: Names) -> Iterator[str]:
    low_x, low_y = chart.across.low, chart.up.low
    x, y = chart.at(low_x if rule.x is None else rule.x, low_y if rule.y is None else rule.y)
    if rule.x is not None:
        yield f'<path class="{rule.kind}" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield names.write(rule.name, x, TOP + 9, "")
    else:
        yield f'<path class="{rule.kind}" d="M{LEFT} {y:.1f}H{WIDTH - chart.right}"/>'
        yield names.write(rule.name, WIDTH - chart.right, y - 10, "")
