"""Every key of a recipe as Markdown, from the schema that editors check recipes by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from convert.formats import option_models
from convert.recipe import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

END_OF_SCALAR = "...\n"


def keys() -> str:
    """Write a table for the recipe itself, and one for each section of it."""
    schema = json_schema(option_models())
    return "\n".join(_tables(schema, "", schema))


def _tables(schema: Mapping[str, Any], name: str, root: Mapping[str, Any]) -> Iterator[str]:
    properties: Mapping[str, Any] = schema["properties"]
    if name:
        yield from ("", f"### {name}", "", schema.get("description", ""))
    yield from ("", "| key | | default |", "|---|---|---|")
    for key, about in properties.items():
        yield f"| `{key}` | {_meaning(about)} | {_default(key, about, schema)} |"
    for key, about in properties.items():
        if (section := _section(about, root)) is not None:
            yield from _tables(section, f"{name}.{key}".strip("."), root)


def _meaning(about: Mapping[str, Any]) -> str:
    said = str(about.get("description", "")).replace("|", r"\|")
    examples = [_flow(each) for each in about.get("examples", ()) if not isinstance(each, dict)]
    return f"{said} For example {' or '.join(examples)}." if examples else said


def _default(key: str, about: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if key in schema.get("required", ()):
        return "required"
    value = about.get("default")
    return "" if value is None or isinstance(value, dict) else _flow(value)


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return f"`{text.removesuffix(END_OF_SCALAR).strip()}`"


def _section(about: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find the one section that a key holds, if it holds one."""
    choices = [about, *about.get("anyOf", ())]
    named = [each["$ref"].rsplit("/", 1)[1] for each in choices if "$ref" in each]
    found = [root["$defs"][name] for name in named if "properties" in root["$defs"][name]]
    return found[0] if len(found) == 1 else None
