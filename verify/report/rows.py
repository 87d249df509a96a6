"""The field: a row for the source, for each artifact of all reports, and for what could be built."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from verify.gates import Check
    from verify.report import ArtifactResult, QuantizedSource, Report, Scenarios
    from verify.report.choice import Choice, Offer

# The gates behind the columns.
GATES = {
    "size": "size_bytes",
    "KL": "kl_mean",
    "top-1": "top1",
    "ppl": "ppl_ratio",
    "smoke": "smoke_drop",
    "tok/s": "decode_tok_s",
    "memory": "peak_rss_bytes",
}
FLOORS = {"top1", "decode_tok_s", "prefill_tok_s"}
SHOWN: dict[str, Callable[[float], str]] = {
    "size_bytes": words.size,
    "peak_rss_bytes": words.size,
    "peak_anon_bytes": words.size,
    "top1": words.share,
    "smoke_drop": words.share,
    "ppl_ratio": lambda value: f"{value:.3f}×",
}


@dataclass(frozen=True)
class Bar:
    """How much of what a gate allows was used: 1 is all of it."""

    used: float
    measured: str
    limit: str  # of 0.12


@dataclass(frozen=True)
class Cell:
    """A figure: as people read it, and as it is sorted."""

    text: str = words.NONE
    value: float | None = None
    bar: Bar | None = None
    is_guess: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the field."""

    key: str
    name: str
    anchor: str
    recipe: str
    kind: str  # source, artifact or offer
    format_name: str
    verdict: str
    runtime: str
    cells: dict[str, Cell]
    scores: dict[str, tuple[float, int]] = field(default_factory=dict)  # passed, of so many dialogues
    offer: Offer | None = None


class Anchors:
    """Names for the page's places: each once, whatever artifacts are called."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def name(self, *parts: str) -> str:
        """Return a name made of these parts that no other place has."""
        plain = "-".join(re.sub(r"[^\w.-]+", "-", part).strip("-") for part in parts) or "x"
        self._given[plain] = count = self._given.get(plain, 0) + 1
        return plain if count == 1 else f"{plain}-{count}"


def key(report: Report, name: str) -> str:
    """Return what identifies an artifact among those of several reports."""
    return f"{report.recipe or ''}/{name}"


def rows(reports: Sequence[Report], choice: Choice | None, anchors: dict[str, str]) -> Iterator[Row]:
    """Yield each source and its artifacts, then what could be built."""
    for report in reports:
        yield _source(report, len(reports) > 1)
        yield from (_quantized(report, each) for each in report.baselines)
        for artifact in report.artifacts:
            which = key(report, artifact.name)
            yield _artifact(report, artifact, choice.offer(which) if choice else None, anchors[which])
    for offer in choice.offers if choice else ():
        if offer.key in anchors:
            continue
        yield _offer(offer)


def _source(report: Report, is_named: bool) -> Row:  # noqa: FBT001
    source = report.source
    smoke = source.scenarios.smoke if source.scenarios else None
    has_quality = any(each.quality for each in report.artifacts)
    cells = {
        "size": Cell(words.size(source.size_bytes), source.size_bytes),
        "smoke": Cell(words.share(smoke), smoke),
    }
    if source.speed and source.speed.decode_tok_s:
        rate = source.speed.decode_tok_s.median
        cells["tok/s"] = Cell(words.number(rate), rate)
    if source.memory:
        cells["memory"] = Cell(words.size(source.memory.peak_rss_bytes), source.memory.peak_rss_bytes)
    if has_quality:
        cells |= {"KL": Cell("0", 0.0), "top-1": Cell("100 %", 1.0), "ppl": Cell("1×", 1.0)}
    name = f"source of {report.recipe}" if is_named and report.recipe else "source"
    runtime = source.opened.runtime if source.opened else ""
    return Row(
        f"{report.recipe or ''}/", name, "", report.recipe or "", "source", "", "", runtime, cells,
        _scores(source.scenarios),
    )  # fmt: skip


def _quantized(report: Report, found: QuantizedSource) -> Row:
    texts = dict(zip(words.HEAD, words.quantized_row(found, report.source), strict=True))
    figures = {"size": report.source.size_bytes, **_figures(found)}
    cells = {title: Cell(texts[title], value) for title, value in figures.items() if value is not None}
    runtime = found.opened.runtime if found.opened else ""
    where = key(report, f"({found.name})")
    return Row(where, f"({found.name})", "", report.recipe or "", "source", "", "", runtime, cells)


def _figures(found: ArtifactResult | QuantizedSource) -> dict[str, float | None]:
    quality, speed, memory = found.quality, found.speed, found.memory
    return {
        "KL": quality.kl_mean if quality else None,
        "top-1": quality.top1 if quality else None,
        "ppl": quality.ppl_ratio if quality else None,
        "tok/s": speed.decode_tok_s.median if speed and speed.decode_tok_s else None,
        "memory": memory.peak_rss_bytes if memory else None,
    }


def _artifact(report: Report, artifact: ArtifactResult, offer: Offer | None, anchor: str) -> Row:
    smoke = artifact.scenarios.smoke if artifact.scenarios else None
    figures = {"size": artifact.size_bytes, "smoke": smoke, **_figures(artifact)}
    texts = dict(zip(words.HEAD, words.row(artifact), strict=True))
    checks = {each.name: each for each in artifact.checks}
    cells = {
        title: Cell(texts[title], value, bar(checks.get(GATES[title])))
        for title, value in figures.items()
        if value is not None
    }
    return Row(
        key(report, artifact.name), artifact.name, anchor, report.recipe or "", "artifact",
        offer.format_name if offer else artifact.name.partition("-")[0],
        artifact.verdict, artifact.opened.runtime if artifact.opened else "", cells,
        _scores(artifact.scenarios), offer,
    )  # fmt: skip


def _scores(scenarios: Scenarios | None) -> dict[str, tuple[float, int]]:
    found = scenarios.scores if scenarios else ()
    return {f"{each.scenario} {each.language}": (each.smoke, each.dialogues) for each in found}


def _offer(offer: Offer) -> Row:
    cells = {
        "size": Cell(f"{words.size(offer.weights_bytes)}", offer.weights_bytes, is_guess=True),
        "KL": Cell(words.number(offer.expected_kl), offer.expected_kl, is_guess=True),
    }
    return Row(
        offer.key, offer.name, "", offer.recipe, "offer", offer.format_name, offer.state,
        ", ".join(offer.runtimes), cells, {}, offer,
    )  # fmt: skip


def bar(check: Check | None) -> Bar | None:
    """Say how much of what a gate allows was used; None for what is no figure with a limit."""
    if check is None:
        return None
    measured, limit = check.measured, check.limit
    if not is_figure(measured) or not is_figure(limit):
        return None
    show = SHOWN.get(check.name, words.number)
    if check.name == "top1":
        used = (1 - measured) / (1 - limit) if limit < 1 else float(measured < limit)
    elif check.name in FLOORS:
        used = limit / measured if measured > 0 else 2.0
    else:
        least = 1.0 if check.name == "ppl_ratio" else 0.0
        used = (measured - least) / (limit - least) if limit > least else 2.0 * (measured > limit)
    allowed = f"{'≥' if check.name in FLOORS else 'of'} {show(limit)}"
    said = f"lost {show(max(0.0, measured))}" if check.name == "smoke_drop" else show(measured)
    return Bar(max(0.0, used), said, allowed)


def is_figure(value: object) -> TypeGuard[float]:
    """Say whether a check's value is a number, not a verdict or a word."""
    return isinstance(value, int | float) and not isinstance(value, bool)
