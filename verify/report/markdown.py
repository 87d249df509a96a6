"""report.md: the verdicts and figures without the transcripts, for a terminal, a diff or a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verify.report import ArtifactResult, Report

# Beyond it a cell would be a page.
LONGEST_CELL = 300


def render(report: Report) -> str:
    """The whole file."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    source, machine = report.source, report.machine
    yield f"# {_plain(report.recipe or 'Verification')}: {'passed' if report.passed else 'FAILED'}"
    yield ""
    commit = f" at `{_plain(source.commit)}`" if source.commit else ""
    yield f"- source: {_plain(source.repo or 'a local folder')}{commit}"
    memory = words.size(machine.memory_bytes)
    parts = [machine.cpu, f"{machine.cores} cores", memory, *(each.name for each in machine.accelerators)]
    yield f"- machine: {_plain(', '.join(parts))}"
    yield f"- text: {_plain(report.text)}"
    yield f"- modelwright {_plain(report.tool)}"
    yield ""
    yield from _table(words.HEAD, [words.row(artifact) for artifact in report.artifacts])
    for artifact in report.artifacts:
        yield from _section(artifact)


def _section(artifact: ArtifactResult) -> Iterator[str]:
    yield ""
    yield f"## {_plain(artifact.name)}: {'passed' if artifact.passed else 'FAILED'}"
    yield ""
    rows = [
        (
            check.name,
            words.value(check.measured),
            words.value(check.limit),
            _verdict(passed=check.passed),
            check.why,
        )
        for check in sorted(artifact.checks, key=lambda check: check.passed)
    ]
    yield from _table(("check", "measured", "limit", "verdict", "why"), rows)
    if artifact.unmeasured:
        yield ""
        yield f"Not measured, since the runtime gives no figure: {', '.join(artifact.unmeasured)}."
    facts = list(figures(artifact))
    if facts:
        yield ""
        yield from _table(("figure", "value"), facts)
    if artifact.scenarios:
        yield ""
        yield from _table(("scenario", "language", "dialogues", "passed", "checks passed"), scores(artifact))


def figures(artifact: ArtifactResult) -> Iterator[tuple[str, str]]:
    """What was measured, with its spread or its interval, a name and a text each."""
    if quality := artifact.quality:
        within = quality.intervals.get
        yield "perplexity", words.within(quality.ppl, within("ppl"))
        yield "perplexity of the source", words.number(quality.ppl_source)
        yield "ratio of the two", words.within(quality.ppl_ratio, within("ppl_ratio"))
        yield "KL divergence, mean", f"{words.within(quality.kl_mean, within('kl_mean'))} nats"
        yield "KL divergence, 99th percentile", f"{words.within(quality.kl_p99, within('kl_p99'))} nats"
        yield "same most likely token", words.within(quality.top1, within("top1"), is_share=True)
    if speed := artifact.speed:
        yield "load", words.spread(speed.load_s, " s")
        yield "first token", words.spread(speed.ttft_s, " s")
        yield "reading", words.spread(speed.prefill_tok_s, " tokens/s")
        yield "writing", words.spread(speed.decode_tok_s, " tokens/s")
        if speed.inter_token_p50_s is not None and speed.inter_token_p95_s is not None:
            pair = f"{1000 * speed.inter_token_p50_s:.1f} and {1000 * speed.inter_token_p95_s:.1f} ms"
            yield "between tokens, p50 and p95", pair
        for count, rate in speed.throughput_tok_s.items():
            yield f"{count} request{'s' if count > 1 else ''} at once", f"{words.number(rate)} tokens/s"
    if memory := artifact.memory:
        yield "peak memory", words.size(memory.peak_rss_bytes)
        yield "peak memory beside mapped files", words.size(memory.peak_anon_bytes)
        per_token = memory.kv_bytes_per_token or memory.kv_bytes_per_token_computed
        if per_token:
            yield "KV cache per token", words.size(per_token)


def scores(artifact: ArtifactResult) -> list[tuple[str, ...]]:
    """How each scenario went."""
    found = artifact.scenarios.scores if artifact.scenarios else ()
    return [
        (
            score.scenario,
            score.language,
            str(score.dialogues),
            words.share(score.smoke),
            words.share(score.check_share),
        )
        for score in found
    ]


def _verdict(*, passed: bool) -> str:
    return "passed" if passed else "**FAILED**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell if cell == '**FAILED**' else _plain(cell) for cell in row)} |"


def _plain(text: str) -> str:
    """A stranger's text as text: one line, nothing that Markdown or HTML would take for markup."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST_CELL else line[: LONGEST_CELL - 1] + "…"
    return "".join(
        f"\\{char}" if char in "\\`*_[]|<>#!~$" else char if char.isprintable() else "�" for char in line
    )
