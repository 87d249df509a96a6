"""Numbers, tables and sentences for people; plain text, which reads the same on a terminal and in a pipe."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NARROWEST = 40  # columns: below, a terminal breaks words better itself


def duration(seconds: float) -> str:
    """A time span with the unit that fits; tenths only of what is no whole number."""
    if seconds < 9.95 and isinstance(seconds, float):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rate(size_bytes: float, seconds: float) -> str:
    """Bytes per second."""
    return f"{size(size_bytes / seconds) if seconds > 0 else '—'}/s"


def parameters(amount: int) -> str:
    """How large a model is."""
    if amount < 1_000_000:
        return f"{amount:,} parameters"
    return (
        f"{amount / 1e9:.2f} billion parameters"
        if amount >= 999.5e6
        else f"{amount / 1e6:.0f} million parameters"
    )


def count(amount: int, noun: str) -> str:
    """A number and its noun: 1 file, 2 files."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> Iterator[str]:
    """Columns under their heads; those whose heads are in `right` (words) are aligned to the right."""
    body = [list(map(one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    is_right = [title in right.split() for title in head]
    for row in [list(head), *body]:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, is_right, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def facts(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names and what is said of them, one below the other."""
    shown = [(one_line(name), one_line(value)) for name, value in pairs]
    width = max(len(name) for name, _ in shown)
    return (f"{name.ljust(width)}  {value}" for name, value in shown)


def paragraph(line: str, indent: str = "") -> Iterator[str]:
    """A sentence, broken at words where a terminal would break it within one; in a pipe it stays a line."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    if width < NARROWEST:
        yield f"{indent}{line}"
        return
    yield from textwrap.wrap(
        line,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def one_line(text: str) -> str:
    """A name from a file may hold anything; a terminal must not obey it."""
    return "".join(
        char if char.isprintable() else " " if char in "\n\t" else repr(char)[1:-1] for char in text
    )
