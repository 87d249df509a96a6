"""Scores: the figures of transcripts that gates compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verify.scenarios.wording import Language  # noqa: TC001 - the report reads the annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.scenarios.transcript import Transcript


@dataclass(frozen=True)
class Score:
    """A scenario's score in one language."""

    scenario: str
    language: Language
    dialogues: int
    checks: int
    check_share: float  # of all checks, those that passed
    smoke: float  # of the dialogues, those whose required checks all passed
    by_check: dict[str, float]  # the share that passed, by the check's name


def scores(transcripts: Sequence[Transcript]) -> tuple[Score, ...]:
    """Compute a score for each scenario and language, in the order in which they come."""
    keys = dict.fromkeys((each.scenario, each.language) for each in transcripts)
    return tuple(
        _score(
            scenario, language, [t for t in transcripts if (t.scenario, t.language) == (scenario, language)]
        )
        for scenario, language in keys
    )


def smoke(transcripts: Sequence[Transcript]) -> float:
    """Return the share of dialogues whose required checks all passed; 0 without dialogues."""
    return _share([each.passed for each in transcripts])


def flips(before: Sequence[Transcript], after: Sequence[Transcript]) -> tuple[int, int]:
    """Count the dialogues that passed before and fail now, and those that failed and pass now."""
    passed = {(each.scenario, each.language, each.dialogue): each.passed for each in before}
    pairs = [
        (passed[key], each.passed)
        for each in after
        if (key := (each.scenario, each.language, each.dialogue)) in passed
    ]
    return pairs.count((True, False)), pairs.count((False, True))


def _score(scenario: str, language: Language, transcripts: list[Transcript]) -> Score:
    checks = [check for each in transcripts for check in each.checks]
    names = sorted({check.name for check in checks})
    return Score(
        scenario=scenario,
        language=language,
        dialogues=len(transcripts),
        checks=len(checks),
        check_share=_share([check.passed for check in checks]),
        smoke=smoke(transcripts),
        by_check={name: _share([check.passed for check in checks if check.name == name]) for name in names},
    )


def _share(passed: list[bool]) -> float:
    return sum(passed) / len(passed) if passed else 0.0
