"""The page's plots: what of the reports and of the choice goes into each."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from verify.report import plot, words
from verify.report.chart import Line, Rule
from verify.report.plot import Point
from verify.report.rows import is_figure, key
from verify.report.svg import About

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from verify.report import ArtifactResult, Report
    from verify.report.choice import Choice

MOST_GUESSES = 24  # in one plot, so that they can be distinguished
MOST_LINES = 10
CONTEXTS = tuple(1 << power for power in range(9, 16))


def plots(reports: Sequence[Report], anchors: Mapping[str, str], choice: Choice | None) -> Iterator[str]:
    """Yield each plot that there is something to draw for."""
    is_many = len(reports) > 1
    points = [point for report in reports for point in _points(report, anchors, choice, is_many=is_many)]
    source_bytes = reports[0].source.size_bytes if len(reports) == 1 else 0
    guessed = [*points, *_guessed(choice, [*anchors])]
    gates = list(_gates(reports))
    yield from filter(None, [plot.by_size(guessed, source_bytes, gates, has_front=True)])
    for machine, group in groupby(reports, lambda report: (report.machine.cpu, report.machine.cores)):
        there = [point for report in group for point in _points(report, anchors, choice, is_many=is_many)]
        yield from filter(None, [plot.by_speed(there, gates, f" on {machine[0]}, {machine[1]} cores")])
    if choice:
        yield from filter(None, [plot.there([*_there(guessed, choice)])])
    yield from filter(None, [_memory(reports, anchors, choice)])
    yield from _load(reports, anchors)


def _points(
    report: Report, anchors: Mapping[str, str], choice: Choice | None, *, is_many: bool
) -> Iterator[Point]:
    for each in report.artifacts:
        which = key(report, each.name)
        offer = choice.offer(which) if choice else None
        speed = each.speed.decode_tok_s.median if each.speed and each.speed.decode_tok_s else None
        verdict = "failed" if each.verdict == "failed" else "good"
        name = _name(report, each, is_many=is_many)
        found = Point.of(
            name, each.size_bytes, each.quality, verdict, tok_s=speed, link=anchors[which],
            key=which if offer else "", why=offer.fault if offer else "",
        )  # fmt: skip
        if found:
            yield found


def _name(report: Report, artifact: ArtifactResult, *, is_many: bool) -> str:
    return f"{report.recipe} {artifact.name}" if is_many and report.recipe else artifact.name


def _guessed(choice: Choice | None, known: Sequence[str]) -> list[Point]:
    """Return points of what is not built: exact sizes, and the divergence that was published of the type."""
    if choice is None:
        return []
    return [
        Point(f"{each.recipe} {each.name}", round(each.weights_bytes), each.expected_kl, each.expected_kl,
              each.expected_kl, "guess", each.tok_s, "field", each.key, each.fault)
        for each in choice.unbuilt(known)
        if each.expected_kl > plot.SMALLEST_KL and each.weights_bytes
    ][:MOST_GUESSES]  # fmt: skip


def _there(points: Sequence[Point], choice: Choice) -> Iterator[Point]:
    """Yield what opens on the machine of the choice, at the speed there."""
    for each in points:
        offer = choice.offer(each.key)
        if offer and offer.tok_s:
            is_known = each.verdict != "good" or offer.is_speed_measured
            yield replace(each, tok_s=offer.tok_s, verdict=each.verdict if is_known else "guess")


def _gates(reports: Sequence[Report]) -> Iterator[Rule]:
    """Yield each limit once, of those that the plots of quality have an axis for."""
    for limit in _limits(reports, "kl_mean"):
        yield Rule(f"gate {words.number(limit)}", "gate", y=limit)
    for limit in _limits(reports, "decode_tok_s"):
        yield Rule(f"gate {words.number(limit)}", "gate", x=limit)


def _limits(reports: Sequence[Report], gate: str) -> list[float]:
    checks = (check for report in reports for each in report.artifacts for check in each.checks)
    return sorted({float(each.limit) for each in checks if each.name == gate and is_figure(each.limit)})


def _memory(reports: Sequence[Report], anchors: Mapping[str, str], choice: Choice | None) -> str:
    """Draw the memory of each artifact against the length of its texts, and what it may take."""
    drawn = [
        line for report in reports for line in _measured_memory(report, anchors, choice, len(reports) > 1)
    ]
    for offer in (choice.unbuilt([*anchors]) if choice else [])[:MOST_LINES]:
        name = f"{offer.recipe} {offer.name}"
        if offer.memory:
            about = About(f"{name}, estimated", "field", offer.key, offer.fault)
            drawn.append(Line(name, list(offer.memory), "estimated", (), about))
    limits = [
        Rule(f"gate {words.size(limit)}", "gate", y=limit) for limit in _limits(reports, "peak_rss_bytes")
    ]
    subtitle = "full points were measured; lines follow the cache of each token"
    return plot.memory(drawn, limits, subtitle, choice.room_bytes if choice else 0.0)


def _measured_memory(
    report: Report,
    anchors: Mapping[str, str],
    choice: Choice | None,
    is_many: bool,  # noqa: FBT001
) -> Iterator[Line]:
    """Yield a line through each measured peak: what the cache adds, or saves from there."""
    for each in report.artifacts:
        memory, opened = each.memory, each.opened
        per_token = memory and (memory.kv_bytes_per_token or memory.kv_bytes_per_token_computed)
        if not memory or not opened or not per_token:
            continue
        name, which = _name(report, each, is_many=is_many), key(report, each.name)
        offer = choice.offer(which) if choice else None
        most = max(opened.context, offer.context if offer else CONTEXTS[-1])
        lengths = sorted({opened.context, *(tokens for tokens in CONTEXTS if tokens <= most)})
        peak = memory.peak_rss_bytes
        points = [(tokens, peak + (tokens - opened.context) * per_token) for tokens in lengths]
        hover = (
            f"{name}: {words.size(peak)} measured with a context of {opened.context:,}, "
            f"{words.size(per_token)} for each token more"
        )
        about = About(hover, anchors[which], which if offer else "", offer.fault if offer else "")
        yield Line(name, points, "estimated measured", [(opened.context, peak)], about)


def _load(reports: Sequence[Report], anchors: Mapping[str, str]) -> Iterator[str]:
    """Draw what all users get, what each gets and how long each waits, by how many ask at once."""
    found: dict[str, list[Line]] = {"together": [], "each": [], "first": []}
    for report in reports:
        for each in report.artifacts:
            name = _name(report, each, is_many=len(reports) > 1)
            for figure, rates in _rates(each).items():
                said = ", ".join(f"{words.number(value)} for {count}" for count, value in rates)
                about = About(f"{name}: {said}", anchors[key(report, each.name)])
                found[figure].append(Line(name, rates, "measured", rates, about))
    titles = {
        "together": ("Throughput of all users", "tokens a second, together"),
        "each": ("Speed for each user", "tokens a second, each"),
        "first": ("Wait for the first token", "seconds, the median of all requests"),
    }
    return (drawn for figure, lines in found.items() if (drawn := plot.by_users(lines, *titles[figure])))


def _rates(artifact: ArtifactResult) -> dict[str, list[tuple[float, float]]]:
    """Return figures by users: those of a load on a server, else of several requests at once."""
    levels = sorted((each for each in artifact.load if each.users), key=lambda each: each.users or 0)
    if not levels:
        rates = sorted(artifact.speed.throughput_tok_s.items()) if artifact.speed else []
        return {
            "together": [(count, rate) for count, rate in rates],
            "each": [(count, rate / count) for count, rate in rates],
        }
    return {
        "together": [(each.users or 0, each.throughput_tok_s) for each in levels],
        "each": [(each.users or 0, each.user_tok_s) for each in levels if each.user_tok_s is not None],
        "first": [(each.users or 0, each.ttft_p50_s) for each in levels if each.ttft_p50_s is not None],
    }
