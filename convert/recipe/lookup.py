"""From what a person typed to a recipe file."""

from __future__ import annotations

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


def known() -> dict[str, Path]:
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
    if path.is_dir():
        raise UsageFailure(
            f"{path} is a folder, not a recipe", "name a YAML file, or a recipe that `list` shows"
        )
    recipes = known()
    is_bare_name = path.parent == Path() and path.suffix in ("", ".yaml", ".yml")
    name = path.stem if path.suffix in (".yaml", ".yml") else path.name
    if path.parent == Path() and name in recipes:
        return recipes[name]
    return _refuse(path, name, recipes, is_bare_name=is_bare_name)


def _refuse(path: Path, name: str, recipes: dict[str, Path], *, is_bare_name: bool) -> Path:
    guess = nearest(name, recipes)
    listed = f"there are {', '.join(recipes)}" if recipes else "there is no folder recipes/ here"
    hint = f"did you mean {guess}? {listed}" if guess else listed
    what = "no recipe is called" if is_bare_name else "there is no file"
    raise UsageFailure(f"{what} {path}", hint)
