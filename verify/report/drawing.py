"""The page's plots: what of the reports and of the choice goes into each."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from verify.report import plot, words
from verify.report.chart import Line, Rule
from verify.report.plot import Point
from verify.report.rows import SHOWN, key

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
    points = [point for report in reports for point in _points(report, anchors, is_many=is_many)]
    source_bytes = reports[0].source.size_bytes if len(reports) == 1 else 0
    guessed = [*points, *_guessed(choice, [*anchors])]
    gates = list(_gates(reports))
    yield from filter(None, [plot.by_size(guessed, source_bytes, gates, has_front=True)])
    for machine, group in groupby(reports, lambda report: (report.machine.cpu, report.machine.cores)):
        there = [point for report in group for point in _points(report, anchors, is_many=is_many)]
        yield from filter(None, [plot.by_speed(there, gates, f" on {machine[0]}, {machine[1]} cores")])
    yield from filter(None, [_memory(reports, anchors, choice)])
    yield from _load(reports, anchors)


def _points(report: Report, anchors: Mapping[str, str], *, is_many: bool) -> Iterator[Point]:
    for each in report.artifacts:
        speed = each.speed.decode_tok_s.median if each.speed and each.speed.decode_tok_s else None
        verdict = "failed" if each.verdict == "failed" else "good"
        link = anchors[key(report, each.name)]
        name = _name(report, each, is_many=is_many)
        found = Point.of(name, each.size_bytes, each.quality, verdict, tok_s=speed, link=link)
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
              each.expected_kl, "guess", link="field")
        for each in choice.unbuilt(known)
        if each.expected_kl > plot.SMALLEST_KL and each.weights_bytes
    ][:MOST_GUESSES]  # fmt: skip


def _gates(reports: Sequence[Report]) -> Iterator[Rule]:
    """Yield each limit once, of those that the plots have an axis for."""
    checks = [check for report in reports for each in report.artifacts for check in each.checks]
    limits = {(check.name, check.limit) for check in checks if isinstance(check.limit, int | float)}
    for name, limit in sorted(limits):
        if name == "kl_mean":
            yield Rule(f"gate {words.number(float(limit))}", "gate", y=float(limit))
        elif name == "decode_tok_s":
            yield Rule(f"gate {words.number(float(limit))}", "gate", x=float(limit))


def _memory(reports: Sequence[Report], anchors: Mapping[str, str], choice: Choice | None) -> str:
    """Draw the memory of each artifact: the measured peak, and what the cache adds or saves from there."""
    drawn = []
    for report in reports:
        for each in report.artifacts:
            per_token = each.memory and (
                each.memory.kv_bytes_per_token or each.memory.kv_bytes_per_token_computed
            )
            if not each.memory or not each.opened or not per_token:
                continue
            context, peak = each.opened.context, each.memory.peak_rss_bytes
            points = [
                (tokens, peak + (tokens - context) * per_token) for tokens in sorted({*CONTEXTS, context})
            ]
            name = _name(report, each, is_many=len(reports) > 1)
            hover = (
                f"{name}: {words.size(peak)} measured with a context of {context:,}, "
                f"{words.size(per_token)} for each token more"
            )
            link = anchors[key(report, each.name)]
            drawn.append(Line(name, points, "estimated", [(context, peak)], hover, link))
    known = [*anchors]
    for offer in (choice.unbuilt(known) if choice else [])[:MOST_LINES]:
        name = f"{offer.recipe} {offer.name}"
        if offer.memory:
            hover = f"{name}: about {words.size(offer.memory[-1][1])} at {offer.memory[-1][0]:,} tokens"
            drawn.append(Line(name, list(offer.memory), "estimated", (), hover, "field"))
    limits = sorted(
        {
            check.limit
            for report in reports
            for each in report.artifacts
            for check in each.checks
            if check.name == "peak_rss_bytes" and isinstance(check.limit, int | float)
        }
    )
    said = "full points were measured; lines follow the cache of each token"
    allowed = f"; allowed: {', '.join(SHOWN['peak_rss_bytes'](each) for each in limits)}" if limits else ""
    return plot.memory(drawn, said + allowed)


def _load(reports: Sequence[Report], anchors: Mapping[str, str]) -> Iterator[str]:
    """Draw what all users get together and what each gets, by how many ask at once."""
    together, alone = [], []
    for report in reports:
        for each in report.artifacts:
            rates = sorted(each.speed.throughput_tok_s.items()) if each.speed else []
            name = _name(report, each, is_many=len(reports) > 1)
            link = anchors[key(report, each.name)]
            hover = f"{name}: " + ", ".join(
                f"{words.number(rate)} tokens/s for {count}" for count, rate in rates
            )
            together.append(Line(name, rates, "measured", rates, hover, link))
            shares = [(count, rate / count) for count, rate in rates]
            alone.append(Line(name, shares, "measured", shares, hover, link))
    yield from filter(
        None,
        [
            plot.by_users(together, "Throughput of all users", "tokens a second, together", ""),
            plot.by_users(alone, "Speed for each user", "tokens a second, each", ""),
        ],
    )
