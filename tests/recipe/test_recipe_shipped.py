"""The recipes in the repository, and the schema that editors check them by."""

import json
from pathlib import Path

import pytest

from convert.formats import option_models
from convert.recipe import json_schema, load

FOLDER = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_recipe_loads_and_names_its_schema(file: Path) -> None:
    recipe = load(file, option_models())
    assert recipe.text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert recipe.targets


def test_there_are_recipes_for_what_the_project_promises() -> None:
    promised = {"gpt2", "qwen", "qwen-1_8b", "qwen2.5-0.5b", "tinyllama", "tiny", "tiny-gpt2"}
    promised |= {"gemma-3-4b", "gemma-4-e2b", "ministral-3-3b", "phi-4-mini", "smollm3-3b"}
    promised |= {"qwen3.5-4b", "qwen3.5-35b-a3b", "qwen3-30b-a3b", "qwen3-vl-4b"}
    promised |= {"gpt-oss-20b", "lfm2-1.2b"}
    assert promised <= {file.stem for file in SHIPPED}


def test_the_schema_is_the_models_own() -> None:
    """`modelwright list --schema > recipes/schema.json` writes it anew."""
    written = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    assert written == json_schema(option_models())
