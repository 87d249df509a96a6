"""`modelwright list`: the recipes that can be named, and the artifacts that there are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from convert.cli.option import OUT, answering
from convert.cli.output import Output
from convert.cli.text import one_line, table
from convert.size import size


@answering
@OUT
@click.option("--schema", "is_schema", is_flag=True, help="Print the JSON Schema of recipes instead.")
def command(output: Output, out: Path, *, is_schema: bool) -> None:
    """Show the recipes and the artifacts there are."""
    from convert.formats import option_models  # noqa: PLC0415 - pydantic and the formats take their time
    from convert.recipe import json_schema  # noqa: PLC0415
    from convert.store import list_artifacts  # noqa: PLC0415

    if is_schema:
        click.echo(json.dumps(json_schema(option_models()), indent=2))
        return
    recipes = _recipes()
    artifacts = [
        {name: value for name, value in vars(each).items() if name != "key"} for each in list_artifacts(out)
    ]
    output.answer({"recipes": recipes, "artifacts": artifacts}, lambda: _lines(recipes, artifacts, out))


def _recipes() -> list[dict[str, Any]]:
    """List every recipe; one that cannot be read with its first problem."""
    from convert.errors import Failure  # noqa: PLC0415
    from convert.formats import load_recipe  # noqa: PLC0415
    from convert.recipe import known_recipes  # noqa: PLC0415

    found: list[dict[str, Any]] = []
    for name, path in known_recipes().items():
        entry: dict[str, Any] = {"name": name, "path": path, "model": None, "targets": [], "problem": None}
        try:
            recipe = load_recipe(path)
        except Failure as failure:
            entry["problem"] = failure.problems[0].message
        else:
            entry |= {"model": recipe.model, "targets": list(recipe.targets)}
            if recipe.adapter_place:
                entry["adapter"] = recipe.adapter_place[0]
        found.append(entry)
    return found


def _lines(recipes: list[dict[str, Any]], artifacts: list[dict[str, Any]], out: Path) -> Iterator[str]:
    if recipes:
        rows = [
            (entry["name"], ", ".join(entry["targets"]) or "—", entry["model"] or entry["problem"])
            for entry in recipes
        ]
        yield from table(("recipe", "targets", "model"), rows)
    else:
        yield "no recipes: there is no folder recipes/ here"
    yield ""
    if artifacts:
        entries = [
            (each["recipe"], each["target"], size(each["size_bytes"]), each["state"]) for each in artifacts
        ]
        yield from table(("recipe", "artifact", "size", "state"), entries, right="size")
        yield from (one_line(f"{each['state']}: {each['problem']}") for each in artifacts if each["problem"])
    else:
        yield f"no artifacts in {out}/ yet"
