"""From what a person typed to a recipe file."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from convert.errors import UsageFailure
from convert.recipe.explain import nearest

# Recipes travel with the checkout: the folder stands beside the package.
_SHIPPED = Path(__file__).resolve().parents[2] / "recipes"


def folders() -> list[Path]:
    """Where names are looked up: here first, then beside the installed package."""
    here = Path("recipes")
    found = [folder for folder in (here, _SHIPPED) if folder.is_dir()]
    return found[:1] if len(found) == 2 and here.resolve() == _SHIPPED else found


def known_recipes() -> dict[str, Path]:
    """Every recipe that can be named without its path; one that lies here hides a shipped one."""
    found: dict[str, Path] = {}
    for folder in folders():
        for file in sorted(folder.glob("*.y*ml")):
            if file.suffix in (".yaml", ".yml"):
                found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def find(path_or_name: str | Path) -> Path:
    """The file that is meant."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    recipes = known_recipes()
    is_yaml = path.suffix in (".yaml", ".yml")
    name = path.stem if is_yaml else path.name  # qwen2.5 has no suffix
    if path.parent == Path() and name in recipes:
        return recipes[name]
    if path.is_dir():
        what = f"{path} is a folder, not a recipe"
        raise UsageFailure(what, "name a YAML file, or a recipe that `list` shows")
    guess = nearest(name, recipes)
    listed = f"there are {', '.join(recipes)}" if recipes else "there is no folder recipes/ here"
    hint = f"did you mean {guess}? {listed}" if guess else listed
    is_path = path.parent != Path() or (path.suffix and not is_yaml and not guess)
    raise UsageFailure(f"{'there is no file' if is_path else 'no recipe is called'} {path}", hint)


def expand_home(path: str | Path) -> Path:
    """A path whose ~ is the home that it names; of a user whom nobody knows it stays, and leads nowhere."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises a bare RuntimeError there


def cli_name(path: Path) -> str:
    """What a person types for this recipe: its name where that finds it, otherwise its path."""
    return path.stem if known_recipes().get(path.stem) == path else shlex.quote(str(path))
