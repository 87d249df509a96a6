"""Packs found by name or path, read strictly, and checked by their own references."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from convert.errors import UsageFailure
from convert.recipe.document import Document, Fault, Where
from convert.recipe.explain import did_you_mean, explain
from convert.recipe.lookup import expand_home
from convert.recipe.reader import read_mapping, refuse
from verify.scenarios.checks import CHECKS
from verify.scenarios.pack import Dialogue, Pack, Turn
from verify.scenarios.prompt import Answer
from verify.scenarios.running import converse

Finding: TypeAlias = "tuple[Where, str, str]"  # where, what, and a hint
_SHIPPED = Path(__file__).parent / "packs"


def names() -> tuple[str, ...]:
    """Return the scenarios that ship with this package, in files called <scenario>-<language>.yaml."""
    return tuple(sorted({file.stem.rpartition("-")[0] for file in _SHIPPED.glob("*-*.yaml")}))


def load(scenarios: Iterable[str | Path], folder: Path = Path()) -> tuple[Pack, ...]:
    """Load packs by scenario, in every language, or from files; paths start from `folder`."""
    return tuple(pack for scenario in scenarios for pack in _packs(scenario, folder))


def _packs(scenario: str | Path, folder: Path) -> Iterator[Pack]:
    if str(scenario) in names():
        yield from map(_shipped, sorted(_SHIPPED.glob(f"{scenario}-*.yaml")))
        return
    path = folder / expand_home(scenario)
    if path.suffix not in (".yaml", ".yml"):
        listed = f"there are {', '.join(names())}; name your own pack by its path"
        raise UsageFailure(f"no scenario is called {scenario}", did_you_mean(str(scenario), names(), listed))
    yield read(path)


def read(path: Path) -> Pack:
    """Read the pack in a file; UsageFailures names every fault in it, each with its line."""
    keys = "`scenario:`, `language:`, `completion:` and `dialogues:`"
    _, document, value = read_mapping(path, "pack", keys, "`scenario: searchqa`")
    faults = list(document.faults)
    try:
        pack = Pack.model_validate_json(json.dumps(value))
    except ValidationError as error:
        faults += explain(error, document, Pack)
    else:
        found = [*_across(pack, document)] or ([] if faults else _against_references(pack))
        faults += [Fault(document.line(where), where, what, hint) for where, what, hint in found]
    if faults:
        refuse(path, sorted(faults, key=lambda fault: fault.line))
    return pack


_shipped = cache(read)


def _across(pack: Pack, document: Document) -> Iterator[Finding]:
    """Check the parts of a pack against each other."""
    yield from _unknown_checks(pack.advisory, ("advisory",))
    first_of: dict[str, int] = {}
    for number, dialogue in enumerate(pack.dialogues):
        where: Where = ("dialogues", number)
        first = first_of.setdefault(dialogue.name, number)
        if first != number:
            what = f"{dialogue.name} twice, first in line {document.line(('dialogues', first))}"
            yield (*where, "name"), what, "name each dialogue once"
        templates = [pack.prompts.get(turn.prompt) if turn.prompt else "" for turn in dialogue.turns]
        if dialogue.materials and None not in templates and "{materials}" not in "".join(map(str, templates)):
            yield (*where, "materials"), "no prompt shows them", "ask with a prompt that has {materials}"
        for index, turn in enumerate(dialogue.turns):
            yield from _turn_faults(pack, dialogue, turn, (*where, "turns", index))


def _turn_faults(pack: Pack, dialogue: Dialogue, turn: Turn, where: Where) -> Iterator[Finding]:
    count, prompt = len(dialogue.materials), turn.prompt
    if prompt is not None and prompt not in pack.prompts:
        hint = did_you_mean(prompt, pack.prompts, f"this pack has {', '.join(pack.prompts) or 'none'}")
        yield (*where, "prompt"), f"there is no prompt {prompt}", hint
        return
    template = pack.prompts[prompt] if prompt else ""
    if prompt and ("{question}" in template) != (turn.question is not None):
        what = "is missing" if turn.question is None else f"the prompt {prompt} has no {{question}}"
        yield (*where, "question"), what, "it replaces {question} in the prompt"
    if "{materials}" in template and not count:
        what = f"the prompt {prompt} shows materials, and the dialogue has none"
        yield (*where, "prompt"), what, "add `materials:`"
    yield from _unknown_checks(turn.without, (*where, "without"), is_listed=False)
    number_of_turn = dialogue.turns.index(turn) + 1
    for name, options in pack.checks_of(turn).items():
        of = getattr(options, "of", None)
        if isinstance(of, int) and not (0 < of < number_of_turn or 0 < -of < number_of_turn):
            hint = f"this is turn {number_of_turn}; -1 is the one before"
            yield (*where, "checks", name, "of"), f"there is no earlier turn {of}", hint
    cites = pack.checks_of(turn).get("cites")
    for number in [each for each in cites.right if not 0 < each <= count][:1] if cites else ():
        hint = f"the dialogue has {count}, counted from 1"
        yield (*where, "checks", "cites", "right"), f"there is no material {number}", hint


def _unknown_checks(names: Iterable[str], where: Where, *, is_listed: bool = True) -> Iterator[Finding]:
    for number, name in enumerate(names):
        if name not in CHECKS:
            hint = did_you_mean(name, CHECKS, f"there are {', '.join(sorted(CHECKS))}")
            yield (*where, number) if is_listed else where, f"{name!r} is not a check", hint


class _ReferenceAnswerer:
    """A model that answers with the pack's own references."""

    context_length = 1 << 20
    count_tokens = staticmethod(len)

    def __init__(self, dialogue: Dialogue, *, is_chat: bool) -> None:
        self.is_chat = is_chat
        self._answers = iter([turn.reference or "" for turn in dialogue.turns])

    def chat(self, *_: object) -> Answer:
        """Return the next reference."""
        return Answer(next(self._answers), "end")

    def complete(self, *_: object) -> Answer:
        """Return the next reference."""
        return Answer(f" {next(self._answers)}", "stop")


def _against_references(pack: Pack) -> Iterator[Finding]:
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
                    what = f"fails the pack's own check {check.name}: {check.why}"
                    where = ("dialogues", number, "turns", index, "reference")
                    yield where, what, "correct the reference or the check"
