"""Where every word goes: the answer to stdout, remarks to stderr, or nowhere."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from convert.cli.stream import forgiving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from convert.progress import Progress


@dataclass(frozen=True)
class Output:
    """How a person, or a program, wants to be answered."""

    is_json: bool = False
    is_quiet: bool = False

    def answer(self, data: object, lines: Callable[[], Iterable[str]]) -> None:
        """Print the answer: `data` for a program, `lines` for a person."""
        if self.is_json:
            click.echo(json.dumps(data, default=_plain, indent=2, ensure_ascii=False))
        elif not self.is_quiet:
            for line in lines():
                click.echo(line)

    def remark(self, line: str) -> None:
        """Tell a person something besides the answer."""
        if not self.is_json and not self.is_quiet:
            click.echo(line, file=forgiving(sys.stderr))

    def progress(self) -> Progress:
        """What shows the work in bytes: a bar, lines, or nothing."""
        from convert.cli.meter import meter  # noqa: PLC0415 - rich is imported for a bar alone

        return meter(is_shown=not self.is_json and not self.is_quiet)


def _plain(value: object) -> Any:
    """JSON for what the stages return."""
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"{type(value).__name__} has no JSON form")
