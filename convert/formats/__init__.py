"""What a model can become: one folder per format, found by its name.

A folder has `options.py` (`OPTIONS`: what a recipe may say), `format.py` (`FORMAT`: how it is made) and
`shipping.py` (`SHIPPING`: how it is published and run). Only the part that is asked for is imported.
"""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from convert.formats.base import Format
from convert.recipe import Recipe, TargetOptions, load
from convert.recipe.draft import draft, name_for
from convert.recipe.reader import load_text
from convert.recipe.shorthand import read_targets


def format_names() -> tuple[str, ...]:
    """List the formats there are, each by its folder's name, with dashes."""
    return tuple(
        sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.ispkg)
    )


def part_of(name: str, part: str) -> ModuleType:
    """Import a part of a format: its options, its format, or how it is shipped."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}.{part}")


def find_format(name: str) -> Format[Any, Any]:
    """Load one format."""
    found: Format[Any, Any] = part_of(name, "format").FORMAT
    return found


def option_models() -> dict[str, type[TargetOptions]]:
    """Give the recipe reader each format's options."""
    return {name: part_of(name, "options").OPTIONS for name in format_names()}


def recipe_for(model: str, targets: str) -> Recipe:
    """Make a recipe of a model and of targets in short: gguf:Q4_K_M,onnx."""
    formats = option_models()
    name = name_for(model)
    text = draft(model, read_targets(targets, formats), formats)
    return load_text(text, Path(f"{name}.yaml"), formats)


def load_recipe(path_or_name: str | Path) -> Recipe:
    """Read a recipe, by its path or its name in recipes/; a Failure names every fault in it."""
    return load(path_or_name, option_models())
