"""Recipes by name or by path."""

import os
import shlex
from pathlib import Path

from convert.errors import UsageFailure
from convert.recipe.explain import did_you_mean, nearest

# Recipes come with the checkout, in a folder next to the package.
_SHIPPED = Path(__file__).resolve().parents[2] / "recipes"
SUFFIXES = (".yaml", ".yml")


def known_recipes() -> dict[str, Path]:
    """List the recipes that have a name; one in the current folder hides a shipped one of the same name."""
    found: dict[str, Path] = {}
    for folder in (Path("recipes"), _SHIPPED):
        for file in sorted(folder.glob("*.y*ml")):
            if file.suffix in SUFFIXES:
                found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def is_file(path: Path) -> bool:
    """Check for a file; a name that no file system could have is none."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib raises for a name that is too long


def is_dir(path: Path) -> bool:
    """Check for a folder, likewise."""
    return os.path.isdir(path)  # noqa: PTH112 - the same


def find(path_or_name: str | Path) -> Path:
    """Find a recipe's file."""
    path = Path(path_or_name)
    if is_file(path):
        return path
    recipes = known_recipes()
    is_yaml = path.suffix in SUFFIXES
    name = path.stem if is_yaml else path.name  # a version such as 2.5 is no suffix
    if path.parent == Path() and name in recipes:
        return recipes[name]
    if not is_yaml and path.name:
        for file in (path.with_name(path.name + suffix) for suffix in SUFFIXES):
            if is_file(file):
                return file
        if path.parent == Path("recipes") and name in recipes:
            return recipes[name]
    if is_dir(path):
        raise UsageFailure(f"{path} is a folder, not a recipe", "give a YAML file, or a name from `list`")
    guess = nearest(name, recipes)
    listed = f"there are {', '.join(recipes)}" if recipes else "there is no folder recipes/ here"
    if is_repo(str(path_or_name)):
        raise UsageFailure(
            f"there is no file {path}", f"to convert a model without a recipe: {path} --to gguf:Q4_K_M"
        )
    is_path = path.parent != Path() or (path.suffix and not is_yaml and not guess)
    what = f"{'there is no file' if is_path else 'no recipe is called'} {path}"
    raise UsageFailure(what, did_you_mean(name, recipes, listed))


def is_repo(text: str) -> bool:
    """Check whether a text looks like owner/name on the Hub, and like no path of a recipe."""
    owner, slash, name = text.partition("/")
    is_path = owner in ("", ".", "..", "~", "recipes") or is_dir(Path(owner))
    return bool(slash and name) and "/" not in name and not is_path and not name.endswith(SUFFIXES)


def expand_home(path: str | Path) -> Path:
    """Replace a leading ~ with the home folder; that of an unknown user stays, and leads nowhere."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises a bare RuntimeError there


def cli_name(path: Path) -> str:
    """Return the argument that finds this recipe on the command line: its name if that does, or its path."""
    return path.stem if known_recipes().get(path.stem) == path else shlex.quote(str(path))
