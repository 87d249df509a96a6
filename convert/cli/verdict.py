"""A report on the terminal: the table of verdicts, then a line for each failure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from convert.cli import color
from convert.cli.text import count, fitting_table, one_line, paragraph
from convert.publish.remedy import QUALITY, remedy
from convert.store import REBUILT
from verify.gates import GATES
from verify.report import words
from verify.report.dialogue import key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from convert.recipe import Recipe
    from verify.report import ArtifactResult, Report
    from verify.scenarios.transcript import Transcript
    from verify.task import Subject

# The order in which figures leave a terminal that is too narrow for all: squeezed, none could be read.
LEAVING = ("memory", "tok/s", "size", "ppl", "top-1", "smoke", "KL")
# Of one artifact; the report has them all.
MOST_DIALOGUES = 5


def lines(
    report: Report,
    page: Path | None = None,
    *,
    subjects: Sequence[Subject] = (),
    recipe: Recipe | None = None,
) -> Iterator[str]:
    """Write what a person reads; the transcripts are on the page, and subjects that passed can be asked."""
    right = " ".join(title for title in words.HEAD if title not in words.LEFT)
    transcripts = report.source.scenarios.transcripts if report.source.scenarios else ()
    passed = {key(each) for each in transcripts if each.passed}
    rows = [words.row(artifact) for artifact in report.artifacts]
    yield from fitting_table(words.HEAD, rows, LEAVING, right, color.verdict)
    failures = [one_line(line) for artifact in report.artifacts for line in _failures(artifact, passed)]
    if failures:
        yield ""
        yield from failures
        yield from _hints(report, recipe)
    if any(each.name == "digests" and each.measured for one in report.artifacts for each in one.failures):
        yield REBUILT
    yield ""
    count_passed = sum(artifact.passed for artifact in report.artifacts)
    if report.scope and not report.scope.is_whole:
        yield f"asked: {words.scope(report.scope)}"
    source = report.source.repo or "a local folder"
    yield f"{count_passed} of {count(len(report.artifacts), 'artifact')} passed, against {source}"
    if page:
        yield f"transcripts and figures: {page}"
    if command := talking(report, subjects):
        yield f"talk to it: {command}"


def talking(report: Report, subjects: Sequence[Subject]) -> str:
    """Return the command that talks to the first artifact that passed; of a server, whoever runs it knows."""
    passed = {artifact.name for artifact in report.artifacts if artifact.passed}
    for subject in subjects:
        if subject.name in passed and not isinstance(subject.path, str):
            runtime = f" --runtime {shlex.quote(subject.runtime)}" if subject.runtime else ""
            return f"modelwright chat {shlex.quote(str(subject.path))}{runtime}"
    return ""


def _failures(artifact: ArtifactResult, passed_by_source: set[tuple[str, str, str]]) -> Iterator[str]:
    """List each failed check; of failed dialogues those that the source passed."""
    for check in artifact.failures:
        yield f"{artifact.name}: {check.name}: {check.why}"
    if artifact.unmeasured:
        yield f"{artifact.name}: inconclusive, for want of a measurement: {words.unmeasured(artifact)}"
    if artifact.limits_of == "default" and (artifact.failures or artifact.unmeasured):
        yield f"{artifact.name}: judged by the default limits; a recipe sets its own"
    lost = any(check.name == "smoke_drop" for check in artifact.failures)
    transcripts = artifact.scenarios.transcripts if artifact.scenarios and lost else ()
    failed = [each for each in transcripts if not each.passed and key(each) in passed_by_source]
    for each in failed[:MOST_DIALOGUES]:
        yield f"{artifact.name}: {_first_wrong(each)}"
    if len(failed) > MOST_DIALOGUES:
        yield f"{artifact.name}: and {count(len(failed) - MOST_DIALOGUES, 'dialogue')} more"


def explained() -> Iterator[str]:
    """Say what each column means."""
    width = max(map(len, words.HEAD))
    for title, meaning in words.COLUMNS.items():
        yield from paragraph(f"{title.ljust(width)}  {meaning}")


def _hints(report: Report, recipe: Recipe | None) -> Iterator[str]:
    """Say of each artifact what may help, by the gate that says most about it."""
    for artifact in report.artifacts:
        failed = {check.name for check in artifact.failures}
        gates = [gate.name for gate in GATES if gate.name in failed]
        if gates:
            gate = next((each for each in gates if each in QUALITY), gates[0])
            yield from paragraph(f"hint: {one_line(artifact.name)}: {remedy(gate, artifact.name, recipe)}")
    scope = report.scope
    if (
        scope
        and scope.dialogues.of
        and not scope.dialogues.asked
        and any(each.unmeasured for each in report.artifacts)
    ):
        less = ", or leave speed out: --only-quality" if scope.repetitions.asked else ""
        yield from paragraph(f"hint: no dialogue fits into the time: give it more with --budget{less}")


def _first_wrong(transcript: Transcript) -> str:
    where = f"{transcript.scenario}-{transcript.language} {transcript.dialogue}"
    for turn, exchange in enumerate(transcript.exchanges, 1):
        for check in exchange.checks:
            if check.required and not check.passed:
                return f"{where}, turn {turn}: {check.name}: {check.why}"
    return where
