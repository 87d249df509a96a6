"""The shipped packs: SearchQA and LessonPack in the scenarios' own templates, with contents of their own.

A pack holds parts, and dialogues are put together from them by the seed: as many as are asked for, each
another. None is one that verification asks: calibrating on the test would flatter.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.calibration.draw import Draw
from convert.calibration.lesson import lesson
from convert.calibration.search import search

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.calibration.dialogue import Dialogue

_SHIPPED = Path(__file__).parent / "packs"
LANGUAGES = ("zh", "en")
MAKERS = {"searchqa": search, "lessonpack": lesson}


def dialogues(packs: Sequence[str], seed: int) -> Iterator[Dialogue]:
    """Dialogues without end, the packs and languages in turn."""
    for number in count():
        for scenario in packs:
            for language in LANGUAGES:
                draw = Draw(seed, scenario, language, number)
                yield MAKERS[scenario](_read(scenario, language), draw)


def digest(packs: Sequence[str]) -> str:
    """The digest of all that the dialogues are put together from, the code among it."""
    files = [_path(scenario, language) for scenario in packs for language in LANGUAGES]
    files += [
        Path(__file__).parent / f"{name}.py" for name in ("draw", "dialogue", "pack", "lesson", "search")
    ]
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def _path(scenario: str, language: str) -> Path:
    return _SHIPPED / f"{scenario}-{language}.yaml"


@cache
def _read(scenario: str, language: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415  (where packs are asked for)

    return dict(yaml.safe_load(_path(scenario, language).read_text("utf-8")))
