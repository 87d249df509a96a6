"""The artifacts that a recipe asks for, and those of them that a person names with --only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from convert.errors import UsageFailure
from convert.recipe.model import Recipe
from convert.recipe.shorthand import parted
from convert.recipe.strict import TargetOptions


@dataclass(frozen=True)
class Target:
    """One artifact that a recipe asks for."""

    name: str  # such as gguf-Q4_K_M; its folder has this name too
    format_name: str
    options: TargetOptions  # of its format, for all of the format's artifacts
    own_options: Mapping[str, JsonValue]  # those that reach this artifact


def choose(recipe: Recipe, only: Sequence[str] = ()) -> tuple[Target, ...]:
    """Choose all of a recipe's artifacts, or those that `only` names by themselves or by their format."""
    targets = tuple(
        Target(name, format_name, options, own_options)
        for format_name, options in recipe.targets.items()
        for name, own_options in options.by_target().items()
    )
    known = {*recipe.targets, *(each.name for each in targets)}
    meant = {name: _meant(name, known, recipe.targets) for name in only}
    for name, found in meant.items():
        if found is None:
            raise UsageFailure(
                f"--only {name}: {recipe.path} has no such target", f"it has: {', '.join(sorted(known))}"
            )
    wanted = set(meant.values())
    return tuple(each for each in targets if not only or {each.name, each.format_name} & wanted)


def _meant(name: str, known: set[str], formats: Iterable[str]) -> str | None:
    """Find the target that a person can only mean: q4_k_m is gguf-Q4_K_M where no other ends so."""
    if name in known:
        return name
    low = name.lower().replace(":", "-")
    found = [each for each in known if low in (each.lower(), parted(each, formats)[1].lower())]
    return found[0] if len(found) == 1 else None
