"""Write the packs that judge the tiny models: dialogues of the split that training never saw.

`python -m tests.lab.packs` writes the four files again; the same generator gives the same bytes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.lab import lessonpack, searchqa
from tests.lab.dialogues import TurnKind
from tests.lab.names import Split
from tests.lab.samples import ANSWER_CUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.dialogues import Dialogue, Turn
    from tests.lab.facts import Language

SHIPPED = Path(__file__).resolve().parents[2] / "recipes" / "models"
SEED = 7
MATERIALS = (2, 3, 4, 5)
QUESTIONS_EACH = 4  # of each number of materials
ABSENT_SHARE = 0.25
LESSONS = 3
REVISIONS = 3
HEAD = "# Made by tests/lab/packs.py from the split that training never saw; not to be edited by hand.\n"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that a person can read them."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = None if "\n" not in value else '"' if value != value.strip() else "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def packs() -> Iterator[tuple[str, str]]:
    """Write the text of each file, by name."""
    for language in ("zh", "en"):
        for pack in (_searchqa(language), _lessonpack(language)):
            written = yaml.dump(pack, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000)
            yield f"tiny-{pack['scenario']}-{language}.yaml", HEAD + written


def _searchqa(language: Language) -> dict[str, Any]:
    dialogues = [
        {"name": f"{count}-materials-{number}", "materials": list(dialogue.materials), "turns": turns}
        for count in MATERIALS
        for number, dialogue in enumerate(
            searchqa.held_out(QUESTIONS_EACH, SEED, language, count, ABSENT_SHARE), 1
        )
        for turns in [[_question(dialogue, turn) for turn in dialogue.turns]]
    ]
    ask = searchqa.PROMPT[language]
    again, cite = searchqa.AGAIN[language], searchqa.FOLLOW_UP[language]
    begins = [ask[:12], again.partition(" ")[0], cite[:12]]
    return {
        "scenario": "searchqa",
        "language": language,
        "prompts": {"ask": ask, "cite": cite},
        "max_tokens": 48,
        "every": {"not_empty": True, "no_echo": True, "no_runaway": True, "ends": True},
        "completion": {"cue": ANSWER_CUE[language].strip(), "stop": ["\n\n"], "next": begins},
        "dialogues": dialogues,
    }


def _question(dialogue: Dialogue, turn: Turn) -> dict[str, Any]:
    """Write a turn with its checks: the value and its material, or the admission that there is none."""
    first = dialogue.turns[0]
    is_absent = first.asked is TurnKind.ABSENT
    if turn.asked is TurnKind.CITATION:
        cites = {"right": [_number(turn)], "needed": True} if not is_absent else None
        checks: dict[str, Any] = {"cites": cites} if cites else {"unknown": {}}
        return {"prompt": "cite", "checks": checks, "reference": turn.assistant}
    asked = turn.user.rpartition(searchqa.AGAIN[dialogue.language].partition("{")[0])[2]
    checks = {"unknown": {}} if is_absent else {"answer": {"any": [turn.assistant]}, "grounded": {}}
    return {"prompt": "ask", "question": asked, "checks": checks, "reference": turn.assistant}


def _number(turn: Turn) -> int:
    """Read the material that a right citation names, at its end."""
    return int(turn.assistant.rpartition(" ")[2])


def _lessonpack(language: Language) -> dict[str, Any]:
    words = lessonpack.WORDING[language]
    rng = random.Random(f"{SEED} {language} lessons")
    held_out = [lessonpack.dialogue(rng, Split.HELD_OUT, language, REVISIONS) for _ in range(LESSONS)]
    asks = [*words.requests, *(ask for asks, _ in words.revisions.values() for ask in asks)]
    begins = sorted({ask.partition("{")[0][:12].strip() for ask in asks})
    return {
        "scenario": "lessonpack",
        "language": language,
        "system": words.system,
        "max_tokens": 320,
        "every": {"not_empty": True, "no_echo": True, "no_runaway": True, "ends": True},
        "completion": {
            "cue": ANSWER_CUE[language].strip(),
            "stop": [f"\n{begin}" for begin in begins],
            "next": begins,
        },
        "dialogues": [
            {"name": f"lesson-{number}", "turns": [_lesson(turn) for turn in dialogue.turns]}
            for number, dialogue in enumerate(held_out, 1)
        ],
    }


def _lesson(turn: Turn) -> dict[str, Any]:
    return {"user": turn.user, "checks": _revision(turn), "reference": turn.assistant}


def _revision(turn: Turn) -> dict[str, Any]:
    content = {"of": 1, "section": "content"}
    match turn.asked:
        case TurnKind.OUTLINE:
            return {"sections": ["goals", "content", "quiz"], "markdown": {"headings": 3, "items": 6}}
        case TurnKind.EXPANSION:
            return {"markdown": {"items": 3}, "keeps": content, "longer": {**content, "times": 1.2}}
        case TurnKind.SECTIONS:
            return {"markdown": {"headings": 2}, "keeps": content, "changed": {}}
        case TurnKind.CHOICE:
            return {"quiz": {"options": 3, "explained": False}}
    return {"changed": {}}


def main() -> None:
    """Write every file."""
    for name, text in packs():
        (SHIPPED / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
