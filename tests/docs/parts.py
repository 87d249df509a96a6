"""The parts of documents that are written from the code, by the names in their marks."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from convert.model.families import supported
from tests.bench import fleet
from tests.bench import table as bench
from tests.conformance import table as conformance
from tests.docs import overview, schema
from tests.docs.commands import reference
from tests.pick import published

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[2]
PARTS: Mapping[str, Callable[[], str]] = {
    "bench": bench.tables,
    "checks": overview.checks,
    "commands": reference,
    "families": lambda: str(len(supported())),
    "families and formats": lambda: "\n".join(conformance.lines()),
    "fleet": lambda: "\n".join(fleet.rows()),
    "formats": overview.formats,
    "guides": overview.guides,
    "published": published.table,
    "recipe keys": schema.keys,
    "seed oss": lambda: _file("convert/model/families/seed_oss.py"),
}
MARKED = re.compile(r"(<!-- part: ([a-z ]+) -->).*?(<!-- /part -->)", re.DOTALL)


def _file(path: str) -> str:
    """Show a file of ours, under its path."""
    return f"```python\n# {path}\n{(ROOT / path).read_text('utf-8')}```"


def documents() -> list[Path]:
    """List the documents: those at the root and those in docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def written(text: str) -> str:
    """Return a document with each part between its marks."""
    return MARKED.sub(lambda found: f"{found[1]}{_part(found[2])}{found[3]}", text)


@cache
def _part(name: str) -> str:
    made = PARTS[name]().strip("\n")
    return f"\n{made}\n" if "\n" in made else made
