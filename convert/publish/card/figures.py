"""The tables: every figure is the report's, and what was not measured is shown as such."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.publish.card import markdown
from convert.publish.card.label import label, weights
from verify.report import plot as plots
from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.publish.bundle import Bundle, Candidate
    from verify.machine import Machine

WORDS = ("File", "Verdict")
QUALITY = ("File", "Size", "Perplexity", "KL divergence", "Top-1", "Dialogues", "Verdict")
NO_BREAK = "\u00a0"
SPEED = ("File", "Memory", "Load", "First token", "Reading", "Writing")


def quality(bundle: Bundle) -> str:
    """What each artifact weighs, and how near it is to the source."""
    return markdown.table(QUALITY, [*map(_quality_row, bundle.candidates), _source_row(bundle)], words=WORDS)


def plot(bundle: Bundle) -> str:
    """Draw size against distance from the source, as an SVG file; empty where neither was measured."""
    points = (
        plots.Point.of(
            markdown.one_line(label(candidate)),
            candidate.manifest.size_bytes,
            candidate.result.quality,
            "waived" if candidate.waived else "good",
        )
        for candidate in bundle.candidates
    )
    return plots.quality(points, bundle.report.source.size_bytes, plots.STYLE)


def speed(bundle: Bundle) -> str:
    """What each artifact takes, and how fast it is."""
    return markdown.table(SPEED, [_speed_row(candidate) for candidate in bundle.candidates], words=WORDS)


def has_speed(bundle: Bundle) -> bool:
    """Whether anything of it was measured."""
    return any(candidate.result.speed or candidate.result.memory for candidate in bundle.candidates)


def legend(bundle: Bundle) -> Iterator[str]:
    """What the columns of the first table say."""
    positions = {each.result.quality.positions for each in bundle.candidates if each.result.quality}
    if positions:
        count = " to ".join(f"{number:,}" for number in sorted({min(positions), max(positions)}))
        yield (
            "- **Perplexity** is the file's over the source's (1 is equal), **KL divergence** the mean "
            "distance between their odds for the next token, in nats (0 is equal), **top-1** how often both "
            "hold the same token for the most likely. "
            f"Measured on {count} tokens: {markdown.text(bundle.report.text)}."
        )
    scores = next((each.result.scenarios for each in bundle.candidates if each.result.scenarios), None)
    if scores:
        total = sum(score.dialogues for score in scores.scores)
        names = ", ".join(dict.fromkeys(f"{score.scenario} ({score.language})" for score in scores.scores))
        yield (
            f"- **Dialogues** is the share of {total} dialogues whose every required check the answers "
            f"passed: {markdown.text(names)}. The last row is what the source itself does; the difference is "
            "the loss."
        )


def machine(found: Machine) -> str:
    """A machine as far as it matters for figures, and no further."""
    parts = [found.cpu, f"{found.cores} core{'s' if found.cores != 1 else ''}"]
    parts += [f"{words.size(found.memory_bytes)} of memory", *(each.name for each in found.accelerators)]
    return markdown.text(", ".join(parts))


def runtimes(candidates: Sequence[Candidate]) -> str:
    """What opened them, with versions."""
    found = {
        f"{name} {version}"
        for candidate in candidates
        if candidate.result.opened
        for name, version in candidate.result.opened.versions.items()
    }
    return markdown.text(", ".join(sorted(found)))


def name(candidate: Candidate) -> str:
    """An artifact as a link to its file, or to its folder."""
    files = weights(candidate)
    if len(files) == 1:
        path = candidate.shipped_path(files[0].path)
        return markdown.link(markdown.code(path, in_cell=True), path)
    shown = markdown.code(candidate.prefix.rstrip("/") or label(candidate), in_cell=True)
    return f"{shown} ({len(files)} files)" if len(files) > 1 else shown


def _quality_row(candidate: Candidate) -> tuple[str, ...]:
    found, scenarios = candidate.result.quality, candidate.result.scenarios
    return (
        name(candidate),
        _whole(words.size(candidate.manifest.size_bytes)),
        f"{found.ppl_ratio:.3f}×" if found else words.NONE,
        words.number(found.kl_mean if found else None),
        _whole(words.share(found.top1 if found else None)),
        _whole(words.share(scenarios.smoke if scenarios else None)),
        verdict(candidate),
    )


def _source_row(bundle: Bundle) -> tuple[str, ...]:
    source = bundle.report.source
    smoke = source.scenarios.smoke if source.scenarios else None
    has_quality = any(candidate.result.quality for candidate in bundle.candidates)
    same = ("1.000×", "0.000", _whole("100 %")) if has_quality else (words.NONE,) * 3
    return ("*the source*", _whole(words.size(source.size_bytes)), *same, _whole(words.share(smoke)), "")


def _speed_row(candidate: Candidate) -> tuple[str, ...]:
    found, memory = candidate.result.speed, candidate.result.memory
    return (
        markdown.code(label(candidate), in_cell=True),
        _whole(words.size(memory.peak_rss_bytes if memory else None)),
        _with_unit(found.load_s.median if found else None, "s"),
        _with_unit(found.ttft_s.median if found else None, "s"),
        _with_unit(found.prefill_tok_s.median if found and found.prefill_tok_s else None, "tokens/s"),
        _with_unit(found.decode_tok_s.median if found and found.decode_tok_s else None, "tokens/s"),
    )


def verdict(candidate: Candidate) -> str:
    """Passed, or what of it was waived."""
    if not candidate.waived:
        return "passed" if candidate.result.passed else "**not passed**"
    gates = ", ".join(markdown.code(waiver.gate, in_cell=True) for waiver in candidate.waived)
    return f"**waived**: {gates}"


def _with_unit(value: float | None, unit: str) -> str:
    """Three digits that count: what was measured on a busy machine has no more."""
    if value is None:
        return words.NONE
    places = next((digits for limit, digits in ((1, 3), (10, 2), (100, 1)) if value < limit), 0)
    return _whole(f"{value:,.{places}f} {unit}")


def _whole(cell: str) -> str:
    """A figure that is not broken from its unit."""
    return cell.replace(" ", NO_BREAK)
