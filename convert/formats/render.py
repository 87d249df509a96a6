"""The refusal of what a format cannot express: every feature of a model is asked for, of every target."""

from collections.abc import Iterable
from typing import Any

from convert.formats import find_format, format_names
from convert.formats.base import Format
from convert.model.decoder import Decoder
from convert.recipe import Recipe
from convert.recipe.document import Fault, parse
from convert.recipe.reader import refuse


def require_rendered(recipe: Recipe, names: Iterable[str], decoder: Decoder) -> None:
    """Refuse, all at once, the targets that cannot express a feature of the model."""
    refused = {name: missing for name in names if (missing := _missing(find_format(name), recipe, decoder))}
    if not refused:
        return
    able = [
        name
        for name in format_names()
        if name not in refused and not _missing(find_format(name), None, decoder)
    ]
    hint = f"targets that can: {', '.join(able)}" if able else "no target can: this model cannot be converted"
    document = parse(recipe.text.encode())
    places = {name: ("targets", name) for name in refused}
    refuse(
        recipe.path,
        [
            Fault(
                document.line(where),
                where,
                f"cannot express {' and '.join(refused[name])} ({decoder.family})",
                hint,
            )
            for name, where in places.items()
        ],
    )


def _missing(format_: Format[Any, Any], recipe: Recipe | None, decoder: Decoder) -> list[str]:
    rendered = format_.renders(decoder, recipe.targets[format_.name] if recipe else None)
    if rendered is None:
        return ["this family"]
    return sorted(decoder.features - rendered) or list(format_.limits(decoder))
