"""From what a person types to the file that is meant."""

from pathlib import Path

import pytest

from convert.errors import UsageFailure
from convert.recipe import find, known_recipes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recipes of its own, beside shipped ones."""
    for folder, names in (("work/recipes", ("qwen", "mine")), ("shipped", ("qwen", "gpt2"))):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / f"{name}.yaml").touch()
    monkeypatch.setattr("convert.recipe.lookup._SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_a_name_is_looked_up_here_and_then_beside_the_package(here: Path) -> None:
    assert find("mine") == Path("recipes/mine.yaml")
    assert find("qwen") == Path("recipes/qwen.yaml")
    assert find("gpt2") == here / "shipped/gpt2.yaml"
    assert find("gpt2.yaml") == here / "shipped/gpt2.yaml"
    assert list(known_recipes()) == ["gpt2", "mine", "qwen"]


def test_a_path_is_taken_as_it_is(here: Path) -> None:
    assert find(here / "shipped/qwen.yaml") == here / "shipped/qwen.yaml"
    (here / "work/notes.txt").touch()
    assert find("notes.txt") == Path("notes.txt")


def test_a_folder_of_the_same_name_hides_no_recipe(here: Path) -> None:
    (here / "work/gpt2").mkdir()
    assert find("gpt2") == here / "shipped/gpt2.yaml"


@pytest.mark.parametrize(
    ("typed", "what", "hint"),
    [
        ("qwn", "no recipe is called qwn", "did you mean qwen? there are gpt2, mine, qwen"),
        ("zzz", "no recipe is called zzz", "there are gpt2, mine, qwen"),
        ("recipes/gpt2.yaml", "there is no file recipes/gpt2.yaml", "did you mean gpt2?"),
        ("recipes", "recipes is a folder, not a recipe", "list"),
        ("/dev/null", "there is no file /dev/null", "there are"),
        ("", "is a folder, not a recipe", "list"),
    ],
)
def test_what_is_not_there_names_what_is_near(here: Path, typed: str, what: str, hint: str) -> None:
    assert here.exists()
    with pytest.raises(UsageFailure) as raised:
        find(typed)
    assert what in raised.value.message
    assert hint in raised.value.hint
