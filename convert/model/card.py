"""The front matter of a source's README.md: its license, languages, base model."""

from pathlib import Path
from typing import Any

import yaml

from convert.errors import shown

MAX_FRONT_BYTES = 64 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 32


def front_matter(folder: Path) -> tuple[dict[str, Any], str]:
    """Read the front matter; the second value says what was wrong with it, and is empty when nothing was."""
    path = folder / "README.md"
    if not path.is_file():
        return {}, ""
    with path.open("rb") as file:
        # A card may be a book; what is read of it is at its beginning.
        text = file.read(MAX_FRONT_BYTES).decode("utf-8", errors="replace").lstrip("\ufeff")
    opening, _, rest = text.partition("\n")
    if opening.strip() != "---":
        return {}, ""
    block, end, _ = rest.partition("\n---")
    if not end and len(text) >= MAX_FRONT_BYTES // 4:
        return {}, f"README.md's front matter does not end within {MAX_FRONT_BYTES} bytes, and was not read"
    try:
        # Every word a string: YAML 1.1 would take Norwegian, "no", for false, and a version for a number.
        node = yaml.compose(block, Loader=yaml.BaseLoader)
        content = _Walk().value(node, 0) if node and node.value else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return {}, f"README.md's front matter is no YAML: {str(error).splitlines()[0]}"
    if not isinstance(content, dict):
        return {}, "README.md's front matter is no mapping"
    return content, ""


class _Walk:
    """Turns nodes into strings, lists and dicts. An alias is walked at each use, so the nodes are counted."""

    def __init__(self) -> None:
        self._nodes = 0

    def value(self, node: yaml.Node, depth: int) -> Any:
        """Return the plain value of one node; ValueError for more than a card has reason to hold."""
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_NODES} values, counting those behind aliases, or too deep")
        if isinstance(node, yaml.MappingNode):
            pairs = ((self.value(key, depth + 1), value) for key, value in node.value)
            return {str(key): self.value(value, depth + 1) for key, value in pairs}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        text = str(node.value)
        text.encode()  # ValueError: half of a surrogate pair, written as an escape
        return text


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
