"""What training sees, what judges the models, what calibration learns from: no name serves two of them."""

from __future__ import annotations

import random
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from convert.calibration.pack import dialogues as calibration_dialogues
from tests.lab import citing, evaluate, names
from tests.lab.names import Names, Split
from tests.lab.samples import ChatFormat, draw
from tests.lab.train import SHIPPED
from tests.lab.training import CURRICULUM
from tests.lab.vocabulary import read_tiktoken

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("zh_core", "zh_person", "en_core", "digits", "code")
ZH_NAME = re.compile(f"[{names.ZH_PIECES}{names.ZH_SURNAMES}]{{2,}}")
EN_NAME = re.compile(rf"\b(?:{'|'.join(names.EN_FIRST)})(?:{'|'.join(names.EN_LATER)}){{1,2}}\b")

Drawn = dict[Split, dict[str, set[str]]]


@pytest.fixture(scope="module")
def form() -> ChatFormat:
    return ChatFormat(read_tiktoken(SHIPPED / "tiny-qwen/qwen.tiktoken"))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Record every name and value that is drawn from now on, by split and kind."""
    found: Drawn = {split: {kind: set() for kind in KINDS} for split in Split}

    def noted(kind: str, make: Callable[..., str]) -> Callable[..., str]:
        def noting(self: Names, *given: int) -> str:
            text = make(self, *given)
            found[self.split][kind].add(text)
            return text

        return noting

    for kind in KINDS:
        monkeypatch.setattr(Names, kind, noted(kind, getattr(Names, kind)))
    return found


def _training(form: ChatFormat, each: int) -> str:
    """Make text of every kind that training uses, in every part of the curriculum."""
    rng = random.Random(8)
    samples = [draw(rng, form, mixture)[0] for _, mixture in CURRICULUM for _ in range(each)]
    samples += [citing._example(rng, form).ids[0].tolist() for _ in range(each)]
    return "\n".join(form.encoding.decode(ids, errors="replace") for ids in samples)


def _names(text: str) -> set[str]:
    """Whole names; a pair of characters inside a longer one is none."""
    return {*ZH_NAME.findall(text), *EN_NAME.findall(text)}


def test_training_draws_from_its_own_side_only(form: ChatFormat, drawn: Drawn) -> None:
    """Nothing that training draws is ever drawn for a dialogue that judges, and the other way round."""
    _training(form, 250)
    assert not any(drawn[Split.HELD_OUT].values())
    learned = {kind: set(found) for kind, found in drawn[Split.TRAIN].items()}
    evaluate.held_out_dialogues(75, 75)
    evaluate.trapped_dialogues(25)
    assert drawn[Split.TRAIN] == learned
    for kind, judging in drawn[Split.HELD_OUT].items():
        assert min(len(learned[kind]), len(judging)) > 50, kind
        assert not learned[kind] & judging, kind


def test_no_name_that_judges_is_in_a_text_of_training(form: ChatFormat) -> None:
    """In the texts themselves, whatever drew them: no whole name is on both sides."""
    learned = _names(_training(form, 250))
    dialogues = [*evaluate.held_out_dialogues(75, 75), *evaluate.trapped_dialogues(25)]
    judging = _names("\n".join(f"{t.user}\n{t.assistant}" for d in dialogues for t in d.turns))
    for of_language in (str.isascii, lambda name: not name.isascii()):
        one, other = ({name for name in found if of_language(name)} for found in (learned, judging))
        assert min(len(one), len(other)) > 500
        assert not one & other


def test_the_packs_ask_of_names_that_nobody_learned(form: ChatFormat) -> None:
    """The names in the packs that verification asks are in no text of training or calibration."""
    asked = set()
    for path in SHIPPED.glob("tiny-*.yaml"):
        asked |= _names(yaml.dump(yaml.safe_load(path.read_text("utf-8"))["dialogues"], allow_unicode=True))
    assert len(asked) > 150
    calibrating = "\n".join(
        each.continuation() for each in islice(calibration_dialogues(("searchqa", "lessonpack"), 0), 600)
    )
    for path in (ROOT / "convert/calibration/packs").glob("*.yaml"):
        calibrating += path.read_text("utf-8")
    assert not asked & _names(_training(form, 250))
    assert not [name for name in asked if name in calibrating]


def test_names_of_a_judging_dialogue_share_no_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card says so: the pieces of the held-out side last for every dialogue, and none serves twice."""
    judging = [*evaluate.held_out_dialogues(75, 75), *evaluate.trapped_dialogues(25)]
    monkeypatch.setattr(names, "FEW_LEFT", 100 * names.FEW_LEFT)
    assert judging == [*evaluate.held_out_dialogues(75, 75), *evaluate.trapped_dialogues(25)]
