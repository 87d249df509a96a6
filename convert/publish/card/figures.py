"""The tables and the plot: every figure is the report's, and one that was not measured is a dash."""

from collections.abc import Iterator
from typing import Any

from convert.publish.bundle import Bundle, Candidate
from convert.publish.card import advice, markdown
from convert.publish.card.label import label, weights
from convert.store import Manifest
from verify.machine import Machine
from verify.report import plot as plots
from verify.report import words
from verify.sample import Spread

WORDS = ("File", "Verdict")
QUALITY = ("File", "Size", "Bits", "KL divergence", "Top-1", "Perplexity", "Dialogues", "Verdict")
# Before the verdict, where it can be estimated.
NEEDS = "Needs at {}"
NO_BREAK = "\u00a0"
SPEED = ("File", "Memory", "Load", "First token", "Prefill", "Decode")
PLOT = "quality.svg"


def values(bundle: Bundle, context: int | None = None) -> dict[str, Any]:
    """Return the tables and the figures that the card's text mentions; `context` is the model's own."""
    results = [candidate.result for candidate in bundle.candidates]
    positions = {each.quality.positions for each in results if each.quality}
    versions = {item for each in results if each.opened for item in each.opened.versions.items()}
    is_timed = any(each.speed or each.memory for each in results)
    rows: list[tuple[str, ...]] = [*map(_quality_row, bundle.candidates), _source_row(bundle)]
    needs = [advice.needs(bundle, each, context) for each in bundle.candidates]
    head: tuple[str, ...] = QUALITY
    if known := [each for each in needs if each]:
        shown = " / ".join(map(_tokens, advice.contexts(context)))
        head = (*QUALITY[:-1], NEEDS.format(_whole(shown)), QUALITY[-1])
        cells = [
            _whole(" / ".join(map(words.size, each.size_bytes.values()))) if each else "" for each in needs
        ]
        rows = [(*row[:-1], cell, row[-1]) for row, cell in zip(rows, [*cells, ""], strict=True)]
    speed_rows = [_speed_row(each) for each in bundle.candidates if is_timed]
    return {
        "quality_table": markdown.table(head, rows, words=WORDS),
        "needs_in": sorted({each.runtime for each in known}),
        "needs_error": max((each.error for each in known), default=0.0),
        "speed_table": markdown.table(SPEED, speed_rows, words=WORDS) if is_timed else "",
        "plot_file": PLOT,
        "has_plot": any(_points(bundle)),
        "positions": sorted({min(positions), max(positions)}) if positions else [],
        "scores": next((each.scenarios.scores for each in results if each.scenarios), ()),
        "prompt_tokens": next((each.speed.prompt_tokens for each in results if each.speed), None),
        "runtimes": ", ".join(sorted(f"{name} {version}" for name, version in versions)),
        "machine": _machine(bundle.report.machine),
        "cautions": [
            f"{label(each)}: {caution}"
            for each in bundle.candidates
            if each.result.speed
            for caution in each.result.speed.cautions
        ],
    }


def plot(bundle: Bundle) -> str:
    """Draw size against distance from the source, as an SVG file; empty where neither was measured."""
    return plots.quality(_points(bundle), bundle.report.source.size_bytes, plots.STYLE)


def _points(bundle: Bundle) -> Iterator[plots.Point | None]:
    for each in bundle.candidates:
        name, verdict = markdown.one_line(label(each)), "waived" if each.waived else "good"
        yield plots.Point.of(name, each.manifest.size_bytes, each.result.quality, verdict)


def _machine(found: Machine) -> str:
    """Describe a machine as far as it matters for figures, and no further."""
    parts = [found.cpu, f"{found.cores} core{'s' if found.cores != 1 else ''}"]
    parts += [f"{words.size(found.memory_bytes)} of memory", *(each.name for each in found.accelerators)]
    return ", ".join(parts)


def _name(candidate: Candidate) -> str:
    """Link an artifact's one file, or name its folder."""
    files = weights(candidate)
    if len(files) == 1:
        path = candidate.shipped_path(files[0].path)
        return markdown.link(markdown.code(path, in_cell=True), path)
    shown = markdown.code(candidate.prefix.rstrip("/") or label(candidate), in_cell=True)
    return f"{shown} ({len(files)} files)" if len(files) > 1 else shown


def _quality_row(candidate: Candidate) -> tuple[str, ...]:
    found, scenarios = candidate.result.quality, candidate.result.scenarios
    return (
        _name(candidate),
        _whole(words.size(candidate.manifest.size_bytes)),
        words.NONE if (width := bits(candidate.manifest)) is None else f"{width:.1f}",
        words.number(found.kl_mean if found else None),
        _whole(words.share(found.top1 if found else None)),
        f"{found.ppl_ratio:.3f}×" if found else words.NONE,
        _whole(words.share(scenarios.smoke if scenarios else None)),
        _verdict(candidate),
    )


def _source_row(bundle: Bundle) -> tuple[str, ...]:
    source = bundle.report.source
    smoke = source.scenarios.smoke if source.scenarios else None
    has_quality = any(candidate.result.quality for candidate in bundle.candidates)
    same = ("0.000", _whole("100 %"), "1.000×") if has_quality else (words.NONE,) * 3
    manifest = bundle.candidates[0].manifest
    width = _bits(source.size_bytes, manifest)
    stored = words.NONE if width is None else f"{width:.1f}"
    return (
        *("*the source*", _whole(words.size(source.size_bytes)), stored, *same),
        *(_whole(words.share(smoke)), ""),
    )


def bits(manifest: Manifest) -> float | None:
    """Return how many bits a weight takes, all of the artifact's files counted."""
    return _bits(manifest.size_bytes, manifest)


def _bits(size_bytes: int, manifest: Manifest) -> float | None:
    count = manifest.model.parameter_count if manifest.model else None
    return 8 * size_bytes / count if count else None


def _tokens(count: int) -> str:
    return f"{count // 1024}k" if count % 1024 == 0 else f"{count:,}"


def _speed_row(candidate: Candidate) -> tuple[str, ...]:
    found, memory = candidate.result.speed, candidate.result.memory
    spreads = (found.load_s, found.ttft_s, found.prefill_tok_s, found.decode_tok_s) if found else (None,) * 4
    units = ("s", "s", "tokens/s", "tokens/s")
    return (
        markdown.code(label(candidate), in_cell=True),
        _whole(words.size(memory.peak_rss_bytes if memory else None)),
        *map(_with_unit, spreads, units),
    )


def _verdict(candidate: Candidate) -> str:
    """Say that it passed, or which gates were waived."""
    if not candidate.waived:
        return "passed" if candidate.result.passed else "**not passed**"
    gates = ", ".join(markdown.code(waiver.gate, in_cell=True) for waiver in candidate.waived)
    return f"**waived**: {gates}"


def _with_unit(spread: Spread | None, unit: str) -> str:
    """Write three significant digits: a measurement on a busy machine has no more."""
    if spread is None:
        return words.NONE
    value = spread.median
    places = next((digits for limit, digits in ((1, 3), (10, 2), (100, 1)) if value < limit), 0)
    return _whole(f"{value:,.{places}f} {unit}")


def _whole(cell: str) -> str:
    """Keep a figure and its unit on one line."""
    return cell.replace(" ", NO_BREAK)
