"""The environment for our own templates alone: a checkpoint's words fill places in them, through filters."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from convert import formats
from convert.publish.card import markdown

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> Environment:
    """Return the environment, with the guides of every format there is."""
    return _environment(tuple(formats.__path__))


@cache
def _environment(folders: tuple[str, ...]) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - for a card alone

    made = Environment(
        loader=FileSystemLoader([Path(__file__).parent, *folders]),
        autoescape=False,  # noqa: S701 - these make Markdown, in which filters quote what is put in
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "sh": shlex.quote,
        "py": _json,  # JSON's strings and lists are Python's too
        "json": _json,
        "text": markdown.text,
        "code": markdown.code,
        "count": "{:,}".format,
        "fence": lambda content, language: markdown.fence(content, language) + "\n",
    }
    return made


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
