"""The one sink for all output: the answer to stdout, remarks to stderr, or nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from convert.cli.stream import forgiving
from convert.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from convert.progress import Progress
    from verify.task import Watch


@dataclass(frozen=True)
class Output:
    """The form that a person, or a program, wants."""

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
        """Print something besides the answer."""
        if not self.is_json and not self.is_quiet:
            click.echo(one_line(line), file=forgiving(sys.stderr))

    def progress(self) -> Progress:
        """Open a display of work in bytes: a bar, lines, or nothing."""
        from convert.cli.meter import meter  # noqa: PLC0415 - rich is imported for a bar alone

        return meter(is_shown=not self.is_json and not self.is_quiet)

    def watching(self, names: Sequence[str]) -> AbstractContextManager[Watch]:
        """Open a display of these artifacts' verification: a table, lines, or nothing."""
        from convert.cli.live_table import watching  # noqa: PLC0415 - brings the report

        return watching(list(names), is_shown=not self.is_json and not self.is_quiet)


def _plain(value: object) -> Any:
    """Turn what the stages return into JSON."""
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"{type(value).__name__} has no JSON form")
