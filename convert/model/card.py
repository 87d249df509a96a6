"""The front matter of a source's README.md: its license, languages, base model."""

from pathlib import Path
from typing import Any

import yaml

from convert.errors import shown

MAX_CARD_BYTES = 4 * 1024 * 1024


def front_matter(folder: Path) -> tuple[dict[str, Any], str]:
    """Read the front matter; the second value says what was wrong with it, and is empty when nothing was."""
    path = folder / "README.md"
    if not path.is_file():
        return {}, ""
    if path.stat().st_size > MAX_CARD_BYTES:
        return {}, f"README.md is larger than {MAX_CARD_BYTES} bytes, and was not read"
    text = path.read_text("utf-8", errors="replace").lstrip("\ufeff")
    opening, _, rest = text.partition("\n")
    if opening.strip() != "---":
        return {}, ""
    block, _, _ = rest.partition("\n---")
    try:
        # Every word a string: YAML 1.1 would take Norwegian, "no", for false, and a version for a number.
        content = yaml.load(block, Loader=yaml.BaseLoader)  # noqa: S506 - it makes strings, lists and dicts
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return {}, f"README.md's front matter is no YAML: {str(error).splitlines()[0]}"
    if content and not isinstance(content, dict):
        return {}, "README.md's front matter is no mapping"
    return {str(key): value for key, value in dict(content or {}).items()}, ""


def base_models(card: dict[str, Any]) -> str:
    """Name the models that a card says its own was made from; empty where it names none."""
    found = card.get("base_model")
    names = found if isinstance(found, list) else [found]
    listing = ", ".join(name for name in names if isinstance(name, str))
    return shown(listing) if listing else ""


def license_of(card: dict[str, Any]) -> str | None:
    """Name the license as the Hub does; one that the Hub does not know, by its name."""
    value = card.get("license")
    if isinstance(value, list):
        value = ",".join(map(str, value))
    name = card.get("license_name")
    if value == "other" and isinstance(name, str):
        return name
    return value if isinstance(value, str) else None
