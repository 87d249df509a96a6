"""The text of a recipe that a command writes: for a model that has none, or for an answer of `pick`."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from convert.recipe.strict import TargetOptions

SCHEMA_LINE = "# yaml-language-server: $schema=schema.json"
# Named by a recipe that is not in the folder of the schema, so that editors find it on the web.
LEARNS = "calibration: {packs: [searchqa, lessonpack], samples: 128, length: 512, seed: 0}"


def name_for(model: str) -> str:
    """Make a recipe's name of a model's."""
    last = model.rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("-.") or "model"


def draft(
    model: str,
    targets: Mapping[str, Mapping[str, Any]],
    formats: Mapping[str, type[TargetOptions]],
    *,
    comment: str = "",
    comments: Mapping[str, str] | None = None,
) -> str:
    """Write a recipe; `comments` go above the targets that they are about."""
    lines = [
        SCHEMA_LINE,
        *(f"# {line}" for line in comment.splitlines()),
        f"model: {_flow(model)}",
        "targets:",
    ]
    for name, options in targets.items():
        lines += [f"  # {line}" for line in (comments or {}).get(name, "").splitlines()]
        lines.append(f"  {name}: {_flow(dict(options))}")
    if any(_learns(formats[name], options) for name, options in targets.items()):
        lines.append(LEARNS)
    lines += ["verify:", "  scenarios: [searchqa, lessonpack]"]
    return "\n".join(lines) + "\n"


def _learns(options: type[TargetOptions], given: Mapping[str, Any]) -> bool:
    return options.model_construct(**given).learns_by is not None


def _flow(value: object) -> str:
    """Write a value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()
