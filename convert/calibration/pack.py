"""The shipped packs: SearchQA and LessonPack in the scenarios' templates, with different contents.

A pack holds parts, from which the seed composes any number of different dialogues. None is one that
verification asks, since calibrating on the test would distort its result.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from convert.calibration.dialogue import Dialogue
from convert.calibration.draw import Draw
from convert.calibration.lesson import lesson
from convert.calibration.search import search

_SHIPPED = Path(__file__).parent / "packs"
LANGUAGES = ("zh", "en")
MAKERS = {"searchqa": search, "lessonpack": lesson}
# Bump it when code changes the dialogues; a test compares their digest.
REVISION = 2


def dialogues(packs: Sequence[str], seed: int) -> Iterator[Dialogue]:
    """Compose dialogues endlessly, from the packs and languages in turn."""
    for number in count():
        for scenario in packs:
            for language in LANGUAGES:
                draw = Draw(seed, scenario, language, number)
                made = MAKERS[scenario](_read(scenario, language), draw)
                yield replace(made, kind=f"{scenario} {language}")


def kinds(packs: Sequence[str]) -> tuple[str, ...]:
    """Name the kinds of dialogue that take turns."""
    return tuple(f"{scenario} {language}" for scenario in packs for language in LANGUAGES)


def digest(packs: Sequence[str]) -> str:
    """Digest all that decides the dialogues: the parts, and the revision of the code."""
    found = hashlib.sha256(f"{REVISION}".encode())
    for scenario in packs:
        for language in LANGUAGES:
            found.update(hashlib.sha256(_path(scenario, language).read_bytes()).digest())
    return found.hexdigest()


def _path(scenario: str, language: str) -> Path:
    return _SHIPPED / f"{scenario}-{language}.yaml"


@cache
def _read(scenario: str, language: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415  (needed for packs only)

    return dict(yaml.safe_load(_path(scenario, language).read_text("utf-8")))
