"""What has to be said of artifacts: what was waived, what came out otherwise, what figures do not say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from convert.publish.card import markdown
from convert.publish.card.label import label
from verify.report import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.publish.bundle import Bundle, Candidate
    from convert.publish.card.facts import Facts

# Beyond it a group's tensors are counted, not named.
MOST_NAMES = 3
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


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
    groups: dict[tuple[str, str, str, str], dict[str, list[str]]] = {}
    for candidate in candidates:
        for each in candidate.manifest.deviations:
            key = (_NUMBER.sub("*", each.subject), each.wanted, each.got, each.why)
            groups.setdefault(key, {}).setdefault(label(candidate), []).append(each.subject)
    for (pattern, wanted, got, why), found in groups.items():
        subjects = next(iter(found.values()))
        everywhere = len(found) == len(candidates)
        where = "" if everywhere else f" in {', '.join(markdown.code(name) for name in found)}"
        yield f"- {_subject(pattern, subjects)}{where}: {_otherwise(wanted, got)}{markdown.text(why)}."


def _subject(pattern: str, subjects: Sequence[str]) -> str:
    if len(subjects) == 1:
        is_tensor = "." in subjects[0]
        return markdown.code(subjects[0]) if is_tensor else f"The {markdown.text(subjects[0])}"
    return f"{markdown.code(pattern)} ({len(subjects)} tensors)"


def _otherwise(wanted: str, got: str) -> str:
    """The manifest's "as the source, without" says nothing that its reason does not."""
    if wanted == "as the source":
        return ""
    return f"{markdown.text(got)}, where {markdown.text(wanted)} was wanted: "


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
