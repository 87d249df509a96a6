"""A report on the terminal: the table of verdicts, then each failure in a line of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.cli.text import count, one_line, table
from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.report import ArtifactResult, Report
    from verify.scenarios.transcript import Transcript

# Of one artifact; the report has them all.
MOST_DIALOGUES = 5


def lines(report: Report, place: str | None = None) -> Iterator[str]:
    """What a person reads; `place` is where the transcripts are kept."""
    right = " ".join(title for title in words.HEAD if title not in words.LEFT)
    rows = [tuple(map(one_line, words.row(artifact))) for artifact in report.artifacts]
    yield from table(words.HEAD, rows, right=right)
    failures = [one_line(line) for artifact in report.artifacts for line in _failures(artifact)]
    if failures:
        yield ""
        yield from failures
    yield ""
    passed = sum(artifact.passed for artifact in report.artifacts)
    source = report.source.repo or "a local folder"
    yield f"{passed} of {count(len(report.artifacts), 'artifact')} passed, against {source}"
    if place:
        yield f"transcripts and figures: {place}"


def _failures(artifact: ArtifactResult) -> Iterator[str]:
    for check in artifact.failures:
        yield f"{artifact.name}: {check.name}: {check.why}"
    lost = any(check.name == "smoke_drop" for check in artifact.failures)
    transcripts = artifact.scenarios.transcripts if artifact.scenarios and lost else ()
    failed = [each for each in transcripts if not each.passed]
    for each in failed[:MOST_DIALOGUES]:
        yield f"{artifact.name}: {_first_wrong(each)}"
    if len(failed) > MOST_DIALOGUES:
        yield f"{artifact.name}: and {count(len(failed) - MOST_DIALOGUES, 'dialogue')} more"


def _first_wrong(transcript: Transcript) -> str:
    where = f"{transcript.scenario}-{transcript.language} {transcript.dialogue}"
    for turn, exchange in enumerate(transcript.exchanges, 1):
        for check in exchange.checks:
            if check.required and not check.passed:
                return f"{where}, turn {turn}: {check.name}: {check.why}"
    return where
