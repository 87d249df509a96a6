"""The tiny models' packs: made by the generator, and asked in the very words of their training."""

from __future__ import annotations

import pytest

from convert.formats import option_models
from convert.recipe import load as load_recipe
from tests.lab import packs, searchqa
from verify.scenarios import load, read
from verify.scenarios.material import clean

ROOT = packs.SHIPPED.parents[1]


def test_the_files_are_what_the_generator_makes() -> None:
    """`python -m tests.lab.packs` writes them."""
    for name, text in packs.packs():
        assert (packs.SHIPPED / name).read_text(encoding="utf-8") == text, (
            f"{name} is not what packs.py makes"
        )


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_prompts_are_those_of_the_training(language: str) -> None:
    pack = read(packs.SHIPPED / f"tiny-searchqa-{language}.yaml")
    made = [
        dialogue
        for count in packs.MATERIALS
        for dialogue in searchqa.held_out(
            packs.QUESTIONS_EACH, packs.SEED, pack.language, count, packs.ABSENT_SHARE
        )
    ]
    for asked, dialogue in zip(pack.dialogues, made, strict=True):
        materials = tuple(clean(text).text for text in asked.materials)
        assert [pack.user(turn, materials) for turn in asked.turns] == [turn.user for turn in dialogue.turns]


@pytest.mark.parametrize(("recipe", "model"), [("tiny", "tiny-qwen"), ("tiny-gpt2", "tiny-gpt2")])
def test_the_recipes_name_them(recipe: str, model: str) -> None:
    if not (packs.SHIPPED / model).is_dir():
        pytest.skip("the model is not here")
    found = load_recipe(ROOT / "recipes" / f"{recipe}.yaml", option_models())
    chosen = load(found.verify.scenarios, found.path.parent)
    assert {(pack.scenario, pack.language) for pack in chosen} == {
        (scenario, language) for scenario in ("searchqa", "lessonpack") for language in ("zh", "en")
    }
    assert {turn.reference for pack in chosen for each in pack.dialogues for turn in each.turns} > {"不知道"}
