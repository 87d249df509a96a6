"""Judge a result from its measurements: when it is made, and again before anything goes out.

A verdict in a file is not believed. What can be computed from the file's own figures is computed, and what
every artifact must have been checked for must be there, once.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from convert.recipe import Gates
from verify import gates
from verify.choice import chosen
from verify.gates import Check
from verify.harness import task_drop
from verify.report import ArtifactResult, Scenarios, SourceResult
from verify.sample import Speed, Spread
from verify.scenarios.pack import Dialogue, Pack
from verify.scenarios.score import scores, smoke
from verify.scenarios.transcript import Transcript
from verify.scope import Scope

# Of the dialogues: a source that passes fewer has next to nothing to lose, whatever an artifact answers.
FEWEST_PASSED = 0.1
# In nats, on average over a sample: so much the copy that answers for a source may differ from it.
KL_LIMIT = 1e-3
ANSWERED = "answered"  # the failed check of a turn without an answer, which ends a dialogue


def asked_of(packs: Sequence[Pack], scope: Scope | None) -> tuple[Pack, ...]:
    """Return the packs with the dialogues that were to be asked: those that fit, by their number alone."""
    return chosen(packs, scope.dialogues.asked) if scope else tuple(packs)


def smoke_drop(source: Scenarios | None, found: Scenarios | None) -> float | None:
    """Compute the share of dialogues that are lost; None where the source passes next to none."""
    if source is None or found is None or not source.transcripts or source.smoke < FEWEST_PASSED:
        return None
    return smoke(source.transcripts) - smoke(found.transcripts)


def figures(
    size_bytes: int | None, drops: Mapping[str, float | None], *parts: object
) -> dict[str, float | None]:
    """Return the measurements by the gates' names; `parts` are quality, speed and memory.

    A speed on a machine that other programs kept busy says nothing of the artifact: it is not gated.
    """
    found: dict[str, Any] = {"size_bytes": size_bytes, **drops}
    for part in filter(None, parts):
        found |= {} if isinstance(part, Speed) and part.is_busy else vars(part)
    named = {gate.name: found.get(gate.name) for gate in gates.GATES}
    return {
        name: figure.median if isinstance(figure, Spread) else figure
        for name, figure in named.items()
        if figure is not None
    }


def _counted(check: Check) -> bool:
    return check.measured == 0 and not isinstance(check.measured, bool)


def _equal(check: Check) -> bool:
    return check.measured == check.limit and type(check.measured) is type(check.limit)


# What every artifact is checked for besides gates: how its verdict follows from what was found.
FOLLOWS: Mapping[str, Callable[[Check], bool]] = {
    "digests": _counted,
    "header": _equal,
    "size_ratio": lambda check: isinstance(check.measured, float),  # computed again by itself
    "opens": lambda check: isinstance(check.measured, str) and check.measured.isidentifier(),
    "vocabulary": _equal,
    "tokenizer": _counted,
    "markup": _counted,
    "chat_template": lambda check: check.measured == "equal" or (check.limit is None and _is_bool(check)),
    "end_of_turn": _counted,
    "context_length": _equal,
    "answers": _equal,
}


def _is_bool(check: Check) -> bool:
    return isinstance(check.measured, bool)


def shortfalls(
    result: ArtifactResult, source: SourceResult, limits: Gates, packs: Sequence[Pack], size_bytes: int
) -> Iterator[tuple[str, str]]:
    """List by name and reason what an artifact was not shown to pass; `size_bytes` are those of its files."""
    given = {check.name: check for check in result.checks}
    if not given:
        yield "checks", "nothing was checked"
        return
    twice = [name for name, count in Counter(check.name for check in result.checks).items() if count > 1]
    yield from ((name, "there are two results of this check") for name in twice)
    for check in result.failures:
        yield check.name, check.why
    if result.size_bytes != size_bytes:
        yield "size_bytes", f"the report says {result.size_bytes} bytes, and the manifest {size_bytes}"
    yield from _unfounded(given, size_bytes, source)
    yield from _undiscussed("the artifact", result.scenarios, packs)
    yield from _undiscussed("the source", source.scenarios, packs)
    yield from _missed(result, source, limits, given)
    copy = source.answered_by
    if copy and copy.is_asked and (copy.kl_mean is None or copy.kl_mean >= KL_LIMIT):
        yield "source", f"a copy answered in its place that is not shown to be the same: {copy.why}"


def _unfounded(
    given: Mapping[str, Check], size_bytes: int, source: SourceResult
) -> Iterator[tuple[str, str]]:
    """List the checks that are missing, or that passed without a reason to."""
    for name, follows in FOLLOWS.items():
        if name not in given:
            yield name, "it was not checked"
        elif given[name].passed and not follows(given[name]):
            yield (
                name,
                f"it has passed with {given[name].measured!r}, where {given[name].limit!r} is required",
            )
    template = given.get("chat_template")
    if template and template.measured == "equal" and "chat_tokens" not in given:
        yield "chat_tokens", "it was not checked"
    ratio = gates.size_ratio(size_bytes, source.size_bytes) if source.size_bytes > 0 else None
    if ratio is None or not ratio.passed:
        yield "size_ratio", ratio.why if ratio else "the source has no size"


def _missed(
    result: ArtifactResult, source: SourceResult, limits: Gates, given: Mapping[str, Check]
) -> Iterator[tuple[str, str]]:
    """List the gates that fail by the measurements, or for which there is none."""
    drops = {
        "smoke_drop": smoke_drop(source.scenarios, result.scenarios),
        "task_drop": task_drop(result.tasks),
    }
    found = figures(result.size_bytes, drops, result.quality, result.speed, result.memory)
    failed = {check.name for check in result.failures}
    for check in gates.judge(limits, found):
        said = given.get(check.name)
        if check.name in failed:
            continue
        if not check.passed:
            yield check.name, check.why
        elif said is None:
            yield check.name, "it was not judged"
        elif said.limit != check.limit:
            yield check.name, f"it was judged by the limit {said.limit}, and the recipe's is {check.limit}"
        elif not _is_same(said.measured, check.measured):
            yield check.name, f"it was judged by {said.measured}, and {check.measured} was measured"
    for name in gates.unmeasured(limits, found):
        if name not in failed:
            idle = name == "smoke_drop" and source.scenarios and result.scenarios
            why = "the source passes next to no dialogue" if idle else "it was not measured"
            yield name, f"{why}, and the recipe sets a limit"


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def _undiscussed(whose: str, found: Scenarios | None, packs: Sequence[Pack]) -> Iterator[tuple[str, str]]:
    """List the dialogues of the recipe that are missing or incomplete, and scores that do not follow."""
    asked = {
        (pack.scenario, pack.language, dialogue.name): (pack, dialogue)
        for pack in packs
        for dialogue in pack.dialogues
    }
    given = (
        Counter((each.scenario, each.language, each.dialogue) for each in found.transcripts) if found else {}
    )
    if wrong := [" ".join(key) for key in asked if given.get(key, 0) != 1]:
        yield "scenarios", f"{whose} was not asked each dialogue once: {wrong[0]}"
    if strange := [" ".join(key) for key in given if key not in asked]:
        yield "scenarios", f"{whose} was asked what the recipe does not ask: {strange[0]}"
    if found is None:
        return
    for each in found.transcripts:
        pair = asked.get((each.scenario, each.language, each.dialogue))
        if pair and (why := _incomplete(each, *pair)):
            yield "scenarios", f"{whose}: {each.scenario} {each.language} {each.dialogue}: {why}"
            return
    if found.smoke != smoke(found.transcripts) or found.scores != scores(found.transcripts):
        yield "scenarios", f"{whose}: the scores do not follow from the dialogues"


def _incomplete(transcript: Transcript, pack: Pack, dialogue: Dialogue) -> str | None:
    """Say what of a dialogue was not asked or not checked; one may end where an answer did not come."""
    for turn, exchange in zip(dialogue.turns, transcript.exchanges, strict=False):
        names = [check.name for check in exchange.checks]
        if names == [ANSWERED]:
            return None if not exchange.checks[0].passed else "a turn has no checks"
        if sorted(names) != sorted(pack.checks_of(turn)):
            return "the checks of a turn are not the pack's"
        if any(check.required != (check.name not in pack.advisory) for check in exchange.checks):
            return "a check counts for less than in the pack"
    return None if len(transcript.exchanges) == len(dialogue.turns) else "turns are missing"
