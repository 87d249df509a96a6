"""Packs found by name or path, read strictly, and checked by their own references."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from convert.errors import UsageFailure
from convert.recipe.document import Document, Fault
from convert.recipe.explain import did_you_mean, explain
from convert.recipe.lookup import expand_home
from convert.recipe.reader import read_mapping, refuse
from verify.scenarios.checks import CHECKS
from verify.scenarios.pack import Pack
from verify.scenarios.prompt import Answer
from verify.scenarios.running import converse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from convert.recipe.document import Where
    from verify.scenarios.pack import Dialogue, Turn

_SHIPPED = Path(__file__).parent / "packs"


def names() -> tuple[str, ...]:
    """Return the scenarios that ship with this package, in files called <scenario>-<language>.yaml."""
    return tuple(sorted({file.stem.rpartition("-")[0] for file in _SHIPPED.glob("*-*.yaml")}))


def load(scenarios: Iterable[str | Path], folder: Path = Path()) -> tuple[Pack, ...]:
    """Load packs by scenario, in every language, or from files; paths start from `folder`."""
    return tuple(pack for scenario in scenarios for pack in _packs(scenario, folder))


def _packs(scenario: str | Path, folder: Path) -> Iterator[Pack]:
    if str(scenario) in names():
        for file in sorted(_SHIPPED.glob(f"{scenario}-*.yaml")):
            yield _shipped(file)
        return
    path = folder / expand_home(scenario)
    if path.suffix not in (".yaml", ".yml"):
        listed = f"there are {', '.join(names())}; name your own pack by its path"
        raise UsageFailure(f"no scenario is called {scenario}", did_you_mean(str(scenario), names(), listed))
    yield read(path)


@cache
def _shipped(file: Path) -> Pack:
    return read(file)


def read(path: Path) -> Pack:
    """Read the pack in a file; UsageFailures names every fault in it, each with its line."""
    keys = "`scenario:`, `language:`, `completion:` and `dialogues:`"
    _, document, value = read_mapping(path, "pack", keys, "`scenario: searchqa`")
    faults = list(document.faults)
    try:
        pack = Pack.model_validate_json(json.dumps(value))
    except ValidationError as error:
        faults += explain(error, document, Pack)
        refuse(path, sorted(faults, key=lambda fault: fault.line))
    faults += _across(pack, document)
    if not faults:
        faults += _against_references(pack, document)
    if faults:
        refuse(path, sorted(faults, key=lambda fault: fault.line))
    return pack


def _across(pack: Pack, document: Document) -> Iterator[Fault]:
    """Check the parts of a pack against each other."""

    def fault(where: Where, what: str, hint: str) -> Fault:
        return Fault(document.line(where), where, what, hint)

    for number, name in enumerate(pack.advisory):
        if name not in CHECKS:
            yield fault(("advisory", number), f"{name!r} is not a check", _checks_hint(name))
    seen: dict[str, int] = {}
    for number, dialogue in enumerate(pack.dialogues):
        where: Where = ("dialogues", number)
        if dialogue.name in seen:
            first = document.line(("dialogues", seen[dialogue.name]))
            yield fault(
                (*where, "name"), f"{dialogue.name} twice, first in line {first}", "name each dialogue once"
            )
        seen.setdefault(dialogue.name, number)
        templates = [pack.prompts.get(turn.prompt) if turn.prompt else "" for turn in dialogue.turns]
        if dialogue.materials and None not in templates and "{materials}" not in "".join(map(str, templates)):
            yield fault(
                (*where, "materials"), "no prompt shows them", "ask with a prompt that has {materials}"
            )
        for index, turn in enumerate(dialogue.turns):
            here: Where = (*where, "turns", index)
            for what, hint, *key in _turn_faults(pack, dialogue, turn):
                yield fault((*here, *key), what, hint)


def _turn_faults(pack: Pack, dialogue: Dialogue, turn: Turn) -> Iterator[tuple[str, ...]]:
    if turn.prompt is not None:
        template = pack.prompts.get(turn.prompt)
        if template is None:
            yield (
                f"there is no prompt {turn.prompt}",
                did_you_mean(turn.prompt, pack.prompts, f"this pack has {', '.join(pack.prompts) or 'none'}"),
                "prompt",
            )
            return
        if ("{question}" in template) != (turn.question is not None):
            what = "is missing" if turn.question is None else f"the prompt {turn.prompt} has no {{question}}"
            yield what, "what {question} in the prompt becomes", "question"
        if "{materials}" in template and not dialogue.materials:
            yield (
                f"the prompt {turn.prompt} shows materials, and the dialogue has none",
                "add `materials:`",
                "prompt",
            )
    for name in turn.without:
        if name not in CHECKS:
            yield f"{name!r} is not a check", _checks_hint(name), "without"
    cites = pack.checks_of(turn).get("cites")
    strangers = (
        [number for number in cites.right if not 0 < number <= len(dialogue.materials)] if cites else []
    )
    if strangers:
        what = f"there is no material {strangers[0]}"
        yield what, f"the dialogue has {len(dialogue.materials)}, counted from 1", "checks", "cites", "right"


def _checks_hint(name: str) -> str:
    return did_you_mean(name, CHECKS, f"there are {', '.join(sorted(CHECKS))}")


class _ReferenceAnswerer:
    """A model that answers with the pack's own references."""

    context_length = 1 << 20

    def __init__(self, dialogue: Dialogue, *, is_chat: bool) -> None:
        self.is_chat = is_chat
        self._answers = iter([turn.reference or "" for turn in dialogue.turns])

    def count_tokens(self, text: str) -> int:
        """Count characters instead."""
        return len(text)

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:  # noqa: ARG002 - the protocol's
        """Give the next reference."""
        return Answer(next(self._answers), "end")

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:  # noqa: ARG002 - the protocol's
        """Give the next reference."""
        return Answer(f" {next(self._answers)}", "stop")


def _against_references(pack: Pack, document: Document) -> Iterator[Fault]:
    """Check the references: one that fails the pack's own checks is a mistake in one of the two."""
    for number, dialogue in enumerate(pack.dialogues):
        if not any(turn.reference for turn in dialogue.turns):
            continue
        reported: set[tuple[int, str]] = set()
        for is_chat in (True, False):
            transcript = converse(pack, dialogue, _ReferenceAnswerer(dialogue, is_chat=is_chat))
            for index, exchange in enumerate(transcript.exchanges):
                for check in exchange.checks:
                    if check.passed or not dialogue.turns[index].reference or (index, check.name) in reported:
                        continue
                    reported.add((index, check.name))
                    where: Where = ("dialogues", number, "turns", index, "reference")
                    what = f"fails the pack's own check {check.name}: {check.why}"
                    yield Fault(document.line(where), where, what, "correct the reference or the check")
