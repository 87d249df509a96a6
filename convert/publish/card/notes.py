"""What has to be said of artifacts: what was waived, what came out otherwise, what figures do not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.deviation import Told, together
from convert.publish.card import markdown
from convert.publish.card.label import label
from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.publish.bundle import Bundle, Candidate
    from convert.publish.card.facts import Facts


def waived(bundle: Bundle) -> Iterator[str]:
    """Each gate that was let fail: by how much, and why."""
    for candidate in bundle.candidates:
        checks = {check.name: check for check in candidate.result.checks}
        for waiver in candidate.waived:
            check = checks.get(waiver.gate)
            found = "it was not measured"
            if check is not None:
                measured, limit = (markdown.text(words.value(each)) for each in (check.measured, check.limit))
                found = f"{markdown.text(check.why)} (measured {measured}, limit {limit})"
            where = f"{markdown.code(label(candidate))}: {markdown.code(waiver.gate)}"
            yield f"- {where}: {found}. Waived: {markdown.text(waiver.reason)}"


def deviations(candidates: Sequence[Candidate]) -> Iterator[str]:
    """What is otherwise than the source or the name says; tensors alike in it are told together."""
    for told in together(
        (label(candidate), each) for candidate in candidates for each in candidate.manifest.deviations
    ):
        everywhere = len(told.artifacts) == len(candidates)
        where = "" if everywhere else f" in {', '.join(map(markdown.code, told.artifacts))}"
        yield f"- {_subject(told)}{where}: {markdown.text(told.what)}."


def _subject(told: Told) -> str:
    if len(told.subjects) > 1:
        return f"{markdown.code(told.pattern)} ({len(told.subjects)} tensors)"
    is_tensor = "." in told.pattern
    return markdown.code(told.pattern) if is_tensor else f"The {markdown.text(told.pattern)}"


def limits(bundle: Bundle, facts: Facts) -> Iterator[str]:
    """What the figures do not say."""
    measured = [candidate for candidate in bundle.candidates if candidate.result.quality]
    if measured:
        yield (
            "- The figures are of one text and one machine. Another text gives another perplexity; threads, "
            "hardware and versions change speed and memory."
        )
    yield (
        "- They compare with the source, and do not judge it: what the source gets wrong, these files get "
        "wrong too. Its own card says what it is for, and what it is not."
    )
    contexts = {candidate.result.opened.context for candidate in bundle.candidates if candidate.result.opened}
    if contexts and facts.context and max(contexts) < facts.context:
        longest = f"{max(contexts):,}"
        yield (
            f"- Measured in a window of {longest} tokens, where the model has {facts.context:,}: memory "
            "grows with the window, and nothing was measured beyond."
        )
    for candidate in bundle.candidates:
        result, missing = candidate.result, []
        missing += ["quality"] if result.quality is None else []
        missing += ["speed"] if result.speed is None else []
        missing += ["memory"] if result.memory is None else []
        missing += ["dialogues"] if result.scenarios is None else []
        missing += [markdown.code(gate) for gate in result.unmeasured]
        if missing:
            yield f"- Not measured of {markdown.code(label(candidate))}: {', '.join(missing)}."
